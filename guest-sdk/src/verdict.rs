//! Building verdicts: an action, and effects one by one.

use crate::{
    Action, Basis, Change, Charge, Claim, CustomDenial, Denial, Edit, LimitIndex, Reply, ResponseWrite, StandardDenial,
    Take, TargetIndex, TokenRequest, Verdict, Write,
};

impl Verdict {
    /// On to the next policy.
    pub const fn next() -> Self {
        Self::of(Action::Next)
    }

    /// Refused, by a [`StandardDenial`] or a [`CustomDenial`]. Power `deny`.
    pub fn deny(denial: impl Into<Denial>) -> Self {
        Self::of(Action::Deny(denial.into()))
    }

    /// Refused in the policy's own words: status (400 to 499, or 503), code in snake_case, one sentence. Power `deny`.
    pub fn refuse(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::deny(CustomDenial { status, code: code.into(), message: message.into() })
    }

    /// Answered by the policy itself. Power `respond`.
    pub const fn respond(reply: Reply) -> Self {
        Self::of(Action::Respond(reply))
    }

    /// On to the next policy, and in the end to this upstream. Power `forward`.
    pub const fn forward(target: TargetIndex) -> Self {
        Self::of(Action::Forward(target.0))
    }

    /// A verdict with this action and no effects.
    pub const fn of(action: Action) -> Self {
        Self {
            action,
            path: None,
            request_edits: Vec::new(),
            response_edits: Vec::new(),
            takes: Vec::new(),
            charges: Vec::new(),
            identity: None,
            token: None,
            notes: Vec::new(),
            carry: Vec::new(),
        }
    }

    /// The upstream gets this path; the query stays. Power `rewrite-path`.
    pub fn rewrite_path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Replaces all values of a request field.
    pub fn set(mut self, field: Write, value: impl Into<Vec<u8>>) -> Self {
        self.request_edits.push(Edit::set(field.0, value));
        self
    }

    /// Adds a value to a request field.
    pub fn append(mut self, field: Write, value: impl Into<Vec<u8>>) -> Self {
        self.request_edits.push(Edit::append(field.0, value));
        self
    }

    /// Removes a request field.
    pub fn remove(mut self, field: Write) -> Self {
        self.request_edits.push(Edit::remove(field.0));
        self
    }

    /// Replaces all values of a field of the coming response.
    pub fn set_response(mut self, field: ResponseWrite, value: impl Into<Vec<u8>>) -> Self {
        self.response_edits.push(Edit::set(field.0, value));
        self
    }

    /// Adds a value to a field of the coming response.
    pub fn append_response(mut self, field: ResponseWrite, value: impl Into<Vec<u8>>) -> Self {
        self.response_edits.push(Edit::append(field.0, value));
        self
    }

    /// Removes a field of the coming response.
    pub fn remove_response(mut self, field: ResponseWrite) -> Self {
        self.response_edits.push(Edit::remove(field.0));
        self
    }

    /// Takes from a limit: one by [`LimitIndex`], or as a [`Take`] says. Power `take`.
    pub fn take(mut self, take: impl Into<Take>) -> Self {
        self.takes.push(take.into());
        self
    }

    /// Charges gas when the request succeeds. Power `charge`.
    pub fn charge(mut self, charge: Charge) -> Self {
        self.charges.push(charge);
        self
    }

    /// Says who the caller is. Power `identify`.
    pub fn identify(mut self, claim: Claim) -> Self {
        self.identity = Some(claim);
        self
    }

    /// Asks for an assertion with claims of its own. Power `mint-token`.
    pub fn mint(mut self, token: TokenRequest) -> Self {
        self.token = Some(token);
        self
    }

    /// Leaves a note for later policies.
    pub fn note(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.notes.push((name.into(), value.into()));
        self
    }

    /// Keeps a few bytes, at most 4,096, for the policy's own later phases.
    pub fn carry(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.carry = bytes.into();
        self
    }
}

impl Take {
    /// One, for the limit's own subject.
    pub const fn one(limit: LimitIndex) -> Self {
        Self { limit: limit.0, cost: 1, subject: None, always: false }
    }

