//! Whose certificates policies believe when they ask over TLS: those under the system's roots, and under the operator's own.

use crate::harness::{Gateway, ONE_WORKER, Origin, until};
use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

/// A server for `localhost` under an authority of its own, and that authority's certificate.
struct Secure {
    port: u16,
    root: String,
}

impl Secure {
    fn start() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = authority.self_signed(&key).unwrap();
        let root = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            base64::engine::general_purpose::STANDARD.encode(root.der())
        );
        let own_key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let own = own.signed_by(&own_key, &Issuer::new(authority, key)).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], PrivateKeyDer::try_from(own_key.serialize_der()).unwrap())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let config = config.clone();
                std::thread::spawn(move || {
                    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                    // Broken off by whoever does not believe it.
                    while stream.read(&mut [0; 4096]).is_ok_and(|bytes| bytes > 0) {
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret").unwrap();
                    }
                });
            }
        });
        Self { port, root }
    }
}

fn toml(origin: &Origin, port: u16, roots: &str, more: &str) -> String {
    format!(
        "{ONE_WORKER}{roots}\n[policies.asks]\ndeadline = \"1s\"\nwait = \"20s\"\nfuel = 1000000000\nquarantine = false\n\
         [[policies.asks.grant.outbound]]\norigin = \"https://localhost:{port}\"\npaths = [\"/*\"]\ntimeout = \"10s\"\n{more}\n\
         [upstreams.origin]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"origin\"\nchain = [\"asks\"]\n\
         [[pillars.connect.routes]]\npath = \"/x\"\nauth = \"none\"\n",
        origin.address
    )
}

const NAMED: &str = "outbound_roots = [\"ca.pem\"]";
const PRIVATE: &str = "private = true";

fn ask(gateway: &Gateway, server: &Secure) -> String {
    let what = format!("GET https://localhost:{}/ 0", server.port);
    let answer = gateway.get("/v1/connect/x").field("x-ask", what).send();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.field("x-answer").expect("an answer").to_owned()
}

#[test]
fn a_collector_of_traces_is_believed_under_the_operators_roots() {
    let server = Secure::start();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("ca.pem");
    std::fs::write(&file, &server.root).unwrap();
    let roots = format!("outbound_roots = [\"{}\"]", file.display());
    let traces = format!("[telemetry.traces]\nendpoint = \"https://localhost:{}\"\nsample = 1\n", server.port);
    let gateway = Gateway::start(&format!("{ONE_WORKER}{roots}\n{traces}[pillars.connect]\n"));
    assert_eq!(gateway.get("/nowhere").send().status, 404);
    let taken = "portico_trace_spans_exported_total 1";
    until("its span is taken", || gateway.admin("GET", "/metrics").send().text().contains(taken));
}

#[test]
fn additional_roots_are_believed_as_long_as_they_are_named() {
    let (origin, server, other) = (Origin::echo(), Secure::start(), Secure::start());
    let gateway = Gateway::start(&toml(&origin, server.port, "", PRIVATE));
    assert_eq!(ask(&gateway, &server), "Error::Unreachable", "nobody of the system's knows it");
    std::fs::write(gateway.directory().join("ca.pem"), &server.root).unwrap();
    gateway.save(&toml(&origin, server.port, NAMED, PRIVATE));
    until("it is believed", || ask(&gateway, &server).starts_with("200 "));
    // Another authority in the same file, taken up with the next change of anything.
    std::fs::write(gateway.directory().join("ca.pem"), &other.root).unwrap();
    assert_eq!(gateway.admin("POST", "/v1/plugins/asks/reload").send().status, 200);
    until("it is not believed any more", || ask(&gateway, &server) == "Error::Unreachable");
    std::fs::write(gateway.directory().join("ca.pem"), format!("{}{}", other.root, server.root)).unwrap();
    assert_eq!(gateway.admin("POST", "/v1/plugins/asks/reload").send().status, 200);
    until("both are believed", || ask(&gateway, &server).starts_with("200 "));
    // What cannot be used any more changes nothing, and holds up nothing: what was read before goes on.
    let generation = gateway.generation();
    std::fs::write(gateway.directory().join("ca.pem"), "no certificate").unwrap();
    assert_eq!(gateway.admin("POST", "/v1/plugins/asks/reload").send().status, 200);
    assert!(ask(&gateway, &server).starts_with("200 "));
    assert_eq!(gateway.generation(), generation);
    gateway.save(&toml(&origin, server.port, "", PRIVATE));
    until("it is not named any more", || ask(&gateway, &server) == "Error::Unreachable");
    // As a new process that has them from the start; and private addresses stay closed all the same.
    let gateway = gateway.restart_after(|| {});
    std::fs::write(gateway.directory().join("ca.pem"), &server.root).unwrap();
    gateway.save(&toml(&origin, server.port, NAMED, PRIVATE));
    until("it is believed", || ask(&gateway, &server).starts_with("200 "));
    let gateway = gateway.restart();
    assert!(ask(&gateway, &server).starts_with("200 "));
    gateway.save(&toml(&origin, server.port, NAMED, ""));
    until("its address is private", || ask(&gateway, &server) == "Error::Unreachable");
}

#[test]
fn files_that_are_no_roots_are_told_with_the_reason() {
    let origin = Origin::echo();
    let directory = tempfile::TempDir::new().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cases = [
        (directory.path().join("none.pem").display().to_string(), "cannot be used: it cannot be read: No such file"),
        (directory.path().display().to_string(), "cannot be used: it is not a file"),
        (file("empty.pem", b""), "cannot be used: there is no certificate in it"),
        (file("odd.pem", b"-----BEGIN CERTIFICATE-----\n*"), "cannot be used: it is not PEM: "),
        (file("broken.pem", broken), "cannot be used: one of its certificates cannot be a root: "),
        (file("large.pem", &vec![b'x'; (1 << 20) + 1]), "cannot be used: it is larger than 1 MiB"),
    ];
    // All of them at once.
    let names: Vec<&str> = cases.iter().map(|(name, _)| name.as_str()).collect();
    let started = Gateway::try_start(&toml(&origin, 1, &format!("outbound_roots = {names:?}"), ""), &[]);
    let error = started.err().expect("refused").to_string();
    assert_eq!(error.lines().count(), cases.len(), "{error}");
    for (name, reason) in cases {
        let told = format!("plugins.outbound_roots: {name} {reason}");
        assert!(error.contains(&told), "wanted {told:?}: {error}");
    }
}
