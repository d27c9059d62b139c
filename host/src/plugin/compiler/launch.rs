//! Starts the compiler's processes: when a component is there to be compiled, and one ahead of the next component.
//!
//! A process serves one component, never two. At most one stands ready, for the bounds of whoever asked for it, and none before
//! something was compiled; it holds no component, and nothing waits for it.

use super::{COMMAND, child, threads};
use crate::config;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What tells a child that its component comes later.
const AHEAD: &str = "--ahead";
/// How long one stands ready: who changes a component often changes it again soon.
const KEPT: Duration = Duration::from_secs(600);
/// How often it is looked at whether it still lives.
const LOOK: Duration = Duration::from_secs(1);

/// Starts children of one program.
pub(super) struct Launcher {
    program: PathBuf,
    keeper: Arc<Keeper>,
    /// The thread that starts those that stand ready. A child ends with the thread that started it, so this one lives as long
    /// as whoever could use them.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A child that has no component yet.
pub(super) struct Started {
    pub(super) child: Child,
    /// Whether it was started before it was asked for: it may have ended since.
    pub(super) ahead: bool,
}

impl Launcher {
    /// Of this program.
    pub(super) fn of(program: PathBuf) -> Self {
        Self { program, keeper: Arc::default(), thread: Mutex::default() }
    }

    /// The one that stands ready, or a new one.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn take(&self, bounds: config::Compile) -> io::Result<Started> {
        let ready = self.keeper.desk().ready.take();
        match ready.and_then(|ready| ready.of(bounds)) {
            Some(child) => Ok(Started { child, ahead: true }),
            None => self.start(bounds),
        }
    }

    /// A new one.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn start(&self, bounds: config::Compile) -> io::Result<Started> {
        Ok(Started { child: start(&self.program, bounds, false)?, ahead: false })
    }

    /// Has one stand ready for these bounds, from soon on. Without a thread, none does.
    pub(super) fn get_ready(&self, bounds: config::Compile) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (keeper, program) = (self.keeper.clone(), self.program.clone());
            let started = thread::Builder::new().name("portico-ready".into()).spawn(move || keeper.run(&program));
            *thread = started.inspect_err(|error| tracing::debug!("no compiler stands ready: {error}")).ok();
        }
        self.keeper.desk().wanted = Some(bounds);
        self.keeper.changed.notify_all();
    }

    /// Ends the one that stands ready for other bounds, and has one stand ready for these in its place.
    pub(super) fn renew(&self, bounds: config::Compile) {
        let other = self.keeper.desk().ready.as_ref().is_some_and(|ready| ready.bounds != bounds);
        if other {
            self.get_ready(bounds);
        }
    }

    /// The process that stands ready.
    #[cfg(test)]
    pub(super) fn ready(&self) -> Option<u32> {
        self.keeper.desk().ready.as_ref().map(|ready| ready.child.id())
    }
}

impl fmt::Debug for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.program.fmt(f)
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.keeper.desk().over = true;
        self.keeper.changed.notify_all();
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // One that panicked has said so on its own.
            let _ = thread.join();
        }
    }
}

/// Keeps a child ready, where one is wanted.
#[derive(Default)]
struct Keeper {
    desk: Mutex<Desk>,
    changed: Condvar,
}

#[derive(Default)]
struct Desk {
    /// For what the next one is to be started.
    wanted: Option<config::Compile>,
    ready: Option<Ready>,
    over: bool,
}

/// A child that stands ready.
struct Ready {
    child: Child,
    bounds: config::Compile,
    since: Instant,
}

impl Keeper {
    fn run(&self, program: &Path) {
        let mut desk = self.desk();
        while !desk.over {
            if desk.ready.as_mut().is_some_and(|ready| ready.since.elapsed() > KEPT || !ready.lives()) {
                desk.clear();
            }
            if let Some(bounds) = desk.wanted.take() {
                desk.have(program, bounds);
            }
            let woken = match desk.ready {
                Some(_) => {
                    self.changed.wait_timeout(desk, LOOK).map(|(desk, _)| desk).map_err(|error| error.into_inner().0)
                }
                None => self.changed.wait(desk).map_err(PoisonError::into_inner),
            };
            desk = woken.unwrap_or_else(|desk| desk);
        }
        desk.clear();
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // What is on it is whole whatever its holder was interrupted in.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    /// Has one stand ready for these bounds. One that cannot be started is missed by nobody: the next component starts its own,
    /// and says why that fails.
    fn have(&mut self, program: &Path, bounds: config::Compile) {
        if let Some(ready) = self.ready.as_mut().filter(|ready| ready.bounds == bounds) {
            ready.since = Instant::now();
            return;
        }
        self.clear();
        match start(program, bounds, true) {
            Ok(child) => self.ready = Some(Ready { child, bounds, since: Instant::now() }),
            Err(error) => tracing::debug!("no compiler stands ready: {error}"),
        }
    }

    fn clear(&mut self) {
        if let Some(ready) = self.ready.take() {
            ready.end();
        }
    }
}

impl Ready {
    /// The child, if it is for these bounds and still lives.
    fn of(mut self, bounds: config::Compile) -> Option<Child> {
        if self.bounds == bounds && self.lives() {
            return Some(self.child);
        }
        self.end();
        None
    }

    fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn end(mut self) {
        // One that has ended already is only waited for, so that nothing of it stays.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(program: &Path, bounds: config::Compile, ahead: bool) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.arg0("portico").arg(COMMAND);
    if ahead {
        command.arg(AHEAD);
    }
    command
        .arg(bounds.time.as_secs_f64().ceil().to_string())
        .arg(bounds.memory.to_string())
        .env_clear()
        .envs(child::ENVIRONMENT)
        .env("RAYON_NUM_THREADS", threads().to_string())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}
