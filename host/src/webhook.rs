//! Webhooks: who is told of what happens, and how: subscriptions of orgs, signed messages, attempts until one is taken.
//!
//! At least once: a message that may have arrived is sent again under the same id. Nothing here waits for a receiver save the
//! task that sends to it, and no receiver is reached but through [`crate::outbound`], with its guard against private addresses.

mod address;
mod attempt;
mod change;
mod courier;
mod desk;
mod erase;
mod lines;
mod loss;
mod record;
mod room;
mod schedule;
mod secret;
mod sender;
mod sled;
mod store;
mod tally;

pub use self::address::{Refused, check};
pub use self::attempt::{Attempt, Failed, Outcome};
pub use self::change::{Change, Edit, Unchangeable};
pub use self::courier::deliver;
pub use self::desk::{DeskError, Issued, NewWebhook, Now, Webhooks};
pub use self::record::{State, Webhook};
pub use self::secret::Secret;
pub use self::sled::SledWebhooks;
pub use self::store::{Answer, Changed, Letter, StoreError, Waiting, WebhookStore};
pub use self::tally::Figures;

/// The most webhooks of one org.
pub const MOST_OF_ORG: usize = 50;
/// The longest address of a receiver, in bytes.
pub const LONGEST_URL: usize = 2048;
/// The most attempts that are remembered of one webhook.
pub const MOST_ATTEMPTS: usize = 100;

#[cfg(test)]
mod tests;
