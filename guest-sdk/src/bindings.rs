//! The contract in Rust, as generated from `wit/`: one module for each world that this SDK carries.
//!
//! Policies use the types through the crate's root. The modules are public for what the trait [`Policy`](crate::Policy)
//! deliberately cannot say, such as a descriptor that is not a constant.
#![allow(
    unsafe_code,
    missing_docs,
    clippy::too_many_arguments,
    reason = "generated: raw memory at the border, undocumented plumbing"
)]

/// What every policy is: `describe`, `configure`, `on-request`.
pub mod policy {
    wit_bindgen::generate!({
        path: "../wit",
        world: "policy",
        pub_export_macro: true,
        export_macro_name: "export_policy",
        additional_derives: [PartialEq, Eq],
    });
}

/// The phase `on-response`.
pub mod response {
    wit_bindgen::generate!({
        path: "../wit",
        world: "response",
        pub_export_macro: true,
        export_macro_name: "export_response",
        with: { "portico:policy/types@0.1.0": crate::bindings::policy::portico::policy::types },
    });
}

/// The phase of request bodies.
pub mod request_body {
    wit_bindgen::generate!({
        path: "../wit",
        world: "request-body",
        pub_export_macro: true,
        export_macro_name: "export_request_body",
        with: { "portico:policy/types@0.1.0": crate::bindings::policy::portico::policy::types },
    });
}

/// The phase of response bodies.
pub mod response_body {
    wit_bindgen::generate!({
        path: "../wit",
        world: "response-body",
        pub_export_macro: true,
        export_macro_name: "export_response_body",
        with: { "portico:policy/types@0.1.0": crate::bindings::policy::portico::policy::types },
    });
}

pub(crate) use policy::portico::policy::log;
#[cfg(target_family = "wasm")]
pub(crate) use policy::portico::policy::metrics;
