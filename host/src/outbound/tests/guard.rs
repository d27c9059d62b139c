//! Private addresses, by whatever name.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// A name that has these addresses, at whatever port is asked for.
fn named(addresses: &'static [&'static str]) -> (Outbound, Arc<AtomicUsize>) {
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = looks.clone();
    let outbound = outbound(move |_, port| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), port)).collect())
    });
    (outbound, looks)
}

fn named_grant(server: &Server, private: bool) -> (OutboundGrant, String) {
    let url = format!("http://name.test:{}/echo", server.port);
    (OutboundGrant { private, ..grant("name.test", server.port) }, url)
}

#[tokio::test]
async fn literals_are_checked() {
    let server = Server::start().await;
    for host in ["127.0.0.1", "::ffff:127.0.0.1", "::1", "::", "0.0.0.0", "169.254.169.254", "10.0.0.1"] {
        let guarded = OutboundGrant { private: false, ..grant(&canonical(host), server.port) };
        let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let answer = nameless().once(&guarded, get(format!("http://{shown}:{}/echo", server.port))).await;
        assert_eq!(answer, Err(Unreached::Private.into()), "{host}");
    }
    assert_eq!(server.connections(), 0);
}

fn canonical(host: &str) -> String {
    host.parse::<std::net::IpAddr>().unwrap().to_string()
}

#[tokio::test]
async fn every_address_of_a_name_is_checked() {
    let server = Server::start().await;
    let (guarded, url) = named_grant(&server, false);
    for addresses in
        [&["127.0.0.1"][..], &["::1", "10.0.0.1", "127.0.0.1"], &["::ffff:127.0.0.1"], &["64:ff9b::7f00:1"]]
    {
        let (outbound, looks) = named(addresses);
        assert_eq!(outbound.once(&guarded, get(url.clone())).await, Err(Unreached::Private.into()), "{addresses:?}");
        assert_eq!(looks.load(Ordering::SeqCst), 1);
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn what_one_grant_opens_stays_closed_to_another() {
    let server = Server::start().await;
    let (outbound, _) = named(&["127.0.0.1"]);
    let (open, url) = named_grant(&server, true);
    let (guarded, _) = named_grant(&server, false);
    let answer = outbound.once(&open, get(url.clone())).await.unwrap();
    assert!(answer.text().contains(&format!("host: name.test:{}", server.port)), "{}", answer.text());
    // The connection is idle and would do.
    assert_eq!(outbound.once(&guarded, get(url)).await, Err(Unreached::Private.into()));
    assert_eq!((server.connections(), server.requests()), (1, 1));
}

#[tokio::test]
async fn the_next_address_is_tried_and_a_name_is_looked_up_once() {
    let server = Server::start().await;
    // Nobody listens at the first.
    let (outbound, looks) = named(&["127.0.0.2", "127.0.0.1"]);
    let (open, url) = named_grant(&server, true);
    for _ in 0..3 {
        assert_eq!(outbound.once(&open, get(url.clone())).await.unwrap().status, 200);
    }
    assert_eq!((looks.load(Ordering::SeqCst), server.connections()), (1, 1));
    let (outbound, _) = named(&["127.0.0.2"]);
    assert_eq!(outbound.once(&open, get(url)).await, Err(Unreached::Connect.into()));
}

#[tokio::test]
async fn a_name_without_addresses_is_told() {
    let (open, url) = (grant("name.test", 80), "http://name.test/");
    let failing = outbound(|_, _| Err(std::io::Error::other("nobody knows")));
    assert_eq!(failing.once(&open, get(url.into())).await, Err(Unreached::Name.into()));
    let (empty, _) = named(&[]);
    assert_eq!(empty.once(&open, get(url.into())).await, Err(Unreached::Name.into()));
}

#[tokio::test]
async fn a_look_up_that_hangs_holds_one_thread_and_nobody_else() {
    let server = Server::start().await;
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = looks.clone();
    let outbound = outbound(move |host, port| {
        if host == "hangs.test" {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = held.lock().unwrap().recv();
        }
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
    });
    let hurried = OutboundGrant { timeout: Duration::from_millis(30), ..grant("hangs.test", server.port) };
    let url = format!("http://hangs.test:{}/echo", server.port);
    for _ in 0..3 {
        assert_eq!(outbound.once(&hurried, get(url.clone())).await, Err(Error::TimedOut));
    }
    assert_eq!((looks.load(Ordering::SeqCst), outbound.under_way()), (1, 0));
    let (open, other) = named_grant(&server, true);
    assert_eq!(outbound.once(&open, get(other)).await.unwrap().status, 200);
    release.send(()).unwrap();
    let patient = OutboundGrant { timeout: Duration::from_secs(10), ..hurried };
    drop(release);
    assert_eq!(outbound.once(&patient, get(url)).await.unwrap().status, 200);
}

#[tokio::test]
async fn names_that_hang_take_the_turns_of_their_org_and_of_nobody_else() {
    let server = Server::start().await;
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = looks.clone();
    let outbound = outbound(move |host, port| {
        if host.starts_with("hangs") {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = held.lock().unwrap().recv();
        }
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
    });
    let tell = async |org, host: &str| {
        let grants = [grant(host, server.port)];
        let call = get(format!("http://{host}:{}/echo", server.port));
        let answer = outbound.tell(OrgId::from_number(org), &grants, &mut Spent::default(), call).await;
        answer.map(|answer| answer.status)
    };
    let names: Vec<String> = (0..4).map(|number| format!("hangs{number}.test")).collect();
    let hanging = futures_util::future::join_all(names.iter().map(|name| tell(1, name)));
    let others = async {
        until(|| looks.load(Ordering::SeqCst) == 4).await;
        assert_eq!(tell(1, "name.test").await, Err(Unreached::Busy.into()), "at once");
        assert_eq!(tell(2, "name.test").await, Ok(200));
        assert_eq!(tell(1, "name.test").await, Ok(200), "what is known needs no turn");
        drop(release);
    };
    let (hanging, ()) = tokio::join!(hanging, others);
    assert_eq!(hanging, [Ok(200); 4]);
}
