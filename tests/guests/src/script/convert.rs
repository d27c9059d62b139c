//! From the words of a script to the values of the contract. Words that are not known mean the last alternative.

use portico_sdk::{
    Basis, Charge, Claim, CustomDenial, Denial, Edit, Limit, Mode, OtherField, Period, Reply, StandardDenial, Subject,
    Take, Window,
};

use super::{Bytes, ChargeScript, ClaimScript, DenyScript, EditScript, LimitScript, ReplyScript, TakeScript};

impl Bytes {
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Raw(bytes) => bytes.clone(),
        }
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Raw(Vec::new())
    }
}

impl LimitScript {
    pub(super) fn limit(&self) -> Limit {
        let window = |(name, quota, seconds): &(String, u64, u32)| Window {
            name: name.clone(),
            quota: *quota,
            per: match seconds {
                0 => Period::Month,
                &seconds => Period::Seconds(seconds),
            },
        };
        Limit {
            name: self.name.clone(),
            subject: match self.subject.as_str() {
                "key" => Subject::Key,
                "org" => Subject::Org,
                "address" => Subject::Address,
                "custom" => Subject::Custom,
                _ => Subject::Everyone,
            },
            across_pillars: self.across_pillars,
            windows: self.windows.iter().map(window).collect(),
        }
    }
}

impl DenyScript {
    pub(super) fn denial(&self) -> Denial {
        use StandardDenial as Why;
        match self {
            Self::Custom { status, code, message } => {
                Denial::Custom(CustomDenial { status: *status, code: code.clone(), message: message.clone() })
            }
            Self::Standard(name) => Denial::Standard(match name.as_str() {
                "missing-authorization" => Why::MissingAuthorization,
                "invalid-token-shape" => Why::InvalidTokenShape,
                "invalid-api-key" => Why::InvalidApiKey,
                "key-revoked" => Why::KeyRevoked,
                "key-expired" => Why::KeyExpired,
                "insufficient-scope" => Why::InsufficientScope,
                "address-not-allowed" => Why::AddressNotAllowed,
                _ => Why::NotFound,
            }),
        }
    }
}

impl ReplyScript {
    pub(super) fn reply(&self) -> Reply {
        let field = |(name, value): &(String, Bytes)| OtherField { name: name.clone(), value: value.bytes() };
        Reply { status: self.status, fields: self.fields.iter().map(field).collect(), body: self.body.bytes() }
    }
}

impl EditScript {
    pub(super) fn edit(&self) -> Edit {
        match self {
            Self::Set(field, value) => Edit::set(*field, value.bytes()),
            Self::Append(field, value) => Edit::append(*field, value.bytes()),
            Self::Remove(field) => Edit::remove(*field),
        }
    }
}

impl TakeScript {
    pub(super) fn take(&self) -> Take {
        Take { limit: self.limit, cost: self.cost, subject: self.subject.clone(), always: self.always }
    }
}

impl ChargeScript {
    pub(super) fn charge(&self) -> Charge {
        let basis = match self.basis.as_str() {
            "unit" => Basis::Unit,
            "kibibyte" => Basis::Kibibyte,
            _ => Basis::Request,
        };
        let (gas, max_units) = (self.gas, self.max_units);
        Charge { basis, gas, max_units }
    }
}

impl ClaimScript {
    pub(super) fn claim(&self) -> Claim {
        Claim {
            org: self.org.clone(),
            subject: self.subject.clone(),
            mode: match self.mode.as_str() {
                "sandbox" => Mode::Sandbox,
                _ => Mode::Live,
            },
            scopes: self.scopes.clone(),
        }
    }
}
