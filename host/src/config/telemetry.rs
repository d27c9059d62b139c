//! What is configured of the records of finished requests.

use std::path::PathBuf;
use std::time::Duration;

/// What is told of each finished request, and to whom. Changing any of it needs a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// How much of the client's address is in it.
    pub address: AddressShown,
    /// Whether the query is in it, values that look secret aside.
    pub query: bool,
    /// Request fields that are in it: lower-case names.
    pub headers: Vec<String>,
    /// Where the access line goes.
    pub access: Access,
    /// What is kept in the store.
    pub requests: RequestLog,
}

/// How much of an address is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressShown {
    /// Nothing.
    Off,
    /// Its network: the first 24 bits of IPv4, the first 48 of IPv6.
    Network,
    /// All of it.
    Full,
}

/// Where one line for each request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
    /// Into this file.
    File(PathBuf),
}

/// The request log in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLog {
    /// Whether there is one.
    pub keep: bool,
    /// How long a record stays.
    pub retention: Duration,
    /// The most bytes of records.
    pub size: u64,
}

/// What names contain of parameters and fields that hold a secret.
const SECRET: [&str; 14] = [
    "key",
    "token",
    "secret",
    "pass",
    "pwd",
    "sig",
    "auth",
    "code",
    "session",
    "credential",
    "jwt",
    "assertion",
    "otp",
    "dpop",
];

/// Whether a parameter or a field of this name is taken for a secret.
pub fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}
