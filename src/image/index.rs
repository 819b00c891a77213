//! Chooses platforms of an index, and cuts the index down to what was chosen.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::digest::Digest;
use super::manifest::Manifest;
use super::platform::Platform;

/// An entry of an index, as far as it matters to a choice of platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The digest of the manifest that it names.
    pub digest: Digest,
    /// Its role in a choice of platforms.
    pub role: EntryRole,
}

/// The role of an entry of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryRole {
    /// An image of a platform; `None` where the platform is spelled as no platform can be.
    Platform(Option<Platform>),
    /// A statement about another entry, as BuildKit attaches it: platform `unknown/unknown`, annotation
    /// `vnd.docker.reference.digest`.
    AttestationOf(Digest),
    /// Anything else: a nested index, an artifact.
    Other,
}

impl IndexEntry {
    /// Parses the entries of an index in their order, repeated ones included; none of a manifest that is no index.
    ///
    /// # Errors
    /// [`serde_json::Error`] if the document is no manifest.
    pub fn of(index: &Manifest) -> Result<Vec<Self>, serde_json::Error> {
        let view: EntriesView<'_> = serde_json::from_slice(&index.bytes)?;
        Ok(view.manifests.unwrap_or_default().into_iter().map(Self::from).collect())
    }
}

/// Returns true for each entry that a choice keeps: those of a chosen platform, those of none, and attestations of
/// entries that are kept. Nothing in `left_out` is kept.
pub fn keep_chosen(entries: &[IndexEntry], chosen: &[Platform], left_out: &HashSet<Digest>) -> Vec<bool> {
    let mut kept_digests: HashSet<&Digest> = HashSet::new();
    let mut attestations: HashMap<&Digest, Vec<usize>> = HashMap::new();
    let mut kept = vec![false; entries.len()];
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| !left_out.contains(&entry.digest)) {
        match &entry.role {
            EntryRole::AttestationOf(subject) => attestations.entry(subject).or_default().push(index),
            EntryRole::Platform(platform) => {
                kept[index] = platform.as_ref().is_some_and(|platform| chosen.iter().any(|one| one.takes(platform)));
            }
            EntryRole::Other => kept[index] = true,
        }
        if kept[index] {
            kept_digests.insert(&entry.digest);
        }
    }
    let mut subjects: Vec<&Digest> = kept_digests.into_iter().collect();
    while let Some(subject) = subjects.pop() {
        for index in attestations.remove(subject).into_iter().flatten() {
            kept[index] = true;
            subjects.push(&entries[index].digest); // Of an attestation there may be an attestation in turn.
        }
    }
    kept
}

/// Returns the bytes of `index` without the entries that are not `kept` (one value an entry), and with the manifests in
/// `replaced` named by their new digests and sizes. Every other byte stays, so the same index and choice always give
/// the same bytes, and where nothing is cut or replaced they are those of `index`.
///
/// # Errors
/// [`serde_json::Error`] if the document is no index.
pub fn cut_index(
    index: &Manifest,
    kept: &[bool],
    replaced: &HashMap<Digest, (Digest, u64)>,
) -> Result<Bytes, serde_json::Error> {
    let view: RawEntries<'_> = serde_json::from_slice(&index.bytes)?;
    let whole = &index.bytes[..];
    let spans: Vec<Range<usize>> = view.manifests.iter().map(|entry| span(whole, entry)).collect();
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else { return Ok(index.bytes.clone()) };
    let mut cut = whole[..first.start].to_vec();
    let mut is_first = true;
    for (number, entry) in view.manifests.iter().enumerate() {
        if !kept.get(number).is_some_and(|kept| *kept) {
            continue;
        }
        if !is_first {
            // The separator from the entry before.
            cut.extend_from_slice(&whole[spans[number - 1].end..spans[number].start]);
        }
        is_first = false;
        cut.extend_from_slice(renamed(entry, replaced)?.as_bytes());
    }
    cut.extend_from_slice(&whole[last.end..]);
    Ok(cut.into())
}

/// Returns the text of an entry, with another digest and size where its manifest was replaced.
fn renamed(entry: &RawValue, replaced: &HashMap<Digest, (Digest, u64)>) -> Result<String, serde_json::Error> {
    let text = entry.get();
    let parts: RawEntry<'_> = serde_json::from_str(text)?;
    let digest: Digest = serde_json::from_str(parts.digest.get())?;
    let Some((new_digest, new_size)) = replaced.get(&digest) else { return Ok(text.to_owned()) };
    let mut edits = [
        (span(text.as_bytes(), parts.digest), format!("\"{new_digest}\"")),
        (span(text.as_bytes(), parts.size), new_size.to_string()),
    ];
    edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut renamed = text.to_owned();
    for (range, value) in edits {
        renamed.replace_range(range, &value); // The last one first: the other stays where it is.
    }
    Ok(renamed)
}

