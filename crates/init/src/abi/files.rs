//! Requests to the program that reads and writes files for the runner, and its replies.
//!
//! It runs in the container as `runner-files`, with requests on its standard input and replies on
//! its standard output. Each message is a head ([`HEAD_LEN`] bytes: body length `u32`, kind `u32`)
//! and a body. The runner need not wait for replies between requests; replies come in the order of
//! the requests, and all pending ones are sent before the program waits for more input. Paths are
//! bytes without a NUL, relative to the last root, without empty, `.` or `..` parts.

use super::{u32_at, u64_at};

/// Length of a message's head, in bytes.
pub const HEAD_LEN: usize = 8;
/// Longest body of a `DATA`, in bytes; every other body is shorter.
pub const MAX_DATA: usize = 128 << 10;
/// Longest path, and longest target of a link, in bytes.
pub const MAX_PATH: usize = 4095;

/// Runner to program.
pub mod request {
    /// Set the directory to which later paths are relative. Body: flags `u32` (see
    /// [`super::root`]), absolute path; links in it are followed. Reply: `ROOT`, or `FAILED` with
    /// an empty path; then all requests up to the next root are ignored.
    pub const ROOT: u32 = 1;
    /// Report a path. Body: flags `u32` (see [`super::select`]), path; an empty one stands for
    /// everything in the root. Replies: `ENTRY`, `DATA`, `HOLE`, `END`, `FAILED`.
    pub const SELECT: u32 = 2;
    /// Report when all earlier requests are done. No body. Reply: `SYNC`.
    pub const SYNC: u32 = 3;
    /// Make a directory, a regular file or a symbolic link. Body: flags `u32` (see
    /// [`super::make`]), [`super::FileFacts`], path, and for a link its target. For a regular file,
    /// `DATA` and `HOLE` up to its size and `END` follow. Reply: none, or one `FAILED`.
    pub const MAKE: u32 = 4;
    /// Make another name for a regular file. Body: [`super::FileFacts`] (only the lengths count),
    /// new path, path of the file.
    pub const LINK: u32 = 5;
    /// Set the mode, owner and time of a directory once it is complete. Body as for `MAKE`.
    pub const SET: u32 = 6;
    /// Bytes of the file.
    pub const DATA: u32 = 7;
    /// A hole: zeros in the file. Body: their number, `u64`.
    pub const HOLE: u32 = 8;
    /// The file is complete. No body.
    pub const END: u32 = 9;
    /// Give the file up; whatever was there before stays. No body.
    pub const ABANDON: u32 = 10;
    /// Remove a file's or link's name, or an empty directory. Body: path. Reply: none, or one
    /// `FAILED`.
    pub const REMOVE: u32 = 11;
}

/// Program to runner.
pub mod reply {
    /// The root is open. Body: [`super::FileFacts`].
    pub const ROOT: u32 = 1;
    /// A path and its facts. Body: [`super::FileFacts`], path, target of a symbolic link. If the
    /// content of a regular file was requested, `DATA` and `HOLE` follow, together exactly as long
    /// as its size, and then `END`.
    pub const ENTRY: u32 = 2;
    /// Bytes of the file.
    pub const DATA: u32 = 3;
    /// A hole: zeros in the file. Body: their number, `u64`.
    pub const HOLE: u32 = 4;
    /// The end of the file. Body: one of [`super::end`] `u32`, errno `u32`.
    pub const END: u32 = 5;
    /// An operation failed. Body: one of [`super::stage`] `u32`, errno `u32`, path.
    pub const FAILED: u32 = 6;
    /// All requests before the `SYNC` are done.
    pub const SYNC: u32 = 7;
}

/// Flags of `ROOT`.
pub mod root {
    /// Create the directory and missing parents.
    pub const CREATE: u32 = 1;
}

/// Flags of `SELECT`.
pub mod select {
    /// Directories with all their contents.
    pub const RECURSIVE: u32 = 1;
    /// Regular files with their content.
    pub const CONTENT: u32 = 2;
    /// Follow symbolic links to their targets, anywhere in the container. A dangling link is
    /// reported itself.
    pub const FOLLOW: u32 = 4;
}

/// Flags of `MAKE` and `SET`.
pub mod make {
    /// Set the owner; otherwise new files belong to the program's user.
    pub const OWNER: u32 = 1;
    /// Set the time of last change.
    pub const TIMES: u32 = 2;
}

/// How the content of a file ended.
pub mod end {
    /// Complete.
    pub const WHOLE: u32 = 0;
    /// The file was written or truncated while being read: it may never have had the content sent.
    pub const CHANGED: u32 = 1;
    /// The file could not be read to its end; zeros replace the rest.
    pub const UNREADABLE: u32 = 2;
}

