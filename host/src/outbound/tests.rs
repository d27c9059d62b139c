//! Requests to real servers on this machine, within every bound.

mod bounds;
mod guard;
mod server;
mod tls;

use super::name::Look;
use super::*;
use server::{Server, until};
use std::net::SocketAddr;

/// One origin, wide open.
fn grant(host: &str, port: u16) -> OutboundGrant {
    OutboundGrant {
        tls: false,
        host: host.into(),
        port,
        methods: vec!["GET".into(), "HEAD".into(), "POST".into()],
        paths: vec!["/*".into()],
        calls: 16,
        response: 1024,
        timeout: Duration::from_secs(10),
        private: true,
    }
}

fn get(url: String) -> Call {
    Call { method: "GET".into(), url, fields: Vec::new(), body: Vec::new(), timeout: Duration::ZERO }
}

/// Trusts nobody, and knows names by this.
fn outbound(look: impl Fn(&str, u16) -> std::io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Outbound {
    let look: Arc<Look> = Arc::new(look);
    Outbound::of(Handle::current(), Trust::in_these(b"").unwrap(), Names::by(look))
}

fn nameless() -> Outbound {
    outbound(|host, _| panic!("nobody looks up {host}"))
}

impl Outbound {
    async fn once(&self, grant: &OutboundGrant, call: Call) -> Result<Answer, Error> {
        self.send(std::slice::from_ref(grant), &mut Spent::default(), call).await
    }

    fn under_way(&self) -> usize {
        MOST_UNDER_WAY - self.inner.under_way.available_permits()
    }

    fn bytes_kept(&self) -> usize {
        MOST_BYTES - self.inner.bytes.available_permits()
    }
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(field, _)| field == name)?;
        std::str::from_utf8(value).ok()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

#[tokio::test]
async fn a_granted_request_is_sent_as_it_was_asked() {
    let server = Server::start().await;
    let grant = grant("127.0.0.1", server.port);
    let mut call = get(server.url("/%65cho?q=1"));
    call.method = "POST".into();
    call.fields = vec![("X-Own".into(), b"1".to_vec()), ("x-own".into(), b"2".to_vec())];
    call.body = b"some bytes".to_vec();
    let answer = nameless().once(&grant, call).await.unwrap();
    assert_eq!(answer.status, 200);
    let expected = format!(
        "POST /echo?q=1\nhost: 127.0.0.1:{}\nx-own: 1\nx-own: 2\ncontent-length: 10\n\nsome bytes",
        server.port
    );
    let mut lines: Vec<&str> = answer.text().lines().collect();
    let mut wanted: Vec<&str> = expected.lines().collect();
    lines[1..].sort_unstable();
    wanted[1..].sort_unstable();
    assert_eq!(lines, wanted);
}

#[tokio::test]
async fn what_is_not_granted_never_leaves() {
    let server = Server::start().await;
    let mut grant = grant("127.0.0.1", server.port);
    grant.paths = vec!["/echo".into()];
    grant.calls = 1;
    let outbound = nameless();
    let mut spent = Spent::default();
    let grants = [grant];
    let not_granted = |what: Ungranted| Err(what.into());
    assert_eq!(outbound.send(&[], &mut spent, get(server.url("/echo"))).await, not_granted(Ungranted::Origin));
    assert_eq!(outbound.send(&grants, &mut spent, get(server.url("/other"))).await, not_granted(Ungranted::Path));
    assert_eq!(server.requests(), 0);
    assert!(outbound.send(&grants, &mut spent, get(server.url("/echo"))).await.is_ok());
    assert_eq!(outbound.send(&grants, &mut spent, get(server.url("/echo"))).await, Err(Error::BudgetExceeded));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let server = Server::start().await;
    let answer = nameless().once(&grant("127.0.0.1", server.port), get(server.url("/redirect"))).await.unwrap();
    assert_eq!((answer.status, answer.field("location")), (302, Some("/echo")));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn nothing_is_unpacked_and_nothing_of_the_connection_comes_across() {
    let server = Server::start().await;
    let answer = nameless().once(&grant("127.0.0.1", server.port), get(server.url("/fields"))).await.unwrap();
    assert_eq!(answer.text(), "not really gzip");
    assert_eq!(answer.field("content-encoding"), Some("gzip"));
    for name in ["connection", "x-private", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.field(name), None, "{name}");
    }
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::start().await;
    let (outbound, grant) = (nameless(), grant("127.0.0.1", server.port));
    for _ in 0..5 {
        outbound.once(&grant, get(server.url("/echo"))).await.unwrap();
    }
    assert_eq!((server.requests(), server.connections()), (5, 1));
    assert_eq!((outbound.under_way(), outbound.bytes_kept()), (0, 0));
}

#[tokio::test]
async fn a_worker_with_a_runtime_of_its_own_may_wait() {
    let server = Server::start().await;
    let (outbound, grant, url) = (nameless(), grant("127.0.0.1", server.port), server.url("/echo"));
    let worker = tokio::task::spawn_blocking(move || {
        // Neither sockets nor a clock: all of that is the control runtime's.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(outbound.once(&grant, get(url)))
    });
    assert_eq!(worker.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_control_runtime_that_has_ended_is_told() {
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let none = Names::by(Arc::new(|_: &str, _| Ok(Vec::new())));
    let outbound = Outbound::of(control.handle().clone(), Trust::in_these(b"").unwrap(), none);
    control.shutdown_background();
    let answer = outbound.once(&grant("127.0.0.1", 1), get("http://127.0.0.1:1/".into())).await;
    assert_eq!(answer, Err(Unreached::Stopped.into()));
}

#[test]
fn what_is_awaited_may_go_to_another_thread() {
    fn movable(_: &impl Send) {}
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Outbound>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let (outbound, mut spent) = (nameless(), Spent::default());
    movable(&outbound.send(&[], &mut spent, get(String::new())));
}

#[test]
fn secrets_are_not_shown() {
    let mut call = get("https://api.example.com/?token=geheim".into());
    call.fields.push(("authorization".into(), b"geheim".to_vec()));
    call.body = b"geheim".to_vec();
    let answer = Answer { status: 200, fields: call.fields.clone(), body: call.body.clone() };
    assert!(!format!("{call:?}{answer:?}").contains("geheim"));
}
