//! The trait that a policy implements.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{About, After, Diagnostic, Request, Response, Setup, Verdict};

/// A policy, as configured for one slot.
///
/// The SDK keeps one value for each slot, and asks the value of the slot that a request belongs to. A later
/// [`configure`](Policy::configure) for the same slot replaces it, unless that is refused.
pub trait Policy: Sized + 'static {
    /// One slot's configuration, read from JSON. [`NoConfig`] where there is nothing to configure.
    ///
    /// Say `#[serde(deny_unknown_fields)]`, so that a misspelt key is a diagnostic and not silence.
    type Config: DeserializeOwned;

    /// What the policy is, and all that it may ever see or touch.
    const ABOUT: About;

    /// Makes the policy for one slot. What its verdicts will refer to (scopes, limits, targets) is declared to `setup`,
    /// which answers with the handles to keep.
    ///
    /// # Errors
    /// What is wrong with the configuration. Where several things are, report them by [`Setup::problem`]: the slot is
    /// refused if there is any, and the operator sees them all at once.
    fn configure(config: Self::Config, setup: &mut Setup<'_>) -> Result<Self, Diagnostic>;

    /// Decides about one request.
    fn on_request(&self, request: &Request) -> Verdict;

    /// Decides about one response. Only asked of policies exported with `export!(…, response)`.
    fn on_response(&self, _response: &Response) -> After {
        After::next()
    }
}

/// The configuration of a policy that has none: `{}`, and any key is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Makes the component: `export!(MyPolicy)`, with the further phases that it takes part in: `response`, `request_body`
/// (see [`RequestBody`](crate::RequestBody)) and `response_body`, for example `export!(MyPolicy, response, request_body)`.
///
/// Say it once in a crate of type `cdylib`. Outside Wasm it only checks the type, since the exports of a versioned
/// package do not link natively.
#[macro_export]
macro_rules! export {
    ($policy:ty $(, $phase:ident)*) => {
        $crate::export!(@mount $policy);
        #[cfg(target_family = "wasm")]
        $crate::bindings::policy::export_policy!(PorticoExport with_types_in $crate::bindings::policy);
        $($crate::export!(@phase $phase $policy);)*
    };
    (@phase response $policy:ty) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::response::export_response!(PorticoExport with_types_in $crate::bindings::response);
    };
    (@phase request_body $policy:ty) => {
        $crate::export!(@follow FollowsRequests RequestBody $policy);
        #[cfg(target_family = "wasm")]
        $crate::bindings::request_body::export_request_body!(
            PorticoExport with_types_in $crate::bindings::request_body
        );
    };
    (@phase response_body $policy:ty) => {
        $crate::export!(@follow FollowsResponses ResponseBody $policy);
        #[cfg(target_family = "wasm")]
        $crate::bindings::response_body::export_response_body!(
            PorticoExport with_types_in $crate::bindings::response_body
        );
    };
    (@follow $follows:ident $trait:ident $policy:ty) => {
        impl $crate::$follows for $policy {
            fn followed() -> &'static ::std::thread::LocalKey<
                ::std::cell::RefCell<::std::option::Option<<$policy as $crate::$trait>::Body>>,
            > {
                ::std::thread_local! {
                    static FOLLOWED: ::std::cell::RefCell<::std::option::Option<<$policy as $crate::$trait>::Body>> =
                        const { ::std::cell::RefCell::new(::std::option::Option::None) };
                }
                &FOLLOWED
            }
        }
    };
    (@mount $policy:ty) => {
        impl $crate::Mounted for $policy {
            fn slots() -> &'static ::std::thread::LocalKey<::std::cell::RefCell<$crate::Slots<Self>>> {
                ::std::thread_local! {
                    static SLOTS: ::std::cell::RefCell<$crate::Slots<$policy>> =
                        const { ::std::cell::RefCell::new($crate::Slots::new()) };
                }
                &SLOTS
            }
        }

        #[allow(dead_code, reason = "only the exports of the Wasm build name it")]
        type PorticoExport = $crate::Exported<$policy>;

        // Without exports nothing would seem to use the policy, and the compiler would call all of it dead.
        #[cfg(not(target_family = "wasm"))]
        const _: fn() -> $crate::Descriptor = <PorticoExport as $crate::bindings::policy::Guest>::describe;
    };
}
