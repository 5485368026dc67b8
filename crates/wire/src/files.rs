//! Protocol of the program that reads and writes files in a container for the runner: encodes
//! requests and parses replies, which are untrusted.
//!
//! Used by `crates/engine/src/files`, which transfers the bytes. A build can replace our program
//! with its own, so no length, path or order of messages is trusted.

use crate::abi::files::{
    self as abi, FACTS_LEN, HEAD_LEN, MAX_DATA, MAX_PATH, REGULAR, SYMLINK, end, reply, request,
    stage,
};
use crate::abi::{u32_at, u64_at};

pub use abi::{FileFacts, is_path, make, root, select};

/// Maximum body length of a reply without data.
const MAX_BODY: usize = FACTS_LEN + 2 * MAX_PATH;
/// Buffer size, enough for several writes of the program.
const ROOM: usize = 4 * MAX_DATA;

/// A path and its file type, attributes and target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathEntry<'a> {
    /// Result of lstat.
    pub facts: FileFacts,
    /// Path relative to the root: without empty, `.` or `..` parts and without NUL.
    pub path: &'a [u8],
    /// Target of a symbolic link; empty for other files.
    pub target: &'a [u8],
}

/// An operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed<'a> {
    /// The operation, one of [`abi::stage`].
    pub stage: u32,
    /// Error number.
    pub errno: i32,
    /// Path relative to the root; empty for the root itself.
    pub path: &'a [u8],
}

/// How the content of a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentEnd {
    /// It is complete.
    Whole,
    /// The file was written to or truncated while it was read.
    Changed,
    /// It could not be read to the end; zeros replace the rest.
    Unreadable(i32),
}

/// A reply of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The root is open.
    Root(FileFacts),
    /// A path and its attributes. The content of a regular file follows if it was requested.
    Entry(PathEntry<'a>),
    /// A part of the file's content.
    Data(&'a [u8]),
    /// This many zeros in the file's content.
    Hole(u64),
    /// The file has ended. Data and holes add up to its size.
    End(ContentEnd),
    /// An operation failed.
    Failed(Failed<'a>),
    /// All earlier requests are done.
    Sync,
}

/// A violation of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// The kind of reply does not exist.
    #[error("an answer of unknown kind {0}")]
    UnknownKind(u32),
    /// The body is too long for its kind.
    #[error("an answer of {0} bytes")]
    TooLong(usize),
    /// The body is malformed.
    #[error("a malformed answer")]
    Malformed,
    /// The path could lead outside of the root.
    #[error("a path that leads out of its root")]
    Path,
    /// Content without a file, or of another length than announced.
    #[error("content that fits no file")]
    Content,
}

/// Splits a stream into replies. Read into [`Self::space`], report the length to [`Self::filled`],
/// then call [`Self::next_reply`] until it needs more.
#[derive(Debug)]
pub struct Replies {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the current data that have not been returned yet.
    data: usize,
    file: Option<Content>,
}

/// The regular file whose content may follow.
#[derive(Clone, Copy, Debug)]
struct Content {
    left: u64,
    has_begun: bool,
}

impl Default for Replies {
    fn default() -> Self {
        Replies { buffer: vec![0; ROOM], start: 0, end: 0, data: 0, file: None }
    }
}

impl Replies {
    /// Space for the next bytes of the stream; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < MAX_BODY + HEAD_LEN {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// Records that `count` bytes were read into [`Self::space`].
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// Whether the stream may end here, because no message is incomplete.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let is_open = self.file.is_some_and(|file| file.has_begun);
        self.start == self.end && self.data == 0 && !is_open
    }

    /// Whether [`Self::next_reply`] can return a reply or an error without another read.
    #[must_use]
    pub fn has_next(&self) -> bool {
        let waiting = self.end - self.start;
        if self.data > 0 {
            return waiting > 0;
        }
        let bytes = &self.buffer[self.start..self.end];
        match (u32_at(bytes, 0), u32_at(bytes, 4)) {
            (Some(length), Some(reply::DATA)) => {
                waiting > HEAD_LEN || length == 0 || length as usize > MAX_DATA
            }
            (Some(length), Some(_)) => {
                length as usize > MAX_BODY || waiting >= HEAD_LEN + length as usize
            }
            _ => false,
        }
    }

    /// Returns the next reply, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// A violation of the protocol. The rest of the stream is meaningless.
    pub fn next_reply(&mut self) -> Result<Option<Reply<'_>>, FilesError> {
        if self.data == 0 {
            let waiting = &self.buffer[self.start..self.end];
            let (Some(length), Some(kind)) = (u32_at(waiting, 0), u32_at(waiting, 4)) else {
                return Ok(None);
            };
            let length = length as usize;
            if kind != reply::DATA {
                return self.message(kind, length);
            }
            if length > MAX_DATA || length == 0 {
                return Err(FilesError::TooLong(length));
            }
            self.take(length as u64)?;
            self.start += HEAD_LEN;
            self.data = length;
        }
        // Data is returned as it arrives, not only when it is complete.
        let count = self.data.min(self.end - self.start);
        if count == 0 {
            return Ok(None);
        }
        self.data -= count;
        self.start += count;
        Ok(Some(Reply::Data(&self.buffer[self.start - count..self.start])))
    }

    fn message(&mut self, kind: u32, length: usize) -> Result<Option<Reply<'_>>, FilesError> {
        if length > MAX_BODY {
            return Err(FilesError::TooLong(length));
        }
        let start = self.start + HEAD_LEN;
        if self.end < start + length {
            return Ok(None);
        }
        self.start = start + length;
        if kind == reply::HOLE {
            let length = u64_at(&self.buffer[start..self.start], 0).unwrap_or(0);
            self.take(length)?;
            return Ok(Some(Reply::Hole(length)));
        }
        let is_open = self.file.is_some_and(|file| file.has_begun);
        if is_open && kind != reply::END {
            return Err(FilesError::Content);
        }
        let file = self.file.take();
        let body = &self.buffer[start..self.start];
        let reply = match kind {
            reply::ROOT => Reply::Root(FileFacts::from_body(body).ok_or(FilesError::Malformed)?),
            reply::ENTRY => {
                let entry = entry(body)?;
                if entry.facts.kind() == REGULAR {
                    self.file = Some(Content { left: entry.facts.size, has_begun: false });
                }
                Reply::Entry(entry)
            }
            reply::END => {
                if file.is_none_or(|file| file.left > 0) {
                    return Err(FilesError::Content);
                }
                Reply::End(end(body)?)
            }
            reply::FAILED => Reply::Failed(failed(body)?),
            reply::SYNC => Reply::Sync,
            other => return Err(FilesError::UnknownKind(other)),
        };
        Ok(Some(reply))
    }

    /// Accounts for content of this length.
    fn take(&mut self, length: u64) -> Result<(), FilesError> {
        let file = self.file.as_mut().ok_or(FilesError::Content)?;
        file.has_begun = true;
        file.left = file.left.checked_sub(length).ok_or(FilesError::Content)?;
        Ok(())
    }
}

