//! What a process used, from /proc, and on which CPU it runs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where the measured gateway runs.
pub const GATEWAY_CPU: usize = 0;
/// Where origin and load run.
pub const LOAD_CPU: usize = 1;

/// How many CPUs there are.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Does something while this thread is bound to one CPU; what it starts meanwhile stays bound. Without a second CPU
/// nothing is bound.
pub fn on_cpu<T>(cpu: usize, action: impl FnOnce() -> T) -> Result<T> {
    if cpus() < 2 {
        return Ok(action());
    }
    let before = sched_getaffinity(None).context("the CPUs of this thread are not known")?;
    bind(cpu)?;
    let result = action();
    sched_setaffinity(None, &before).context("this thread cannot be bound to its CPUs again")?;
    Ok(result)
}

/// Binds this thread to one CPU, for good.
pub fn bind(cpu: usize) -> Result<()> {
    if cpus() < 2 {
        return Ok(());
    }
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).with_context(|| format!("this thread cannot be bound to CPU {cpu}"))
}

/// CPU time that a process and its children have used, exact to the nanosecond where the kernel accounts so.
pub fn cpu_time(process: u32) -> Result<Duration> {
    let mut sum = 0;
    for process in with_children(process) {
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
        for thread in threads.flatten() {
            // A thread that ended since is not counted any more: its share is lost, and it was over.
            let Ok(stat) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            sum += stat.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0);
        }
    }
    if sum == 0 {
        anyhow::bail!("/proc tells no CPU time of process {process}; has it ended?");
    }
    Ok(Duration::from_nanos(sum))
}

/// Memory that a process and its children hold, in bytes.
pub fn resident(process: u32) -> Result<u64> {
    let mut sum = 0;
    for process in with_children(process) {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        sum += kibibytes.unwrap_or(0) * 1024;
    }
    Ok(sum)
}

/// A process, its children, and theirs.
fn with_children(process: u32) -> Vec<u32> {
    let mut all = vec![process];
    let mut next = 0;
    while let Some(process) = all.get(next) {
        let threads = fs::read_dir(format!("/proc/{process}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        next += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_cpu_time_and_memory() {
        let before = cpu_time(std::process::id()).unwrap();
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        assert!(cpu_time(std::process::id()).unwrap() > before);
        assert!(resident(std::process::id()).unwrap() > 1 << 20);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(cpu_time(u32::MAX).is_err());
    }
}
