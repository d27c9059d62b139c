//! Compiles components within bounds, in a process of its own for each.
//!
//! Compiling is the one thing that a component's author can keep busy without being called, and the compiler takes what the
//! component makes it take. So it runs in a child of the gateway: the same program, that reads the component and writes
//! machine code, and has nothing else: no environment, no file, no bound that it could lift again. One at a time.

mod answer;
mod child;
mod launch;
mod sample;

use self::answer::Answer;
use self::launch::{Launcher, Started};
use super::component::digest;
use crate::config;
use rustix::process::Signal;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub use self::child::run as compile_one;

/// The most machine code that is taken over; it stays in memory for as long as the component serves.
const LARGEST_CODE: u64 = 512 << 20;
/// By the wall clock, so many times the processor time: others are served first.
const WALL: u32 = 4;
/// What takes longer than this leaves the processors to others; a small component is compiled by then, and does not wait.
const SOON: Duration = Duration::from_secs(2);
/// How far it steps back then.
const NICE: i32 = 5;
/// How often it is looked at whether the result is still wanted.
const LOOK_AT_ORDER: Duration = Duration::from_millis(50);
/// Bytes of what a child says on standard error that are looked at.
const MOST_WORDS: u64 = 4 << 10;
/// Signals by which a process ends for what it did itself. Others are sent, as by a machine without memory; and an exit code is what
/// a machine without room for threads leads to, too.
const OWN_FAULT: [Signal; 4] = [Signal::ILL, Signal::ABORT, Signal::FPE, Signal::SEGV];
/// How many components are remembered that went beyond the bounds, or ended the compiler.
const MOST_REMEMBERED: usize = 64;

/// Why there is no code; a sentence that begins with "it" or "its".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CompileError {
    /// It is not valid, or uses what this gateway does not run.
    #[error("it does not compile: {0}")]
    Invalid(String),
    /// Beyond the time.
    #[error("it takes longer than {0:?} to compile; make it smaller, or allow more with `plugins.compile_time`")]
    Time(Duration),
    /// It had the time, and too little of a processor.
    #[error("it was not compiled within {0:?}, as the machine was busy; `portico plugin reload` tries again")]
    Slow(Duration),
    /// Beyond the memory.
    #[error("it takes more than {} MiB of memory to compile; make it smaller, or allow more with `plugins.compile_memory`", .0 >> 20)]
    Memory(usize),
    /// Beyond [`LARGEST_CODE`].
    #[error("its machine code is larger than {} MiB; make it smaller", LARGEST_CODE >> 20)]
    Code,
    /// Nobody wants it any more.
    #[error("it was not compiled to the end: {0}")]
    GivenUp(&'static str),
    /// The process ended by its own fault, and told nothing.
    #[error(
        "it could not be compiled: the compiler's process was ended by signal {0}, and would be again; `portico plugin reload` tries all the same"
    )]
    Crashed(i32),
    /// The process ended without an answer, for a reason that may be gone the next time.
    #[error(
        "it could not be compiled: the compiler's process {0}; the gateway tries again with the next change or reload"
    )]
    Died(String),
    /// The process answered, and not as the compiler does.
    #[error(
        "it could not be compiled: what the compiler's process answered makes no sense; is the gateway's program whole?"
    )]
    Nonsense,
    /// The process did not start.
    #[error("it could not be compiled: the compiler's process cannot be started: {0}")]
    Unstarted(String),
}

impl CompileError {
    /// Whether the same component ends in the same way the next time.
    fn comes_again(&self) -> bool {
        matches!(self, Self::Invalid(_) | Self::Time(_) | Self::Memory(_) | Self::Code | Self::Crashed(_))
    }
}

/// What one component is compiled for: within what, and for how long somebody wants it.
pub struct Order<'a> {
    /// The bounds.
    pub bounds: config::Compile,
    /// Why nobody wants it any more, if so; asked now and then.
    pub given_up: &'a (dyn Fn() -> Option<&'static str> + 'a),
}

/// Where components are compiled.
pub struct Compiler {
    /// Starts the children; `None` for this process.
    children: Option<Launcher>,
    /// Whether a child was taken for something that was to serve, since one stood ready last.
    used: AtomicBool,
    /// One at a time: each of them takes all processors, and as much memory as one may have.
    turn: Mutex<()>,
    /// How many wait for their turn.
    waiting: AtomicUsize,
    /// What cannot be compiled within which bounds: each look at the plugin directory would find that out anew.
    beyond: Mutex<Vec<(String, config::Compile, CompileError)>>,
}

