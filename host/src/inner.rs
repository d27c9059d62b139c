//! The way from a worker to the gateway's own API on the control runtime: a bounded queue in, one whole answer back.
//!
//! Knows neither who answers nor what is asked. A worker never waits for room: where the queue is full, it says so at once.

use crate::key::Bearer;
use crate::plugin::Claim;
use bytes::Bytes;
use http::{Request, Response};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The most bytes of a request's body.
pub const LARGEST_BODY: usize = 64 << 10;
/// Requests that wait for the control runtime, over all workers.
const WAITING: usize = 256;
/// How long an answer may take, the wait in the queue included.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who asks: in the request's extensions.
#[derive(Debug, Clone)]
pub enum Asker {
    /// Somebody who showed no valid key.
    Anyone,
    /// The holder of this key, by one of its secrets.
    Key(Bearer),
    /// Whoever a policy vouched for.
    Claimed(Arc<Claim>),
}

/// From where it was asked: in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct From(pub IpAddr);

/// One request on its way.
#[derive(Debug)]
pub struct Ask {
    /// The request, with its id ([`crate::id::RequestId`]), [`Asker`] and [`From`] among its extensions.
    pub request: Request<Bytes>,
    answer: oneshot::Sender<Response<Bytes>>,
}

impl Ask {
    /// Takes it apart: what is asked, and where the answer goes.
    pub fn open(self) -> (Request<Bytes>, Reply) {
        (self.request, Reply(self.answer))
    }
}

/// Where the answer to one request goes.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<Response<Bytes>>);

impl Reply {
    /// Whether nobody waits any more.
    pub fn is_unwanted(&self) -> bool {
        self.0.is_closed()
    }

    /// Answers.
    pub fn send(self, response: Response<Bytes>) {
        // Whoever asked may have left meanwhile.
        let _ = self.0.send(response);
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Too much waits already; nothing was begun.
    #[error("too many requests wait for the control runtime")]
    Busy,
    /// It took too long, or the gateway ends; what was asked for may have been done.
    #[error("the control runtime did not answer in time")]
    TimedOut,
}

/// The workers' end of the queue.
#[derive(Debug)]
pub struct Door {
    queue: mpsc::Sender<Ask>,
    patience: Duration,
}

/// Both ends of a queue.
pub fn door() -> (Door, mpsc::Receiver<Ask>) {
    door_with(WAITING, PATIENCE)
}

fn door_with(waiting: usize, patience: Duration) -> (Door, mpsc::Receiver<Ask>) {
    let (queue, asked) = mpsc::channel(waiting);
    (Door { queue, patience }, asked)
}

impl Door {
    /// Asks, and waits for the whole answer. Dropped meanwhile, what has begun goes on to its end.
    ///
    /// # Errors
    /// When there is no room, or no answer in time.
    pub async fn ask(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Unanswered> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Ask { request, answer }).map_err(|_| Unanswered::Busy)?;
        match tokio::time::timeout(self.patience, answered).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) | Err(_) => Err(Unanswered::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request<Bytes> {
        Request::new(Bytes::from_static(b"asked"))
    }

    #[tokio::test]
    async fn what_is_asked_is_answered_to_whoever_asked() {
        let (door, mut asked) = door();
        let answers = tokio::spawn(async move {
            while let Some(ask) = asked.recv().await {
                let (request, reply) = ask.open();
                assert!(!reply.is_unwanted());
                reply.send(Response::new(request.into_body()));
            }
        });
        assert_eq!(door.ask(request()).await.map(Response::into_body), Ok(Bytes::from_static(b"asked")));
        drop(door);
        answers.await.expect("it ends with the last door");
    }

    #[tokio::test]
    async fn a_full_queue_is_told_at_once_and_an_answer_that_does_not_come_in_time() {
        let (door, mut asked) = door_with(1, Duration::from_millis(20));
        assert_eq!(door.ask(request()).await.map(drop), Err(Unanswered::TimedOut));
        assert_eq!(door.ask(request()).await.map(drop), Err(Unanswered::Busy), "the first still waits");
        let (_, reply) = asked.recv().await.expect("what waited").open();
        assert!(reply.is_unwanted());
        let dropped = async { drop(asked.recv().await) };
        let (answer, ()) = tokio::join!(door.ask(request()), dropped);
        assert_eq!(answer.map(drop), Err(Unanswered::TimedOut), "nobody answers any more");
    }
}
