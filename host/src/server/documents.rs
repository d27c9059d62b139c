//! Looks every two seconds whether the OpenAPI document of a pillar was saved anew.
//!
//! By what the file system says of the files, so a look costs next to nothing; what they say is read with all else that makes
//! up what runs, and only where that is another document does anything change.

use super::change::Changes;
use super::noting::{Cause, Way};
use super::sentence;
use crate::config::{Config, OpenApi};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Weak;
use std::sync::atomic::Ordering;

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
    let stamp = |OpenApi::File(path): &OpenApi| {
        let about = path.metadata().ok();
        let is = about.map(|it| (it.dev(), it.ino(), it.mtime(), it.mtime_nsec(), it.ctime(), it.ctime_nsec()));
        Stamp { path: path.clone(), is }
    };
    files.map(stamp).collect()
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
