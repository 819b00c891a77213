//! The folder of one test run, which is removed however the run ends.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Waits until the test run's end of the pipe is closed, by its death if need be, and then removes the folder. What the
/// run started dies with it, yet may still write for a moment: hence the repetition.
const REAPER: &str = r#"cat >/dev/null; n=0; while [ -e "$1" ] && [ $n -lt 50 ]; do rm -rf -- "$1" 2>/dev/null; n=$((n+1)); sleep 0.1; done"#;

/// Less free memory than this, and the disk is used instead.
const ROOM_NEEDED: u64 = 2 << 30;

struct RunFolder {
    path: PathBuf,
    /// Its standard input is the pipe whose closing ends the run.
    _reaper: Option<Child>,
}

/// Returns the folder of this test run: in memory where there is room. With `TRANSSHIP_TEST_KEEP` set it stays behind
/// to be looked at.
pub fn run_folder() -> &'static Path {
    static FOLDER: OnceLock<RunFolder> = OnceLock::new();
    &FOLDER.get_or_init(RunFolder::create).path
}

/// Returns a new folder in the run's folder, whose name begins with `name`.
pub fn new_folder(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let path = run_folder().join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir(&path).expect("the run's folder takes new folders");
    path
}

/// Returns every file below a folder with its content; one that vanishes meanwhile is left out.
pub fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if let Ok(content) = std::fs::read(&path) {
            files.insert(path, content);
        }
    }
    files
}

/// Returns the folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl RunFolder {
    fn create() -> Self {
        let parent = if has_room(Path::new("/dev/shm")) { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let folder =
            tempfile::Builder::new().prefix("transship-test-").tempdir_in(parent).expect("a folder for the run");
        let path = folder.keep();
        if std::env::var_os("TRANSSHIP_TEST_KEEP").is_some() {
            eprintln!("this run's folder is kept: {}", path.display());
            return Self { path, _reaper: None };
        }
        let reaper = Command::new("sh")
            .args(["-c", REAPER, "transship-test-reaper"])
            .arg(&path)
            .current_dir("/")
            .process_group(0) // a Ctrl-C at the terminal is for the test run alone
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell that removes the run's folder in the end");
        Self { path, _reaper: Some(reaper) }
    }
}

/// Returns true if a file system can be written to and has room for etcd and the registries' blobs.
fn has_room(folder: &Path) -> bool {
    let writable = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok();
    writable && rustix::fs::statvfs(folder).is_ok_and(|found| found.f_bavail * found.f_frsize >= ROOM_NEEDED)
}
