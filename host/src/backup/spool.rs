//! Where a backup that is being taken keeps what cannot go out yet: a file without a name, which goes with its process.
//!
//! Bounded, by bytes and by what is left of the disk: whoever takes a backup too slowly gets none, rather than all of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::BufMut;

use super::frame::{Kind, PIECE};
use crate::data::Room;

const NAME: &str = "backup.spool";
/// Bytes in it, at most.
const MOST: u64 = 4 << 30;

/// Contents of frames, in order.
#[derive(Debug)]
pub(super) struct Spool {
    file: BufWriter<File>,
    /// Gathered, and not yet written.
    piece: Vec<u8>,
    length: u64,
    most: u64,
    room: Room,
}

impl Spool {
    /// An empty one in this directory.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        Self::within(directory, MOST)
    }

    /// As [`Self::new`], with room for so many bytes.
    pub(super) fn within(directory: &Path, most: u64) -> io::Result<Self> {
        let path = directory.join(NAME);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        fs::remove_file(&path)?;
        let room = Room::of(directory.to_owned());
        Ok(Self { file: BufWriter::new(file), piece: Vec::new(), length: 0, most, room })
    }

    /// Adds a row that changed: its tree, its key, its value or that it is gone.
    pub(super) fn change(&mut self, tree: &[u8], key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        put(&mut self.piece, tree);
        put(&mut self.piece, key);
        self.piece.put_u8(value.is_some().into());
        put(&mut self.piece, value.unwrap_or_default());
        if self.piece.len() >= PIECE { self.end_changes() } else { Ok(()) }
    }

    /// All that changed was added.
    pub(super) fn end_changes(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        if !piece.is_empty() {
            self.add(Kind::Changes, &piece)?;
        }
        Ok(())
    }

    /// Adds records of a worker's journal.
    pub(super) fn records(&mut self, lane: u32, records: &[u8]) -> io::Result<()> {
        let content = [&lane.to_le_bytes(), records].concat();
        self.add(Kind::Journal, &content)
    }

    fn add(&mut self, kind: Kind, content: &[u8]) -> io::Result<()> {
        self.length = self.length.saturating_add(content.len() as u64);
        if self.length > self.most {
            return Err(io::Error::other("it is full"));
        }
        if !self.room.is_there() {
            return Err(io::Error::other("the disk has no room left but what the gateway needs"));
        }
        // A piece is far below 4 GiB.
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        self.file.write_all(&[kind as u8])?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(content)
    }

    /// Calls back with everything that is in it.
    pub(super) fn each<E: From<io::Error>>(self, mut see: impl FnMut(Kind, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        let mut file = BufReader::with_capacity(PIECE, file);
        let mut head = [0; 5];
        let mut content = Vec::new();
        loop {
            match file.read_exact(&mut head) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                read => read?,
            }
            let kind = if head[0] == Kind::Journal as u8 { Kind::Journal } else { Kind::Changes };
            let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
            content.resize(length as usize, 0);
            file.read_exact(&mut content)?;
            see(kind, &content)?;
        }
    }
}

/// As a length and so many bytes.
pub(super) fn put(into: &mut Vec<u8>, bytes: &[u8]) {
    // Names, keys and values of a row are far below 4 GiB; one that is not makes a frame that is refused.
    into.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    into.put_slice(bytes);
}

/// What [`put`] wrote.
pub(super) fn taken<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = from.split_first_chunk()?;
    let (bytes, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *from = rest;
    Some(bytes)
}
