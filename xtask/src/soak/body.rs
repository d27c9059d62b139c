//! A body of a gibibyte through a policy that transforms it: memory must stay where it was.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::load::{connect, read_head};
use crate::bench::{Musts, resident};
use crate::section::Section;

/// Bytes of the body.
const BODY: u64 = 1 << 30;
/// Bytes of the body that is sent before, so that whatever is set up once is there.
const WARM: u64 = 4 << 20;
/// The most MiB that may be taken meanwhile.
const MOST_TAKEN: f64 = 16.0;

/// Answers every request with as many digits as its path says.
pub(super) fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("{address} cannot be listened on"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who leaves before the end has its reasons; the caller tells.
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream) -> Result<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "only a probe");
        seen.extend_from_slice(&buffer[..read]);
    }
    let head = String::from_utf8(seen)?;
    let path = head.split(' ').nth(1).context("a request without a target")?;
    let length: u64 = path.trim_start_matches('/').parse()?;
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n")?;
    let digits = vec![b'7'; 64 << 10];
    for _ in 0..length / digits.len() as u64 {
        stream.write_all(&digits)?;
    }
    Ok(())
}

/// Lets the large body pass and looks at the gateway's memory meanwhile.
pub(super) fn pass(gateway: SocketAddr, process: u32, musts: &mut Musts) -> Result<()> {
    let section = Section::open(format!("a body of {} MiB through a policy that changes it", BODY >> 20));
    receive(gateway, process, WARM)?;
    let before = resident(process)?;
    let begun = Instant::now();
    let most = receive(gateway, process, BODY)?;
    let seconds = begun.elapsed().as_secs_f64();
    section.close();
    let taken = most.saturating_sub(before) as f64 / f64::from(1 << 20);
    let told = musts.at_most("memory for a large body", taken, MOST_TAKEN, 1);
    println!("a body of {} MiB, changed on its way: {told} MiB more resident, {seconds:.1} s", BODY >> 20);
    Ok(())
}

/// Reads such a body, all of it changed; the most that was resident meanwhile.
fn receive(gateway: SocketAddr, process: u32, length: u64) -> Result<u64> {
    let mut stream = connect(gateway)?;
    write!(stream, "GET /v1/large/{length} HTTP/1.1\r\nhost: {gateway}\r\nconnection: close\r\n\r\n")?;
    let (_, first) = read_head(&mut stream)?;
    let stars = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'*').count() as u64;
    let mut changed = stars(&first);
    let mut most = resident(process)?;
    let mut buffer = vec![0; 1 << 20];
    let mut reads = 0_u64;
    loop {
        let read = stream.read(&mut buffer).context("the large body broke off")?;
        if read == 0 {
            break;
        }
        changed += stars(&buffer[..read]);
        reads += 1;
        if reads.is_multiple_of(64) {
            most = most.max(resident(process)?);
        }
    }
    ensure!(changed == length, "{changed} of {length} bytes came changed");
    Ok(most.max(resident(process)?))
}