/// The operation that failed.
pub mod stage {
    /// The request is malformed.
    pub const REQUEST: u32 = 1;
    /// The root directory could not be opened or made.
    pub const ROOT: u32 = 2;
    /// The path, or a directory on the way, does not exist or may not be entered.
    pub const FIND: u32 = 3;
    /// The directory could not be listed.
    pub const LIST: u32 = 4;
    /// The file could not be opened for reading.
    pub const OPEN: u32 = 5;
    /// A directory, file or link could not be made.
    pub const MAKE: u32 = 6;
    /// The data could not be written.
    pub const WRITE: u32 = 7;
    /// Owner, mode or time could not be set.
    pub const SET: u32 = 8;
    /// The name could not be removed.
    pub const REMOVE: u32 = 9;
}

/// Bits of [`FileFacts::mode`] that hold the kind of file.
pub const KIND_MASK: u32 = 0o170_000;
/// A regular file.
pub const REGULAR: u32 = 0o100_000;
/// A directory.
pub const DIRECTORY: u32 = 0o040_000;
/// A symbolic link.
pub const SYMLINK: u32 = 0o120_000;

/// Length of [`FileFacts`] on the wire.
pub const FACTS_LEN: usize = 60;

/// The facts from lstat, and the length of the path after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileFacts {
    /// Kind and permissions, as in `st_mode`.
    pub mode: u32,
    /// Owner, as an id of the container.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names (hard links).
    pub names: u32,
    /// Length in bytes.
    pub size: u64,
    /// Device number of the file system.
    pub device: u64,
    /// Inode number; two names of one file have the same.
    pub inode: u64,
    /// Time of the last content change, in seconds since 1970.
    pub modified: i64,
    /// Its nanoseconds.
    pub modified_ns: u32,
    /// Units of 512 bytes on disk; fewer than the length needs if the file has holes.
    pub blocks: u32,
    /// Length of the path that follows.
    pub path_len: u32,
}

impl FileFacts {
    /// The facts as sent.
    #[must_use]
    pub fn to_bytes(self) -> [u8; FACTS_LEN] {
        let mut bytes = [0; FACTS_LEN];
        bytes[0..4].copy_from_slice(&self.mode.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.uid.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.gid.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.names.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.size.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.device.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.inode.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.modified.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.modified_ns.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.blocks.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.path_len.to_le_bytes());
        bytes
    }

    /// Reads the facts; `None` if the body is too short.
    #[must_use]
    pub fn from_body(body: &[u8]) -> Option<Self> {
        Some(FileFacts {
            mode: u32_at(body, 0)?,
            uid: u32_at(body, 4)?,
            gid: u32_at(body, 8)?,
            names: u32_at(body, 12)?,
            size: u64_at(body, 16)?,
            device: u64_at(body, 24)?,
            inode: u64_at(body, 32)?,
            modified: u64_at(body, 40)?.cast_signed(),
            modified_ns: u32_at(body, 48)?,
            blocks: u32_at(body, 52)?,
            path_len: u32_at(body, 56)?,
        })
    }

    /// The bits that hold the kind of file.
    #[must_use]
    pub fn kind(&self) -> u32 {
        self.mode & KIND_MASK
    }
}

/// Whether bytes can be a path below a root: no empty, `.` or `..` part, no NUL, not too long.
#[must_use]
pub fn is_path(path: &[u8]) -> bool {
    path.len() <= MAX_PATH
        && path
            .split(|&byte| byte == b'/')
            .all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_survive_the_way_there_and_back() {
        let facts = FileFacts {
            mode: REGULAR | 0o644,
            uid: 1,
            gid: 2,
            names: 3,
            size: u64::MAX - 4,
            device: 5 << 40,
            inode: 6,
            modified: -7,
            modified_ns: 8,
            blocks: 9,
            path_len: 10,
        };
        assert_eq!(FileFacts::from_body(&facts.to_bytes()), Some(facts));
        assert_eq!(FileFacts::from_body(&facts.to_bytes()[..FACTS_LEN - 1]), None);
    }

    #[test]
    fn paths_lead_downwards() {
        for good in [&b"a"[..], b"a/b", b"...", b"a b/\xff"] {
            assert!(is_path(good), "{good:?}");
        }
        for bad in [&b""[..], b"/a", b"a/", b"a//b", b".", b"..", b"a/../b", b"a/.", b"a\0b"] {
            assert!(!is_path(bad), "{bad:?}");
        }
        assert!(!is_path(&[b'a'; MAX_PATH + 1]));
    }
}