impl fmt::Debug for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Compiler").field(&self.children).finish()
    }
}

impl Compiler {
    /// In a child of this program, which must be `portico`.
    pub fn own() -> Self {
        // Names the program that runs, also where another one has taken its place on disk.
        let running = Path::new("/proc/self/exe");
        let found = || std::env::current_exe().unwrap_or_default();
        Self::at(if running.exists() { running.to_owned() } else { found() })
    }

    /// In a child, by the `portico` at this path.
    pub fn at(program: PathBuf) -> Self {
        Self { children: Some(Launcher::of(program)), ..Self::here() }
    }

    /// In this process, without any bound: for benches and tests that are about something else.
    pub fn here() -> Self {
        let (used, turn, waiting, beyond) = Default::default();
        Self { children: None, used, turn, waiting, beyond }
    }

    /// Tries again what went beyond the bounds.
    pub(super) fn forget(&self) {
        self.beyond().clear();
    }

    /// Whether somebody waits for his turn.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Has a child stand ready for the next component that is to serve, if there was one before. For when nothing else is to be
    /// done.
    pub(super) fn get_ready(&self, bounds: config::Compile) {
        let Some(children) = &self.children else { return };
        if self.used.swap(false, Ordering::Relaxed) { children.get_ready(bounds) } else { children.renew(bounds) }
    }

    /// The machine code of a component that is to serve as soon as it can.
    pub(super) fn compile(&self, component: &[u8], order: &Order<'_>) -> Result<Vec<u8>, CompileError> {
        self.in_turn(component, order, |children| {
            self.used.store(true, Ordering::Relaxed);
            children.take(order.bounds)
        })
    }

    /// The machine code of a component that nobody waits for: it leaves a child that stands ready to those that are to serve.
    pub(super) fn compile_at_leisure(&self, component: &[u8], order: &Order<'_>) -> Result<Vec<u8>, CompileError> {
        self.in_turn(component, order, |children| children.start(order.bounds))
    }

    fn in_turn(
        &self,
        component: &[u8],
        order: &Order<'_>,
        started: impl FnOnce(&Launcher) -> io::Result<Started>,
    ) -> Result<Vec<u8>, CompileError> {
        let Some(children) = &self.children else {
            return child::machine_code(component).map_err(CompileError::Invalid);
        };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let digest = digest(component);
        let known = |entry: &&(String, config::Compile, CompileError)| entry.0 == digest && entry.1 == order.bounds;
        if let Some((.., error)) = self.beyond().iter().find(known) {
            return Err(error.clone());
        }
        let begun = Instant::now();
        let started = started(children);
        let ahead = started.as_ref().is_ok_and(|started| started.ahead);
        let compiled = in_child(started, component, order).or_else(|error| match error {
            // It may have ended as one that stood ready, before the component could have to do with it; and of its memory it
            // had used some to make itself ready. A component is judged by what becomes of it in a child of its own.
            CompileError::Died(_) | CompileError::Crashed(_) | CompileError::Memory(_) if ahead => {
                in_child(children.start(order.bounds), component, order)
            }
            error => Err(error),
        });
        let milliseconds = begun.elapsed().as_millis() as u64;
        tracing::debug!(digest, milliseconds, ahead, "compiled, or not");
        if let Err(error) = &compiled
            && error.comes_again()
        {
            let mut beyond = self.beyond();
            let surplus = (beyond.len() + 1).saturating_sub(MOST_REMEMBERED);
            beyond.drain(..surplus);
            beyond.push((digest, order.bounds, error.clone()));
        }
        compiled
    }

