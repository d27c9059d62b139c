//! Large bodies: memory stays where it was.

use super::{Link, toml};
use crate::harness::Origin;
use crate::program::Stand;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Bytes of a body, in the short form; `cargo xtask soak` has the long one.
const LARGE: usize = 64 << 20;

/// The most KiB that may stay or be taken meanwhile.
const MOST: u64 = 16 << 10;

/// In a process of its own, where nobody else takes memory.
#[test]
fn a_transform_over_a_large_body_takes_no_memory() {
    let origin = Origin::echo();
    let mode = json!("transform");
    let config = json!({ "request": { "replace": "upper" }, "response": { "replace": "upper" } });
    let link = Link::new("loud", json!({ "request_body": mode, "response_body": mode }), config);
    let (name, component) = link.component();
    let stand = Stand::with("");
    std::fs::write(stand.path().join(format!("plugins/{name}.wasm")), component).expect("a component");
    stand.edit(|head| {
        let end = head.find("[upstreams.origin]").expect("an upstream");
        format!("{}{}", &head[..end], toml(origin.address, &[link], ""))
    });
    let serving = stand.serve();
    let round = |bytes: usize| {
        let mut stream = TcpStream::connect(serving.public).expect("it listens");
        write!(
            stream,
            "POST /v1/connect/mirror HTTP/1.1\r\nhost: g\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n"
        )
        .expect("it takes them");
        let mut reader = stream.try_clone().expect("a second handle");
        let sent = std::thread::spawn(move || {
            let chunk = vec![b'x'; 64 << 10];
            (0..bytes / chunk.len()).for_each(|_| stream.write_all(&chunk).expect("it takes them"));
        });
        let mut most = 0;
        let mut came = 0;
        let mut loud = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = reader.read(&mut buffer).expect("more comes");
            if read == 0 {
                break;
            }
            came += read;
            loud += buffer[..read].iter().filter(|byte| **byte == b'X').count();
            most = most.max(serving.resident());
        }
        sent.join().expect("no panic");
        assert!(came >= bytes && loud >= bytes, "all of it came back, changed: {came}, {loud}");
        most
    };
    round(1 << 20);
    let before = serving.resident();
    let most = round(LARGE);
    println!("resident: {before} KiB before, at most {most} KiB meanwhile");
    assert!(most < before + MOST, "{before} KiB before, {most} KiB meanwhile");
}
