//! Erases the rows of one org: nobody is shown one from the beginning on, and in the end their bytes are overwritten where they lie.
//!
//! Segment by segment, so that whoever writes waits for one at most.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use super::super::log::{Filter, begun, brief};
use super::chain::{Chain, spread};
use super::index::Wanted;
use super::page::read_range;
use super::segment::Segment;
use super::{Inner, frame};
use crate::clock::Millis;

/// Between two segments.
const PAUSE: Duration = Duration::from_micros(200);

impl Inner {
    pub(super) fn erase(&self, org: u128, until: Millis) -> io::Result<u64> {
        {
            let mut state = self.state();
            let known = Arc::make_mut(&mut state.erased).entry(org).or_insert(until);
            *known = until.max(*known);
        }
        let filter = Filter { org: Some(org), ..Filter::default() };
        let chains: Vec<Chain> = filter.kinds().iter().map(|kind| Chain::of(*kind, spread(org))).collect();
        let (mut done, mut count) = (HashSet::new(), 0);
        loop {
            // Rows that are being added now are there when this has its turn, and later ones are not added. Nor is a segment put in
            // order meanwhile.
            let writer = self.writer();
            let next = {
                let state = self.state();
                let mut all = chains.iter().flat_map(|chain| state.chains[chain.index()].values());
                all.find(|kept| !done.contains(&kept.segment.name.number)).map(|kept| kept.segment.clone())
            };
            let Some(segment) = next else { return Ok(count) };
            count += self.erase_in(&segment, org, until)?;
            done.insert(segment.name.number);
            drop(writer);
            // Whoever writes has its turn.
            std::thread::sleep(PAUSE);
        }
    }

    /// Overwrites rows of an org in one segment, durably; how many.
    fn erase_in(&self, segment: &Segment, org: u128, until: Millis) -> io::Result<u64> {
        let wanted = Wanted { org: Some(spread(org)), ..Wanted::default() };
        let file = match OpenOptions::new().read(true).write(true).open(segment.name.path(&self.directory)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            opened => opened?,
        };
        let length = u32::try_from(file.metadata()?.len()).unwrap_or(u32::MAX);
        let places: Vec<(u32, u32)> = {
            let index = segment.index();
            let blocks = index.blocks(&wanted).map(|(block, end)| (block.start, end));
            // Behind the rows that it knows may be some of a write that failed.
            blocks.chain([(index.end(), length)]).collect()
        };
        let (mut bytes, mut count) = (Vec::new(), 0);
        for (start, end) in places {
            read_range(&file, start, end, &mut bytes)?;
            for (at, row) in frame::rows(&bytes) {
                let is_theirs = brief(row).is_some_and(|row| row.org == Some(org) && begun(row.request) <= until);
                if is_theirs {
                    file.write_all_at(&frame::blank(row.len()), u64::from(start) + at as u64)?;
                    count += 1;
                }
            }
        }
        if count > 0 {
            file.sync_data()?;
        }
        Ok(count)
    }
}