    fn beyond(&self) -> MutexGuard<'_, Vec<(String, config::Compile, CompileError)>> {
        self.beyond.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_child(started: io::Result<Started>, component: &[u8], order: &Order<'_>) -> Result<Vec<u8>, CompileError> {
    let unstarted = |error: io::Error| CompileError::Unstarted(error.to_string());
    let mut child = started.map_err(unstarted)?.child;
    let talked = talk(&mut child, component, order);
    let status = child.wait();
    let (heard, said) = talked.map_err(unstarted)?;
    match heard {
        Heard::Answer(Answer::Code(code)) => Ok(code),
        Heard::Answer(Answer::Refused(reason)) => Err(CompileError::Invalid(reason)),
        Heard::Answer(Answer::TooLarge) => Err(CompileError::Code),
        Heard::Answer(Answer::Nonsense) => Err(CompileError::Nonsense),
        Heard::Answer(Answer::Nothing) => Err(because(status.ok(), &said, order.bounds)),
        Heard::TooLong => Err(CompileError::Slow(order.bounds.time * WALL)),
        Heard::GivenUp(reason) => Err(CompileError::GivenUp(reason)),
    }
}

/// How the wait for a child ended.
enum Heard {
    Answer(Answer),
    TooLong,
    GivenUp(&'static str),
}

/// Hands the component over, waits for the answer, and ends the child; also what it said on standard error.
fn talk(child: &mut Child, component: &[u8], order: &Order<'_>) -> io::Result<(Heard, String)> {
    let missing = || io::Error::other("it has no pipes");
    let pipes = child.stdin.take().zip(child.stdout.take()).zip(child.stderr.take());
    thread::scope(|scope| {
        let talked = pipes.ok_or_else(missing).and_then(|((mut input, output), errors)| {
            let thread = || thread::Builder::new().name("portico-compile".into());
            let (tell, answers) = sync_channel(1);
            // A child that does not want it all has its reason, and tells it.
            thread().spawn_scoped(scope, move || input.write_all(component))?;
            thread().spawn_scoped(scope, move || {
                let _ = tell.send(Answer::read(output, LARGEST_CODE));
            })?;
            let words = thread().spawn_scoped(scope, move || first_words(errors))?;
            Ok((wait(child, order, &answers), words))
        });
        // Whatever became of it; how a child ended that has ended already stays as it is. The threads end with it.
        let _ = child.kill();
        talked.map(|(heard, words)| (heard, words.join().unwrap_or_default()))
    })
}

fn wait(child: &Child, order: &Order<'_>, answers: &Receiver<Answer>) -> Heard {
    let begun = Instant::now();
    let mut steps_back = false;
    loop {
        match answers.recv_timeout(LOOK_AT_ORDER) {
            Ok(answer) => return Heard::Answer(answer),
            Err(RecvTimeoutError::Disconnected) => return Heard::Answer(Answer::Nothing),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(reason) = (order.given_up)() {
            return Heard::GivenUp(reason);
        }
        if begun.elapsed() > order.bounds.time * WALL {
            return Heard::TooLong;
        }
        if begun.elapsed() > SOON && !steps_back {
            steps_back = true;
            // Its group, and so all of its threads. One that cannot step back still has its bounds.
            let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            let _ = group.map(|group| rustix::process::setpriority_pgrp(Some(group), NICE));
        }
    }
}

/// Why a child ended without an answer.
fn because(status: Option<ExitStatus>, said: &str, bounds: config::Compile) -> CompileError {
    // The words with which Rust's standard library ends a process that has no memory left, and ours.
    if said.contains("memory allocation of") || said.contains(child::NO_MEMORY) {
        return CompileError::Memory(bounds.memory);
    }
    if !said.is_empty() {
        tracing::warn!("the compiler's process said: {said}");
    }
    let signal = status.and_then(|status| status.signal());
    match (signal, status.and_then(|status| status.code())) {
        (Some(signal), _) if signal == Signal::XCPU.as_raw() => CompileError::Time(bounds.time),
        (Some(signal), _) if OWN_FAULT.iter().any(|own| own.as_raw() == signal) => CompileError::Crashed(signal),
        (Some(signal), _) => CompileError::Died(format!("was ended by signal {signal}")),
        (None, Some(code)) => CompileError::Died(format!("ended with exit code {code} and no answer")),
        (None, None) => CompileError::Died("ended without an answer".into()),
    }
}

/// The beginning of what a child says; the rest is read and left out, so that it can go on.
fn first_words(mut errors: impl Read) -> String {
    let mut words = Vec::new();
    let _ = errors.by_ref().take(MOST_WORDS).read_to_end(&mut words);
    let _ = io::copy(&mut errors, &mut io::sink());
    String::from_utf8_lossy(&words).into_owned()
}

#[cfg(test)]
mod tests;
