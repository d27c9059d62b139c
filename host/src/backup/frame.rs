//! Backups as bytes: frames, each with a checksum, between a head and an end.
//!
//! | bytes | what (least significant byte first) |
//! | --- | --- |
//! | 0..8, 8..12 | `prtcbkup`, the version |
//! | each frame: 1, 4 | its kind; how long its content is |
//! | | its content; CRC-32 of kind, length and content |
//!
//! The last frame holds the SHA-256 of everything before it, and a tag over that. Knows nothing of what contents mean.

use std::io::{self, Read, Write};

use bytes::{Buf, BufMut};
use ring::digest::{Context, SHA256};

use super::{Signet, Unsound, VERSION};

const MAGIC: &[u8; 8] = b"prtcbkup";
/// The longest content of a frame: a row is far below that.
const LARGEST: usize = 64 << 20;
/// Contents are gathered up to about this size.
pub(super) const PIECE: usize = 256 << 10;
const HEAD: usize = 5;
const DIGEST: usize = 32;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// What the backup says of itself.
    Head = 1,
    /// The name of the tree that the rows after it are of.
    Tree,
    /// Rows of a tree, in order.
    Rows,
    /// The moment that the backup is of.
    Moment,
    /// Rows that changed until then, in the order in which they did.
    Changes,
    /// Records of one worker's journal.
    Journal,
    /// The name of a file.
    File,
    /// A piece of that file.
    Piece,
    /// The end.
    End,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Head,
        Self::Tree,
        Self::Rows,
        Self::Moment,
        Self::Changes,
        Self::Journal,
        Self::File,
        Self::Piece,
        Self::End,
    ];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Writes frames.
pub(super) struct Writer<W> {
    into: W,
    digest: Context,
}

impl<W: Write> Writer<W> {
    /// Begins a backup.
    pub(super) fn begin(into: W) -> io::Result<Self> {
        let mut writer = Self { into, digest: Context::new(&SHA256) };
        writer.put(MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        Ok(writer)
    }

    /// Writes a frame with this content.
    pub(super) fn frame(&mut self, kind: Kind, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).ok().filter(|_| content.len() <= LARGEST);
        let length = length.ok_or_else(|| io::Error::other("a part is too large for a backup"))?;
        let mut head = Vec::with_capacity(HEAD);
        head.put_u8(kind as u8);
        head.put_u32_le(length);
        let sum = sum(&head, content);
        self.put(&head)?;
        self.put(content)?;
        self.put(&sum.to_le_bytes())
    }

    /// Writes the end.
    pub(super) fn end(mut self, signet: &Signet) -> io::Result<()> {
        let digest = self.digest.clone().finish();
        let content = [digest.as_ref(), signet.sign(digest.as_ref()).as_ref()].concat();
        self.frame(Kind::End, &content)?;
        self.into.flush()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.into.write_all(bytes)
    }
}

/// Reads frames.
pub(super) struct Reader<R> {
    from: R,
    digest: Context,
    at: u64,
    content: Vec<u8>,
}

/// The end of a backup whose digest is right.
pub(super) struct End {
    pub(super) digest: [u8; DIGEST],
    pub(super) tag: [u8; DIGEST],
}

impl<R: Read> Reader<R> {
    /// Looks whether a backup begins here.
    pub(super) fn begin(from: R) -> Result<Self, Unsound> {
        let mut reader = Self { from, digest: Context::new(&SHA256), at: 0, content: Vec::new() };
        let magic: [u8; 8] = match reader.array() {
            // Also what is shorter than that, unless it is the beginning of one.
            Err(Unsound::Cut { at }) if at > 0 && !MAGIC.starts_with(&reader.content) => return Err(Unsound::Foreign),
            read => read?,
        };
        if magic != *MAGIC {
            return Err(Unsound::Foreign);
        }
        let found = u32::from_le_bytes(reader.array()?);
        if found != VERSION {
            return Err(Unsound::Version { found });
        }
        Ok(reader)
    }

    /// Where the next frame begins.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The content of the frame that was read last.
    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }

    /// Reads the next frame; what kind it is.
    pub(super) fn next(&mut self) -> Result<Kind, Unsound> {
        let begun = self.at;
        let damaged = || Unsound::Damaged { at: begun };
        let before = self.digest.clone();
        let head: [u8; HEAD] = self.array()?;
        let kind = Kind::of(head[0]).ok_or_else(damaged)?;
        let length = usize::try_from((&head[1..]).get_u32_le()).ok().filter(|length| *length <= LARGEST);
        self.read(length.ok_or_else(damaged)?)?;
        let content = std::mem::take(&mut self.content);
        let expected = sum(&head, &content);
        let found = u32::from_le_bytes(self.array()?);
        self.content = content;
        if found != expected {
            return Err(damaged());
        }
        if kind == Kind::End {
            let digest = before.finish();
            if self.content.len() != 2 * DIGEST || self.content[..DIGEST] != *digest.as_ref() {
                return Err(damaged());
            }
        }
        Ok(kind)
    }

    /// After a frame that was [`Kind::End`]: that nothing follows.
    pub(super) fn end(mut self) -> Result<End, Unsound> {
        let (digest, tag) = self.content.split_at(DIGEST);
        let part = |bytes: &[u8]| *bytes.first_chunk().expect("its length was looked at");
        let end = End { digest: part(digest), tag: part(tag) };
        match self.from.read_exact(&mut [0]) {
            Ok(()) => Err(Unsound::Trailing),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(end),
            Err(error) => Err(Unsound::Unreadable(error)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unsound> {
        self.read(N)?;
        Ok(*self.content.first_chunk().expect("so many were read"))
    }

    /// Reads so many bytes, or to the end; never takes more memory than there are bytes.
    fn read(&mut self, length: usize) -> Result<(), Unsound> {
        self.content.clear();
        let read = self.from.by_ref().take(length as u64).read_to_end(&mut self.content);
        let read = read.map_err(Unsound::Unreadable)?;
        self.at += read as u64;
        self.digest.update(&self.content);
        if read < length { Err(Unsound::Cut { at: self.at }) } else { Ok(()) }
    }
}

fn sum(head: &[u8], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(content);
    hasher.finalize()
}
