//! One attempt to deliver a message, as it is remembered: when, of what, and what came of it. Never what was sent.

use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::id::EventId;
use crate::outbound::{Error, Part, Unreached};
use crate::outbox::Kind;

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub at: Millis,
    /// Of which event.
    pub event: EventId,
    /// Of what kind that is.
    pub kind: Kind,
    /// Which attempt for this message: from 1; 0 where none was made, and none will be.
    pub number: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// When the next one is due; none where there is none.
    pub next: Option<Millis>,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An answer with this status.
    Status(u16),
    /// No answer.
    Failed(Failed),
}

/// Why there was no answer. In few words: it must not tell what lies inside the operator's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failed {
    /// The host has no address that messages may go to.
    NoPublicAddress,
    /// The address itself is one that messages may not go to.
    AddressNotAllowed,
    /// No connection came about.
    Connect,
    /// Its certificate does not prove its name.
    Certificate,
    /// The answer was not there in time.
    TimedOut,
    /// What came was no proper answer.
    Broken,
    /// The head of the answer was too large.
    TooLarge,
    /// Nothing was sent, for want of something in the gateway.
    NotSent,
    /// Nothing is sent: too many messages waited when it happened.
    Dropped,
}

impl Failed {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoPublicAddress => "no_public_address",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::Connect => "connect",
            Self::Certificate => "certificate",
            Self::TimedOut => "timed_out",
            Self::Broken => "broken",
            Self::TooLarge => "too_large",
            Self::NotSent => "not_sent",
            Self::Dropped => "dropped",
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error {
            Error::TimedOut => Self::TimedOut,
            Error::TooLarge(Part::Head | Part::Body) => Self::TooLarge,
            // Whether a name is unknown or leads inside is nobody's business out there.
            Error::Unreachable(Unreached::Name | Unreached::Private) => Self::NoPublicAddress,
            Error::Unreachable(Unreached::Connect) => Self::Connect,
            Error::Unreachable(Unreached::Certificate) => Self::Certificate,
            Error::Unreachable(Unreached::Broken) => Self::Broken,
            Error::NotGranted(_)
            | Error::BudgetExceeded
            | Error::Unreachable(Unreached::Busy | Unreached::NoRoots | Unreached::Stopped) => Self::NotSent,
        }
    }
}

impl Outcome {
    /// Whether the message was taken.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Status(200..=299))
    }
}
