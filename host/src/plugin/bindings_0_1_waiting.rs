//! The same contract for guests that wait: generated once more, with calls that can be suspended. Nothing else is in this file.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    reason = "generated; the WIT files carry the documentation, and typed calls into guests are unchecked casts inside wasmtime's own macro"
)]

/// What every policy exports, and what one that waits may import.
pub mod policy_world {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package portico:host;
            world waiting-policy {
                include portico:policy/policy@0.1.0;
                include portico:policy/store@0.1.0;
                include portico:policy/outbound@0.1.0;
            }
        ",
        world: "portico:host/waiting-policy",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: {
            "portico:policy/kv": async,
            "portico:policy/http": async,
        },
        exports: { default: async },
        with: {
            "portico:policy/types": crate::plugin::bindings_0_1::portico::policy::types,
            "portico:policy/log": crate::plugin::bindings_0_1::portico::policy::log,
            "portico:policy/metrics": crate::plugin::bindings_0_1::portico::policy::metrics,
        },
    });
}

/// The response phase, for the components that have it.
pub mod response_world {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "portico:policy/response",
        ownership: Borrowing { duplicate_if_necessary: true },
        exports: { default: async },
        with: { "portico:policy/types": crate::plugin::bindings_0_1::portico::policy::types },
    });
}
