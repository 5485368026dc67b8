//! Unpacks a tar, plain or compressed, into an empty directory.
//!
//! Runs as a separate chore (`chores`), so that each file gets its owner and several layers can be
//! unpacked at once; `layer` and `rootfs` feed it through stdin. The tar is untrusted: nothing
//! outside its own tree is touched, entries that could only be meant to escape are refused, and the
//! unpacked size is limited.

use nix::unistd::{Gid, Uid};
use runner_sandbox::InRoot;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

/// Largest ratio of unpacked to compressed size for a large tar. Deflate's own limit is 1032; no
/// honest layer comes near.
const MOST_RATIO: u64 = 200;
const LARGE: u64 = 1 << 30;
/// Bytes of a tar read at once.
const CHUNK: usize = 1 << 18;
/// Most bytes of one extended attribute.
const MOST_XATTR: usize = 64 << 10;

/// How to read a tar.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// For an image's layer: the attributes that tell overlayfs what the layer removes. `None` for
    /// a root file system, which removes nothing.
    pub marks: Option<OpaqueMarks>,
    /// Most bytes of files.
    pub most_bytes: u64,
}

/// The kind of extended attribute that marks a directory opaque for overlayfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpaqueMarks {
    /// Attributes that only root may set.
    Trusted,
    /// Attributes of overlays in a user namespace.
    User,
}

impl OpaqueMarks {
    fn opaque(self) -> &'static str {
        match self {
            OpaqueMarks::Trusted => "trusted.overlay.opaque",
            OpaqueMarks::User => "user.overlay.opaque",
        }
    }
}

impl Rules {
    /// The rules as words of a chore's command line.
    pub fn words(self) -> [String; 2] {
        let marks = match self.marks {
            None => "none",
            Some(OpaqueMarks::Trusted) => "trusted",
            Some(OpaqueMarks::User) => "user",
        };
        [marks.to_owned(), self.most_bytes.to_string()]
    }

    /// Parses these words.
    pub fn from_words(marks: &str, most_bytes: &str) -> Option<Self> {
        let marks = match marks {
            "none" => None,
            "trusted" => Some(OpaqueMarks::Trusted),
            "user" => Some(OpaqueMarks::User),
            _ => return None,
        };
        Some(Rules { marks, most_bytes: most_bytes.parse().ok()? })
    }
}

/// Totals of an unpacked tar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnpackTotals {
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Device nodes, which are left out: a container gets a new /dev.
    pub devices: u64,
    /// Directories without an entry, created only as parents: layers below decide their mode, owner
    /// and time.
    pub implied: Vec<Vec<u8>>,
}

/// Why a tar cannot be unpacked.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct UnpackError {
    pub kind: UnpackErrorKind,
    pub message: String,
}

/// What caused an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnpackErrorKind {
    /// An entry with a name outside the tree.
    Name,
    /// Too large.
    Limit,
    /// Not a tar, or truncated.
    Damaged,
    /// Disk full.
    Full,
    /// Any other error on this machine.
    Other,
}

impl From<io::Error> for UnpackError {
    fn from(error: io::Error) -> Self {
        // Our own errors come through the tar's reader unchanged.
        if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<UnpackError>) {
            let inner = error.into_inner().and_then(|inner| inner.downcast::<UnpackError>().ok());
            return inner.map_or_else(
                || UnpackError { kind: UnpackErrorKind::Other, message: String::new() },
                |inner| *inner,
            );
        }
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => UnpackErrorKind::Full,
            // Error kinds of the tar and decompression readers.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::Other => UnpackErrorKind::Damaged,
            _ => UnpackErrorKind::Other,
        };
        UnpackError { kind, message: format!("cannot read it: {error}") }
    }
}

