//! Guests that wait: WASI with nothing behind it, and calls that can be suspended.
//!
//! A call has a time for running and a time for waiting; when either is over, it is dropped with its instance. A worker
//! goes on with other requests meanwhile. How many calls of a policy wait at once is bounded.

use super::bindings_0_1::portico::policy::log::{self, Level};
use super::bindings_0_1::portico::policy::{metrics, types};
use super::bindings_0_1_waiting::policy_world::portico::policy::{http, kv};
use super::guest::{Guest, Imports};
use output::Output;
use reach::Reach;
pub use reach::{Outside, Reached};
pub use run::Queued;
use run::Run;
use std::sync::Arc;
use wasi::{Moment, Real};
use wasmtime::component::Linker;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

mod call;
mod load;
mod output;
mod reach;
mod run;
mod wasi;

pub(super) use call::{Exports, Pool, ask, ask_after};
pub(super) use load::{describe, plan};

/// What a guest that waits has beside the others.
pub struct Waiting {
    wasi: WasiCtx,
    table: ResourceTable,
    words: [Output; 2],
    moment: Arc<Moment>,
    reach: Reach,
    /// How long it has run.
    pub(super) run: Arc<Run>,
}

impl Waiting {
    fn new(policy: &Arc<str>, real: Real, reach: Reach) -> Self {
        let words = [Output::new(policy.clone(), Level::Info), Output::new(policy.clone(), Level::Warn)];
        let moment = Arc::new(Moment::new(reach.secret()));
        let (wasi, table) = wasi::context(&moment, real, &words);
        Self { wasi, table, words, moment, reach, run: Arc::default() }
    }

    /// Another request begins.
    fn at(&self, now: u64, seed: u64) {
        self.moment.set(now, seed);
    }

    /// What comes now is about a request: it may reach what was granted.
    fn open(&mut self) {
        self.reach.open();
    }

    /// Called after each call into the guest.
    pub(super) fn call_ended(&mut self) {
        self.reach.close();
        self.words.iter().for_each(Output::call_ended);
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let waiting = self.waiting.as_mut().expect("only guests that wait are linked with WASI");
        WasiCtxView { ctx: &mut waiting.wasi, table: &mut waiting.table }
    }
}

/// Everything that such a guest can import.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    kv::add_to_linker::<_, Imports>(linker, |guest| guest)?;
    http::add_to_linker::<_, Imports>(linker, |guest| guest)?;
    types::add_to_linker::<_, Imports>(linker, |guest| guest)?;
    log::add_to_linker::<_, Imports>(linker, |guest| guest)?;
    metrics::add_to_linker::<_, Imports>(linker, |guest| guest)
}
