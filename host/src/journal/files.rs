//! The few operations on files that the journal is made of, and how they are done on a real disk.
//!
//! A segment is written through memory where that can never need space: the pages survive the process, and a record costs
//! no system call. Everywhere else the same bytes go by `pwrite`. Nothing else in the journal touches a file, so that
//! tests can stop it between any two operations, and lose any writes that were not yet synced.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use memmap2::MmapMut;

/// What is written again goes in pieces of this size.
const PIECE: usize = 256 << 10;

/// What the journal does with files and directories.
pub(super) trait Files: fmt::Debug + Send + Sync {
    /// Makes a directory and those above it, of mode 0700.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory that are text.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// A whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Makes an empty file of mode 0600; what was there before is emptied.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file that is there.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Moves a file, over another one if there is one.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes durable which files are in a directory.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Whether writing over what is in this file needs no more space than it has, or an error tells that it does.
    fn has_space(&self, path: &Path) -> io::Result<bool>;
    /// Whether files below are written through memory.
    fn maps(&self) -> bool;
}

/// An open file.
pub(super) trait File: fmt::Debug + Send + Sync {
    /// Writes all of these bytes.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Writes the bytes up to there once more, as they are.
    fn write_again(&self, upto: usize) -> io::Result<()>;
    /// Makes durable what was written until now, through [`Pages`] too.
    fn sync(&self) -> io::Result<()>;
    /// A way to write into it that costs little. Its bytes have to be there already.
    fn pages(self: Arc<Self>) -> io::Result<Box<dyn Pages>>;
}

/// One writer's way into a segment.
pub(super) trait Pages: Send {
    /// Writes all of these bytes; never beyond the end of the file.
    fn write(&mut self, bytes: &[u8], at: usize) -> io::Result<()>;
}

/// Files of the operating system.
#[derive(Debug)]
pub(super) struct Disk {
    maps: bool,
}

#[derive(Debug)]
struct OnDisk {
    file: fs::File,
    maps: bool,
}

struct Mapped(MmapMut);

struct Positioned(Arc<OnDisk>);

impl Disk {
    /// For files in this directory, which is there. Asks its file system whether they can be written through memory.
    pub(super) fn of(directory: &Path) -> io::Result<Self> {
        Ok(Self { maps: overwrites_in_place(directory)? })
    }

    /// As [`Self::of`], but never through memory.
    #[cfg(test)]
    pub(super) fn positioned() -> Self {
        Self { maps: false }
    }

    /// As [`Self::of`], but always through memory.
    #[cfg(test)]
    pub(super) fn mapped() -> Self {
        Self { maps: true }
    }
}

/// Whether overwriting what is there never needs space: else a write through memory can end the process (SIGBUS) on a full
/// disk. So it is on ext2, ext3, ext4 and tmpfs. Not on XFS, where a copy of the file may share its blocks (and `cp` makes
/// such copies), and not on file systems that write anew what is overwritten.
fn overwrites_in_place(directory: &Path) -> io::Result<bool> {
    const EXT: u32 = 0xef53;
    const TMPFS: u32 = 0x0102_1994;
    let kind = rustix::fs::statfs(directory)?.f_type;
    // Of another width on other machines; all of these fit.
    Ok(matches!(u32::try_from(kind), Ok(EXT | TMPFS)))
}

impl Files for Disk {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Arc::new(OnDisk { file, maps: self.maps }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(OnDisk { file, maps: self.maps }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn has_space(&self, path: &Path) -> io::Result<bool> {
        let metadata = fs::metadata(path)?;
        // Holes, as a copy of the file may have them, take space when they are written over. Blocks are of 512 bytes.
        Ok(!self.maps || metadata.blocks().saturating_mul(512) >= metadata.len())
    }

    fn maps(&self) -> bool {
        self.maps
    }
}

impl File for OnDisk {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn write_again(&self, upto: usize) -> io::Result<()> {
        let mut piece = vec![0; PIECE.min(upto)];
        let mut at = 0;
        while at < upto {
            let length = piece.len().min(upto - at);
            self.file.read_exact_at(&mut piece[..length], at as u64)?;
            self.file.write_all_at(&piece[..length], at as u64)?;
            at += length;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn pages(self: Arc<Self>) -> io::Result<Box<dyn Pages>> {
        if !self.maps {
            return Ok(Box::new(Positioned(self)));
        }
        // SAFETY: the bytes must not change under the mapping. The file is in a directory of mode 0700 that is locked by
        // this process; it is mapped once at a time, is not shortened while it is, and is read nowhere else meanwhile but
        // by `portico journal list` and by backups, which have the system read it through a descriptor of their own.
        #[allow(unsafe_code, reason = "a file mapping, as argued above")]
        let mapped = unsafe { MmapMut::map_mut(&self.file)? };
        Ok(Box::new(Mapped(mapped)))
    }
}

impl Pages for Mapped {
    fn write(&mut self, bytes: &[u8], at: usize) -> io::Result<()> {
        let place = at.checked_add(bytes.len()).and_then(|end| self.0.get_mut(at..end));
        place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(bytes);
        Ok(())
    }
}

impl Pages for Positioned {
    fn write(&mut self, bytes: &[u8], at: usize) -> io::Result<()> {
        self.0.file.write_all_at(bytes, at as u64)
    }
}
