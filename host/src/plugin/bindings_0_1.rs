//! The Rust side of `portico:policy@0.1.0`, generated from `wit/`. Nothing else is in this file.
//!
//! A released version of the package is frozen; the next one gets a module of its own beside this one.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    reason = "generated; the WIT files carry the documentation, and typed calls into guests are unchecked casts inside wasmtime's own macro"
)]

// All phases at once, for the types: a generator that sees only one world guesses wrongly how the types of the others
// are used.
wasmtime::component::bindgen!({
    path: "../wit",
    inline: "
        package portico:host;
        world every-phase {
            include portico:policy/policy@0.1.0;
            include portico:policy/response@0.1.0;
            include portico:policy/request-body@0.1.0;
            include portico:policy/response-body@0.1.0;
            include portico:policy/finish@0.1.0;
        }
    ",
    world: "portico:host/every-phase",
    ownership: Borrowing { duplicate_if_necessary: true },
});

/// What every policy exports.
pub mod policy_world {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "portico:policy/policy",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "portico:policy/types": super::portico::policy::types,
            "portico:policy/log": super::portico::policy::log,
            "portico:policy/metrics": super::portico::policy::metrics,
        },
    });
}

/// The response phase, for the components that have it.
pub mod response_world {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "portico:policy/response",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: { "portico:policy/types": super::portico::policy::types },
    });
}

/// The request body, for the components that follow it.
pub mod request_body_world {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "portico:policy/request-body",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: { "portico:policy/types": super::portico::policy::types },
    });
}

/// The response body, for the components that follow it.
pub mod response_body_world {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "portico:policy/response-body",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: { "portico:policy/types": super::portico::policy::types },
    });
}