/// Returns the range in `whole` of `part`, which was read from it without a copy.
fn span(whole: &[u8], part: &RawValue) -> Range<usize> {
    let start = part.get().as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.get().len()
}

#[derive(Deserialize)]
struct EntriesView<'a> {
    #[serde(borrow)]
    manifests: Option<Vec<EntryView<'a>>>,
}

/// Platform and annotations stay text until they are looked at: however much there is of them, it takes no memory.
#[derive(Deserialize)]
struct EntryView<'a> {
    digest: Digest,
    #[serde(borrow)]
    platform: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PlatformView {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

#[derive(Deserialize)]
struct AnnotationsView {
    #[serde(rename = "vnd.docker.reference.digest")]
    attestation_subject: Option<String>,
}

impl From<EntryView<'_>> for IndexEntry {
    fn from(view: EntryView<'_>) -> Self {
        let platform = view.platform.map(|text| serde_json::from_str::<PlatformView>(text.get()));
        let subject = || {
            let annotations: AnnotationsView = serde_json::from_str(view.annotations?.get()).ok()?;
            annotations.attestation_subject?.parse().ok()
        };
        let role = match platform {
            None => EntryRole::Other,
            Some(Err(_)) => EntryRole::Platform(None),
            Some(Ok(PlatformView { os, architecture, variant })) => {
                let [os, architecture, variant] = [os, architecture, variant].map(Option::unwrap_or_default);
                match (os.as_str(), architecture.as_str(), variant.as_str()) {
                    ("", "", _) => EntryRole::Other,
                    ("unknown", "unknown", _) => subject().map_or(EntryRole::Other, EntryRole::AttestationOf),
                    (os, architecture, "") => EntryRole::Platform(format!("{os}/{architecture}").parse().ok()),
                    (os, architecture, variant) => {
                        EntryRole::Platform(format!("{os}/{architecture}/{variant}").parse().ok())
                    }
                }
            }
        };
        Self { digest: view.digest, role }
    }
}