/// Unpacks `input` into the empty directory `tree`.
pub fn unpack(input: impl Read, tree: &Path, rules: Rules) -> Result<UnpackTotals, UnpackError> {
    let mut reader = Limited::new(input, rules.most_bytes)?;
    let mut unpacker = Unpacker {
        root: InRoot::open(tree).map_err(|error| {
            let message = format!("cannot open {}: {error}", tree.display());
            UnpackError { kind: UnpackErrorKind::Other, message }
        })?,
        rules,
        facts: UnpackTotals::default(),
        explicit: HashMap::new(),
        implied: BTreeSet::new(),
        buffer: vec![0; CHUNK],
        parent: None,
    };
    let mut archive = tar::Archive::new(&mut reader);
    for entry in archive.entries()? {
        unpacker.facts.entries += 1;
        unpacker.entry(entry?)?;
    }
    // An image may have an empty layer, but an empty root file system is a mistake.
    if unpacker.facts.entries == 0 && rules.marks.is_none() {
        let message = "cannot read it: it is empty".to_owned();
        return Err(UnpackError { kind: UnpackErrorKind::Damaged, message });
    }
    // Read to the end: the digest covers the bytes after the tar's end, too.
    io::copy(&mut reader, &mut io::sink())?;
    io::copy(&mut reader.into_input(), &mut io::sink())?;
    unpacker.finish()
}

struct Unpacker {
    root: InRoot,
    rules: Rules,
    facts: UnpackTotals,
    /// Directories with an entry, and the times it gives.
    explicit: HashMap<PathBuf, Timestamps>,
    implied: BTreeSet<PathBuf>,
    buffer: Vec<u8>,
    /// The parent of the last entry, cached because the next entry often has the same one.
    parent: Option<(PathBuf, OwnedFd)>,
}

type TarEntry<'a, R> = tar::Entry<'a, R>;

impl Unpacker {
    fn entry<R: Read>(&mut self, mut entry: TarEntry<'_, R>) -> Result<(), UnpackError> {
        let name = entry.path()?.into_owned();
        let number = self.facts.entries;
        let refused = |what: &str| UnpackError {
            kind: UnpackErrorKind::Name,
            message: format!("entry {number} `{}` {what}", name.display()),
        };
        // In a layer, other tools read such names from the tree's root; so does this one. In a root
        // file system they are a packing mistake.
        if name.is_absolute() && self.rules.marks.is_none() {
            return Err(refused("has an absolute name"));
        }
        if name.components().any(|part| part == Component::ParentDir) {
            return Err(refused("has a name that leaves the tree"));
        }
        let kind = entry.header().entry_type();
        match kind {
            EntryType::Char | EntryType::Block => {
                self.facts.devices += 1;
                return Ok(());
            }
            EntryType::XGlobalHeader => return Ok(()),
            _ => {}
        }
        let place: PathBuf = Path::new("/").join(
            name.components()
                .filter(|part| matches!(part, Component::Normal(_)))
                .collect::<PathBuf>(),
        );
        let failed = |error: io::Error| {
            let inner = UnpackError::from(error);
            let what = inner.message.strip_prefix("cannot read it: ").unwrap_or(&inner.message);
            let message = format!("cannot unpack entry {number} `{}`: {what}", name.display());
            match inner.kind {
                // This message is complete already.
                UnpackErrorKind::Limit => inner,
                kind => UnpackError { kind, message },
            }
        };
        if let (Some(marks), Some(file)) = (self.rules.marks, place.file_name())
            && let Some(rest) = file.as_bytes().strip_prefix(b".wh.")
        {
            // The opaque mark, and AUFS's own files.
            if let Some(own) = rest.strip_prefix(b".wh.") {
                return match own {
                    b".opq" => self.opaque(&place, marks).map_err(failed),
                    _ => Ok(()),
                };
            }
            if matches!(rest, b"" | b"." | b"..") {
                return Err(refused("removes something that is not in the tree"));
            }
            let hidden = place.with_file_name(OsStr::from_bytes(rest));
            return self.whiteout(&hidden, marks).map_err(failed);
        }
        if kind == EntryType::Directory {
            self.directory(&place, &entry).map_err(failed)?;
            self.implied.remove(&place);
            self.explicit.insert(place, mtime(&entry));
        } else if place != Path::new("/") {
            self.file(&place, &mut entry, kind).map_err(failed)?;
        }
        Ok(())
    }