fn entry(body: &[u8]) -> Result<PathEntry<'_>, FilesError> {
    let facts = FileFacts::from_body(body).ok_or(FilesError::Malformed)?;
    let rest = &body[FACTS_LEN..];
    let (path, target) =
        rest.split_at_checked(facts.path_len as usize).ok_or(FilesError::Malformed)?;
    if !is_path(path) {
        return Err(FilesError::Path);
    }
    let is_target = !target.is_empty() && !target.contains(&0) && target.len() <= MAX_PATH;
    if (facts.kind() == SYMLINK) != is_target
        || (facts.kind() != SYMLINK && !target.is_empty())
        || facts.modified_ns > 999_999_999
        || i64::try_from(facts.size).is_err()
    {
        return Err(FilesError::Malformed);
    }
    Ok(PathEntry { facts, path, target })
}

fn end(body: &[u8]) -> Result<ContentEnd, FilesError> {
    let errno = u32_at(body, 4).ok_or(FilesError::Malformed)?;
    match u32_at(body, 0) {
        Some(end::WHOLE) => Ok(ContentEnd::Whole),
        Some(end::CHANGED) => Ok(ContentEnd::Changed),
        Some(end::UNREADABLE) => Ok(ContentEnd::Unreadable(sane(errno))),
        _ => Err(FilesError::Malformed),
    }
}

fn failed(body: &[u8]) -> Result<Failed<'_>, FilesError> {
    let stage = u32_at(body, 0).ok_or(FilesError::Malformed)?;
    let errno = u32_at(body, 4).ok_or(FilesError::Malformed)?;
    let path = &body[8..];
    if !path.is_empty() && !is_path(path) {
        return Err(FilesError::Path);
    }
    Ok(Failed { stage, errno: sane(errno), path })
}

/// Makes sure that a number is a valid errno.
fn sane(errno: u32) -> i32 {
    i32::try_from(errno).ok().filter(|errno| (1..4096).contains(errno)).unwrap_or(5)
}