#[derive(Deserialize)]
struct RawEntries<'a> {
    #[serde(borrow)]
    manifests: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawEntry<'a> {
    #[serde(borrow)]
    digest: &'a RawValue,
    #[serde(borrow)]
    size: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ATTESTATION_SUBJECT: &str = "vnd.docker.reference.digest";

    fn entry(content: u8, more: &str) -> String {
        format!(r#"{{ "mediaType": "x/y","digest":"{}", "size":1{more}}}"#, Digest::sha256(&[content]))
    }

    fn of_platform(content: u8, platform: &str) -> String {
        let parts: Vec<_> = platform.split('/').collect();
        let variant = parts.get(2).map(|variant| format!(r#", "variant":"{variant}""#)).unwrap_or_default();
        let platform = format!(r#""platform":{{"architecture":"{}","os":"{}"{variant}}}"#, parts[1], parts[0]);
        entry(content, &format!(", {platform}"))
    }

    fn attestation(content: u8, subject: u8) -> String {
        let annotation = format!(r#""annotations":{{"{ATTESTATION_SUBJECT}":"{}"}}"#, Digest::sha256(&[subject]));
        entry(content, &format!(r#","platform":{{"os":"unknown","architecture":"unknown"}},{annotation}"#))
    }

    fn index(entries: &[String]) -> Manifest {
        let entries = entries.join(",\n    ");
        let text = format!(
            "{{\n  \"schemaVersion\": 2,\n  \"manifests\": [\n    {entries}\n  ],\n  \"annotations\": {{\"a\": \"ü\"}}\n}}\n"
        );
        Manifest::parse(None, Bytes::from(text)).unwrap()
    }

    fn kept(entries: &[String], chosen: &[&str]) -> Vec<bool> {
        let chosen: Vec<Platform> = chosen.iter().map(|platform| platform.parse().unwrap()).collect();
        keep_chosen(&IndexEntry::of(&index(entries)).unwrap(), &chosen, &HashSet::new())
    }

    #[test]
    fn chosen_platforms_stay_with_their_attestations_and_what_has_no_platform() {
        let entries = [
            of_platform(1, "linux/amd64"),
            of_platform(2, "linux/arm/v7"),
            of_platform(3, "linux/arm/v6"),
            attestation(4, 1),
            attestation(5, 2),
            attestation(6, 4),
            entry(7, ""),
            entry(8, r#","platform":{"os":"unknown","architecture":"unknown"}"#),
            entry(9, r#","platform":{"os":"LINUX","architecture":"amd64"}"#),
            attestation(10, 99),
        ];
        let (yes, no) = (true, false);
        assert_eq!(kept(&entries, &["linux/amd64"]), [yes, no, no, yes, no, yes, yes, yes, no, no]);
        assert_eq!(kept(&entries, &["linux/arm"]), [no, yes, yes, no, yes, no, yes, yes, no, no]);
        assert_eq!(kept(&entries, &["linux/arm/v7"]), [no, yes, no, no, yes, no, yes, yes, no, no]);
        assert_eq!(kept(&entries, &["windows/amd64"]), [no, no, no, no, no, no, yes, yes, no, no]);
    }

    #[test]
    fn a_cut_index_keeps_every_other_byte() {
        let entries = [of_platform(1, "linux/amd64"), of_platform(2, "linux/arm64"), attestation(3, 2)];
        let whole = index(&entries);
        let expected = |entries: &[String]| index(entries).bytes;
        let cut = |kept: [bool; 3]| cut_index(&whole, &kept, &HashMap::new()).unwrap();
        assert_eq!(cut([true, true, true]), whole.bytes);
        assert_eq!(cut([true, false, false]), expected(&entries[..1]));
        assert_eq!(cut([false, true, true]), expected(&entries[1..]));
        assert_eq!(cut([true, false, true]), expected(&[entries[0].clone(), entries[2].clone()]));
        let replaced = HashMap::from([(Digest::sha256(&[1]), (Digest::sha256(&[7]), 4711))]);
        let renamed = entries[0].replace(Digest::sha256(&[1]).as_str(), Digest::sha256(&[7]).as_str());
        let renamed = renamed.replace("\"size\":1", "\"size\":4711");
        let kept = [true, false, false];
        assert_eq!(cut_index(&whole, &kept, &replaced).unwrap(), expected(&[renamed]));
    }

    #[test]
    fn a_document_that_is_nested_without_end_is_an_error_and_no_crash() {
        let deep = format!(r#","platform":{}1{}"#, "[".repeat(100_000), "]".repeat(100_000));
        let index = index(&[entry(1, &deep)]);
        let entries = IndexEntry::of(&index).unwrap();
        assert_eq!(entries[0].role, EntryRole::Platform(None), "it is a platform that cannot be chosen");
        assert_eq!(cut_index(&index, &[true], &HashMap::new()).unwrap(), index.bytes);
    }

    const PLATFORMS: [&str; 5] = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "windows/amd64"];

    fn entries() -> impl Strategy<Value = Vec<String>> {
        let entry = (0..12_u8, 0..8_usize, 0..12_u8).prop_map(|(content, kind, subject)| match kind {
            5 => entry(content, ""),
            6 | 7 => attestation(content, subject),
            kind => of_platform(content, PLATFORMS[kind]),
        });
        prop::collection::vec(entry, 1..12)
    }

    proptest! {
        #[test]
        fn cutting_twice_is_cutting_once_and_what_is_kept_is_closed(entries in entries(), choice in prop::sample::subsequence(PLATFORMS.to_vec(), 1..4)) {
            let mut chosen: Vec<Platform> = choice.iter().map(|platform| platform.parse().unwrap()).collect();
            let whole = index(&entries);
            let before = IndexEntry::of(&whole).unwrap();
            let kept = keep_chosen(&before, &chosen, &HashSet::new());
            let stays = |digest: &Digest| before.iter().zip(&kept).any(|(entry, kept)| *kept && entry.digest == *digest);
            for (entry, kept) in before.iter().zip(&kept) {
                match &entry.role {
                    EntryRole::AttestationOf(subject) if entry.digest != *subject => prop_assert_eq!(*kept, stays(subject)),
                    EntryRole::Platform(Some(platform)) => prop_assert_eq!(*kept, chosen.iter().any(|one| one.takes(platform))),
                    _ => {}
                }
            }
            let bytes = cut_index(&whole, &kept, &HashMap::new()).unwrap();
            let once = Manifest::parse(None, bytes.clone()).unwrap();
            let after = IndexEntry::of(&once).unwrap();
            let expected: Vec<_> = before.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(entry, _)| entry.clone()).collect();
            prop_assert_eq!(&after, &expected);
            chosen.reverse();
            let again = keep_chosen(&after, &chosen, &HashSet::new());
            prop_assert!(again.iter().all(|kept| *kept));
            prop_assert_eq!(cut_index(&once, &again, &HashMap::new()).unwrap(), bytes);
        }
    }
}
