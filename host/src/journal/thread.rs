//! The threads of the journal: one that makes durable what was written, and one that makes segments, which takes longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io};

use super::files::Files;
use super::keeper::{self, Order, Shelf};

/// How long it waits after a disk has failed it, before it tries again.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at which segments are needed and which are free.
const TIDY: Duration = Duration::from_millis(50);

/// What commits cost.
#[derive(Debug, Default)]
pub(super) struct Commits {
    count: AtomicU64,
    micros: AtomicU64,
    slowest: AtomicU64,
}

/// The running threads.
pub(super) struct Clerk {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl fmt::Debug for Clerk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clerk")
    }
}

impl Commits {
    fn count(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        // The longest one fades: what was slow long ago is no news.
        let slowest = self.slowest.load(Ordering::Relaxed);
        let faded = slowest.saturating_sub((slowest / 1024).max(1));
        self.slowest.store(micros.max(faded), Ordering::Relaxed);
    }

    /// How many there were, how long they took all together, and about the longest of late.
    pub(super) fn told(&self) -> (u64, Duration, Duration) {
        let micros = |figure: &AtomicU64| Duration::from_micros(figure.load(Ordering::Relaxed));
        (self.count.load(Ordering::Relaxed), micros(&self.micros), micros(&self.slowest))
    }
}

/// One look at all lanes: makes durable what was written. Whether all of it was.
pub(super) fn sync(shelves: &mut [Shelf], commits: &Commits) -> bool {
    let (begun, mut any, mut all) = (Instant::now(), false, true);
    for shelf in shelves.iter_mut() {
        let synced = shelf.sync();
        if shelf.note_failing(synced.is_err()) {
            match &synced {
                Ok(_) => tracing::info!("the journal in {} is durable again", shelf.directory().display()),
                Err(error) => tracing::error!(
                    "the journal in {} cannot be made durable; look at the disk: {error}",
                    shelf.directory().display()
                ),
            }
        }
        match synced {
            Ok(synced) => any |= synced,
            Err(_) => all = false,
        }
    }
    if any {
        commits.count(begun.elapsed());
    }
    all
}

/// What has to be made now.
pub(super) fn tidy(shelves: &mut [Shelf]) -> Vec<Order> {
    shelves.iter_mut().enumerate().filter_map(|(position, shelf)| shelf.tidy(position)).collect()
}

impl Clerk {
    /// Makes the first segments, as far as they can be made, and goes on beside the caller.
    pub(super) fn start(
        files: Arc<dyn Files>,
        mut shelves: Vec<Shelf>,
        commits: Arc<Commits>,
        interval: Duration,
    ) -> io::Result<Self> {
        let mut failed = None;
        for order in tidy(&mut shelves) {
            let made = order.carry_out(&*files);
            take(&mut shelves, &order, made, &mut failed);
        }
        let (stop, stopped) = channel();
        let (ordered, orders) = channel();
        let (carried_out, made) = channel();
        // Ends when nobody orders any more.
        std::thread::Builder::new()
            .name("portico-segments".into())
            .spawn(move || make(&*files, &orders, &carried_out))?;
        let work = Work { shelves, commits, ordered, made, failed };
        let thread =
            std::thread::Builder::new().name("portico-journal".into()).spawn(move || work.run(&stopped, interval))?;
        Ok(Self { stop, thread })
    }

    /// Ends it, after everything that was written is durable.
    pub(super) fn end(self) {
        drop(self.stop);
        // One that panicked has said so on its own.
        let _ = self.thread.join();
    }
}

type Made = (Order, io::Result<keeper::Made>);

fn make(files: &dyn Files, orders: &Receiver<Order>, carried_out: &Sender<Made>) {
    while let Ok(order) = orders.recv() {
        let made = order.carry_out(files);
        let failed = made.is_err();
        if carried_out.send((order, made)).is_err() {
            return;
        }
        if failed {
            std::thread::sleep(AGAIN);
        }
    }
}

struct Work {
    shelves: Vec<Shelf>,
    commits: Arc<Commits>,
    ordered: Sender<Order>,
    made: Receiver<Made>,
    failed: Option<Instant>,
}

impl Work {
    fn run(mut self, stopped: &Receiver<()>, interval: Duration) {
        let mut tidied = Instant::now();
        loop {
            let ends = stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout);
            let synced = sync(&mut self.shelves, &self.commits);
            if ends {
                return;
            }
            if !synced {
                std::thread::sleep(AGAIN);
            }
            for (order, made) in self.made.try_iter() {
                take(&mut self.shelves, &order, made, &mut self.failed);
            }
            let waits = self.failed.is_some_and(|failed| failed.elapsed() < AGAIN);
            if tidied.elapsed() >= TIDY && !waits {
                tidied = Instant::now();
                for order in tidy(&mut self.shelves) {
                    // The other thread ends only after this one.
                    let _ = self.ordered.send(order);
                }
            }
        }
    }
}

/// Gives a lane what was made for it, or says once that nothing could be.
fn take(shelves: &mut [Shelf], order: &Order, made: io::Result<keeper::Made>, failed: &mut Option<Instant>) {
    let Some(shelf) = shelves.get_mut(order.shelf) else { return };
    let taken = shelf.made(made);
    match (&taken, failed.is_some()) {
        (Err(error), false) => tracing::error!(
            "no room for the journal in {}; when what there is is used up, calls are treated as `journal.when_full` says: {error}",
            shelf.directory().display()
        ),
        (Ok(()), true) => tracing::info!("there is room for the journal again"),
        _ => {}
    }
    *failed = taken.is_err().then(Instant::now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_slow_long_ago_is_no_news() {
        let commits = Commits::default();
        commits.count(Duration::from_millis(100));
        assert_eq!(commits.told(), (1, Duration::from_millis(100), Duration::from_millis(100)));
        (0..20_000).for_each(|_| commits.count(Duration::from_micros(3)));
        assert_eq!(commits.told(), (20_001, Duration::from_millis(160), Duration::from_micros(3)));
    }
}