    /// So many instead of one; 0 only looks.
    pub const fn cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }

    /// For whom, where the limit's subject is `custom`; at most 256 bytes.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Stands also when the chain ends early.
    pub const fn always(mut self) -> Self {
        self.always = true;
        self
    }
}

impl Charge {
    /// So many millionths of a token for the request.
    pub const fn per_request(gas: u64) -> Self {
        Self { basis: Basis::Request, gas, max_units: 1 }
    }

    /// So many millionths of a token for each unit that the upstream reports, `max_units` at most.
    pub const fn per_unit(gas: u64, max_units: u64) -> Self {
        Self { basis: Basis::Unit, gas, max_units }
    }

    /// So many millionths of a token for each begun KiB of the response body, `max_units` at most.
    pub const fn per_kibibyte(gas: u64, max_units: u64) -> Self {
        Self { basis: Basis::Kibibyte, gas, max_units }
    }

    /// The most that it can come to, in millionths of a token; `None` if that is beyond 64 bits.
    pub const fn most(&self) -> Option<u64> {
        self.gas.checked_mul(self.max_units)
    }
}

impl Edit {
    /// Replaces all values of the field at this position.
    pub fn set(field: u32, value: impl Into<Vec<u8>>) -> Self {
        let change = Change::Set(value.into());
        Self { field, change }
    }

    /// Adds a value to the field at this position.
    pub fn append(field: u32, value: impl Into<Vec<u8>>) -> Self {
        let change = Change::Append(value.into());
        Self { field, change }
    }

    /// Removes the field at this position.
    pub const fn remove(field: u32) -> Self {
        let change = Change::Remove;
        Self { field, change }
    }
}

impl From<StandardDenial> for Denial {
    fn from(denial: StandardDenial) -> Self {
        Self::Standard(denial)
    }
}

impl From<CustomDenial> for Denial {
    fn from(denial: CustomDenial) -> Self {
        Self::Custom(denial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::About;

    const ABOUT: About =
        About::new("sample", "1.0.0", "A sample.").writes(&["x-one", "x-two"]).response_writes(&["server"]);

    #[test]
    fn effects_add_up_in_order() {
        let verdict = Verdict::next()
            .set(ABOUT.write("x-two"), "2")
            .append(ABOUT.write("x-one"), vec![0xff])
            .remove(ABOUT.write("x-one"))
            .set_response(ABOUT.response_write("server"), "portico")
            .take(LimitIndex(1))
            .take(Take::one(LimitIndex(0)).cost(3).subject("room").always())
            .charge(Charge::per_unit(4, 5))
            .note("a", "b")
            .carry(*b"later");
        assert_eq!(verdict.request_edits, [Edit::set(1, "2"), Edit::append(0, vec![0xff]), Edit::remove(0)]);
        assert_eq!(verdict.response_edits, [Edit::set(0, "portico")]);
        let (plain, full) = (&verdict.takes[0], &verdict.takes[1]);
        assert_eq!((plain.limit, plain.cost, plain.always), (1, 1, false));
        assert_eq!((full.limit, full.cost, full.always), (0, 3, true));
        assert_eq!(full.subject.as_deref(), Some("room"));
        assert_eq!(verdict.charges[0].most(), Some(20));
        assert_eq!(verdict.notes, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(verdict.carry, b"later");
    }

    #[test]
    fn a_charge_beyond_64_bits_has_no_most() {
        assert_eq!(Charge::per_unit(u64::MAX, 2).most(), None);
    }

    #[test]
    fn refusals_are_standard_or_own() {
        assert_eq!(
            Verdict::deny(StandardDenial::KeyRevoked).action,
            Action::Deny(Denial::Standard(StandardDenial::KeyRevoked))
        );
        let own = Verdict::refuse(451, "not_here", "Not available here.");
        let Action::Deny(Denial::Custom(denial)) = own.action else { panic!("a refusal of its own was expected") };
        assert_eq!((denial.status, denial.code.as_str()), (451, "not_here"));
    }
}
