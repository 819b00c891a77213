//! The statuses of pairs as files, each a whole ReplicationStatus that is replaced at once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::disk;
use super::error::StateError;
use crate::api::{CONFIGURATION_LABEL, ReplicationStatus, ReplicationStatusObjectSpec};
use crate::locked::Locked;
use crate::plan::PairIdentity;
use crate::terms::ReplicationStatusStatus;

/// The files `DIR/statuses/<namespace>.<name>.json`.
#[derive(Debug)]
pub(super) struct StatusFiles {
    folder: PathBuf,
    /// Every file that is there, with the creation time that it says, where it was read or written already.
    created: Locked<BTreeMap<String, Option<Timestamp>>>,
}

impl StatusFiles {
    /// Returns the files of `folder`, which may be absent.
    pub(super) fn new(folder: PathBuf) -> Self {
        let created =
            files(&folder).into_iter().filter_map(|file| Some((file.file_name()?.to_str()?.to_owned(), None)));
        Self { created: Locked::new(created.collect()), folder }
    }

    /// Returns the status of a pair; `None` if there is none, or it is that of another pair.
    pub(super) fn read(&self, pair: &PairIdentity) -> Option<ReplicationStatusStatus> {
        let object = read(&self.folder.join(file_name(pair).ok()?)).ok()??;
        (*object.spec == pair.spec).then_some(object.status).flatten()
    }

    /// Returns the statuses of the configuration `namespace`/`name`.
    pub(super) fn of(&self, namespace: &str, name: &str) -> Vec<(PairIdentity, ReplicationStatusStatus)> {
        // The names of pairs begin with that of their configuration, cut to 40 characters: see `PairIdentity`.
        let cut: String = name.chars().take(40).collect();
        let prefix = format!("{namespace}.{}", cut.trim_end_matches(['-', '.']));
        let names: Vec<String> = {
            let created = self.created.lock();
            let from = created.range(prefix.clone()..).map(|(name, _)| name);
            from.take_while(|name| name.starts_with(&prefix)).cloned().collect()
        };
        let objects = names.iter().filter_map(|name| read(&self.folder.join(name)).ok().flatten());
        let own = objects.filter(|object| {
            object.metadata.namespace.as_deref() == Some(namespace) && object.spec.configuration_ref.name == name
        });
        let pairs = own.map(|object| {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            (PairIdentity { namespace, name, spec: object.spec.0 }, object.status.unwrap_or_default())
        });
        pairs.collect()
    }

    /// Returns every status.
    pub(super) fn all(&self) -> Vec<(PairIdentity, ReplicationStatusStatus)> {
        let (objects, _) = read_all(&self.folder);
        let pairs = objects.into_iter().map(|object| {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            (PairIdentity { namespace, name, spec: object.spec.0 }, object.status.unwrap_or_default())
        });
        pairs.collect()
    }

    /// Returns the namespace and name of every configuration that has a status.
    pub(super) fn configurations(&self) -> Vec<(String, String)> {
        let (objects, _) = read_all(&self.folder);
        let names = objects.into_iter().map(|object| (object.namespace().unwrap_or_default(), object.spec.0));
        names.map(|(namespace, spec)| (namespace, spec.configuration_ref.name)).collect()
    }

    /// Writes the status of a pair. A reader finds the earlier or the new one, never a part. It is not synced: after a
    /// loss of power the journals say what was verified, and statuses are written again.
    ///
    /// # Errors
    /// It could not be written.
    pub(super) fn write(&self, pair: &PairIdentity, status: &ReplicationStatusStatus) -> io::Result<()> {
        let name = file_name(pair)?;
        let file = self.folder.join(&name);
        let created = self.created_at(&name, &file, pair);
        let mut object = ReplicationStatus::new(&pair.name, ReplicationStatusObjectSpec(pair.spec.clone()));
        object.metadata.namespace = Some(pair.namespace.clone());
        object.metadata.creation_timestamp = Some(Time(created));
        object.labels_mut().insert(CONFIGURATION_LABEL.to_owned(), pair.spec.configuration_ref.name.clone());
        object.status = Some(status.clone());
        let partial = disk::partial(&file);
        std::fs::write(&partial, serde_json::to_vec(&object)?)?;
        std::fs::rename(&partial, &file)?;
        self.created.lock().insert(name, Some(created));
        Ok(())
    }

    /// Deletes the status of a pair.
    ///
    /// # Errors
    /// It is still there.
    pub(super) fn remove(&self, pair: &PairIdentity) -> io::Result<()> {
        let name = file_name(pair)?;
        disk::remove(&self.folder.join(&name))?;
        self.created.lock().remove(&name);
        Ok(())
    }

