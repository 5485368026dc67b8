//! A path below a directory, built name by name.
//!
//! Used by `hash_files` and `files`. It ends in NUL, so that any suffix can be passed to the
//! kernel.

/// Longest path that the kernel accepts, including its NUL.
pub(crate) const PATH_MAX: usize = 4096;

/// A relative path, ended by NUL.
pub(crate) struct Path {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl Path {
    pub(crate) const fn new() -> Self {
        Path { bytes: [0; PATH_MAX], length: 0 }
    }

    /// Appends a name. Returns whether there was room.
    pub(crate) fn push(&mut self, name: &[u8]) -> bool {
        let slash = usize::from(self.length > 0);
        let end = self.length + slash + name.len();
        if end >= PATH_MAX {
            return false;
        }
        self.bytes[self.length] = b'/';
        self.bytes[self.length + slash..end].copy_from_slice(name);
        self.bytes[end] = 0;
        self.length = end;
        true
    }

    /// Replaces the path. Returns whether there was room.
    pub(crate) fn set(&mut self, path: &[u8]) -> bool {
        self.truncate(0);
        path.is_empty() || self.push(path)
    }

    /// The current length, for [`Self::truncate`].
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Cuts the path back to an earlier length.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = length.min(self.length);
        self.bytes[self.length] = 0;
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The whole path with its NUL.
    pub(crate) fn c_string(&self) -> &[u8] {
        &self.bytes[..=self.length]
    }

    /// The last name, with its NUL.
    pub(crate) fn last(&self) -> &[u8] {
        let start = self.text().iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        &self.bytes[start..=self.length]
    }

    /// The part before the last name; empty if there is only one.
    pub(crate) fn parent(&self) -> &[u8] {
        let end = self.text().iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        &self.bytes[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_and_go() {
        let mut path = Path::new();
        assert!(path.set(b"a/b"));
        assert_eq!((path.last(), path.parent()), (&b"b\0"[..], &b"a"[..]));
        let before = path.len();
        assert!(path.push(b"c"));
        assert_eq!(path.c_string(), b"a/b/c\0");
        path.truncate(before);
        assert_eq!(path.c_string(), b"a/b\0");
        assert!(!path.push(&[b'x'; PATH_MAX - 4]));
        assert!(path.push(&[b'x'; PATH_MAX - 5]));
        assert!(path.set(b""));
        assert_eq!((path.last(), path.parent()), (&b"\0"[..], &b""[..]));
    }
}
