//! What a component imports, told from its bytes: a tool of another language may add what nobody asked for.

use anyhow::{Result, bail};
use wit_component::DecodedWasm;

/// Imports that every policy may have.
const OURS: [&str; 5] = [
    "portico:policy/types@",
    "portico:policy/log@",
    "portico:policy/metrics@",
    "portico:policy/kv@",
    "portico:policy/http@",
];
/// Packages of WASI of which the gateway has an empty version.
const EMPTY: [&str; 6] = ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// The interfaces of WASI that a component imports.
///
/// # Errors
/// When the bytes are no valid component, or import what the gateway does not have, as `wasi:http`.
pub fn wasi(component: &[u8]) -> Result<Vec<String>> {
    let mut interfaces = Vec::new();
    for import in all(component)? {
        if EMPTY.iter().any(|package| import.starts_with(package)) {
            interfaces.push(import);
        } else if !OURS.iter().any(|ours| import.starts_with(ours)) {
            bail!("it imports {import}, which the gateway does not have; build it without");
        }
    }
    Ok(interfaces)
}

fn all(component: &[u8]) -> Result<Vec<String>> {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        bail!("it is a WIT package, not a component");
    };
    let names = resolve.worlds[world].imports.keys().map(|key| resolve.name_world_key(key));
    // Names without a package are types that the world uses; the gateway itself refuses anything else of that kind.
    Ok(names.filter(|name| name.contains(':')).collect())
}
