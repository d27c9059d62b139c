//! Looks every two seconds whether the OpenAPI document of a pillar was saved anew, and asks upstreams for theirs.
//!
//! By what the file system says of the files, so a look costs next to nothing; what they say is read with all else that makes
//! up what runs, and only where that is another document does anything change. What an upstream says is asked for within bounds,
//! on the control runtime; what is bad of it takes the place of nothing.

use super::change::Changes;
use super::noting::{Cause, Way};
use super::sentence;
use crate::config::{self, Config, OpenApi, OutboundGrant};
use crate::openapi::{self, Document, Fault};
use crate::outbound::{Call, Outbound, Spent};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_secs(1);
/// The longest pause after a failure. The first is a second, and each one after that twice as long.
const LONGEST: Duration = Duration::from_secs(60);
/// How long its answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of the files; for one who looks again and again.
#[derive(Default)]
pub(super) struct Look {
    before: Option<Vec<Stamp>>,
}

/// A file as it is: by whatever differs when it was saved, also over the old one within the same second.
#[derive(PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    is: Option<(u64, u64, i64, i64, i64, i64)>,
}

impl Look {
    /// Looks, and has another document taken up. Blocks.
    pub(super) fn again(&mut self, changes: &Weak<Changes>) {
        let Some(changes) = changes.upgrade() else { return };
        let now = stamps(&changes.gateway.live.load().config);
        // Before the first look somebody may have saved one that nobody saw.
        let is_news = self.before.as_ref().map_or(!now.is_empty(), |before| *before != now);
        self.before = Some(now);
        if is_news {
            changes.documents();
        }
    }
}

fn stamps(config: &Config) -> Vec<Stamp> {
    let files = config.pillars.values().filter_map(|pillar| pillar.openapi.as_ref());
    let stamp = |source: &OpenApi| {
        let OpenApi::File(path) = source else { return None };
        let about = path.metadata().ok();
        let is = about.map(|it| (it.dev(), it.ino(), it.mtime(), it.mtime_nsec(), it.ctime(), it.ctime_nsec()));
        Some(Stamp { path: path.clone(), is })
    };
    files.filter_map(stamp).collect()
}

/// Whom to ask for the document of a pillar.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    pillar: String,
    upstream: String,
    path: String,
    every: Duration,
    /// Host and port of each endpoint, and what stands in `Host`.
    endpoints: Vec<(String, u16, Arc<str>)>,
}

/// When it is asked again, and what is to be said no second time.
struct Next {
    asked: Asked,
    at: Instant,
    failures: u32,
    told: Option<String>,
}

/// Asks upstreams for their documents until the stop signal comes.
pub(super) async fn fetch(changes: Weak<Changes>, mut stopped: watch::Receiver<bool>) {
    let mut all: Vec<Next> = Vec::new();
    let mut outbound: Option<Outbound> = None;
    loop {
        {
            let Some(running) = changes.upgrade() else { return };
            let wanted = asked(&running.gateway.live.load().config);
            all.retain(|next| wanted.contains(&next.asked));
            let fresh =
                wanted.into_iter().filter(|asked| all.iter().all(|next| next.asked != *asked)).collect::<Vec<_>>();
            all.extend(fresh.into_iter().map(|asked| Next { asked, at: Instant::now(), failures: 0, told: None }));
        }
        if !all.is_empty() && outbound.is_none() {
            outbound = begin().await;
        }
        let mut is_news = false;
        for next in all.iter_mut().filter(|next| next.at <= Instant::now()) {
            let Some(outbound) = &outbound else { break };
            tokio::select! {
                news = next.ask(outbound, &changes) => is_news |= news,
                _ = stopped.changed() => return,
            }
        }
        if is_news {
            let changes = changes.clone();
            let taken_up = move || changes.upgrade().map(|changes| changes.documents());
            // One that was cut off has said so on its own.
            let _ = tokio::task::spawn_blocking(taken_up).await;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stopped.changed() => return,
        }
    }
}

