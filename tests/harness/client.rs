//! A small blocking HTTP/1.1 client that sends exactly what it is told, one connection for each request.

use super::secrets;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
/// An answer with a new secret has no more bytes.
const MOST_WITH_SECRETS: usize = 4096;

/// A request to be sent.
pub struct Call {
    to: SocketAddr,
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    from: Option<IpAddr>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Begins a request.
pub fn request(to: SocketAddr, method: &str, target: &str) -> Call {
    Call { to, method: method.into(), target: target.into(), fields: Vec::new(), body: Vec::new(), from: None }
}

impl Call {
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.into(), value.as_ref().to_vec()));
        self
    }

    pub fn key(self, secret: &str) -> Self {
        self.field("authorization", format!("Bearer {secret}"))
    }

    /// From another address of this machine, as another caller.
    pub fn from(mut self, address: impl Into<IpAddr>) -> Self {
        self.from = Some(address.into());
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    pub fn send(self) -> Answer {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.extend_from_slice(b"host: gateway.test\r\n");
        }
        for (name, value) in &self.fields {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        if !self.body.is_empty() {
            head.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        head.extend_from_slice(b"connection: close\r\n\r\n");
        head.extend_from_slice(&self.body);
        let stream = match self.from {
            Some(address) => connect_from(address, self.to),
            None => connect(self.to),
        };
        if self.target.starts_with("/v1/keys/import") {
            secrets::note_all(&self.body);
        }
        let bytes = exchange(stream, &head);
        let Some(answer) = parse(&bytes) else { panic!("no HTTP answer: {:?}", String::from_utf8_lossy(&bytes)) };
        if answer.status >= 400 {
            let found = secrets::found_in(&bytes);
            assert_eq!(found, None, "a refusal of {} {} holds a secret", self.method, self.target);
        } else if answer.body.len() <= MOST_WITH_SECRETS && answer.field("content-type") == Some("application/json") {
            secrets::note_all(&answer.body);
        }
        answer
    }
}

/// Sends bytes as they are and reads until the other side closes.
pub fn raw(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    exchange(connect(to), bytes)
}

fn connect(to: SocketAddr) -> TcpStream {
    TcpStream::connect(to).expect("the gateway listens")
}

fn connect_from(address: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(address, 0).into()).expect("an address of this machine");
    socket.connect(&to.into()).expect("the gateway listens");
    socket.into()
}

fn exchange(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
    // The other side may answer and close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let mut reader = BufReader::new(bytes);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut fields = Vec::new();
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).ok()?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let chunked = fields.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let mut body = Vec::new();
    if chunked {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    } else {
        reader.read_to_end(&mut body).ok()?;
    }
    Some(Answer { status, fields, body })
}

impl Answer {
    /// The one value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a field.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {}", self.text()))
    }

    /// The stable code of a refusal, after checking that it is a whole problem document.
    pub fn error(&self) -> String {
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(problem["instance"].as_str(), self.field("x-request-id"), "{problem}");
        for member in ["type", "title", "detail", "message"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "no {member}: {problem}");
        }
        problem["error"].as_str().expect("a code").to_owned()
    }
}
