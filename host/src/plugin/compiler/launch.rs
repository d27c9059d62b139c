//! Starts the compiler's processes: when a component is there to be compiled, and one ahead of the next component.
//!
//! A process serves one component, never two. At most one stands ready, for the bounds of whoever asked for it, and none before
//! something was compiled; it holds no component, and nothing waits for it.

use super::child;
use crate::config;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The program's command that compiles one component.
const COMMAND: &str = "compile-one";
/// What tells a child that its component comes later.
const AHEAD: &str = "--ahead";
/// How long one stands ready: who changes a component often changes it again soon.
const KEPT: Duration = Duration::from_secs(600);
/// How often it is looked at whether it still lives.
const LOOK_AT_READY: Duration = Duration::from_secs(1);
/// The most threads of a child.
const MOST_THREADS: usize = 8;

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
        Self::keeping(program, KEPT)
    }

    /// Of this program, where a child stands ready for so long.
    pub(super) fn keeping(program: PathBuf, kept: Duration) -> Self {
        let (desk, changed, thread) = Default::default();
        Self { program, keeper: Arc::new(Keeper { desk, changed, kept }), thread }
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

    /// Whether one stands ready, or is about to be started.
    #[cfg(test)]
    pub(super) fn is_ready_soon(&self) -> bool {
        let desk = self.keeper.desk();
        desk.ready.is_some() || desk.wanted.is_some()
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
struct Keeper {
    desk: Mutex<Desk>,
    changed: Condvar,
    /// For how long.
    kept: Duration,
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
            if desk.ready.as_mut().is_some_and(|ready| ready.since.elapsed() > self.kept || !ready.lives()) {
                desk.clear();
            }
            if let Some(bounds) = desk.wanted.take() {
                desk.have(program, bounds);
            }
            let woken = match desk.ready {
                Some(_) => {
                    let look = LOOK_AT_READY.min(self.kept);
                    self.changed.wait_timeout(desk, look).map(|(desk, _)| desk).map_err(|error| error.into_inner().0)
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

/// Threads for one component: twice as many as processors, since on a busy machine each is served as often as any other,
/// and somebody waits for the new version. Each has memory of its own, which counts, and more than some bring little.
pub(super) fn threads() -> usize {
    (2 * thread::available_parallelism().map_or(1, usize::from)).min(MOST_THREADS)
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