/// The failed operation, in words that follow "cannot".
#[must_use]
pub fn stage_name(stage: u32) -> &'static str {
    match stage {
        stage::ROOT => "open the directory",
        stage::FIND => "find it",
        stage::LIST => "list it",
        stage::OPEN => "open it",
        stage::MAKE => "make it",
        stage::WRITE => "write it",
        stage::SET => "set its owner, mode or time",
        stage::REMOVE => "remove it",
        _ => "make sense of it",
    }
}

/// A file to create, apart from its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Bits of [`make`].
    pub flags: u32,
    /// Type, mode, owner and time; for a regular file also its size.
    pub facts: FileFacts,
}

/// Appends a request with a number and a path: `ROOT` or `SELECT`.
fn with_path(into: &mut Vec<u8>, kind: u32, flags: u32, path: &[u8]) {
    head(into, kind, 4 + path.len());
    into.extend_from_slice(&flags.to_le_bytes());
    into.extend_from_slice(path);
}

/// Appends `ROOT`. The path is absolute, or relative to the program's working directory.
pub fn root_request(into: &mut Vec<u8>, flags: u32, path: &[u8]) {
    with_path(into, request::ROOT, flags, path);
}

/// Appends `SELECT`. An empty path selects everything in the root.
pub fn select_request(into: &mut Vec<u8>, flags: u32, path: &[u8]) {
    with_path(into, request::SELECT, flags, path);
}

/// Appends `MAKE`. A symbolic link has a target; the content of a regular file follows.
pub fn make_request(into: &mut Vec<u8>, node: &NewFile, path: &[u8], target: &[u8]) {
    node_request(into, request::MAKE, node, path, target);
}

/// Appends `LINK`: a hard link to the regular file `target`.
pub fn link_request(into: &mut Vec<u8>, path: &[u8], target: &[u8]) {
    let node = NewFile { flags: 0, facts: FileFacts::default() };
    node_request(into, request::LINK, &node, path, target);
}

/// Appends `SET`. An empty path is the root itself.
pub fn set_request(into: &mut Vec<u8>, node: &NewFile, path: &[u8]) {
    node_request(into, request::SET, node, path, b"");
}

/// Appends `REMOVE`.
pub fn remove_request(into: &mut Vec<u8>, path: &[u8]) {
    head(into, request::REMOVE, path.len());
    into.extend_from_slice(path);
}

fn node_request(into: &mut Vec<u8>, kind: u32, node: &NewFile, path: &[u8], target: &[u8]) {
    let path_len = u32::try_from(path.len()).unwrap_or(u32::MAX);
    head(into, kind, 4 + FACTS_LEN + path.len() + target.len());
    into.extend_from_slice(&node.flags.to_le_bytes());
    into.extend_from_slice(&FileFacts { path_len, ..node.facts }.to_bytes());
    into.extend_from_slice(path);
    into.extend_from_slice(target);
}

/// Appends content, in as many requests as needed.
pub fn data_request(into: &mut Vec<u8>, bytes: &[u8]) {
    for piece in bytes.chunks(MAX_DATA) {
        head(into, request::DATA, piece.len());
        into.extend_from_slice(piece);
    }
}

/// Appends zeros.
pub fn hole_request(into: &mut Vec<u8>, length: u64) {
    head(into, request::HOLE, 8);
    into.extend_from_slice(&length.to_le_bytes());
}

/// Appends the end of a file.
pub fn end_request(into: &mut Vec<u8>) {
    head(into, request::END, 0);
}

/// Appends a message that the file will stay incomplete.
pub fn abandon_request(into: &mut Vec<u8>) {
    head(into, request::ABANDON, 0);
}

/// Appends `SYNC`.
pub fn sync_request(into: &mut Vec<u8>) {
    head(into, request::SYNC, 0);
}

