//! Bounds the status objects that a source makes the operator write: by configuration, by namespace, and their bytes.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::terms::{ReplicationStatusStatus, reason};

/// The bounds that the administrator sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeLimits {
    /// Status objects of one configuration.
    pub per_configuration: usize,
    /// Status objects of one namespace.
    pub per_namespace: usize,
    /// Bytes of the statuses of one namespace, beyond which they are written without their images.
    pub bytes_per_namespace: usize,
}

impl EnvelopeLimits {
    /// No bounds.
    pub const NONE: Self =
        Self { per_configuration: usize::MAX, per_namespace: usize::MAX, bytes_per_namespace: usize::MAX };
}

impl Default for EnvelopeLimits {
    fn default() -> Self {
        Self { per_configuration: 10_000, per_namespace: 20_000, bytes_per_namespace: 128 << 20 }
    }
}

/// A status object by its namespace, its configuration and its name.
#[derive(Clone, Copy, Debug)]
pub struct StatusKey<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The name of the configuration.
    pub configuration: &'a str,
    /// The name of the object.
    pub name: &'a str,
}

/// The part of a status that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusDetail {
    /// Everything.
    Whole,
    /// Counts and conditions, without images.
    Counts,
    /// Nothing: the summary of the configuration counts its images.
    Nothing,
}

/// The status objects of all configurations, and the room that they take.
#[derive(Debug, Default)]
pub struct StatusEnvelope {
    limits: EnvelopeLimits,
    namespaces: HashMap<String, NamespaceUse>,
}

#[derive(Debug, Default)]
struct NamespaceUse {
    objects: HashMap<String, ObjectUse>,
    configurations: HashMap<String, ConfigurationUse>,
    written: usize,
    bytes: usize,
}

#[derive(Debug)]
struct ObjectUse {
    configuration: String,
    detail: StatusDetail,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ConfigurationUse {
    whole: usize,
    counts_only: usize,
    unwritten: usize,
}

impl StatusEnvelope {
    /// Returns an envelope that holds nothing.
    pub fn new(limits: EnvelopeLimits) -> Self {
        Self { limits, namespaces: HashMap::new() }
    }

    /// Takes a status of so many bytes that is to be written, and returns the part of it for which there is room. An
    /// object that exists keeps its place, unless a bound was lowered since.
    pub fn place(&mut self, key: StatusKey<'_>, bytes: usize) -> StatusDetail {
        let limits = self.limits;
        let of = self.take_out(key);
        let configuration = of.configurations.get(key.configuration).copied().unwrap_or_default();
        let written = configuration.whole + configuration.counts_only;
        let has_place = written < limits.per_configuration && of.written < limits.per_namespace;
        let detail = match has_place {
            false => StatusDetail::Nothing,
            true if of.bytes + bytes <= limits.bytes_per_namespace => StatusDetail::Whole,
            true => StatusDetail::Counts,
        };
        of.put(key, detail, if detail == StatusDetail::Whole { bytes } else { 0 });
        detail
    }

    /// Records the bytes of an object as it is stored.
    pub fn record(&mut self, key: StatusKey<'_>, detail: StatusDetail, bytes: usize) {
        self.take_out(key).put(key, detail, bytes);
    }

    /// Forgets an object that is deleted.
    pub fn remove(&mut self, key: StatusKey<'_>) {
        let of = self.take_out(key);
        if of.objects.is_empty() {
            self.namespaces.remove(key.namespace);
        }
    }

    /// Returns the part of `status` for which there is room; `None` if it is not written. `beside` are the bytes that are
    /// stored with it.
    pub fn bound<'a>(
        &mut self,
        key: StatusKey<'_>,
        status: &'a ReplicationStatusStatus,
        beside: usize,
    ) -> Option<Cow<'a, ReplicationStatusStatus>> {
        match self.place(key, status_length(status) + beside) {
            StatusDetail::Whole => Some(Cow::Borrowed(status)),
            StatusDetail::Nothing => None,
            StatusDetail::Counts => {
                let counts =
                    ReplicationStatusStatus { images: Vec::new(), failure_groups: Vec::new(), ..status.clone() };
                self.record(key, StatusDetail::Counts, status_length(&counts));
                Some(Cow::Owned(counts))
            }
        }
    }

    /// Counts a status that an earlier process wrote.
    pub fn adopt(&mut self, key: StatusKey<'_>, status: Option<&ReplicationStatusStatus>) {
        let has_list = status.is_none_or(|status| !status.images.is_empty() || status.summary.images == 0);
        let detail = if has_list { StatusDetail::Whole } else { StatusDetail::Counts };
        self.record(key, detail, status.map_or(0, status_length));
    }

    /// Returns the reason and the sentence of the condition about a configuration that meets a bound.
    pub fn condition(&self, namespace: &str, configuration: &str) -> Option<(&'static str, String)> {
        let exceeded = self.exceeded(namespace, configuration)?;
        let reason = match exceeded {
            EnvelopeExceeded::Objects => reason::TOO_MANY_PAIRS,
            EnvelopeExceeded::Bytes => reason::STATUSES_TOO_LARGE,
        };
        Some((reason, self.explain(exceeded)))
    }

    /// Returns the bounds that a configuration meets; `None` while all of its statuses are written whole.
    pub fn exceeded(&self, namespace: &str, configuration: &str) -> Option<EnvelopeExceeded> {
        let of = self.namespaces.get(namespace)?.configurations.get(configuration)?;
        if of.unwritten > 0 {
            return Some(EnvelopeExceeded::Objects);
        }
        (of.counts_only > 0).then_some(EnvelopeExceeded::Bytes)
    }

    /// Returns the sentence about a bound, which does not change with every image.
    pub fn explain(&self, exceeded: EnvelopeExceeded) -> String {
        let EnvelopeLimits { per_configuration, per_namespace, bytes_per_namespace } = self.limits;
        match exceeded {
            EnvelopeExceeded::Objects => format!(
                "there are more pairs than have a ReplicationStatus, {per_configuration} of a configuration and \
                 {per_namespace} of a namespace: all are replicated, and the summary counts them; narrow \
                 repositoryFilters, or ask the administrator"
            ),
            EnvelopeExceeded::Bytes => format!(
                "the statuses of this namespace take more than {} MiB: all images are replicated, and some statuses \
                 are written without their images; narrow repositoryFilters, or ask the administrator",
                bytes_per_namespace >> 20
            ),
        }
    }

    fn take_out(&mut self, key: StatusKey<'_>) -> &mut NamespaceUse {
        let of = self.namespaces.entry(key.namespace.to_owned()).or_default();
        if let Some(object) = of.objects.remove(key.name) {
            of.bytes -= object.bytes;
            of.written -= usize::from(object.detail != StatusDetail::Nothing);
            if let Some(configuration) = of.configurations.get_mut(&object.configuration) {
                *configuration.count(object.detail) -= 1;
                if *configuration == ConfigurationUse::default() {
                    of.configurations.remove(&object.configuration);
                }
            }
        }
        of
    }
}

