{{- define "transship.image" -}}
{{- if .Values.image.digest -}}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}{{- end -}}
{{- end -}}

{{- /* Resources that belong to no namespace are named after the release's namespace too: two releases must not share them. */ -}}
{{- define "transship.global" -}}{{ printf "%s-%s" .Release.Namespace .Release.Name }}{{- end -}}

{{- /* Names of Services have no dots and 63 characters at most. */ -}}
{{- define "transship.name" -}}{{ .Release.Name | replace "." "-" | trunc 45 | trimSuffix "-" }}{{- end -}}

{{- define "transship.selector" -}}
app.kubernetes.io/name: transship
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "transship.labels" -}}
app.kubernetes.io/name: transship
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "transship.account" -}}{{ printf "system:serviceaccount:%s:%s" .Release.Namespace (include "transship.name" .) }}{{- end -}}
