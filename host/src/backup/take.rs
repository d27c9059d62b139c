//! Takes a backup of a running gateway, and writes it wherever it is wanted.
//!
//! Reads only. Holds no writer up, save for the moment itself; and the journal keeps its segments until their records are copied.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{Kind, PIECE, Writer};
use super::parts::{is_component, is_segment};
use super::sled::{Rows, Watch};
use super::spool::{Spool, put};
use super::{Head, Moment, Signet, TakeError};
use crate::clock::Clock;
use crate::data::{self, DataDirectory, Database};
use crate::journal::Journal;
use crate::requests;

/// What backups are taken of.
pub struct Source {
    directory: PathBuf,
    database: Database,
    journal: Arc<Journal>,
    signet: Signet,
    clock: Clock,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl From<io::Error> for TakeError {
    /// Whatever fails without a name is where the backup goes to.
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl Source {
    /// This data directory, with the journal that is written in it; backups are signed.
    pub fn new(data: &DataDirectory, journal: Arc<Journal>, signet: Signet, clock: Clock) -> Self {
        Self { directory: data.path().to_owned(), database: data.database().clone(), journal, signet, clock }
    }

    /// Takes a backup, and writes it there. Waits: never called on an asynchronous thread.
    ///
    /// # Errors
    /// [`TakeError`]; what was written until then has no end, and is no backup.
    pub fn take(&self, into: impl Write) -> Result<(), TakeError> {
        let spool = Spool::new(&self.directory).map_err(|source| self.unspooled(source))?;
        self.take_with(into, spool)
    }

    pub(super) fn take_with(&self, into: impl Write, spool: Spool) -> Result<(), TakeError> {
        let mut frames = Writer::begin(into)?;
        let head = Head { data_format: data::FORMAT, gateway: env!("CARGO_PKG_VERSION").to_owned() };
        frames.frame(Kind::Head, &document(&head))?;
        let names = self.database.names();
        let watch = Watch::begin(&self.database, spool)?;
        for (name, rows) in watch.trees() {
            frames.frame(Kind::Tree, &name)?;
            self.rows(&watch, rows, &mut frames)?;
        }
        // From before the moment until they are copied.
        let held = self.journal.hold();
        let now = || (self.journal.reached(), self.clock.now());
        let ((reached, at), spool) = watch.moment(now)?;
        let mut spool = spool.map_err(|source| self.unspooled(source))?;
        let copied = self.journal.copy(&reached, |lane, records| spool.records(lane, records))?;
        copied.map_err(|source| self.unspooled(source))?;
        drop(held);
        if names != self.database.names() {
            return Err(TakeError::Restless);
        }
        // What has gone from the shelf while the rest goes out is still there, open.
        let components = self.components()?;
        frames.frame(Kind::Moment, &document(&Moment { at }))?;
        spool.each(|kind, content| frames.frame(kind, content).map_err(TakeError::from))?;
        components.into_iter().try_for_each(|component| self.file(component, &mut frames))?;
        self.requests(&mut frames)?;
        Ok(frames.end(&self.signet)?)
    }

    fn rows(&self, watch: &Watch, rows: Rows, frames: &mut Writer<impl Write>) -> Result<(), TakeError> {
        let mut piece = Vec::with_capacity(PIECE);
        for row in rows {
            let (key, value) = row?;
            put(&mut piece, &key);
            put(&mut piece, &value);
            if piece.len() >= PIECE {
                frames.frame(Kind::Rows, &piece)?;
                piece.clear();
                if watch.is_failing() {
                    // The moment says why, and is not waited for.
                    break;
                }
            }
        }
        if !piece.is_empty() {
            frames.frame(Kind::Rows, &piece)?;
        }
        Ok(())
    }

    /// The components that are kept, by name, and open.
    fn components(&self) -> Result<Vec<(String, File)>, TakeError> {
        let directory = self.directory.join("plugins");
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| TakeError::File { path, source }
        };
        let mut components = Vec::new();
        for entry in fs::read_dir(&directory).map_err(unreadable(&directory))? {
            let path = entry.map_err(unreadable(&directory))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).map(|name| format!("plugins/{name}"));
            let Some(name) = name.filter(|name| is_component(name)) else { continue };
            match File::open(&path) {
                Ok(file) => components.push((name, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(unreadable(&path)(source)),
            }
        }
        components.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(components)
    }

    /// The segments of the request log, as each is when it has its turn: they are of no one moment. One that went meanwhile is not in
    /// it; a row that is written just now may be there by half, which the log passes over.
    fn requests(&self, frames: &mut Writer<impl Write>) -> Result<(), TakeError> {
        // What cannot be opened holds no backup up: nothing but requests is lost by it, and it says so.
        let told = |path: &Path, error: io::Error| {
            tracing::warn!(path = %path.display(), "the request log is not in the backup as a whole: {error}");
        };
        let directory = self.directory.join(requests::DIRECTORY);
        let mut names = Vec::new();
        match fs::read_dir(&directory) {
            Ok(entries) => {
                for entry in entries.flatten() {
                    let name = entry.file_name().to_str().map(|name| format!("{}/{name}", requests::DIRECTORY));
                    let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
                    names.extend(name.filter(|name| is_file && is_segment(name)));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => told(&directory, error),
        }
        names.sort_unstable();
        for name in names {
            let path = self.directory.join(&name);
            match File::open(&path) {
                Ok(file) => self.file((name, file), frames)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => told(&path, error),
            }
        }
        Ok(())
    }

    fn file(&self, (name, mut file): (String, File), frames: &mut Writer<impl Write>) -> Result<(), TakeError> {
        frames.frame(Kind::File, name.as_bytes())?;
        let mut piece = Vec::with_capacity(PIECE);
        loop {
            piece.clear();
            let read = Read::by_ref(&mut file).take(PIECE as u64).read_to_end(&mut piece);
            read.map_err(|source| TakeError::File { path: self.directory.join(&name), source })?;
            if piece.is_empty() {
                return Ok(());
            }
            frames.frame(Kind::Piece, &piece)?;
        }
    }

    fn unspooled(&self, source: io::Error) -> TakeError {
        TakeError::Spool { path: self.directory.clone(), source }
    }
}

fn document(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers")
}
