//! What is in a backup, part by part, each in its place and once; and whether all of it is there.
//!
//! Believes nothing: not lengths, not names, not that rows are in order.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::frame::{Kind, PIECE, Reader};
use super::spool::taken;
use super::{Head, Moment, RestoreError, Signet, Summary, Unsound};
use crate::clock::Millis;
use crate::{data, journal, requests};

/// A part of a backup.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// The format of the data: always first.
    Format(u32),
    /// A tree begins.
    Tree(&'a [u8]),
    /// A row of a tree, or that it is gone.
    Row { tree: &'a [u8], key: &'a [u8], value: Option<&'a [u8]> },
    /// Records of a worker's journal.
    Records { lane: u32, records: &'a [u8] },
    /// The next piece of a file, whose name is `plugins/…` or `requests/…`.
    Piece { name: &'a str, bytes: &'a [u8] },
}

/// Reads a whole backup without writing anything. With a `signet`, one that was not signed under it is refused.
///
/// # Errors
/// When it is not whole.
pub fn verify(path: &Path, signet: Option<&Signet>) -> Result<Summary, RestoreError> {
    each_of(path, signet, |_| Ok(()))
}

/// As [`verify`], and calls back with each part.
pub(super) fn each_of(
    path: &Path,
    signet: Option<&Signet>,
    see: impl FnMut(Part<'_>) -> Result<(), RestoreError>,
) -> Result<Summary, RestoreError> {
    let unsound = |reason| RestoreError::Unsound { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| unsound(Unsound::Unreadable(error)))?;
    read(BufReader::with_capacity(PIECE, file), signet, see).map_err(|error| match error {
        Halt::Unsound(reason) => unsound(reason),
        Halt::Seen(error) => error,
    })
}

/// Why reading ended early.
#[derive(Debug)]
pub(super) enum Halt<E> {
    Unsound(Unsound),
    /// Whoever is called back said so.
    Seen(E),
}

impl<E> From<Unsound> for Halt<E> {
    fn from(reason: Unsound) -> Self {
        Self::Unsound(reason)
    }
}

/// Where in a backup one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Rows,
    Changes,
    Journal,
    Files,
}

/// What was seen of it so far.
struct Seen {
    place: Place,
    tree: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    file: Option<String>,
    summary: Summary,
}

pub(super) fn read<E>(
    from: impl Read,
    signet: Option<&Signet>,
    mut see: impl FnMut(Part<'_>) -> Result<(), E>,
) -> Result<Summary, Halt<E>> {
    let mut reader = Reader::begin(from)?;
    let at = reader.at();
    let head: Head = match reader.next()? {
        Kind::Head => parsed(reader.content()).ok_or(Unsound::Damaged { at })?,
        _ => return Err(Unsound::Order { at }.into()),
    };
    if head.data_format > data::FORMAT {
        return Err(Unsound::Newer { found: head.data_format }.into());
    }
    see(Part::Format(head.data_format)).map_err(Halt::Seen)?;
    let mut seen = Seen::of(head);
    loop {
        let at = reader.at();
        let kind = reader.next()?;
        if kind == Kind::End {
            break;
        }
        seen.part(kind, reader.content(), at, &mut see)?;
    }
    let Seen { place, mut summary, .. } = seen;
    if place == Place::Rows {
        return Err(Unsound::Order { at }.into());
    }
    summary.bytes = reader.at();
    let end = reader.end()?;
    summary.digest = end.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    summary.signed = signet.map(|signet| signet.signed(&end.digest, &end.tag));
    if summary.signed == Some(false) {
        return Err(Unsound::Signature.into());
    }
    Ok(summary)
}

impl Seen {
    fn of(head: Head) -> Self {
        let Head { data_format, gateway } = head;
        let (at, digest) = (Millis(0), String::new());
        let summary = Summary {
            at,
            gateway,
            data_format,
            bytes: 0,
            rows: 0,
            changes: 0,
            records: 0,
            components: 0,
            segments: 0,
            digest,
            signed: None,
        };
        Self { place: Place::Rows, tree: None, key: None, file: None, summary }
    }

    fn part<E>(
        &mut self,
        kind: Kind,
        content: &[u8],
        at: u64,
        see: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), Halt<E>> {
        let (damaged, order) = (|| Unsound::Damaged { at }, || Unsound::Order { at });
        let mut see = |part: Part<'_>| see(part).map_err(Halt::Seen);
        match kind {
            Kind::Tree if self.place == Place::Rows => {
                if self.tree.as_deref().is_some_and(|before| before >= content) {
                    return Err(order().into());
                }
                (self.tree, self.key) = (Some(content.to_vec()), None);
                see(Part::Tree(content))
            }
            Kind::Rows if self.place == Place::Rows => {
                let tree = self.tree.as_deref().ok_or_else(order)?;
                let mut rest = content;
                while !rest.is_empty() {
                    let (key, value) = taken(&mut rest).zip(taken(&mut rest)).ok_or_else(damaged)?;
                    if self.key.as_deref().is_some_and(|before| before >= key) {
                        return Err(order().into());
                    }
                    let last = self.key.get_or_insert_default();
                    last.clear();
                    last.extend_from_slice(key);
                    self.summary.rows += 1;
                    see(Part::Row { tree, key, value: Some(value) })?;
                }
                Ok(())
            }
            Kind::Moment if self.place == Place::Rows => {
                let Moment { at } = parsed(content).ok_or_else(damaged)?;
                (self.place, self.summary.at) = (Place::Changes, at);
                Ok(())
            }
            Kind::Changes if self.place == Place::Changes => {
                let mut rest = content;
                while !rest.is_empty() {
                    let row = changed(&mut rest).ok_or_else(damaged)?;
                    self.summary.changes += 1;
                    see(row)?;
                }
                Ok(())
            }
            Kind::Journal if (Place::Changes..=Place::Journal).contains(&self.place) => {
                self.place = Place::Journal;
                let (lane, records) = content.split_first_chunk().ok_or_else(damaged)?;
                self.summary.records += journal::whole_records(records).ok_or_else(damaged)?;
                see(Part::Records { lane: u32::from_le_bytes(*lane), records })
            }
            Kind::File if self.place >= Place::Changes => {
                self.place = Place::Files;
                let name = std::str::from_utf8(content).ok().filter(|name| is_file(name)).ok_or_else(damaged)?;
                if self.file.as_deref().is_some_and(|before| before >= name) {
                    return Err(order().into());
                }
                self.file = Some(name.to_owned());
                match is_component(name) {
                    true => self.summary.components += 1,
                    false => self.summary.segments += 1,
                }
                see(Part::Piece { name, bytes: &[] })
            }
            Kind::Piece => {
                let name = self.file.as_deref().ok_or_else(order)?;
                see(Part::Piece { name, bytes: content })
            }
            _ => Err(order().into()),
        }
    }
}

/// The only files there are. So no name leads out of the directory.
fn is_file(name: &str) -> bool {
    is_component(name) || is_segment(name)
}

/// A segment of the request log.
pub(super) fn is_segment(name: &str) -> bool {
    name.strip_prefix(requests::DIRECTORY).and_then(|name| name.strip_prefix('/')).is_some_and(requests::is_segment)
}

/// A component that is kept, by its digest.
pub(super) fn is_component(name: &str) -> bool {
    let digest = name.strip_prefix("plugins/").and_then(|name| name.strip_suffix(".wasm"));
    digest.is_some_and(|digest| {
        digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The next row that changed.
fn changed<'a>(rest: &mut &'a [u8]) -> Option<Part<'a>> {
    let (tree, key) = taken(rest).zip(taken(rest))?;
    let (&is_there, after) = rest.split_first()?;
    *rest = after;
    let value = taken(rest)?;
    match is_there {
        0 => Some(Part::Row { tree, key, value: None }),
        1 => Some(Part::Row { tree, key, value: Some(value) }),
        _ => None,
    }
}

fn parsed<T: serde::de::DeserializeOwned>(content: &[u8]) -> Option<T> {
    serde_json::from_slice(content).ok()
}
