//! The way in: whose threads work, how many may wait, and what a future that is dropped leaves.

use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};

use super::*;

/// A store that notes who calls it, and answers once it is let go.
#[derive(Debug)]
struct Stuck {
    open: Semaphore,
    callers: Mutex<Vec<ThreadId>>,
    held_up: &'static str,
}

impl Stuck {
    fn new(held_up: &'static str) -> Arc<Self> {
        Arc::new(Self { open: Semaphore::new(0), callers: Mutex::default(), held_up })
    }

    fn answer<T: Send + 'static>(&self, space: &str, value: Result<T, Error>) -> Pending<'_, T> {
        let free = space != self.held_up;
        Box::pin(async move {
            self.callers.lock().unwrap().push(thread::current().id());
            if !free {
                self.open.acquire().await.unwrap().forget();
            }
            value
        })
    }
}

impl KvStore for Stuck {
    fn get(&self, space: &str, _: String, _: Millis) -> Pending<'_, Option<Vec<u8>>> {
        self.answer(space, Ok(Some(vec![1])))
    }

    fn set(&self, grant: &StoreGrant, _: String, _: Entry, _: Millis) -> Pending<'_, ()> {
        self.answer(&grant.space, Err(Error::Unavailable("no disk".into())))
    }

    fn remove(&self, space: &str, _: String) -> Pending<'_, ()> {
        self.answer(space, Ok(()))
    }

    fn sweep(&self, _: Millis) -> Pending<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    fn spaces(&self) -> BTreeMap<Arc<str>, Held> {
        BTreeMap::new()
    }
}

fn control() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn turned_away(kv: &Kv, space: &str) -> u64 {
    kv.spaces().iter().find(|one| *one.name == *space).unwrap().turned_away
}

#[test]
fn the_callers_thread_never_works() {
    let (control, store) = (control(), Stuck::new("none"));
    let kv = Kv::new(control.handle().clone(), store.clone(), Clock::manual(NOW));
    let worker = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let grant = grant("space", 10, 1);
    fn sent<T: Send>(future: T) -> T {
        future
    }
    worker.block_on(async {
        assert_eq!(sent(kv.get(&grant, "k".into())).await.unwrap(), Some(vec![1]));
        assert!(matches!(sent(kv.set(&grant, "k".into(), vec![], 1)).await, Err(Error::Unavailable(_))));
        sent(kv.remove(&grant, "k".into())).await.unwrap();
        assert_eq!(sent(kv.sweep()).await, 0);
    });
    let callers = store.callers.lock().unwrap();
    assert_eq!(callers.len(), 3);
    assert!(!callers.contains(&thread::current().id()));
}

#[test]
fn who_piles_up_is_turned_away_and_others_are_not() {
    let (control, store) = (control(), Stuck::new("greedy"));
    let kv = Kv::new(control.handle().clone(), store.clone(), Clock::manual(NOW));
    let (greedy, modest) = (grant("greedy", 10, 1), grant("modest", 10, 1));
    let mut waiting: Vec<_> = (0..ADMITTED).map(|_| Box::pin(kv.remove(&greedy, "k".into()))).collect();
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.iter_mut().all(|one| one.as_mut().poll(&mut context).is_pending()));
    // One more is refused at once, without waiting for anybody.
    let mut beyond = Box::pin(kv.get(&greedy, "k".into()));
    assert!(matches!(beyond.as_mut().poll(&mut context), Poll::Ready(Err(Error::Busy))));
    control.block_on(async {
        assert_eq!(kv.get(&modest, "k".into()).await.unwrap(), Some(vec![1]));
        // All but those that run give up by themselves.
        let patience = tokio::time::timeout(Duration::from_secs(10), async {
            while turned_away(&kv, "greedy") < 1 + 63 {
                tokio::task::yield_now().await;
            }
        });
        patience.await.unwrap();
        store.open.add_permits(RUNNING_OF_SPACE);
        let (mut done, mut refused) = (0, 0);
        for one in waiting {
            match one.await {
                Ok(()) => done += 1,
                Err(error) => refused += u64::from(matches!(error, Error::Busy)),
            }
        }
        assert_eq!((done, refused), (1, 63));
        assert_eq!(turned_away(&kv, "modest"), 0);
        store.open.add_permits(1);
        kv.remove(&greedy, "k".into()).await.unwrap();
    });
}

#[test]
fn what_has_begun_goes_on_without_who_asked() {
    let directory = tempfile::tempdir().unwrap();
    let (control, data) = (control(), data(directory.path()));
    let (kv, _) = control.block_on(async { kv_on(&data) });
    let grant = grant("space", 100, 10);
    drop(kv.set(&grant, "never".into(), vec![], 0));
    let mut begun = Box::pin(kv.set(&grant, "begun".into(), vec![1], 0));
    let _ = begun.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    drop(begun);
    control.block_on(async {
        let patience = tokio::time::timeout(Duration::from_secs(10), async {
            // Also while it is busy with what has begun.
            while !matches!(kv.get(&grant, "begun".into()).await, Ok(Some(_))) {
                tokio::task::yield_now().await;
            }
        });
        patience.await.unwrap();
        assert_eq!(kv.get(&grant, "never".into()).await.unwrap(), None);
    });
}

#[test]
fn a_control_runtime_that_has_ended_is_unavailable() {
    let (control, grant) = (control(), grant("space", 10, 1));
    let kv = Kv::new(control.handle().clone(), Stuck::new("space"), Clock::manual(NOW));
    control.shutdown_timeout(Duration::from_secs(5));
    let worker = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(worker.block_on(kv.get(&grant, "k".into())), Err(Error::Unavailable(_))));
    assert_eq!(worker.block_on(kv.sweep()), 0);
}
