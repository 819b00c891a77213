//! The errors of the command line, of the files and of the state folder.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::plan::NamespacedName;

pub(super) use super::store::StateError;

/// An error of the command line or of the files: nothing was read or written.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// Everything that is wrong with the documents.
    #[error("{}", lines(.0))]
    Documents(Vec<DocumentError>),
    /// Everything that is wrong with URLs, certificates and logins.
    #[error("{}", lines(.0))]
    Registries(Vec<SetupError>),
    /// The files have Registries or policies alone.
    #[error("the files have no ReplicationConfiguration: there is nothing to do")]
    NoConfiguration,
    /// Standard input cannot be read again.
    #[error("serve reads its files again: give files instead of -")]
    ServeFromStandardInput,
    /// A value of `--ca` that is no host and file.
    #[error("{0:?} is not of the form host[:port]=FILE, without a scheme or path")]
    CaFlag(String),
    /// A value of `--retry-for` that is no duration, or too long.
    #[error("{0:?} is no duration up to 24h, such as 30s, 2m or 1h30m")]
    RetryForFlag(String),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The address of `serve` cannot be bound.
    #[error("--listen {address}: {error}")]
    Listen {
        /// The value of the flag.
        address: SocketAddr,
        /// The answer of the kernel.
        error: io::Error,
    },
    /// The handlers of signals cannot be installed.
    #[error("signals cannot be waited for: {0}")]
    Signals(io::Error),
    /// Standard output cannot be written, for another reason than that its reader is gone.
    #[error("standard output cannot be written: {0}")]
    Output(io::Error),
    /// The file of `status` has something else.
    #[error("{} is no list of ReplicationStatuses: {error}", .file.display())]
    Statuses {
        /// The file.
        file: PathBuf,
        /// The first error.
        error: String,
    },
    /// The list of statuses has no form in YAML.
    #[error("the statuses cannot be written as YAML: {0}")]
    Yaml(String),
}

impl UsageError {
    /// Returns the exit code: 2 if nothing was done yet, 1 afterwards.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Output(_) | Self::State(StateError::Incomplete { .. }) => 1,
            _ => 2,
        }
    }
}

/// A file, or a document in one, that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file is absent or not readable by this user.
    #[error("{} cannot be read: {error}", file.display())]
    Unreadable {
        /// The file as it was given.
        file: PathBuf,
        /// The answer of the file system.
        error: io::Error,
    },
    /// The file is over the bound.
    #[error("{} is over {} MiB: split it", .file.display(), .max >> 20)]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The bound in bytes.
        max: u64,
    },
    /// The folder has no file with objects.
    #[error("{} has no *.yaml, *.yml or *.json; subfolders are not entered", .0.display())]
    EmptyFolder(PathBuf),
    /// The folder is over the bound.
    #[error("{} has more than {max} files: give them in parts", folder.display())]
    TooManyFiles {
        /// The folder as it was given.
        folder: PathBuf,
        /// The most files.
        max: usize,
    },
    /// Standard input cannot be read twice.
    #[error("-f - is there twice: standard input is read once")]
    StandardInputTwice,
    /// The file has no YAML.
    #[error("{file} is no YAML: {error}")]
    NotYaml {
        /// The file as it was given.
        file: String,
        /// The place and the fault, without a part of the file.
        error: String,
    },
    /// One document is wrong.
    #[error("{file}: {error}")]
    Object {
        /// The file as it was given.
        file: String,
        /// The object and its fault.
        error: ObjectError,
    },
    /// A configuration names a Registry that is in no file.
    #[error(
        "ReplicationConfiguration {configuration} names Registry {}/{}, which no file has: add it, or correct registryRef",
        registry.namespace, registry.name
    )]
    MissingRegistry {
        /// The configuration as `namespace/name`.
        configuration: String,
        /// The Registry that it names.
        registry: NamespacedName,
    },
}

/// A fault of one document.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The name is absent or too long.
    #[error("{kind}: metadata.name must have 1 to {max} characters")]
    Name {
        /// The kind of the document.
        kind: String,
        /// The most characters of a name.
        max: usize,
    },
    /// The document breaks a rule of its kind.
    #[error("{object}: {message}")]
    Invalid {
        /// The object as `Kind namespace/name`.
        object: String,
        /// The field, the fault and the remedy.
        message: String,
    },
    /// An earlier document has the kind and the name.
    #[error("{0} is there twice: remove one")]
    Twice(String),
    /// A value that is no object of Kubernetes.
    #[error("an object without apiVersion and kind: add them, or leave the file out")]
    NoKind,
    /// A kind of this program that this version does not know.
    #[error("{object} of {version} is no kind that is known here: correct or remove it")]
    UnknownKind {
        /// The object as `Kind namespace/name`.
        object: String,
        /// Its `apiVersion`.
        version: String,
    },
}

/// A Registry whose client cannot be made, or the docker configuration that has the logins.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A Registry is wrong, or lacks its login or certificates.
    #[error("Registry {}/{}: {error}", registry.namespace, registry.name)]
    Registry {
        /// The Registry.
        registry: NamespacedName,
        /// Its fault.
        error: ClientError,
    },
    /// Certificates that nothing uses.
    #[error("--ca {host}: {fault}")]
    UnusedCa {
        /// The canonical host of the flag.
        host: String,
        /// The fault.
        fault: UnusedCa,
    },
    /// The docker configuration is absent, though it was given, or not readable.
    #[error("the docker configuration {} cannot be read: {error}", file.display())]
    UnreadableLogins {
        /// The docker configuration.
        file: PathBuf,
        /// The answer of the file system.
        error: io::Error,
    },
    /// The docker configuration is garbage.
    #[error("{}: {message}", file.display())]
    InvalidLogins {
        /// The docker configuration.
        file: PathBuf,
        /// The fault, without a part of the file.
        message: String,
    },
}

/// The fault for which certificates of `--ca` have no effect.
#[derive(Debug, thiserror::Error)]
pub enum UnusedCa {
    /// No Registry has the host.
    #[error("no Registry of the files has this host; they have {0}")]
    Unknown(String),
    /// The Registry needs no certificate.
    #[error("its Registry speaks plain http")]
    PlainHttp,
    /// An earlier flag is for the same host.
    #[error("it is there twice: put all certificates into one file")]
    Twice,
}

/// The fault for which a Registry has no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// `spec.url` is no URL with a host.
    #[error("spec.url {0} is no URL")]
    Url(String),
    /// The spec demands a login.
    #[error("spec.credentials is set, but {0}: log in with a docker client, or give --docker-config")]
    NoLogin(String),
    /// A file of `--ca` is absent or not readable.
    #[error("{} cannot be read: {error}", file.display())]
    UnreadableCertificates {
        /// The value of the flag.
        file: PathBuf,
        /// The answer of the file system.
        error: io::Error,
    },
    /// The spec names certificates that are in no file.
    #[error("spec.tls names {needed}, which no file has: give the certificates with --ca {host}=FILE")]
    NoCertificates {
        /// The ConfigMap or Secret.
        needed: String,
        /// The canonical host of the Registry.
        host: String,
    },
    /// The client refuses its options.
    #[error("{0}")]
    Options(String),
}

/// Joins errors to one line each, begun as the program begins its errors.
fn lines(errors: &[impl Display]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\ntransship: ")
}
