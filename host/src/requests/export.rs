//! Sends spans to a collector: OTLP over HTTP, in batches, on the control runtime.
//!
//! Nobody waits for it, neither a request nor the end: what does not fit is dropped, what is not taken is given up, and both are counted.

mod fields;

pub use fields::BadField;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use self::fields::Field;
use super::otlp::{self, Resource, Span, attribute};
use crate::config::{OutboundGrant, Traces};
use crate::id::{NoRandomness, random};
use crate::outbound::{Answer, Call, Error, Outbound, Roots, Spent};

/// How long a batch waits for more after its first span.
const DELAY: Duration = Duration::from_millis(500);
/// The most bytes of spans that are sent at once, whatever their number.
const MOST_BYTES: usize = 512 << 10;
/// How often a batch is sent before it is given up.
const ATTEMPTS: u32 = 5;
/// The longest pause after the first attempt; it doubles with each further one, and none is shorter than half of it.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a collector is granted.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long the end waits for what was not sent yet.
const FLUSH: Duration = Duration::from_secs(2);
/// How often it is said at most that a collector does not take what it is sent.
const SAID: Duration = Duration::from_secs(60);
/// The most bytes of an answer.
const LARGEST_ANSWER: usize = 64 << 10;

/// What became of spans on their way.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) exported: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// Where spans are put in; never waits.
#[derive(Debug)]
pub struct Inlet {
    spans: mpsc::UnboundedSender<Span>,
    waiting: Arc<AtomicU64>,
    most: u64,
    pub(super) figures: Arc<Figures>,
    /// Goes with it: then the end has come.
    _gone: oneshot::Sender<()>,
}

impl Inlet {
    /// Whether there is room for none.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= self.most
    }

    /// Puts one in, or drops it.
    pub(super) fn put(&self, span: Span) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let fits = self.waiting.load(Ordering::Relaxed) <= self.most;
        if !fits || self.spans.send(span).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped(1);
        }
    }

    /// So many were not even made.
    pub(super) fn dropped(&self, spans: u64) {
        self.figures.dropped.fetch_add(spans, Ordering::Relaxed);
    }
}

/// Takes spans out and sends them.
pub struct Export {
    spans: mpsc::UnboundedReceiver<Span>,
    waiting: Arc<AtomicU64>,
    figures: Arc<Figures>,
    gone: oneshot::Receiver<()>,
    grant: OutboundGrant,
    url: String,
    fields: Vec<Field>,
    resource: Resource,
    batch: usize,
    roots: Roots,
}

