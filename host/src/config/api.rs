//! `[api]`: the gateway's own API. Which operations it has is not configured.

use super::Overlays;

/// The name of the gateway's own API among pillars, and the scope that every known caller holds. No pillar of a configuration
/// has either.
pub const OWN: &str = "portico";

/// The gateway's own API on the public listener.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Api {
    /// The policies that its requests pass, in order. Default: `defaults.chain`.
    pub chain: Vec<String>,
    /// Configuration for it, by policy: laid over the policy's own, key by key.
    pub config: Overlays,
}
