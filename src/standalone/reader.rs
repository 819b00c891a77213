//! Finds the files of `-f`: files, folders and standard input; and reads them within bounds.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::DocumentError;

/// Standard input.
pub(super) const STANDARD_INPUT: &str = "-";

/// Returns the files that `given` names: of a folder its `*.yaml`, `*.yml` and `*.json`, ordered by name, without
/// subfolders and hidden files. Each error stands for one of `given`.
pub(super) fn files(given: &[PathBuf]) -> (Vec<PathBuf>, Vec<DocumentError>) {
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for path in given {
        match if path.is_dir() { in_folder(path) } else { Ok(vec![path.clone()]) } {
            Ok(found) => files.extend(found),
            Err(error) => errors.push(error),
        }
    }
    if files.iter().filter(|file| *file == Path::new(STANDARD_INPUT)).count() > 1 {
        errors.push(DocumentError::StandardInputTwice);
    }
    (files, errors)
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, DocumentError> {
    let unreadable = |error| DocumentError::Unreadable { file: folder.to_owned(), error };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if is_document(&file) && !file.is_dir() {
            files.push(file);
        }
        if files.len() > MAX_FILES {
            return Err(DocumentError::TooManyFiles { folder: folder.to_owned(), max: MAX_FILES });
        }
    }
    if files.is_empty() {
        return Err(DocumentError::EmptyFolder(folder.to_owned()));
    }
    files.sort();
    Ok(files)
}

fn is_document(file: &Path) -> bool {
    let is_hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = file.extension().and_then(|extension| extension.to_str());
    !is_hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Reads a file, or standard input.
///
/// # Errors
/// [`DocumentError`] if it cannot be read, or is over the bound.
pub(super) fn read(file: &Path) -> Result<String, DocumentError> {
    read_at_most(file, MAX_BYTES)
}

/// Reads a file, or standard input, of at most `max` bytes.
///
/// # Errors
/// [`DocumentError`] if it cannot be read, or has more.
pub(super) fn read_at_most(file: &Path, max: u64) -> Result<String, DocumentError> {
    let mut text = String::new();
    let read = if file == Path::new(STANDARD_INPUT) {
        io::stdin().lock().take(max + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(max + 1).read_to_string(&mut text))
    };
    read.map_err(|error| DocumentError::Unreadable { file: file.to_owned(), error })?;
    if text.len() as u64 > max {
        return Err(DocumentError::TooLarge { file: file.to_owned(), max });
    }
    Ok(text)
}

/// The most files of a folder.
const MAX_FILES: usize = 1_000;
/// The most bytes of a file.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_documents_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        for name in ["b.yml", "a.yaml", "c.json", "README.md", ".hidden.yaml", "d.yaml~"] {
            std::fs::write(place(name), "").unwrap();
        }
        std::fs::create_dir(place("e.yaml")).unwrap();
        let (found, errors) = files(&[place("c.json"), folder.path().to_owned()]);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(found, ["c.json", "a.yaml", "b.yml", "c.json"].map(place));
        let (_, errors) = files(&[place("e.yaml")]);
        assert!(errors[0].to_string().contains("has no *.yaml, *.yml or *.json"), "{errors:?}");
        let (_, errors) = files(&["-".into(), "-".into()]);
        assert!(errors[0].to_string().contains("standard input"), "{errors:?}");
    }
}
