//! The end of a gateway: in order, and in time.

use crate::harness::{Gateway, LONG_DRAIN, ONE_WORKER, Origin};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn connections_that_come_with_the_signal_do_not_hold_up_the_end() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&format!(
        "{ONE_WORKER}{LONG_DRAIN}[policies.hostile]\nquarantine = false\ninstance = \"pooled\"\nfuel = 1000000000\ndeadline = \"100ms\"\nconfig = {{ behaviour = \"loop\" }}\n\
         grant.powers = [\"deny\", \"respond\", \"forward\", \"rewrite-path\", \"take\", \"charge\"]\ngrant.maximum_charge = \"1000\"\n\
         [upstreams.origin]\nendpoints = [\"http://{0}\"]\n\
         [pillars.wild]\nupstream = \"origin\"\nchain = [\"hostile\"]\n[[pillars.wild.routes]]\npath = \"/x\"\nauth = \"none\"\n",
        origin.address
    ));
    let connect = || TcpStream::connect(gateway.public).unwrap();
    // The only worker is busy until eight guests have used up their deadlines, one after the other: the rest waits to be
    // begun when the signal comes.
    let mut busy: Vec<TcpStream> = (0..8).map(|_| connect()).collect();
    for stream in &mut busy {
        stream.write_all(b"GET /v1/wild/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    }
    let _waiting: Vec<TcpStream> = (0..16).map(|_| connect()).collect();
    let signal = Instant::now();
    drop(gateway);
    let lasted = signal.elapsed();
    assert!(lasted < Duration::from_secs(30), "{lasted:?}");
}
