//! `[api]`: what the gateway's own API on the public listener passes. Where it answers, and what it asks for, is no configuration.

use crate::config::Api;
use crate::config::read::Table;
use crate::config::resolve::{Names, chain};

/// Reads `[api]`.
pub(super) fn api(mut table: Table<'_>, names: &Names<'_>, default_chain: &[String]) -> Option<Api> {
    let chain = match table.list("chain", chain::LONGEST) {
        Some(items) if table.has("chain") => chain::chain(&items, names),
        Some(_) => Some(default_chain.to_vec()),
        None => None,
    };
    let config = chain::config(table.table("config"), chain.as_deref(), "API", names);
    table.finish();
    Some(Api { chain: chain?, config: config? })
}
