//! HTTP requests that policies send themselves: only what was granted, only to public addresses, and within bounds.
//!
//! All work is done on the control runtime; whoever waits may be a worker. There are deliberately no redirects, no
//! proxies, no cookies, no unpacking and no retries of what may have been seen.

mod answer;
mod error;
mod name;
mod origin;
mod request;
mod trust;

pub use error::{Error, Part, Ungranted, Unreached};
pub use request::{Spent, origin_of};
pub use trust::{BadRoots, Roots};

use crate::config::OutboundGrant;
use crate::id::OrgId;
use answer::Kept;
use name::Names;
use origin::Origins;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use trust::Trust;

/// The most requests that are under way at once, over all workers.
pub const MOST_UNDER_WAY: usize = 1024;
/// The most bytes of bodies that are kept at once, over all workers.
pub const MOST_BYTES: usize = 256 << 20;

/// A request as a policy asks for it.
pub struct Call {
    /// The method, upper case.
    pub method: String,
    /// An absolute URL, of `https` or `http`.
    pub url: String,
    /// Fields: names and values.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// Until it is given up, where that is sooner than the grant's; zero leaves it to the grant.
    pub timeout: Duration,
}

/// What came back.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, 200 to 999.
    pub status: u16,
    /// Fields: names in lower case, and values; none that belong to a connection.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body, at most as large as granted.
    pub body: Vec<u8>,
}

/// Sends requests of policies. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    inner: Arc<Inner>,
}

struct Inner {
    control: Handle,
    trust: Trust,
    names: Names,
    origins: Origins,
    under_way: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Outbound {
    /// Reads the system's root certificates, which blocks for some milliseconds, and those in additional PEM (empty for
    /// none). Where the system has none, it says so in the log, and requests over TLS are unreachable.
    ///
    /// # Errors
    /// When the additional roots cannot be used.
    pub fn start(control: Handle, additional_roots: &[u8]) -> Result<Self, BadRoots> {
        Ok(Self::of(control, Trust::load(additional_roots)?, Names::system()))
    }

    /// As [`Self::start`], for requests without TLS alone: no certificates are looked for.
    ///
    /// # Errors
    /// None that can come about.
    pub fn without_tls(control: Handle) -> Result<Self, BadRoots> {
        Ok(Self::of(control, Trust::in_these(&[])?, Names::system()))
    }

    /// The same, with other additional roots. Both count what is under way together; connections that stand are not taken over,
    /// and what was sent on them ends as it began.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn trusting(&self, additional_roots: &[u8]) -> Result<Self, BadRoots> {
        let Inner { control, names, under_way, bytes, .. } = &*self.inner;
        let (under_way, bytes) = (under_way.clone(), bytes.clone());
        let (control, names, trust) = (control.clone(), names.clone(), Trust::load(additional_roots)?);
        Ok(Self { inner: Arc::new(Inner { control, trust, names, origins: Origins::default(), under_way, bytes }) })
    }

    fn of(control: Handle, trust: Trust, names: Names) -> Self {
        let under_way = Arc::new(Semaphore::new(MOST_UNDER_WAY));
        let bytes = Arc::new(Semaphore::new(MOST_BYTES));
        Self { inner: Arc::new(Inner { control, trust, names, origins: Origins::default(), under_way, bytes }) }
    }

    /// Sends one request, from any runtime; dropped while it waits, it breaks the request off. `spent` belongs to one call of
    /// a policy with these grants.
    ///
    /// # Errors
    /// What the policy is told, with the reason for the log.
    pub async fn send(&self, grants: &[OutboundGrant], spent: &mut Spent, call: Call) -> Result<Answer, Error> {
        self.ask(None, grants, spent, call).await
    }

    /// As [`Self::send`], for an org for which status and fields are the whole answer: whatever the body does, it undoes nothing. The
    /// body of the answer is read within the same bounds, and is empty here. No org takes the look-ups of names of all others.
    ///
    /// # Errors
    /// As [`Self::send`], but none about the body.
    pub async fn tell(
        &self,
        whose: OrgId,
        grants: &[OutboundGrant],
        spent: &mut Spent,
        call: Call,
    ) -> Result<Answer, Error> {
        self.ask(Some(whose), grants, spent, call).await
    }

    async fn ask(
        &self,
        whose: Option<OrgId>,
        grants: &[OutboundGrant],
        spent: &mut Spent,
        call: Call,
    ) -> Result<Answer, Error> {
        let asked = call.timeout;
        let (grant, request) = request::granted(grants, spent, call)?;
        let inner = self.inner.clone();
        let place = inner.under_way.clone().try_acquire_owned().map_err(|_| Unreached::Busy)?;
        let mut kept = Kept::none(inner.bytes.clone());
        kept.more(request.body.len())?;
        let origin = inner.origins.find(grant, &inner.trust)?;
        let most = grant.response;
        let time = if asked.is_zero() { grant.timeout } else { asked.min(grant.timeout) };
        let work = async move {
            let _place = place;
            let end = Instant::now() + time;
            let head = async { answer::head(origin.send(&inner.names, whose, &request).await?) };
            let (answer, body) = timeout_at(end, head).await.unwrap_or(Err(Error::TimedOut))?;
            if whose.is_some() {
                let _ = timeout_at(end, answer::pass_over(body, most)).await;
                return Ok(answer);
            }
            let whole = answer::whole(body, most, &mut kept);
            let body = timeout_at(end, whole).await.unwrap_or(Err(Error::TimedOut))?;
            Ok(Answer { body, ..answer })
        };
        let mut work = Work(self.inner.control.spawn(work));
        (&mut work.0).await.unwrap_or(Err(Unreached::Stopped.into()))
    }
}

/// Work on the control runtime, which ends when nobody waits for it any more.
struct Work(JoinHandle<Result<Answer, Error>>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.abort();
    }
}

// Fields, queries and bodies hold secrets: what is shown of them is how large they are.

impl fmt::Debug for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, fields, body, timeout, .. } = self;
        formatter
            .debug_struct("Call")
            .field("method", method)
            .field("fields", &fields.len())
            .field("body", &body.len())
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, fields, body } = self;
        formatter
            .debug_struct("Answer")
            .field("status", status)
            .field("fields", &fields.len())
            .field("body", &body.len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