fn status_length(status: &ReplicationStatusStatus) -> usize {
    serde_json::to_vec(status).map_or(0, |bytes| bytes.len())
}

/// A bound that a configuration meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeExceeded {
    /// Some pairs have no status object.
    Objects,
    /// Some statuses are written without their images.
    Bytes,
}

impl NamespaceUse {
    fn put(&mut self, key: StatusKey<'_>, detail: StatusDetail, bytes: usize) {
        self.bytes += bytes;
        self.written += usize::from(detail != StatusDetail::Nothing);
        *self.configurations.entry(key.configuration.to_owned()).or_default().count(detail) += 1;
        let object = ObjectUse { configuration: key.configuration.to_owned(), detail, bytes };
        self.objects.insert(key.name.to_owned(), object);
    }
}

impl ConfigurationUse {
    fn count(&mut self, detail: StatusDetail) -> &mut usize {
        match detail {
            StatusDetail::Whole => &mut self.whole,
            StatusDetail::Counts => &mut self.counts_only,
            StatusDetail::Nothing => &mut self.unwritten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: EnvelopeLimits = EnvelopeLimits { per_configuration: 3, per_namespace: 4, bytes_per_namespace: 100 };

    fn key<'a>(configuration: &'a str, name: &'a str) -> StatusKey<'a> {
        StatusKey { namespace: "a", configuration, name }
    }

    #[test]
    fn pairs_beyond_the_bounds_have_no_status_and_those_that_exist_keep_theirs() {
        let mut envelope = StatusEnvelope::new(LIMITS);
        let details: Vec<_> = ["1", "2", "3", "4"].iter().map(|name| envelope.place(key("c", name), 10)).collect();
        assert_eq!(details, [StatusDetail::Whole, StatusDetail::Whole, StatusDetail::Whole, StatusDetail::Nothing]);
        assert_eq!(envelope.place(key("d", "5"), 10), StatusDetail::Whole);
        assert_eq!(envelope.place(key("d", "6"), 10), StatusDetail::Nothing, "the namespace is full");
        assert_eq!(envelope.place(StatusKey { namespace: "b", ..key("d", "6") }, 10), StatusDetail::Whole);
        assert_eq!(envelope.place(key("c", "2"), 20), StatusDetail::Whole);
        assert_eq!(envelope.exceeded("a", "c"), Some(EnvelopeExceeded::Objects));
        envelope.remove(key("c", "1"));
        assert_eq!(envelope.place(key("c", "4"), 10), StatusDetail::Whole);
        assert_eq!((envelope.exceeded("a", "c"), envelope.exceeded("b", "d")), (None, None));
    }

    #[test]
    fn bytes_beyond_the_bound_are_those_of_lists() {
        let mut envelope = StatusEnvelope::new(LIMITS);
        assert_eq!(envelope.place(key("c", "1"), 90), StatusDetail::Whole);
        assert_eq!(envelope.place(key("c", "2"), 20), StatusDetail::Counts);
        envelope.record(key("c", "2"), StatusDetail::Counts, 5);
        assert_eq!(envelope.exceeded("a", "c"), Some(EnvelopeExceeded::Bytes));
        assert_eq!(envelope.place(key("c", "1"), 96), StatusDetail::Counts);
        envelope.record(key("c", "1"), StatusDetail::Counts, 5);
        assert_eq!(envelope.place(key("c", "2"), 60), StatusDetail::Whole, "there is room again");
        for name in ["1", "2"] {
            envelope.remove(key("c", name));
        }
        assert!(envelope.namespaces.is_empty());
    }
}
