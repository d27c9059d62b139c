//! Whose certificate is believed.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

/// A server of HTTPS under a certificate that it signed itself, and that certificate.
struct Secure {
    port: u16,
    root: String,
}

impl Secure {
    /// Answers so many connections, one after the other, whether they are accepted or broken off.
    fn start(name: &str, connections: usize) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let root = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(made.cert.der().as_ref())
        );
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for _ in 0..connections {
                let (stream, _) = listener.accept().unwrap();
                let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
                let mut head = [0; 4096];
                // Broken off by whoever does not believe it.
                while stream.read(&mut head).is_ok_and(|bytes| bytes > 0) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret").unwrap();
                }
            }
        });
        Self { port, root }
    }

    fn grant(&self, host: &str) -> OutboundGrant {
        OutboundGrant { tls: true, ..grant(host, self.port) }
    }

    fn call(&self, host: &str) -> Call {
        get(format!("https://{host}:{}/", self.port))
    }
}

fn trusting(root: &str) -> Outbound {
    let here = Names::by(Arc::new(|_: &str, port| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])));
    Outbound::of(Handle::current(), Trust::in_these(root.as_bytes()).unwrap(), here)
}

#[tokio::test]
async fn a_certificate_under_an_additional_root_is_believed() {
    let server = Secure::start("name.test", 1);
    let outbound = trusting(&server.root);
    for _ in 0..2 {
        let answer = outbound.once(&server.grant("name.test"), server.call("name.test")).await.unwrap();
        assert_eq!(answer.text(), "secret");
    }
}

#[tokio::test]
async fn additional_roots_are_believed_beside_those_of_the_system() {
    // With the system's own names too: all as it is in a running gateway.
    let server = Secure::start("localhost", 2);
    let outbound = Outbound::start(Handle::current(), server.root.as_bytes()).unwrap();
    for _ in 0..2 {
        let answer = outbound.once(&server.grant("localhost"), server.call("localhost")).await.unwrap();
        assert_eq!(answer.text(), "secret");
    }
}

#[tokio::test]
async fn an_unknown_root_and_another_name_are_not_believed() {
    let server = Secure::start("name.test", 2);
    let other = Secure::start("name.test", 0);
    let disbelieved = Err(Unreached::Certificate.into());
    assert_eq!(trusting(&other.root).once(&server.grant("name.test"), server.call("name.test")).await, disbelieved);
    assert_eq!(trusting(&server.root).once(&server.grant("else.test"), server.call("else.test")).await, disbelieved);
}

#[tokio::test]
async fn without_any_root_nobody_is_asked_over_tls() {
    let server = Secure::start("name.test", 0);
    let answer = trusting("").once(&server.grant("name.test"), server.call("name.test")).await;
    assert_eq!(answer, Err(Unreached::NoRoots.into()));
}

#[tokio::test]
async fn what_does_not_speak_tls_is_not_spoken_to() {
    let plain = Server::start().await;
    let secure = Secure::start("name.test", 0);
    let grant = OutboundGrant { tls: true, ..grant("name.test", plain.port) };
    let call = get(format!("https://name.test:{}/echo", plain.port));
    assert_eq!(trusting(&secure.root).once(&grant, call).await, Err(Unreached::Connect.into()));
    assert_eq!(plain.requests(), 0);
}

#[test]
fn roots_that_are_none_are_refused() {
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(Trust::in_these(b"no certificate"), Err(BadRoots::Empty)));
    assert!(matches!(Trust::in_these(b"-----BEGIN CERTIFICATE-----\n*"), Err(BadRoots::Form(_))));
    assert!(matches!(Trust::in_these(broken.as_bytes()), Err(BadRoots::Certificate(_))));
}
