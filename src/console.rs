//! Prints to standard output and standard error. A reader that went away is no error, and nothing panics.

use std::io::{self, ErrorKind, Write};

/// Prints `text` to standard output. Without a reader (`| head`) the text is lost, and the process goes on.
///
/// # Errors
/// Any other error of the system, such as a full disk.
pub fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Prints a message of the program to standard error. Where that is closed, no place is left to report it.
pub fn notify(message: &str) {
    let _ = writeln!(io::stderr().lock(), "transship: {message}");
}
