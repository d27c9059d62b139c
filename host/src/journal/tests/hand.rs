//! A journal on a real disk without its threads: nothing is durable before a test says so.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::files::Files;
use super::super::keeper::Shelf;
use super::super::lane::Lane;
use super::super::{Earlier, Journal, Writer, thread};
use super::real::settings;
use crate::config::{Journal as Settings, WhenFull};
use crate::usage::Names;

/// What its threads would do.
pub(crate) struct ByHand {
    shelves: Vec<Shelf>,
    lane: Arc<Lane>,
}

/// A journal of one worker in this directory.
pub(crate) fn by_hand(directory: &Path, when_full: WhenFull, names: &Arc<Names>) -> (Journal, Writer, ByHand) {
    let settings = Settings { when_full, ..settings() };
    let earlier = Earlier::read(directory, &[]).unwrap();
    let (journal, (files, shelves), mut writers) = earlier.open(1, &settings, names).unwrap();
    let lane = journal.lanes[0].clone();
    let mut hand = ByHand { shelves, lane };
    hand.tidy(&*files);
    (journal, writers.remove(0), hand)
}

impl ByHand {
    /// Makes durable what was written.
    pub(crate) fn sync(&mut self) {
        assert!(thread::sync(&mut self.shelves, &Default::default()));
    }

    /// The floor that is durable in the store, as the journal was told.
    pub(crate) fn kept(&self) -> u64 {
        self.lane.kept.load(Ordering::SeqCst)
    }

    fn tidy(&mut self, files: &dyn Files) {
        for _ in 0..2 {
            for order in thread::tidy(&mut self.shelves) {
                let made = order.carry_out(files);
                self.shelves[0].made(made).unwrap();
            }
        }
    }
}