    /// The directory of `place`, created if missing, and the last name.
    fn parent<'a>(&mut self, place: &'a Path) -> io::Result<(&OwnedFd, &'a OsStr)> {
        let dir = place.parent().unwrap_or(Path::new("/"));
        let (Some(name), is_known) =
            (place.file_name(), self.parent.as_ref().is_some_and(|(known, _)| known == dir))
        else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if !is_known {
            let mut above = Some(dir);
            while let Some(dir) = above.filter(|dir| *dir != Path::new("/")) {
                if self.explicit.contains_key(dir) || !self.implied.insert(dir.to_path_buf()) {
                    break;
                }
                above = dir.parent();
            }
            self.parent = None;
        }
        let (_, fd) = match self.parent.take() {
            Some(known) => self.parent.insert(known),
            None => {
                let fd = self.root.make_directory(dir, 0o755)?;
                self.parent.insert((dir.to_path_buf(), fd))
            }
        };
        Ok((fd, name))
    }

    /// Removes whatever is at a place, unless it is a directory.
    fn clear(&mut self, place: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(place)?;
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            done => done?,
        };
        rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
        // Directories reached through the link may now be others, or none.
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            self.parent = None;
        }
        Ok(())
    }

    fn directory<R: Read>(&mut self, place: &Path, entry: &TarEntry<'_, R>) -> io::Result<()> {
        let header = entry.header();
        if place != Path::new("/") {
            let (parent, name) = self.parent(place)?;
            match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
                Err(Errno::EXIST) => {
                    // Replace a link. Replace a whiteout with a directory that hides everything in
                    // the layers below.
                    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    let kind = FileType::from_raw_mode(stat.st_mode);
                    if kind != FileType::Directory {
                        self.clear(place)?;
                        let (parent, name) = self.parent(place)?;
                        rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
                        if let (FileType::CharacterDevice, Some(marks)) = (kind, self.rules.marks) {
                            self.set_opaque(place, marks)?;
                        }
                    }
                }
                done => done?,
            }
        }
        let directory = self.root.open_directory(place)?;
        set_owner(&directory, header)?;
        Ok(rustix::fs::fchmod(&directory, mode_of(header)?)?)
    }

    fn file<R: Read>(
        &mut self,
        place: &Path,
        entry: &mut TarEntry<'_, R>,
        kind: EntryType,
    ) -> io::Result<()> {
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "a link to nothing");
        match kind {
            EntryType::Symlink => {
                let to = entry.link_name()?.ok_or_else(missing)?;
                self.clear(place)?;
                let (parent, name) = self.parent(place)?;
                rustix::fs::symlinkat(to.as_os_str(), parent, name)?;
                return own_link(parent, name, entry);
            }
            EntryType::Link => {
                let to = entry.link_name()?.ok_or_else(missing)?.into_owned();
                let to = Path::new("/").join(to);
                let has_parents = to.components().any(|part| part == Component::ParentDir);
                let (to_parent, to_name) = match to.parent() {
                    // A missing directory must not be created on the way.
                    Some(dir) if !has_parents => {
                        (self.root.open_directory(dir).map_err(|_| missing())?, to.file_name())
                    }
                    _ => return Err(missing()),
                };
                let to_name = to_name.ok_or_else(missing)?;
                self.clear(place)?;
                let (parent, name) = self.parent(place)?;
                // A link target that is itself a link is not followed: it must be a file of this
                // tree.
                let made = rustix::fs::linkat(&to_parent, to_name, parent, name, AtFlags::empty());
                return match made {
                    Err(Errno::NOENT) => Err(missing()),
                    done => Ok(done?),
                };
            }
            EntryType::Fifo => {
                self.clear(place)?;
                let (parent, name) = self.parent(place)?;
                rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::empty(), 0)?;
                return own_link(parent, name, entry);
            }
            // All other entries carry contents, or are closest to a file.
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let (parent, name) = self.parent(place)?;
        let file = match rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR) {
            // Of several entries with one name the last one counts.
            Err(Errno::EXIST) => {
                self.clear(place)?;
                let (parent, name) = self.parent(place)?;
                rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?
            }
            done => done?,
        };
        let mut file = File::from(file);
        loop {
            let count = entry.read(&mut self.buffer)?;
            if count == 0 {
                break;
            }
            file.write_all(&self.buffer[..count])?;
            self.facts.bytes += count as u64;
        }
        let file = OwnedFd::from(file);
        let header = entry.header();
        // Set the owner before the mode, because chown clears set-uid. Capabilities come last for
        // the same reason.
        set_owner(&file, header)?;
        rustix::fs::fchmod(&file, mode_of(header)?)?;
        let time = mtime(entry);
        set_attributes(&file, entry)?;
        Ok(rustix::fs::futimens(&file, &time)?)
    }

    /// Hides whatever the layers below have at this place.
    fn whiteout(&mut self, place: &Path, marks: OpaqueMarks) -> io::Result<()> {
        let (parent, name) = self.parent(place)?;
        match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            // This layer has its own entry there. A file hides everything below anyway, but a
            // directory needs the opaque mark.
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => self.set_opaque(place, marks),
                    _ => Ok(()),
                }
            }
            done => Ok(done?),
        }
    }

    /// Hides the layers below in the directory that holds `place`.
    fn opaque(&mut self, place: &Path, marks: OpaqueMarks) -> io::Result<()> {
        self.parent(place)?;
        self.set_opaque(place.parent().unwrap_or(Path::new("/")), marks)
    }

    fn set_opaque(&self, directory: &Path, marks: OpaqueMarks) -> io::Result<()> {
        let directory = self.root.open_directory(directory)?;
        Ok(rustix::fs::fsetxattr(directory, marks.opaque(), b"y", XattrFlags::empty())?)
    }

    fn finish(mut self) -> Result<UnpackTotals, UnpackError> {
        // Last, because every file made in a directory changes its time.
        for (place, time) in &self.explicit {
            // It is gone if a later entry of the same name was of another kind.
            if let Ok(directory) = self.root.open_directory(place) {
                rustix::fs::futimens(directory, time).map_err(io::Error::from)?;
            }
        }
        self.facts.implied =
            self.implied.into_iter().map(|path| path.into_os_string().into_vec()).collect();
        Ok(self.facts)
    }
}

