//! Looks up paths in the layers below a written one.

use super::index::{EntryIdentity, LayerIndex, OverlayMark};
use runner_host::beneath::{Dir, join, split};
use runner_sandbox::{WritableDirectory, overlay_marks};
use std::collections::BTreeMap;

/// The layers below a directory that a container writes to. Lookups in the same directory share its
/// open files.
pub(super) struct Lower<'i> {
    index: &'i LayerIndex,
    upper: usize,
    tops: Vec<Dir>,
    marks: MarkNames,
    /// The directory of the last lookup, with its part in each layer.
    at: Option<(Vec<u8>, Vec<LowerPart>)>,
    /// The last translated directory: its visible path, and its path in the layers below.
    way: Option<(Vec<u8>, Option<Vec<u8>>)>,
}

/// One layer's part of a directory, with the layer's number from the top.
type LowerPart = (usize, Dir);

/// Names of the attributes that say where a directory continues in the layers below.
struct MarkNames {
    opaque: String,
    redirect: String,
}

impl<'i> Lower<'i> {
    /// `index` has the marks of the directories above. A layer that cannot be opened counts as
    /// empty.
    pub(super) fn of(index: &'i LayerIndex, upper: usize, written: &WritableDirectory) -> Self {
        let tops = written.lower.iter().filter_map(|path| Dir::top(path).ok()).collect();
        let mark = |name: &str| format!("{}{name}", overlay_marks());
        let marks = MarkNames { opaque: mark("opaque"), redirect: mark("redirect") };
        Lower { index, upper, tops, marks, at: None, way: None }
    }

    /// The entry under the name of a visible path in the layers below, whatever the mark at the
    /// path itself.
    pub(super) fn find_hidden(&mut self, path: &[u8]) -> Option<EntryIdentity> {
        let below = self.beside(path)?;
        self.stat(&below)
    }

    /// The contents of the lower layers' directory under the name of a visible path.
    pub(super) fn all_hidden(&mut self, path: &[u8]) -> BTreeMap<Vec<u8>, EntryIdentity> {
        let mut all = BTreeMap::new();
        let Some(below) = self.beside(path) else { return all };
        for (_, dir) in self.directory(&below) {
            for name in dir.names().unwrap_or_default() {
                if let Ok(stat) = dir.stat(&name) {
                    all.entry(name).or_insert(EntryIdentity::of(&stat));
                }
            }
        }
        all.retain(|_, facts| !facts.is_whiteout());
        all
    }

    /// Where the layers below have a visible path; `None` if the directory or one above hides them.
    fn path(&mut self, path: &[u8]) -> Option<Vec<u8>> {
        let beside = self.beside(path);
        match self.index.find(self.upper, path).map(|entry| &entry.mark) {
            Some(OverlayMark::Opaque) => None,
            Some(OverlayMark::Redirect(to)) => match to.strip_prefix(b"/") {
                Some(absolute) => Some(absolute.to_vec()),
                None => Some(join(split(&beside?).0, to)),
            },
            Some(OverlayMark::None) | None => beside,
        }
    }

    /// Where the path's name would be in its parent directory, as the layers below have that.
    fn beside(&mut self, path: &[u8]) -> Option<Vec<u8>> {
        let (above, name) = split(path);
        if above.is_empty() {
            return Some(name.to_vec());
        }
        if self.way.as_ref().is_none_or(|(known, _)| known != above) {
            let below = self.path(above);
            self.way = Some((above.to_vec(), below));
        }
        let (_, below) = self.way.as_ref()?;
        Some(join(below.as_ref()?, name))
    }

    fn stat(&mut self, below: &[u8]) -> Option<EntryIdentity> {
        let (above, name) = split(below);
        let found = self.directory(above).iter().find_map(|(_, dir)| dir.stat(name).ok());
        found.map(|stat| EntryIdentity::of(&stat)).filter(|facts| !facts.is_whiteout())
    }

    /// A directory's part in each layer where it is visible, topmost first.
    fn directory(&mut self, below: &[u8]) -> &[LowerPart] {
        if self.at.as_ref().is_none_or(|(known, _)| known != below) {
            let here = self.find(0, below);
            self.at = Some((below.to_vec(), here));
        }
        self.at.as_ref().map_or(&[], |(_, dirs)| dirs)
    }

    /// The same, starting from layer `first`.
    fn find(&self, first: usize, path: &[u8]) -> Vec<LowerPart> {
        let tops = self.tops.iter().enumerate().skip(first);
        let mut here: Vec<LowerPart> =
            tops.filter_map(|(at, dir)| Some((at, dir.again().ok()?))).collect();
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            here = self.inner(&here, name);
        }
        here
    }

    fn inner(&self, layers: &[LowerPart], name: &[u8]) -> Vec<LowerPart> {
        let (mut found, mut name) = (Vec::new(), name.to_vec());
        for (at, layer) in layers {
            let Ok(stat) = layer.stat(&name) else { continue };
            if !EntryIdentity::of(&stat).is_directory() {
                // It hides the layers below.
                break;
            }
            found.extend(layer.open(&name).ok().map(|dir| (*at, dir)));
            let mark = |mark: &str| layer.attribute(&name, mark).ok().flatten();
            if mark(&self.marks.opaque).is_some_and(|value| value == b"y") {
                break;
            }
            // It was renamed in a layer that has since been sealed.
            match mark(&self.marks.redirect) {
                Some(to) if to.first() == Some(&b'/') => {
                    found.extend(self.find(at + 1, &to));
                    break;
                }
                Some(to) => name = to,
                None => {}
            }
        }
        found
    }
}