    /// Returns the time when the status was first written, in whole seconds; now if there is none of this pair.
    fn created_at(&self, name: &str, file: &Path, pair: &PairIdentity) -> Timestamp {
        let known = self.created.lock().get(name).copied();
        let from_file = || {
            let object = read(file).ok()??;
            let created = object.metadata.creation_timestamp.map(|time| time.0);
            created.filter(|_| *object.spec == pair.spec)
        };
        let created = match known {
            Some(None) => from_file(),
            known => known.flatten(),
        };
        created.unwrap_or_else(|| {
            let now = Timestamp::now();
            Timestamp::from_second(now.as_second()).unwrap_or(now)
        })
    }
}

/// Reads every status of a folder. A file that vanishes meanwhile is skipped. Returns the statuses, and an error for
/// each file that cannot be read.
pub(super) fn read_all(folder: &Path) -> (Vec<ReplicationStatus>, Vec<StateError>) {
    let (mut objects, mut problems) = (Vec::new(), Vec::new());
    for file in files(folder) {
        match read(&file) {
            Ok(object) => objects.extend(object),
            Err(error) => problems.push(StateError::UnreadableStatus { file, error }),
        }
    }
    (objects, problems)
}

/// Reads one status; `None` if the file is absent.
fn read(file: &Path) -> io::Result<Option<ReplicationStatus>> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|file| file.extension().is_some_and(|it| it == "json")).collect()
}

/// Returns the name of the file of a pair. Namespaces come from files that people write.
fn file_name(pair: &PairIdentity) -> io::Result<String> {
    let name = format!("{}.{}.json", pair.namespace, pair.name);
    if name.contains(['/', '\\', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no file name")));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standalone::store::tests::{pair, status};

    #[test]
    fn a_status_is_a_whole_object_that_keeps_its_creation_time() {
        let folder = tempfile::tempdir().unwrap();
        let files = StatusFiles::new(folder.path().to_owned());
        let pair = pair("app", "one");
        files.write(&pair, &status(1)).unwrap();
        let file = folder.path().join(format!("team-a.{}.json", pair.name));
        let mut object = read(&file).unwrap().unwrap();
        assert_eq!(object.labels()[CONFIGURATION_LABEL], "app");
        let text: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(
            (&text["apiVersion"], &text["kind"]),
            (&"transship.dev/v1alpha1".into(), &"ReplicationStatus".into())
        );

        object.metadata.creation_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        std::fs::write(&file, serde_json::to_vec(&object).unwrap()).unwrap();
        for files in [StatusFiles::new(folder.path().to_owned()), files] {
            files.write(&pair, &status(2)).unwrap();
            files.write(&pair, &status(3)).unwrap();
            assert_eq!(files.read(&pair), Some(status(3)));
        }
        let object = read(&file).unwrap().unwrap();
        assert_ne!(
            object.metadata.creation_timestamp.unwrap().0,
            Timestamp::UNIX_EPOCH,
            "what it wrote itself it knows"
        );
        let files = StatusFiles::new(folder.path().to_owned());
        assert_eq!(read_all(folder.path()).0.len(), 1);
        files.remove(&pair).unwrap();
        files.remove(&pair).unwrap();
        assert_eq!((files.read(&pair), read_all(folder.path()).0.len()), (None, 0));
    }

    #[test]
    fn a_status_is_found_by_its_configuration_and_names_stay_inside_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let files = StatusFiles::new(folder.path().to_owned());
        let long = "a".repeat(39) + "-" + &"b".repeat(20);
        for (configuration, repository) in [("app", "one"), ("app", "two"), ("apple", "one"), (&long, "one")] {
            files.write(&pair(configuration, repository), &status(1)).unwrap();
        }
        let files = StatusFiles::new(folder.path().to_owned());
        let count = |namespace: &str, name: &str| files.of(namespace, name).len();
        assert_eq!([count("team-a", "app"), count("team-a", "apple"), count("team-a", &long)], [2, 1, 1]);
        assert_eq!([count("team", "app"), count("team-a", "ap")], [0, 0]);
        std::fs::write(folder.path().join("team-a.app.garbage.json"), "{\"half").unwrap();
        assert_eq!((read_all(folder.path()).0.len(), read_all(folder.path()).1.len()), (4, 1));
        let outside = PairIdentity { namespace: "../x".to_owned(), ..pair("app", "one") };
        assert!(files.write(&outside, &status(1)).unwrap_err().to_string().contains("is no file name"));
    }
}
