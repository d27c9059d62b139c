//! Whether a port is free, who holds it if not, and which ports are free.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};

/// An error in one sentence when somebody holds the address. `change` says where the address is configured.
pub fn check_free(address: SocketAddr, change: &str) -> Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let holder = holder(address.port()).map(|holder| format!(" by {holder}")).unwrap_or_default();
            bail!("port {} is in use{holder}; stop that, or change {change}", address.port())
        }
        Err(error) => Err(error).with_context(|| format!("{address} cannot be listened on; change {change}")),
    }
}

/// As many different free ports on the loopback address.
pub fn free<const N: usize>() -> Result<[SocketAddr; N]> {
    let mut held = Vec::with_capacity(N);
    for _ in 0..N {
        held.push(TcpListener::bind("127.0.0.1:0").context("no port is free on 127.0.0.1")?);
    }
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for (address, listener) in addresses.iter_mut().zip(&held) {
        *address = listener.local_addr()?;
    }
    Ok(addresses)
}

/// `name (process 123)` of whoever listens on a port: /proc says which socket it is, and which process has it open.
fn holder(port: u16) -> Option<String> {
    let socket = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listening(&fs::read_to_string(table).ok()?, port))?;
    let link = format!("socket:[{socket}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let number = process.file_name().to_string_lossy().into_owned();
        // `self` and other words are there too.
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link.as_str()));
        if holds {
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            return Some(format!("{} (process {number})", name.trim()));
        }
    }
    None
}

/// The inode of the socket that listens on a port, from a table like `/proc/net/tcp`.
fn listening(table: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = columns.get(1)?.rsplit_once(':')?;
        let ours = u16::from_str_radix(local, 16).ok()? == port && *columns.get(3)? == LISTEN;
        ours.then(|| columns.get(9).map(|inode| (*inode).to_owned()))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_one_sentence_that_names_the_holder() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let sentence = check_free(address, "`gateway.listen`").unwrap_err().to_string();
        assert!(sentence.starts_with(&format!("port {} is in use by ", address.port())), "{sentence}");
        assert!(sentence.contains(&format!("(process {})", std::process::id())), "{sentence}");
        assert!(sentence.ends_with("change `gateway.listen`"), "{sentence}");
        drop(held);
        check_free(address, "`gateway.listen`").unwrap();
    }

    #[test]
    fn free_ports_differ() {
        let ports = free::<3>().unwrap();
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
    }
}
