//! Hides long numbers in text that goes to clients, also those that are cut into two chunks.

use portico_sdk::{
    About, BodyMode, Diagnostic, NoConfig, Policy, Request, Response, ResponseBody, ResponseEnd, ResponsePiece,
    ResponseRead, Setup, Verdict,
};

/// As many digits as a card's number has, at least.
const LONG: usize = 12;

struct Mask;

impl Policy for Mask {
    type Config = NoConfig;
    const ABOUT: About = About::new("mask", "1.0.0", "Hides long numbers in text that goes to clients.")
        .response_reads(&["content-type"])
        .response_body(BodyMode::Transform);

    fn configure(_config: NoConfig, _setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        Ok(Self)
    }

    fn on_request(&self, _request: &Request) -> Verdict {
        Verdict::next()
    }
}

const CONTENT_TYPE: ResponseRead = Mask::ABOUT.response_read("content-type");

/// The number that the last chunk may have ended in.
#[derive(Default)]
struct Number {
    /// Its digits, as long as they are few.
    digits: Vec<u8>,
    long: bool,
}

impl ResponseBody for Mask {
    type Body = Number;

    fn begin_response(&self, head: &Response) -> Option<Number> {
        let text = head.text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/") || kind.contains("json"));
        text.then(Number::default)
    }

    fn response_chunk(&self, number: &mut Number, chunk: Vec<u8>) -> ResponsePiece {
        let mut out = Vec::with_capacity(chunk.len() + LONG);
        for byte in chunk {
            if !byte.is_ascii_digit() {
                out.append(&mut number.digits);
                number.long = false;
                out.push(byte);
            } else if number.long {
                out.push(b'*');
            } else {
                number.digits.push(byte);
                if number.digits.len() == LONG {
                    number.digits.clear();
                    number.long = true;
                    out.extend([b'*'; LONG]);
                }
            }
        }
        ResponsePiece::Replace(out)
    }

    fn end_response(&self, number: Number) -> ResponseEnd {
        ResponseEnd::next().more(number.digits)
    }
}

portico_sdk::export!(Mask, response_body);
