//! The parts of a path: its name, its parent, a slash or a dot at its end.
//!
//! Used by `fetch` and `send`. Paths are bytes, since names need not be text.

/// A path in the container, absolute or relative to the working directory of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inside(Vec<u8>);

impl Inside {
    /// Drops slashes and a dot at the end, which [`PathEnding`] keeps.
    pub(super) fn new(path: &[u8]) -> Self {
        let mut path = path;
        loop {
            match path {
                [b'/'] | [b'.'] | [] => break,
                [rest @ .., b'/'] => path = rest,
                [rest @ .., b'/', b'.'] => path = if rest.is_empty() { b"/" } else { rest },
                _ => break,
            }
        }
        Inside(if path.is_empty() { b".".to_vec() } else { path.to_vec() })
    }

    pub(super) fn whole(&self) -> &[u8] {
        &self.0
    }

    /// The last name; `None` for `/`, `.` and paths that end in `..`.
    pub(super) fn name(&self) -> Option<&[u8]> {
        let name = self.0.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        (!matches!(name, b"" | b"." | b"..")).then_some(name)
    }

    /// The directory of the last name.
    pub(super) fn parent(&self) -> &[u8] {
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(0) => b"/",
            Some(at) => &self.0[..at],
            None => b".",
        }
    }

    /// A name in this directory.
    pub(super) fn join(&self, name: &[u8]) -> Self {
        Inside([self.0.as_slice(), if self.0.ends_with(b"/") { b"" } else { b"/" }, name].concat())
    }

    /// The target of a link at this path.
    pub(super) fn beside(&self, target: &[u8]) -> Self {
        if target.starts_with(b"/") {
            return Inside::new(target);
        }
        Inside::new(&Inside(self.parent().to_vec()).join(target).0)
    }
}

/// The meaning of a path's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathEnding {
    Plain,
    /// `DIR/`: a directory, or a link to one.
    Slash,
    /// `DIR/.`: the contents of the directory.
    Dot,
}

impl PathEnding {
    pub(super) fn of(path: &[u8]) -> Self {
        if path == b"." || path.ends_with(b"/.") {
            PathEnding::Dot
        } else if path.ends_with(b"/") {
            PathEnding::Slash
        } else {
            PathEnding::Plain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        for (text, whole, name, parent) in [
            ("/a/b", "/a/b", Some("b"), "/a"),
            ("/a/b//", "/a/b", Some("b"), "/a"),
            ("/a/.", "/a", Some("a"), "/"),
            ("a/./.", "a", Some("a"), "."),
            ("a", "a", Some("a"), "."),
            (".", ".", None, "."),
            ("./", ".", None, "."),
            ("/.", "/", None, "/"),
            ("//", "/", None, "/"),
            ("a/..", "a/..", None, "a"),
            ("..", "..", None, "."),
            ("...", "...", Some("..."), "."),
        ] {
            let path = Inside::new(text.as_bytes());
            assert_eq!(path.whole(), whole.as_bytes(), "{text}");
            assert_eq!(path.name(), name.map(str::as_bytes), "{text}");
            assert_eq!(path.parent(), parent.as_bytes(), "{text}");
        }
        assert_eq!(Inside::new(b"/a/l").beside(b"../x/").whole(), b"/a/../x");
        assert_eq!(Inside::new(b"/l").beside(b"x").whole(), b"/x");
        assert_eq!(Inside::new(b"l").beside(b"/x").whole(), b"/x");
        assert_eq!(PathEnding::of(b"a/."), PathEnding::Dot);
        assert_eq!(PathEnding::of(b"a./"), PathEnding::Slash);
        assert_eq!(PathEnding::of(b"a/.b."), PathEnding::Plain);
    }
}
