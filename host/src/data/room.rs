//! Whether the disk has room for what nobody would miss.
//!
//! Request log and backups share a disk with usage, keys and the audit log: a full one would stop all of these, so the first two
//! stop before.

use std::path::PathBuf;

/// Bytes that are left to the others, or a twentieth of a disk that is small.
const LEFT: u64 = 256 << 20;
const PART_OF_A_SMALL_ONE: u64 = 20;

/// The disk of a directory.
#[derive(Debug, Clone)]
pub struct Room(PathBuf);

impl Room {
    /// That of this directory.
    pub fn of(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Whether there is room; also where nobody knows.
    pub fn is_there(&self) -> bool {
        self.is_there_beside(0)
    }

    /// Whether there is room beside so many bytes more.
    pub fn is_there_beside(&self, more: u64) -> bool {
        rustix::fs::statvfs(self.0.as_path()).map_or(true, |disk| {
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            bytes(disk.f_bavail).checked_sub(more).is_some_and(|left| is_enough(left, bytes(disk.f_blocks)))
        })
    }
}

fn is_enough(free: u64, whole: u64) -> bool {
    free >= LEFT.min(whole / PART_OF_A_SMALL_ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_disk_is_for_others() {
        assert!(is_enough(256 << 20, 1 << 40) && !is_enough((256 << 20) - 1, 1 << 40));
        // A small one, and one that does not say how large it is.
        assert!(is_enough(5 << 20, 100 << 20) && !is_enough((5 << 20) - 1, 100 << 20));
        assert!(is_enough(0, 0));
        assert!(Room::of("/nowhere".into()).is_there());
    }
}
