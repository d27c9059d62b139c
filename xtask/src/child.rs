//! A process that is gone when its handle is gone.
//!
//! Each child has a process group of its own: Ctrl-C in the terminal reaches only us, and we stop the children in order.

use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child as Process, Command};
use tokio::time::timeout;

/// A running child.
pub struct Child {
    name: String,
    process: Process,
}

impl Child {
    /// Starts it; its output goes where ours goes unless the command says otherwise.
    pub fn start(name: &str, command: std::process::Command) -> Result<Self> {
        let mut command = Command::from(command);
        command.process_group(0).kill_on_drop(true);
        let process = command.spawn().with_context(|| format!("{name} could not be started"))?;
        Ok(Self { name: name.to_owned(), process })
    }

    /// Its process id; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Waits for its end. Safe to drop and to call again.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        self.process.wait().await.with_context(|| format!("{} cannot be waited for", self.name))
    }

    /// Asks it to end (SIGTERM), and ends it (SIGKILL) when it has not within the time.
    pub async fn stop(&mut self, within: Duration) {
        let id = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // No id: it has ended and was reaped already. A failing signal: it ended just now.
        if let Some(id) = id
            && kill_process(id, Signal::TERM).is_ok()
            && timeout(within, self.process.wait()).await.is_err()
        {
            eprintln!("{} did not stop within {} s and is killed", self.name, within.as_secs());
        }
        // Reaps what has ended as well; an error means that there is nothing left to kill.
        self.process.kill().await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]);
        Child::start("shell", command).unwrap()
    }

    fn exists(id: u32) -> bool {
        std::path::Path::new(&format!("/proc/{id}")).exists()
    }

    #[tokio::test]
    async fn a_child_that_ignores_the_polite_signal_is_killed() {
        let mut child = shell("trap '' TERM; while true; do sleep 0.05; done");
        let id = child.id().unwrap();
        child.stop(Duration::from_millis(200)).await;
        assert!(!exists(id));
    }

    #[tokio::test]
    async fn a_child_that_ended_says_how() {
        let mut child = shell("exit 3");
        assert_eq!(child.ended().await.unwrap().code(), Some(3));
        child.stop(Duration::from_secs(1)).await;
    }
}
