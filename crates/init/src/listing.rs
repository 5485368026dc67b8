//! Names in directories: parses the kernel's directory entries and keeps the sorted names of nested
//! directories.
//!
//! Used by `hash_files` and `files`.

use crate::sys::{self, Fd, Pages};

pub(crate) struct ListingEntry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: u8,
}

/// Parses the first of the kernel's directory entries and returns the rest. Skips `.` and `..`.
pub(crate) fn entry(mut entries: &[u8]) -> Option<(ListingEntry<'_>, &[u8])> {
    const KIND_AT: usize = 18;
    const NAME_AT: usize = 19;
    loop {
        let length = usize::from(crate::abi::u16_at(entries, 16)?);
        let entry = entries.get(..length)?;
        entries = &entries[length..];
        let name = string(entry, NAME_AT.min(entry.len()));
        if name != b"." && name != b".." && !name.is_empty() {
            return Some((ListingEntry { name, kind: entry[KIND_AT] }, entries));
        }
    }
}

/// The bytes from `start` to the next NUL.
pub(crate) fn string(bytes: &[u8], start: usize) -> &[u8] {
    let rest = &bytes[start..];
    &rest[..rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len())]
}

/// A list of NUL-terminated strings and their start offsets.
pub(crate) struct NameList {
    bytes: Pages,
    filled: usize,
    starts: Pages,
    count: usize,
}

impl NameList {
    pub(crate) fn new() -> sys::SysResult<Self> {
        Ok(NameList {
            bytes: Pages::new(64 << 10)?,
            filled: 0,
            starts: Pages::new(32 << 10)?,
            count: 0,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn push(&mut self, name: &[u8]) -> sys::SysResult<()> {
        let end = self.filled + name.len() + 1;
        while end > self.bytes.bytes().len() {
            grow(&mut self.bytes)?;
        }
        if (self.count + 1) * size_of::<usize>() > self.starts.bytes().len() {
            grow(&mut self.starts)?;
        }
        let place = &mut self.bytes.bytes_mut()[self.filled..end];
        place[..name.len()].copy_from_slice(name);
        // Another name may have been here.
        place[name.len()] = 0;
        self.starts.words_mut()[self.count] = self.filled;
        self.filled = end;
        self.count += 1;
        Ok(())
    }

    /// Adds a directory's names, sorted. Returns how many there were before.
    pub(crate) fn read(&mut self, directory: &Fd, buffer: &mut [u8]) -> sys::SysResult<usize> {
        let before = self.count;
        loop {
            let length = match sys::list(directory, buffer) {
                Ok(length) => length,
                Err(errno) => {
                    self.truncate(before);
                    return Err(errno);
                }
            };
            if length == 0 {
                break;
            }
            let mut rest = &buffer[..length];
            while let Some((entry, next)) = entry(rest) {
                rest = next;
                self.push(entry.name)?;
            }
        }
        self.sort(before);
        Ok(before)
    }

    /// Sorts the names from index `from` on.
    pub(crate) fn sort(&mut self, from: usize) {
        let bytes = self.bytes.bytes();
        self.starts.words_mut()[from..self.count]
            .sort_unstable_by(|&a, &b| string(bytes, a).cmp(string(bytes, b)));
    }

    /// The name at an index, with its NUL.
    pub(crate) fn get(&mut self, at: usize) -> &[u8] {
        let start = self.starts.words_mut()[at];
        let bytes = self.bytes.bytes();
        &bytes[start..=start + string(bytes, start).len()]
    }

    /// Removes all but the first `count` names.
    pub(crate) fn truncate(&mut self, count: usize) {
        if count < self.count {
            // Sorting has moved them; everything from the lowest offset on is free again.
            let starts = &self.starts.words_mut()[count..self.count];
            self.filled = starts.iter().copied().min().unwrap_or(self.filled);
            self.count = count;
        }
    }
}

fn grow(pages: &mut Pages) -> sys::SysResult<()> {
    let mut larger = Pages::new(pages.bytes().len() * 2)?;
    let old = pages.bytes();
    larger.bytes_mut()[..old.len()].copy_from_slice(old);
    *pages = larger;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_forgotten_by_directory() {
        let mut names = NameList::new().expect("memory");
        for name in [&b"b"[..], b"a"] {
            names.push(name).expect("memory");
        }
        names.sort(0);
        for number in 0..10_000_u32 {
            names.push(&number.to_be_bytes().map(|byte| byte | 0x80)).expect("memory");
        }
        names.sort(2);
        assert_eq!(names.get(2), b"\x80\x80\x80\x80\0");
        names.truncate(2);
        names.push(b"c").expect("memory");
        for (at, wanted) in [&b"a\0"[..], b"b\0", b"c\0"].into_iter().enumerate() {
            assert_eq!(names.get(at), wanted);
        }
        assert_eq!(names.len(), 3);
    }
}