/// Why nothing can be exported.
#[derive(Debug, thiserror::Error)]
pub enum NoExport {
    /// A field for the collector.
    #[error(transparent)]
    Field(#[from] BadField),
    /// Nothing to call this gateway by.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

impl Export {
    /// Both ends, where spans are exported; reads what the collector's fields hold. Over TLS the collector is believed under the system's
    /// roots, and under these.
    ///
    /// # Errors
    /// When a field cannot be read or sent.
    pub fn open(settings: &Traces, roots: Roots) -> Result<Option<(Inlet, Self)>, NoExport> {
        let Some(collector) = &settings.endpoint else { return Ok(None) };
        let fields = fields::read(&settings.headers)?;
        let resource = resource(&settings.service, u128::from_be_bytes(random()?));
        let grant = OutboundGrant {
            tls: collector.tls,
            host: collector.host.clone(),
            port: collector.port,
            methods: vec!["POST".into()],
            paths: vec![collector.path.clone()],
            calls: 1,
            response: LARGEST_ANSWER,
            timeout: settings.timeout,
            // The operator has named it.
            private: true,
        };
        let (send, spans) = mpsc::unbounded_channel();
        let (_gone, gone) = oneshot::channel();
        let (waiting, figures) = (Arc::<AtomicU64>::default(), Arc::<Figures>::default());
        let (inlet_waiting, inlet_figures) = (waiting.clone(), figures.clone());
        let inlet =
            Inlet { spans: send, waiting: inlet_waiting, most: settings.queue as u64, figures: inlet_figures, _gone };
        let (url, batch) = (collector.url(), settings.batch);
        Ok(Some((inlet, Self { spans, waiting, figures, gone, grant, url, fields, resource, batch, roots })))
    }

    /// Sends until the inlet is gone, and then for two seconds more at most.
    pub fn start(self, control: Handle) -> JoinHandle<()> {
        control.clone().spawn(async move {
            let (roots, tls) = (self.roots.clone(), self.grant.tls);
            // Reads the system's root certificates.
            let begin = move || match tls {
                true => Outbound::start(control, roots.pem()),
                false => Outbound::without_tls(control),
            };
            let begun = tokio::task::spawn_blocking(begin).await;
            match begun {
                Ok(Ok(outbound)) => self.run(outbound).await,
                Ok(Err(error)) => tracing::error!("no traces are told: {error}"),
                Err(error) => tracing::error!("no traces are told: {error}"),
            }
        })
    }

    async fn run(self, outbound: Outbound) {
        let Self { spans, waiting, figures, gone, grant, url, fields, resource, batch, .. } = self;
        let waits = waiting.clone();
        let sender = Sender { outbound, grants: [grant], url, fields, resource, figures, said: None, fails: false };
        let mut outlet = Outlet { spans, next: None, waiting, batch };
        let work = async move {
            let mut sender = sender;
            while let Some(batch) = outlet.batch().await {
                let count = batch.len() as u64;
                sender.deliver(batch, &outlet).await;
                outlet.waiting.fetch_sub(count, Ordering::Relaxed);
            }
        };
        let late = async move {
            // Nothing is ever sent over it: it ends with its other end.
            let _ = gone.await;
            sleep(FLUSH).await;
        };
        tokio::select! {
            () = work => {}
            () = late => {
                let spans = waits.load(Ordering::Relaxed);
                tracing::warn!(spans, "the last spans are not told: the collector is slow or away");
            }
        }
    }
}

/// Where spans are taken out, in batches.
struct Outlet {
    spans: mpsc::UnboundedReceiver<Span>,
    /// Taken out already, and too large for the batch before.
    next: Option<Span>,
    waiting: Arc<AtomicU64>,
    batch: usize,
}

impl Outlet {
    /// The next ones; none when there will be no more.
    async fn batch(&mut self) -> Option<Vec<Span>> {
        let first = match self.next.take() {
            Some(span) => span,
            None => self.spans.recv().await?,
        };
        let until = Instant::now() + DELAY;
        let mut bytes = otlp::length(&first);
        let mut batch = vec![first];
        while batch.len() < self.batch {
            let Ok(Some(span)) = timeout_at(until, self.spans.recv()).await else { break };
            bytes += otlp::length(&span);
            if bytes > MOST_BYTES {
                self.next = Some(span);
                break;
            }
            batch.push(span);
        }
        Some(batch)
    }

    /// Waits, but not for longer than somebody puts spans in; whether that is so.
    async fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.spans.is_closed() {
            sleep((until - Instant::now()).min(Duration::from_millis(50))).await;
        }
        !self.spans.is_closed()
    }
}

struct Sender {
    outbound: Outbound,
    grants: [OutboundGrant; 1],
    url: String,
    fields: Vec<Field>,
    resource: Resource,
    figures: Arc<Figures>,
    /// When it was said last that the collector does not take what it is sent.
    said: Option<Instant>,
    fails: bool,
}

/// What came of one attempt.
enum Outcome {
    /// It was taken, but for so many, with the collector's reason.
    Taken(u64, String),
    /// It is not taken, and will not be.
    Refused(String),
    /// It may be taken later: after this time, where the collector said so.
    Again(String, Option<Duration>),
}

impl Sender {
    /// Sends a batch until it is taken, refused, or given up.
    async fn deliver(&mut self, spans: Vec<Span>, outlet: &Outlet) {
        let count = spans.len() as u64;
        let body = otlp::bytes(&self.resource, spans);
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let (why, asked) = match self.send(&body).await {
                Outcome::Taken(rejected, why) => {
                    let rejected = rejected.min(count);
                    self.figures.exported.fetch_add(count - rejected, Ordering::Relaxed);
                    self.figures.failed.fetch_add(rejected, Ordering::Relaxed);
                    match why.is_empty() && rejected == 0 {
                        true => self.works(),
                        false => self.complain(rejected, &why),
                    }
                    return;
                }
                Outcome::Refused(why) => (why, None),
                Outcome::Again(why, asked) => (why, Some(asked)),
            };
            self.complain(count, &why);
            let again = match asked {
                Some(asked) if attempt < ATTEMPTS => {
                    outlet.pause(asked.unwrap_or_else(|| jittered(pause)).min(LONGEST_PAUSE)).await
                }
                _ => false,
            };
            if !again {
                break;
            }
            pause *= 2;
        }
        self.figures.failed.fetch_add(count, Ordering::Relaxed);
    }

