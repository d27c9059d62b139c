//! Why an outbound request brought no answer: what the policy learns, and the reason behind it for logs.
//!
//! The reason never goes to the policy: it would tell what lies inside the operator's network.

/// Why a request brought no answer; each variant is one of the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was sent: the grant does not cover the request.
    #[error("the request is not granted: {0}")]
    NotGranted(Ungranted),
    /// Nothing was sent: the requests that the grant allows for one call of the policy are used up.
    #[error("the requests that the grant allows for one call of the policy are used up")]
    BudgetExceeded,
    /// The answer was not there in whole when the time was over.
    #[error("the answer was not there in whole when the time was over")]
    TimedOut,
    /// The answer was larger than granted.
    #[error("the answer is too large: {0}")]
    TooLarge(Part),
    /// No answer, or a broken one.
    #[error("the origin could not be reached: {0}")]
    Unreachable(Unreached),
}

/// What about a request is not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ungranted {
    /// Not a URL, or one that two programs could read differently.
    #[error("the URL has more than one reading, or none")]
    Url,
    /// Scheme, host or port.
    #[error("no grant names its scheme, host and port")]
    Origin,
    /// The method, at a granted origin.
    #[error("no grant for this origin names its method")]
    Method,
    /// The path, at a granted origin by a granted method.
    #[error("no grant for this origin and method names its path")]
    Path,
    /// A field that is malformed, or only the gateway's to set.
    #[error("a field is malformed, or only the gateway's to set")]
    Field,
    /// Too many fields, or too many bytes in fields or body.
    #[error("its fields or its body are larger than any request's may be")]
    Size,
}

/// What of an answer is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Part {
    /// Status line and fields.
    #[error("its head is larger than any answer's may be")]
    Head,
    /// The body.
    #[error("its body is larger than granted")]
    Body,
}

/// Where the way to an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// Too much is under way in this gateway.
    #[error("too many requests, or too many bytes, are under way already")]
    Busy,
    /// The name has no address, or nobody said.
    #[error("no address was found for its name")]
    Name,
    /// All its addresses are private ones, which the grant does not open.
    #[error("it has no public address, and the grant does not say private = true")]
    Private,
    /// No connection came about.
    #[error("no connection came about")]
    Connect,
    /// No root certificate is known at all.
    #[error("no root certificate is known, so nobody can be trusted over TLS")]
    NoRoots,
    /// The other side's certificate does not prove its name.
    #[error("its certificate does not prove that it is the host asked for")]
    Certificate,
    /// The connection broke, or what came was not HTTP.
    #[error("the connection broke, or what came was no proper answer")]
    Broken,
    /// The gateway is ending.
    #[error("the gateway is ending")]
    Stopped,
}

impl Error {
    /// The name of the outcome: a metric label, and a variant of the contract.
    pub const fn outcome(self) -> &'static str {
        match self {
            Self::NotGranted(_) => "not_granted",
            Self::BudgetExceeded => "budget_exceeded",
            Self::TimedOut => "timed_out",
            Self::TooLarge(_) => "too_large",
            Self::Unreachable(_) => "unreachable",
        }
    }

    /// The name of the reason within the outcome: for logs, never for the policy.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotGranted(Ungranted::Url) => "url",
            Self::NotGranted(Ungranted::Origin) => "origin",
            Self::NotGranted(Ungranted::Method) => "method",
            Self::NotGranted(Ungranted::Path) => "path",
            Self::NotGranted(Ungranted::Field) => "field",
            Self::NotGranted(Ungranted::Size) => "size",
            Self::BudgetExceeded => "calls",
            Self::TimedOut => "timeout",
            Self::TooLarge(Part::Head) => "head",
            Self::TooLarge(Part::Body) => "body",
            Self::Unreachable(Unreached::Busy) => "busy",
            Self::Unreachable(Unreached::Name) => "name",
            Self::Unreachable(Unreached::Private) => "private_address",
            Self::Unreachable(Unreached::Connect) => "connect",
            Self::Unreachable(Unreached::NoRoots) => "no_roots",
            Self::Unreachable(Unreached::Certificate) => "certificate",
            Self::Unreachable(Unreached::Broken) => "broken",
            Self::Unreachable(Unreached::Stopped) => "stopped",
        }
    }
}

impl From<Ungranted> for Error {
    fn from(what: Ungranted) -> Self {
        Self::NotGranted(what)
    }
}

impl From<Unreached> for Error {
    fn from(what: Unreached) -> Self {
        Self::Unreachable(what)
    }
}
