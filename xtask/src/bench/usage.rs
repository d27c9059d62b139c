//! What a process used, from /proc, and on which CPU it runs.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
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

/// CPU time that each thread of a process and of its children has used, exact to the nanosecond where the kernel accounts so.
pub struct CpuTime(BTreeMap<u32, u64>);

impl CpuTime {
    /// As it is now.
    pub fn of(process: u32) -> Result<Self> {
        let mut times = BTreeMap::new();
        for process in with_children(process) {
            let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
            for thread in threads.flatten() {
                let id = thread.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
                let stat = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
                let used = stat.split_whitespace().next().and_then(|first| first.parse().ok());
                times.extend(id.zip(used));
            }
        }
        if times.values().all(|used| *used == 0) {
            bail!("/proc tells no CPU time of process {process}; has it ended?");
        }
        Ok(Self(times))
    }

    /// What was used since. A thread that ended in between is not counted: helpers do, workers do not.
    pub fn since(&self, before: &Self) -> Duration {
        let used = |(id, now): (&u32, &u64)| now.saturating_sub(before.0.get(id).copied().unwrap_or(0));
        Duration::from_nanos(self.0.iter().map(used).sum())
    }
}

/// Memory that a process and its children hold, in bytes. What several of them share, as the pages of their program, is
/// counted once (proportional set size).
pub fn resident(process: u32) -> Result<u64> {
    let mut sum = 0;
    for process in with_children(process) {
        let held = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
        let line = held.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kibibytes: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        sum += kibibytes.unwrap_or(0) * 1024;
    }
    if sum == 0 {
        bail!("/proc tells no memory of process {process}; has it ended?");
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
        let before = CpuTime::of(std::process::id()).unwrap();
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        assert!(CpuTime::of(std::process::id()).unwrap().since(&before) > Duration::ZERO);
        assert!(resident(std::process::id()).unwrap() > 1 << 20);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(CpuTime::of(u32::MAX).is_err());
    }
}
