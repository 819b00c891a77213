-- The health of every kind of transship.dev, by its conditions.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  if condition.status == "True" or condition.type == "Ready" then
    conditions[condition.type] = condition
  end
end
local health = { status = "Progressing", message = "Waiting for the operator" }
if status.observedGeneration ~= obj.metadata.generation then
  return health
end
local rules = {
  { "Suspended", "Suspended" },
  { "Stalled", "Degraded" },
  { "Reconciling", "Progressing" },
}
for _, rule in ipairs(rules) do
  local condition = conditions[rule[1]]
  if condition ~= nil then
    health.status = rule[2]
    health.message = condition.message
    return health
  end
end
local ready = conditions["Ready"]
if ready ~= nil then
  health.message = ready.message
  if ready.status == "True" then
    health.status = "Healthy"
  end
end
return health
