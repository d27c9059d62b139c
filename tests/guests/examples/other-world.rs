//! A component that is no policy at all.
#![allow(
    unsafe_code,
    missing_docs,
    clippy::too_many_arguments,
    reason = "generated bindings: raw memory at the border, undocumented plumbing"
)]

wit_bindgen::generate!({
    inline: "
        package elsewhere:entirely@1.0.0;
        world greeter { export greet: func(name: string) -> string; }
    ",
});

/// Greets.
pub struct Greeter;

impl Guest for Greeter {
    fn greet(name: String) -> String {
        format!("Hello {name}")
    }
}

#[cfg(target_family = "wasm")]
export!(Greeter);