/// Upstreams are asked in the clear, so no certificates are needed.
async fn begin() -> Option<Outbound> {
    let control = Handle::current();
    let begun = tokio::task::spawn_blocking(move || Outbound::start(control, &[])).await.ok()?;
    begun.inspect_err(|error| tracing::error!("no upstream is asked for its OpenAPI document: {error}")).ok()
}

fn asked(config: &Config) -> Vec<Asked> {
    let ask = |pillar: &config::Pillar| {
        let Some(OpenApi::Upstream { path, every }) = &pillar.openapi else { return None };
        let upstream = config.upstreams.get(pillar.upstream.as_ref()?)?;
        let endpoints = upstream.endpoints.iter().map(|it| (it.host.clone(), it.port, it.authority.clone())).collect();
        let (pillar, upstream) = (pillar.name.clone(), upstream.name.clone());
        Some(Asked { pillar, upstream, path: path.clone(), every: *every, endpoints })
    };
    config.pillars.values().filter_map(ask).collect()
}

impl Next {
    /// Asks one endpoint, another one each time; whether it said something new.
    async fn ask(&mut self, outbound: &Outbound, changes: &Weak<Changes>) -> bool {
        let Asked { pillar, upstream, path, every, endpoints } = &self.asked;
        let (host, port, authority) = &endpoints[self.failures as usize % endpoints.len().max(1)];
        let came = came(outbound, (host, *port, authority), path).await;
        let read = match came {
            // Reading megabytes takes a while.
            Ok(bytes) => tokio::task::spawn_blocking(move || read(&bytes))
                .await
                .unwrap_or_else(|_| Err("it was cut off".to_owned())),
            Err(why) => Err(why),
        };
        match read {
            Ok(document) => {
                (self.at, self.failures, self.told) = (Instant::now() + *every, 0, None);
                let Some(changes) = changes.upgrade() else { return false };
                let (pillar, upstream, path) = (pillar.clone(), upstream.clone(), path.clone());
                let take = move || changes.kept.fetched.take(&pillar, &upstream, &path, document);
                tokio::task::spawn_blocking(take).await.unwrap_or(false)
            }
            Err(why) => {
                let pause = LOOK.saturating_mul(1 << self.failures.min(6)).min(LONGEST);
                (self.at, self.failures) = (Instant::now() + pause, self.failures.saturating_add(1));
                if self.told.as_ref() != Some(&why) {
                    tracing::error!(
                        "pillars.{pillar}.openapi: {upstream} has no document at {path}: {why}; what it said before goes on"
                    );
                    self.told = Some(why);
                }
                false
            }
        }
    }
}

fn read(bytes: &[u8]) -> Result<Document, String> {
    let told = |faults: Vec<Fault>| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Document::read(bytes).map_err(told)
}

async fn came(outbound: &Outbound, (host, port, authority): (&str, u16, &str), path: &str) -> Result<Vec<u8>, String> {
    let grant = OutboundGrant {
        tls: false,
        host: host.to_owned(),
        port,
        methods: vec!["GET".to_owned()],
        paths: vec![path.to_owned()],
        calls: 1,
        response: openapi::LARGEST,
        timeout: PATIENCE,
        // Where upstreams are.
        private: true,
    };
    let call = Call {
        method: "GET".to_owned(),
        url: format!("http://{authority}{path}"),
        fields: vec![("accept".to_owned(), b"application/json".to_vec())],
        body: Vec::new(),
        timeout: Duration::ZERO,
    };
    let answer = outbound.send(&[grant], &mut Spent::default(), call).await.map_err(|error| sentence(&error))?;
    if answer.status != 200 { Err(format!("it answers {}", answer.status)) } else { Ok(answer.body) }
}

impl Changes {
    /// Reads the documents of pillars again, with all else as it is.
    fn documents(&self) {
        let _one = self.one_at_a_time();
        if let Err(error) = self.look_again(&Cause::gateway(Way::File))
            && !self.kept.ending.load(Ordering::Relaxed)
        {
            tracing::error!("the OpenAPI documents of pillars are not taken up: {}", sentence(&error));
        }
    }
}