    async fn send(&self, body: &[u8]) -> Outcome {
        let field = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        let mut fields = vec![
            field("content-type", b"application/x-protobuf"),
            field("user-agent", concat!("Portico/", env!("CARGO_PKG_VERSION")).as_bytes()),
        ];
        fields.extend(self.fields.iter().map(|own| field(&own.name, &own.value)));
        let call =
            Call { method: "POST".into(), url: self.url.clone(), fields, body: body.to_vec(), timeout: Duration::ZERO };
        match self.outbound.send(&self.grants, &mut Spent::default(), call).await {
            Ok(answer) => outcome(&answer),
            // It has come, and whatever was said of it is too long to be read.
            Err(error @ (Error::TooLarge(_) | Error::NotGranted(_))) => Outcome::Refused(error.to_string()),
            Err(error) => Outcome::Again(error.to_string(), None),
        }
    }

    fn works(&mut self) {
        if std::mem::take(&mut self.fails) {
            tracing::info!("the collector of traces takes spans again");
        }
    }

    /// Once a minute at most: a collector that stays away is no news.
    fn complain(&mut self, spans: u64, why: &str) {
        self.fails = true;
        let now = Instant::now();
        if self.said.is_none_or(|said| now - said >= SAID) {
            self.said = Some(now);
            let why: String = why.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect();
            tracing::warn!(spans, url = self.url, "the collector of traces did not take spans: {why}");
        }
    }
}

/// What a collector's answer says (OTLP 1, sections on responses of OTLP/HTTP).
fn outcome(answer: &Answer) -> Outcome {
    match answer.status {
        200..=299 => {
            let (rejected, why) = otlp::rejected(&answer.body).unwrap_or_default();
            Outcome::Taken(rejected, why)
        }
        status @ (429 | 502 | 503 | 504) => {
            let field = answer.fields.iter().find(|(name, _)| name == "retry-after");
            let seconds = field.and_then(|(_, value)| std::str::from_utf8(value).ok()?.trim().parse().ok());
            Outcome::Again(format!("it answered with {status}"), seconds.map(Duration::from_secs))
        }
        status => Outcome::Refused(format!("it answered with {status}")),
    }
}

/// Between half of it and the whole.
fn jittered(pause: Duration) -> Duration {
    let chance = random::<1>().map_or(u8::MAX, |[byte]| byte);
    pause / 2 + pause * u32::from(chance) / 510
}

/// Who tells of all spans.
fn resource(service: &str, instance: u128) -> Resource {
    // A UUID of version 4 (RFC 9562, section 5.4).
    let instance = instance & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let digits = format!("{instance:032x}");
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| &digits[group]);
    let attributes = vec![
        attribute("service.name", service),
        attribute("service.version", env!("CARGO_PKG_VERSION")),
        attribute("service.instance.id", groups.join("-")),
    ];
    Resource { attributes }
}

#[cfg(test)]
mod tests;
