//! What the process takes of its machine: processor time, memory, files, and the disk under its database. Names are those that
//! Prometheus' clients agree on.
//!
//! What the system does not tell is left out, and never told as 0.

use super::family::Family;
use crate::data::Database;
use std::{fmt, fs};

/// The kernel gives times of processes in these, on every architecture (`USER_HZ`).
const TICKS_A_SECOND: f64 = 100.0;

pub(super) fn tell(family: &mut Family<'_>, database: &Database) -> fmt::Result {
    if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(processor_seconds) {
        family.count("process_cpu_seconds", "Processor time of all threads, in seconds.", seconds)?;
    }
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_bytes) {
        family.figure("process_resident_memory_bytes", "Memory that the process holds now.", bytes)?;
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // One is the directory that is being read.
        let open = files.count().saturating_sub(1);
        family.figure("process_open_fds", "Files and sockets that are open.", open as f64)?;
    }
    if let Ok(bytes) = database.bytes() {
        family.figure("portico_database_bytes", "What the database takes on its disk.", bytes as f64)?;
    }
    Ok(())
}

/// Fields 14 and 15 of `proc_pid_stat(5)`, counted behind the name, which may have spaces and brackets in it.
fn processor_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((user + system) as f64 / TICKS_A_SECOND)
}

/// `VmRSS` of `proc_pid_status(5)`.
fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some((kibibytes * 1024) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_any_name() {
        let rest = "S 1 2 3 0 -1 4194560 5 6 7 8 250 50 9 10 20 0 3 0 100 1 2";
        for name in ["portico", "a b) c", ") 1 2 3 4 5 6 7 8 9 10 11 12 13"] {
            assert_eq!(processor_seconds(&format!("42 ({name}) {rest}")), Some(3.0), "{name}");
        }
        for broken in ["", "42 (portico", "42 (portico) S 1 2 3", "42 (portico) S 1 2 3 0 -1 4 5 6 7 8 x 50 9"] {
            assert_eq!(processor_seconds(broken), None, "{broken}");
        }
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("Name:\tportico\nVmRSS:\t   12345 kB\nThreads:\t9\n"), Some(12_641_280.0));
        for broken in ["", "VmRSS:\t kB", "VmRSS: 12", "VmSize: 5 kB"] {
            assert_eq!(resident_bytes(broken), None, "{broken}");
        }
    }
}
