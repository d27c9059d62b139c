//! One worker thread: its runtime, its connections, its end.

use crate::exchange::{self, Client};
use crate::journal::Writer;
use crate::requests::{Head, Recorder};
use crate::worker::{Gateway, Worker};
use http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, watch};

/// How often a worker tidies up after itself.
const TIDY: Duration = Duration::from_secs(1);
/// How often a worker hands over what was booked: a call is to show within a second.
const BOOK: Duration = Duration::from_millis(250);
/// Fields that a request head may have.
const MAX_FIELDS: usize = 100;
/// Bytes that a request head may have.
const MAX_HEAD: usize = 64 << 10;

/// The end of a worker that the acceptor holds.
pub struct Handle {
    connections: mpsc::UnboundedSender<(std::net::TcpStream, SocketAddr)>,
    open: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Handle {
    /// Connections that are open on it.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether it still takes connections.
    pub fn is_alive(&self) -> bool {
        !self.connections.is_closed()
    }

    /// Gives it a connection.
    pub fn deal(&self, stream: std::net::TcpStream, peer: SocketAddr) {
        self.open.fetch_add(1, Ordering::Relaxed);
        if self.connections.send((stream, peer)).is_err() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Waits for the thread, after the stop signal was given.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            drop(self.connections);
            // A worker that panicked has said so on its own.
            let _ = thread.join();
        }
    }
}

/// Starts one worker. It ends when `stop` says so and its connections are done, or the drain time is over.
///
/// # Errors
/// When there is no thread, no runtime or no randomness.
pub fn start(
    number: usize,
    gateway: Arc<Gateway>,
    journal: Writer,
    recorder: Recorder,
    stop: watch::Receiver<bool>,
) -> std::io::Result<Handle> {
    let (connections, incoming) = mpsc::unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let counted = open.clone();
    let (started, result) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("portico-worker-{number}")).spawn(move || {
        // Made here, since it never leaves the thread: its tasks need no lock and no second queue.
        let made = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let made = made
            .and_then(|runtime| Ok((runtime, Worker::new(gateway, journal, recorder).map_err(std::io::Error::other)?)));
        let (runtime, worker) = match made {
            Ok((runtime, worker)) => (runtime, Rc::new(worker)),
            Err(error) => return drop(started.send(Err(error))),
        };
        let _ = started.send(Ok(()));
        runtime.block_on(run(worker.clone(), incoming, counted, stop));
        worker.recorder.cut_off();
        // What is cut off now books its usage as it is dropped; only after that is the tally whole. A name that is still
        // being looked up is not waited for.
        runtime.shutdown_background();
        worker.tidy_up();
    })?;
    result.recv().map_err(std::io::Error::other)??;
    Ok(Handle { connections, open, thread: Some(thread) })
}

type Incoming = mpsc::UnboundedReceiver<(std::net::TcpStream, SocketAddr)>;

async fn run(worker: Rc<Worker>, mut incoming: Incoming, open: Arc<AtomicUsize>, mut stop: watch::Receiver<bool>) {
    let handed_on = stop.clone();
    let begin = |(stream, peer)| {
        let counted = Counted(open.clone());
        tokio::task::spawn_local(connection(worker.clone(), stream, peer, handed_on.clone(), counted));
    };
    let mut tidy = tokio::time::interval(TIDY);
    tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut book = tokio::time::interval(BOOK);
    book.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            next = incoming.recv() => match next {
                Some(dealt) => begin(dealt),
                None => break,
            },
            _ = tidy.tick() => worker.tidy_up(),
            _ = book.tick() => worker.hand_over(),
            () = told_to_stop(&mut stop) => break,
        }
    }
    // What was dealt and not yet begun: nobody else would end it.
    incoming.close();
    while let Ok(dealt) = incoming.try_recv() {
        begin(dealt);
    }
    let limit = worker.gateway.live.load().config.gateway.drain_timeout;
    let deadline = tokio::time::Instant::now() + limit;
    while open.load(Ordering::Relaxed) > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for the stop signal, also one that was given before; nobody left to give it is one too.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One connection less, however it ends.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(
    worker: Rc<Worker>,
    stream: std::net::TcpStream,
    peer: SocketAddr,
    mut stop: watch::Receiver<bool>,
    _counted: Counted,
) {
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let address = peer.ip().to_canonical();
    let Ok(forwarded_for) = HeaderValue::try_from(address.to_string()) else { return };
    let header_timeout = worker.gateway.live.load().config.gateway.header_timeout;
    let client = Client { address, forwarded_for };
    let service = service_fn(|request| {
        let (worker, client) = (&worker, &client);
        async move { Ok::<_, Infallible>(exchange::serve(worker, client, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_stop(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        let heads = [
            (error.is_parse_too_large(), Head::TooLarge),
            (error.is_parse(), Head::Parse),
            (error.is_timeout(), Head::Timeout),
        ];
        if let Some((_, head)) = heads.into_iter().find(|(is, _)| *is) {
            worker.recorder.refused(head);
        }
        // What a client does to its own connection is not news.
        tracing::debug!(%address, "a connection ended: {error}");
    }
}