fn mode_of(header: &tar::Header) -> io::Result<Mode> {
    Ok(Mode::from_raw_mode(header.mode()? & 0o7777))
}

fn owner_of(header: &tar::Header) -> io::Result<(Uid, Gid)> {
    let id = |value: u64| u32::try_from(value).map_err(io::Error::other);
    Ok((Uid::from_raw(id(header.uid()?)?), Gid::from_raw(id(header.gid()?)?)))
}

/// Ignores a refused chown: the files then belong to the caller.
fn allow_refusal(result: nix::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(nix::errno::Errno::EPERM | nix::errno::Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn set_owner(file: &OwnedFd, header: &tar::Header) -> io::Result<()> {
    let (uid, gid) = owner_of(header)?;
    allow_refusal(nix::unistd::fchown(file, Some(uid), Some(gid)))
}

/// Sets the owner and time of an entry without contents.
fn own_link<R: Read>(parent: &OwnedFd, name: &OsStr, entry: &TarEntry<'_, R>) -> io::Result<()> {
    let (uid, gid) = owner_of(entry.header())?;
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    allow_refusal(nix::unistd::fchownat(parent, name, Some(uid), Some(gid), flags))?;
    if entry.header().entry_type() == EntryType::Fifo {
        rustix::fs::chmodat(parent, name, mode_of(entry.header())?, AtFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(parent, name, &mtime(entry), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn mtime<R: Read>(entry: &TarEntry<'_, R>) -> Timestamps {
    let seconds = entry.header().mtime().ok().and_then(|time| i64::try_from(time).ok());
    let time = Timespec { tv_sec: seconds.unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Sets file capabilities and user attributes, which GNU tar and Docker write as extended headers.
/// Never sets overlayfs attributes: they would redirect the kernel.
fn set_attributes<R: Read>(file: &OwnedFd, entry: &mut TarEntry<'_, R>) -> io::Result<()> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        let value = extension.value_bytes();
        let is_meant = name == b"security.capability"
            || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."));
        if !is_meant || value.len() > MOST_XATTR {
            continue;
        }
        match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
            // The file system or the user cannot have it: go on without.
            Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSPC | Errno::RANGE) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Decompresses a tar, up to the allowed number of bytes.
struct Limited<R: Read> {
    inner: LayerDecoder<R>,
    given: u64,
    most_bytes: u64,
}

enum LayerDecoder<R: Read> {
    Plain(CompressedInput<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<CompressedInput<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, CompressedInput<R>>>),
}

/// The compressed bytes: the first few replayed, then the rest, all counted.
type CompressedInput<R> = BufReader<CountingReader<io::Chain<io::Cursor<Vec<u8>>, R>>>;

impl<R: Read> Limited<R> {
    fn new(mut input: R, most_bytes: u64) -> Result<Self, UnpackError> {
        let mut magic = Vec::new();
        (&mut input).take(6).read_to_end(&mut magic)?;
        let start = io::Cursor::new(magic.clone());
        let counted = CountingReader { inner: start.chain(input), count: 0 };
        let input = BufReader::with_capacity(CHUNK, counted);
        let inner = match magic.as_slice() {
            [0x1f, 0x8b, ..] => {
                LayerDecoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input)))
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                // 128 MiB: the default limit of `zstd -d`.
                decoder.window_log_max(27)?;
                LayerDecoder::Zstd(Box::new(decoder))
            }
            b"\xfd7zXZ\0" => {
                let message = "it is compressed with xz, which is not read; decompress it: xz -d";
                return Err(UnpackError {
                    kind: UnpackErrorKind::Damaged,
                    message: message.to_owned(),
                });
            }
            _ => LayerDecoder::Plain(input),
        };
        Ok(Limited { inner, given: 0, most_bytes })
    }

    fn input(&self) -> &CompressedInput<R> {
        match &self.inner {
            LayerDecoder::Plain(input) => input,
            LayerDecoder::Gzip(decoder) => decoder.get_ref(),
            LayerDecoder::Zstd(decoder) => decoder.get_ref(),
        }
    }

    fn into_input(self) -> CompressedInput<R> {
        match self.inner {
            LayerDecoder::Plain(input) => input,
            LayerDecoder::Gzip(decoder) => decoder.into_inner(),
            LayerDecoder::Zstd(decoder) => decoder.finish(),
        }
    }

    fn excess(&self) -> Option<String> {
        let taken = self.input().get_ref().count;
        if self.given > self.most_bytes {
            return Some(format!("more than {} MiB", self.most_bytes >> 20));
        }
        (self.given > LARGE && self.given / MOST_RATIO > taken)
            .then(|| format!("more than {MOST_RATIO} times its compressed size"))
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.inner {
            LayerDecoder::Plain(input) => input.read(buffer)?,
            LayerDecoder::Gzip(decoder) => decoder.read(buffer)?,
            LayerDecoder::Zstd(decoder) => decoder.read(buffer)?,
        };
        self.given += count as u64;
        match self.excess() {
            None => Ok(count),
            Some(much) => {
                let message = format!("it would unpack to {much}");
                Err(io::Error::other(UnpackError { kind: UnpackErrorKind::Limit, message }))
            }
        }
    }
}

struct CountingReader<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}
