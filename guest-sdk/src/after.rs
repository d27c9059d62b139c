//! Building what a policy decides about a response.

use crate::{After, AfterAction, Charge, Edit, Reply, ResponseWrite};

impl After {
    /// On to the next policy.
    pub const fn next() -> Self {
        Self::of(AfterAction::Next)
    }

    /// Replaced by an answer of the policy's own. Power `respond`.
    pub const fn respond(reply: Reply) -> Self {
        Self::of(AfterAction::Respond(reply))
    }

    /// This action, and no effects.
    pub const fn of(action: AfterAction) -> Self {
        Self { action, edits: Vec::new(), charges: Vec::new(), notes: Vec::new() }
    }

    /// Replaces all values of a response field.
    pub fn set(mut self, field: ResponseWrite, value: impl Into<Vec<u8>>) -> Self {
        self.edits.push(Edit::set(field.0, value));
        self
    }

    /// Adds a value to a response field.
    pub fn append(mut self, field: ResponseWrite, value: impl Into<Vec<u8>>) -> Self {
        self.edits.push(Edit::append(field.0, value));
        self
    }

    /// Removes a response field.
    pub fn remove(mut self, field: ResponseWrite) -> Self {
        self.edits.push(Edit::remove(field.0));
        self
    }

    /// Charges gas when the request succeeds. Power `charge`.
    pub fn charge(mut self, charge: Charge) -> Self {
        self.charges.push(charge);
        self
    }

    /// Leaves a note for the record.
    pub fn note(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.notes.push((name.into(), value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::About;

    #[test]
    fn effects_add_up_in_order() {
        const ABOUT: About = About::new("sample", "1.0.0", "A sample.").response_writes(&["age"]);
        let age = ABOUT.response_write("age");
        let after = After::next().set(age, "0").remove(age).charge(Charge::per_request(7));
        assert_eq!(after.edits, [Edit::set(0, "0"), Edit::remove(0)]);
        assert_eq!(after.charges[0].gas, 7);
        assert_eq!(after.action, AfterAction::Next);
    }
}
