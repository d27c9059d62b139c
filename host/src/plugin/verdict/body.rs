//! Takes over what a policy answers about a body: against its mode too, and against what can still be done.

use super::{Decision, Taken, against, check_denial};
use crate::plugin::contract::{self, AfterAction, BodyMode, Powers};
use crate::plugin::failure::Failure;
use crate::plugin::lease::Piece;
use crate::plugin::policy::Policy;
use crate::plugin::{Action, Afterthought};

/// A policy's last word on a body.
#[derive(Debug)]
pub struct LastWord<T> {
    /// Bytes that go on after the last chunk.
    pub more: Vec<u8>,
    /// What it decided.
    pub decided: T,
}

/// Whether the head waits until the body was seen.
fn holds_head(mode: BodyMode) -> bool {
    matches!(mode, BodyMode::Buffered(_))
}

impl Policy {
    /// Takes over what becomes of a chunk.
    ///
    /// # Errors
    /// [`Failure::NotAllowed`] for what mode or powers do not allow.
    pub fn accept_piece(&self, mode: BodyMode, piece: Piece) -> Result<Piece, Failure> {
        let may_deny = self.component.declared.powers.contains(Powers::DENY);
        match piece {
            Piece::Replace(_) if matches!(mode, BodyMode::Inspect) => {
                against("it changed a body that it only inspects")
            }
            Piece::Refuse(_) if !may_deny => against("it refused a body without the power `deny`"),
            Piece::Stop if !may_deny => against("it broke off a body without the power `deny`"),
            Piece::Refuse(denial) => Ok(Piece::Refuse(check_denial(denial)?)),
            piece => Ok(piece),
        }
    }

    /// Takes over the last word on a request body. What it charges comes on top of what the same policy's decision did.
    ///
    /// # Errors
    /// As [`Self::accept_piece`], and as [`Self::accept`].
    pub fn accept_request_end(
        &self,
        slot: u32,
        mode: BodyMode,
        end: contract::RequestEnd,
        charged: u64,
    ) -> Result<LastWord<Decision>, Failure> {
        check_more(mode, &end.more)?;
        let charges = end.verdict.charges.clone();
        let decided = self.accept(slot, end.verdict)?;
        if !charges.is_empty() {
            self.check_charges(&charges, charged, self.slots[slot as usize].plan.maximum_charge)?;
        }
        if !decided.takes.is_empty() || decided.identity.is_some() {
            return against("it took from limits or identified a caller after the body; that is for on-request");
        }
        let of_head = decided.path.is_some()
            || decided.token.is_some()
            || matches!(decided.action, Action::Forward(_))
            || !(decided.request_edits.is_empty() && decided.response_edits.is_empty() && decided.carry.is_empty());
        if of_head && !holds_head(mode) {
            return against("it changed the head after the body, and only the mode `buffered` holds the head back");
        }
        Ok(LastWord { more: end.more, decided })
    }

    /// Takes over the last word on a response body.
    ///
    /// # Errors
    /// As [`Self::accept_request_end`].
    pub fn accept_response_end(
        &self,
        slot: u32,
        mode: BodyMode,
        end: contract::ResponseEnd,
        charged: u64,
    ) -> Result<LastWord<Afterthought>, Failure> {
        check_more(mode, &end.more)?;
        let of_head = !(end.after.edits.is_empty() && matches!(end.after.action, AfterAction::Next));
        if of_head && !holds_head(mode) {
            return against("it changed the head after the body, and only the mode `buffered` holds the head back");
        }
        Ok(LastWord { more: end.more, decided: self.accept_later(slot, end.after, charged)? })
    }
}

fn check_more(mode: BodyMode, more: &[u8]) -> Taken<()> {
    match mode {
        BodyMode::Inspect if !more.is_empty() => against("it added to a body that it only inspects"),
        _ => Ok(()),
    }
}
