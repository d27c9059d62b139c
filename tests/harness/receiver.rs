//! Somebody who is told by webhooks: remembers each message as it came, and answers as the test says.

use super::until;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// A receiver on a port of its own; ends when it is dropped.
pub struct Receiver {
    pub address: SocketAddr,
    socket: Option<Socket>,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    messages: Mutex<Vec<Message>>,
    answers: Mutex<VecDeque<String>>,
    silent: Mutex<bool>,
    loud: Condvar,
    ended: AtomicBool,
}

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Message {
    pub head: String,
    pub fields: Vec<(String, String)>,
    pub body: String,
}

impl Receiver {
    /// Has a port, on which every connection is refused until [`Self::listen`].
    pub fn deaf() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        let address = socket.local_addr().expect("an address").as_socket().expect("of the Internet");
        Self { address, socket: Some(socket), inner: Arc::default() }
    }

    /// Takes messages.
    pub fn start() -> Self {
        let mut receiver = Self::deaf();
        receiver.listen();
        receiver
    }

    /// From now on it takes messages.
    pub fn listen(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        socket.listen(128).expect("it listens");
        let (listener, inner) = (TcpListener::from(socket), self.inner.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if inner.ended.load(Ordering::SeqCst) {
                    return;
                }
                let inner = inner.clone();
                std::thread::spawn(move || inner.serve(stream));
            }
        });
    }

    /// Answers the next messages so, each with a status line's end such as `500 Nope`; fields may follow after `\r\n`. All others
    /// with 204.
    pub fn answer(&self, answers: &[&str]) {
        self.inner.answers.lock().expect("nobody panicked").extend(answers.iter().map(|answer| (*answer).to_owned()));
    }

    /// Answers nothing while this is set.
    pub fn keep_silent(&self, silent: bool) {
        *self.inner.silent.lock().expect("nobody panicked") = silent;
        self.inner.loud.notify_all();
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook?token=geheim", self.address)
    }

    /// All messages so far.
    pub fn messages(&self) -> Vec<Message> {
        self.inner.messages.lock().expect("nobody panicked").clone()
    }

    /// Waits until so many have come, and gives them all.
    pub fn wait(&self, count: usize) -> Vec<Message> {
        until("messages have come", || self.messages().len() >= count);
        self.messages()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.inner.ended.store(true, Ordering::SeqCst);
        self.keep_silent(false);
        // Wakes whoever accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Inner {
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let Some(message) = read(&mut reader) else { return };
        self.messages.lock().expect("nobody panicked").push(message);
        let mut silent = self.silent.lock().expect("nobody panicked");
        while *silent {
            silent = self.loud.wait(silent).expect("nobody panicked");
        }
        drop(silent);
        let answer = self.answers.lock().expect("nobody panicked").pop_front();
        let answer = answer.unwrap_or_else(|| "204 No Content".to_owned());
        // Whoever asked may have left.
        let _ = write!(reader.get_mut(), "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Message> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    };
    let head = line()?;
    let mut fields = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = fields.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Message { head, fields, body: String::from_utf8(body).ok()? })
}

impl Message {
    /// The value of a field that must be there.
    pub fn field(&self, name: &str) -> &str {
        &self.fields.iter().find(|(known, _)| known == name).expect("the field").1
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("a body of JSON")
    }

    /// The type of its event.
    pub fn kind(&self) -> String {
        self.json()["type"].as_str().expect("a type").to_owned()
    }

    /// How many of its signatures are by this secret, as the specification says: worked out without the gateway's code.
    pub fn signatures_by(&self, secret: &str) -> usize {
        let bytes = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
        let signed = format!("{}.{}.{}", self.field("webhook-id"), self.field("webhook-timestamp"), self.body);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), signed.as_bytes());
        let expected = format!("v1,{}", STANDARD.encode(tag));
        self.field("webhook-signature").split(' ').filter(|one| *one == expected).count()
    }
}
