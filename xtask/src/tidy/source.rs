//! A Rust file as tidy reads it: its text, and the same text with comments and literals blanked out.
//!
//! Blanking keeps every line where it was, so a place in the code is a place in the file. No full parser: a rule that
//! needs one would be a compiler's job.

/// One Rust file.
pub struct Source {
    /// Relative to the root.
    pub path: String,
    /// As written.
    pub text: String,
    /// As written, but with spaces in place of comments, strings and characters.
    pub code: String,
}

impl Source {
    /// Reads a file's text.
    pub fn new(path: String, text: String) -> Self {
        let code = blank(&text);
        Self { path, text, code }
    }

    /// `path:line` of a position in the text.
    pub fn place(&self, position: usize) -> String {
        let line = self.text.as_bytes().iter().take(position).filter(|byte| **byte == b'\n').count() + 1;
        format!("{}:{line}", self.path)
    }

    /// Where this word stands in the code, as a word of its own.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        words(&self.code, word)
    }
}

/// Where `word` stands in `text` as a word of its own, and not as part of a longer one.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let bytes = text.as_bytes();
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        !part(before) && !part(bytes.get(at + word.len()))
    })
}

/// Replaces comments and literals by spaces, byte by byte; line ends stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let length = literal_or_comment(bytes, at);
        for byte in &bytes[at..at + length.max(1)] {
            code.push(if length == 0 || *byte == b'\n' { *byte } else { b' ' });
        }
        at += length.max(1);
    }
    // Only whole comments and literals were replaced, so what is left is still UTF-8.
    String::from_utf8_lossy(&code).into_owned()
}

/// How many bytes the comment or literal takes that begins here; 0 where none does.
fn literal_or_comment(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let name_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest),
        [b'r', b'"' | b'#', ..] if !name_before => raw(&rest[1..]).map_or(0, |length| length + 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !name_before => raw(&rest[2..]).map_or(0, |length| length + 2),
        [b'\'', ..] => character(rest),
        _ => 0,
    }
}

/// Block comments nest.
fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// From the first `#` or quote of a raw string to its end; `None` where it is a raw identifier after all.
fn raw(rest: &[u8]) -> Option<usize> {
    let marks = rest.iter().take_while(|byte| **byte == b'#').count();
    if rest.get(marks) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(marks + 1, b'#');
    let body = &rest[marks + 1..];
    let length = body.windows(end.len()).position(|window| window == end).map_or(body.len(), |at| at + end.len());
    Some(marks + 1 + length)
}

/// A character; 0 where the quote begins a lifetime.
fn character(rest: &[u8]) -> usize {
    match rest {
        [_, b'\\', _, tail @ ..] => tail.iter().position(|byte| *byte == b'\'').map_or(0, |end| end + 4),
        [_, first, tail @ ..] => {
            let further = tail.iter().take_while(|byte| **byte & 0b1100_0000 == 0b1000_0000).count();
            let closed = *first != b'\'' && tail.get(further) == Some(&b'\'');
            if closed { further + 3 } else { 0 }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank_and_lines_stay() {
        let cases = [
            ("a // sled::b\nc", "a \nc"),
            ("a /* x /* y */ z\n */ b", "a \n b"),
            (r#"a("sled::\" x", b)"#, "a(, b)"),
            ("r#\"sled \" \"# x", " x"),
            ("br\"sled\" x", " x"),
            ("'a' b 'static '\\'' '\\u{1F600}' 'é'", " b 'static"),
            ("r#type sled", "r#type sled"),
            ("\"never closed", ""),
        ];
        for (text, left) in cases {
            let code = blank(text);
            assert_eq!(code.len(), text.len(), "{text}");
            assert_eq!(code.matches('\n').count(), text.matches('\n').count(), "{text}");
            let squeeze = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(squeeze(&code), squeeze(left), "{text}");
        }
    }

    #[test]
    fn a_word_is_not_a_part_of_a_word() {
        let source = Source::new("a.rs".into(), "sled_tree\nuse sled::Db; // sled\nunsled".into());
        let places: Vec<String> = source.words("sled").map(|at| source.place(at)).collect();
        assert_eq!(places, ["a.rs:2"]);
    }
}
