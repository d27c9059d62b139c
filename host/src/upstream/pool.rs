//! Connections of one worker to its upstreams, kept while idle.
//!
//! Belongs to one thread: no lock, no wake of another core. A connection is used again only after the last answer on it
//! was read to its end.

use super::{Endpoint, Failure, Upstream};
use crate::body::Upload;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// The connections of one worker, by endpoint.
#[derive(Default)]
pub struct Pools {
    pools: RefCell<FxHashMap<Arc<str>, Rc<Pool>>>,
    turn: Cell<usize>,
}

struct Pool {
    /// `host:port` of the endpoint.
    authority: Arc<str>,
    idle: RefCell<Vec<Idle>>,
    open: Rc<Cell<usize>>,
}

struct Idle {
    sender: SendRequest<Upload>,
    task: AbortHandle,
    until: Instant,
}

/// A connection that is in use for one exchange.
pub struct Lease {
    sender: Option<SendRequest<Upload>>,
    pool: Rc<Pool>,
    task: AbortHandle,
    idle_timeout: Duration,
}

impl Lease {
    /// `host:port` of the endpoint that it leads to.
    pub fn authority(&self) -> &str {
        &self.pool.authority
    }

    /// Request and answer were both carried to their ends: the connection can be used again.
    pub fn give_back(mut self) {
        if let Some(sender) = self.sender.take()
            && !sender.is_closed()
        {
            let until = Instant::now() + self.idle_timeout;
            self.pool.idle.borrow_mut().push(Idle { sender, task: self.task.clone(), until });
        }
    }
}

impl Drop for Lease {
    /// What was not given back has something of its exchange left on it. It must end with the exchange: waiting for a
    /// client that stalls its upload, it would hold one of the few connections for as long as that client likes.
    fn drop(&mut self) {
        if self.sender.is_some() {
            self.task.abort();
        }
    }
}

impl Pools {
    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// By whose fault there is none.
    pub async fn send(
        &self,
        upstream: &Upstream,
        request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let progress = request.body().progress();
        let mut exchange = std::pin::pin!(self.exchange(upstream, request));
        let mut sent = progress.passed_on();
        loop {
            match timeout(upstream.response_timeout, exchange.as_mut()).await {
                Ok(answer) => return answer,
                // A long upload is not a slow upstream: the time counts from the last byte that was passed on.
                Err(_) if progress.passed_on() > sent => sent = progress.passed_on(),
                Err(_) => return Err(Failure::TimedOut),
            }
        }
    }

    /// Closes connections that were idle for too long; called now and then.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut pools = self.pools.borrow_mut();
        pools.retain(|_, pool| {
            pool.idle.borrow_mut().retain(|idle| idle.until > now && !idle.sender.is_closed());
            pool.open.get() > 0
        });
    }

    async fn exchange(
        &self,
        upstream: &Upstream,
        mut request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        // Idle connections may turn out closed by the other side; each is used up, then a new one is made.
        loop {
            let endpoint = self.choose(upstream);
            let pool = self.pool(endpoint);
            let (mut lease, fresh) = match pool.take_idle() {
                Some(Idle { sender, task, .. }) => {
                    (Lease { sender: Some(sender), pool, task, idle_timeout: upstream.idle_timeout }, false)
                }
                None => (Self::connect(upstream, endpoint, pool).await?, true),
            };
            let Some(sender) = lease.sender.as_mut() else { return Err(Failure::Broke) };
            if sender.ready().await.is_err() {
                if fresh {
                    return Err(Failure::Broke);
                }
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, lease)),
                Err(mut error) => match error.take_message() {
                    // It never left: the other side had closed the idle connection.
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(failure(error.error())),
                },
            }
        }
    }

    /// Round robin over the endpoints that are up; over all when none is.
    fn choose<'u>(&self, upstream: &'u Upstream) -> &'u Arc<Endpoint> {
        let endpoints = &upstream.endpoints;
        if let [only] = endpoints.as_slice() {
            return only;
        }
        let start = self.turn.get();
        self.turn.set(start.wrapping_add(1));
        let in_turn = (0..endpoints.len()).map(|step| &endpoints[start.wrapping_add(step) % endpoints.len()]);
        in_turn.clone().find(|endpoint| endpoint.is_up()).unwrap_or(&endpoints[start % endpoints.len()])
    }

    fn pool(&self, endpoint: &Endpoint) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        match pools.get(&endpoint.authority) {
            Some(pool) => pool.clone(),
            None => {
                let (authority, idle, open) = (endpoint.authority.clone(), RefCell::default(), Rc::default());
                pools.entry(authority.clone()).or_insert_with(|| Rc::new(Pool { authority, idle, open })).clone()
            }
        }
    }

    async fn connect(upstream: &Upstream, endpoint: &Arc<Endpoint>, pool: Rc<Pool>) -> Result<Lease, Failure> {
        if pool.open.get() >= upstream.connections {
            return Err(Failure::Overloaded);
        }
        let counted = Counted::new(&pool.open);
        let connect = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
        let stream = match timeout(upstream.connect_timeout, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) | Err(_) => {
                endpoint.missed();
                return Err(Failure::Unreachable);
            }
        };
        // Without it small requests wait for acknowledgements; a socket that cannot do it still works.
        let _ = stream.set_nodelay(true);
        endpoint.reached();
        let (sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(|_| Failure::Broke)?;
        let task = tokio::task::spawn_local(async move {
            let _counted = counted;
            // How it ends is told to whoever waits for an answer on it.
            let _ = connection.await;
        });
        let task = task.abort_handle();
        Ok(Lease { sender: Some(sender), pool, task, idle_timeout: upstream.idle_timeout })
    }
}

impl Pool {
    /// The connection that was used last: it is the most likely to be open still, and lets the others time out.
    fn take_idle(&self) -> Option<Idle> {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        while let Some(last) = idle.pop() {
            if !last.sender.is_closed() && last.until > now {
                return Some(last);
            }
        }
        None
    }
}

/// Counts one open connection for as long as it lives.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

fn failure(error: &hyper::Error) -> Failure {
    if error.is_user() { Failure::BrokenUpload } else { Failure::Broke }
}