fn head(into: &mut Vec<u8>, kind: u32, length: usize) {
    into.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    into.extend_from_slice(&kind.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::files::DIRECTORY;

    fn message(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        head(&mut bytes, kind, body.len());
        bytes.extend_from_slice(body);
        bytes
    }

    fn entry_message(mode: u32, size: u64, path: &[u8], target: &[u8]) -> Vec<u8> {
        let path_len = u32::try_from(path.len()).expect("short");
        let facts = FileFacts { mode, size, path_len, ..FileFacts::default() };
        message(reply::ENTRY, &[&facts.to_bytes(), path, target].concat())
    }

    fn feed(replies: &mut Replies, bytes: &[u8]) {
        let space = replies.space();
        space[..bytes.len()].copy_from_slice(bytes);
        replies.filled(bytes.len());
    }

    /// Reads a stream in pieces of this length, and joins data.
    fn read(stream: &[u8], piece: usize) -> Result<Vec<String>, FilesError> {
        let mut replies = Replies::default();
        let mut told = Vec::new();
        let mut data = Vec::new();
        for bytes in stream.chunks(piece) {
            feed(&mut replies, bytes);
            while replies.has_next() {
                let Some(reply) = replies.next_reply()? else { panic!("there is one") };
                match reply {
                    Reply::Data(bytes) => data.extend_from_slice(bytes),
                    Reply::End(how) => {
                        told.push(format!("{} bytes, {how:?}", data.len()));
                        data.clear();
                    }
                    Reply::Entry(entry) => {
                        told.push(String::from_utf8_lossy(entry.path).into_owned());
                    }
                    other => told.push(format!("{other:?}")),
                }
            }
        }
        Ok(told)
    }

    #[test]
    fn a_stream_says_the_same_however_it_is_cut() {
        let stream = [
            message(reply::ROOT, &FileFacts::default().to_bytes()),
            entry_message(DIRECTORY | 0o755, 4096, b"a", b""),
            entry_message(REGULAR | 0o644, 1000, b"a/b", b""),
            message(reply::DATA, &[1; 600]),
            message(reply::HOLE, &300_u64.to_le_bytes()),
            message(reply::DATA, &[1; 100]),
            message(reply::END, &[0; 8]),
            entry_message(SYMLINK | 0o777, 3, b"l", b"a/b"),
            entry_message(REGULAR, 0, b"empty", b""),
            message(reply::END, &[1, 0, 0, 0, 0, 0, 0, 0]),
            message(reply::SYNC, b""),
        ]
        .concat();
        let whole = read(&stream, stream.len()).expect("sound");
        assert_eq!(whole[1..4], ["a", "a/b", "Hole(300)"]);
        assert_eq!(whole[4..], ["700 bytes, Whole", "l", "empty", "0 bytes, Changed", "Sync"]);
        for piece in [1, 7, 64, 333] {
            assert_eq!(read(&stream, piece).as_ref(), Ok(&whole), "pieces of {piece}");
        }
    }

    #[test]
    fn a_hostile_program_is_not_believed() {
        let file = entry_message(REGULAR, 10, b"f", b"");
        let end = message(reply::END, &[0; 8]);
        for (stream, wanted) in [
            (message(99, b""), FilesError::UnknownKind(99)),
            (message(reply::ENTRY, &[0; 9]), FilesError::Malformed),
            (entry_message(REGULAR, 1, b"../x", b""), FilesError::Path),
            (entry_message(REGULAR, 1, b"/etc/x", b""), FilesError::Path),
            (entry_message(REGULAR, 1, b"a\0b", b""), FilesError::Path),
            (entry_message(REGULAR, u64::MAX, b"a", b""), FilesError::Malformed),
            (entry_message(SYMLINK, 1, b"a", b""), FilesError::Malformed),
            (entry_message(REGULAR, 1, b"a", b"x"), FilesError::Malformed),
            (message(reply::FAILED, b"12345678../x"), FilesError::Path),
            (message(reply::DATA, b"x"), FilesError::Content),
            (end.clone(), FilesError::Content),
            ([file.clone(), message(reply::DATA, b"12345678901")].concat(), FilesError::Content),
            (
                [file.clone(), message(reply::HOLE, &u64::MAX.to_le_bytes())].concat(),
                FilesError::Content,
            ),
            ([file.clone(), end].concat(), FilesError::Content),
            (
                [file, message(reply::DATA, b"1"), message(reply::SYNC, b"")].concat(),
                FilesError::Content,
            ),
        ] {
            assert_eq!(read(&stream, stream.len()), Err(wanted), "{stream:?}");
        }
        let mut huge = u32::MAX.to_le_bytes().to_vec();
        huge.extend_from_slice(&reply::ENTRY.to_le_bytes());
        assert_eq!(read(&huge, 8), Err(FilesError::TooLong(u32::MAX as usize)));
    }

    #[test]
    fn the_longest_answers_fit_where_they_are_put() {
        let mut replies = Replies::default();
        let long = entry_message(SYMLINK, 1, &[b'p'; MAX_PATH], &[b't'; MAX_PATH]);
        let stream: Vec<u8> = (0..200).flat_map(|_| long.clone()).collect();
        let (mut rest, mut count) = (stream.as_slice(), 0);
        while !rest.is_empty() {
            let now = replies.space().len().min(rest.len()).min(7919);
            feed(&mut replies, &rest[..now]);
            rest = &rest[now..];
            while replies.next_reply().expect("sound").is_some() {
                count += 1;
            }
        }
        assert!(replies.is_at_rest());
        assert_eq!(count, 200);
    }
}
