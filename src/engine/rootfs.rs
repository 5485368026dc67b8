//! `rootfs:DIR` and `rootfs:TAR`: a root file system without a registry.
//!
//! A directory is used as it is. A tar is unpacked once into the state folder and kept as long as
//! it does not change; the next version of the same file replaces it. The tar is not trusted:
//! nothing outside its own tree is ever touched, and what could only be meant to do so is refused.

use crate::state::{make_private, remove_tree};
use nix::unistd::{Gid, Uid};
use runner_sandbox::{InRoot, UserMap};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

/// An image that is ready.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Its root directory.
    pub(crate) tree: PathBuf,
    /// Held as long as a build uses an unpacked tar, so that nobody replaces it meanwhile.
    _in_use: Option<File>,
}

/// There is no such image.
#[derive(Debug, thiserror::Error)]
#[error("image rootfs:{}: {message}", path.display())]
pub(crate) struct ImageError {
    path: PathBuf,
    message: String,
    pub(crate) hint: Option<&'static str>,
}

/// Why one entry of a tar stops the unpacking.
#[derive(Debug, thiserror::Error)]
enum TarError {
    #[error("entry {number} `{}` {what}", name.display())]
    Refused { number: u64, name: PathBuf, what: &'static str },
    #[error("cannot unpack entry {number} `{}`: {source}", name.display())]
    Entry { number: u64, name: PathBuf, source: io::Error },
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    #[error("{0}")]
    Elsewhere(String),
}

/// Makes the image at `path` ready. `tell` hears what the person should know.
/// `users` are those the container will have, where they are not the host's own.
pub(crate) fn prepare(
    images: &Path,
    path: &Path,
    users: Option<&UserMap>,
    tell: &dyn Fn(String),
) -> Result<Prepared, ImageError> {
    let fail = |message: String, hint| ImageError { path: path.to_path_buf(), message, hint };
    let metadata = fs::metadata(path).map_err(|error| {
        fail(error.to_string(), Some("name an unpacked root directory or a tar of one"))
    })?;
    if metadata.is_dir() {
        let is_empty =
            fs::read_dir(path).map_err(|error| fail(error.to_string(), None))?.next().is_none();
        if is_empty {
            let hint = Some("unpack a root file system into it first");
            return Err(fail("the directory is empty".to_owned(), hint));
        }
        return Ok(Prepared { tree: path.to_path_buf(), _in_use: None });
    }
    if !metadata.is_file() {
        return Err(fail("neither a directory nor a tar".to_owned(), None));
    }
    unpacked(images, path, &metadata, users, tell).map_err(|error| match error {
        TarError::Refused { .. } | TarError::Elsewhere(_) => {
            let message = error.to_string();
            let is_name = [ABSOLUTE, LEAVES].iter().any(|what| message.ends_with(what));
            let hint = "make the tar with names relative to its root: tar -C DIR -cf FILE .";
            fail(message, is_name.then_some(hint))
        }
        TarError::Entry { ref source, .. } | TarError::Read(ref source) => {
            let hint = match source.kind() {
                io::ErrorKind::StorageFull => {
                    Some("free some space, or set RUNNER_HOME to a directory on another disk")
                }
                _ => Some("is it a tar, plain or gzipped? `tar -tf FILE` tells"),
            };
            fail(error.to_string(), hint)
        }
    })
}

const ABSOLUTE: &str = "has an absolute name";
const LEAVES: &str = "has a name that leaves the tree";

fn unpacked(
    images: &Path,
    path: &Path,
    metadata: &fs::Metadata,
    users: Option<&UserMap>,
    tell: &dyn Fn(String),
) -> Result<Prepared, TarError> {
    let source = fs::canonicalize(path)?;
    // The file's identity and version; a rewritten file is another image. The same for other users
    // has other owners.
    let key = format!(
        "rootfs-{}-{}-{}-{}.{:09}{}",
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        match users {
            None => "",
            Some(users) if users.is_single() => "-single",
            Some(_) => "-mapped",
        }
    );
    let dir = images.join(&key);
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(images.join(format!("{key}.lock")))?;
    // Two builds may want the same tar at once: one unpacks, the other waits and finds it.
    lock.lock()?;
    let tree = dir.join("tree");
    if !dir.join("source").exists() {
        remove_tree(&dir)?;
        make_private(&dir)?;
        fs::create_dir(&tree)?;
        let skipped = match users {
            None => unpack(File::open(path)?, &tree)?,
            Some(users) => unpack_for(users, &source, &tree)?,
        };
        if skipped > 0 {
            tell(format!(
                "{}: {skipped} device nodes are left out; a build has a /dev of its own",
                path.display()
            ));
        }
        // Last: it says that the tree is whole.
        fs::write(dir.join("source"), source.as_os_str().as_encoded_bytes())?;
        remove_older(images, &key, &source);
    }
    lock.unlock()?;
    lock.lock_shared()?;
    Ok(Prepared { tree, _in_use: Some(lock) })
}

/// Unpacks as root of the container's users, so that each file gets its owner.
fn unpack_for(users: &UserMap, tar: &Path, tree: &Path) -> Result<u64, TarError> {
    let (Some(tar), Some(tree)) = (tar.to_str(), tree.to_str()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "its path is not UTF-8").into());
    };
    let said = runner_sandbox::chore(users, &["unpack", tar, tree])
        .map_err(|error| TarError::Elsewhere(error.to_string()))?;
    said.parse().map_err(|_| TarError::Elsewhere(said))
}

/// Unpacks a tar into an empty directory; how many device nodes were left out.
pub(crate) fn unpack_file(tar: &Path, tree: &Path) -> Result<u64, impl std::error::Error + use<>> {
    File::open(tar).map_err(TarError::from).and_then(|file| unpack(file, tree))
}

/// Removes what earlier versions of the same file left, unless a build still uses it.
fn remove_older(images: &Path, key: &str, source: &Path) {
    let Ok(list) = fs::read_dir(images) else { return };
    for entry in list.flatten() {
        let name = entry.file_name();
        let is_same_file = fs::read(entry.path().join("source"))
            .is_ok_and(|text| text == source.as_os_str().as_encoded_bytes());
        if name == OsStr::new(key) || !is_same_file {
            continue;
        }
        let mut lock_name = name.clone();
        lock_name.push(".lock");
        let lock_path = images.join(lock_name);
        let is_free = File::open(&lock_path).is_ok_and(|lock| lock.try_lock().is_ok());
        // What cannot be removed now is found again next time.
        if is_free && remove_tree(&entry.path()).is_ok() {
            let _ = fs::remove_file(&lock_path);
        }
    }
}

/// Unpacks a tar, plain or gzipped, into an empty directory; how many device nodes were left out.
fn unpack(file: File, tree: &Path) -> Result<u64, TarError> {
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut magic = [0; 6];
    let got = file.read(&mut magic)?;
    file.rewind()?;
    let reader: Box<dyn Read> = match &magic[..got] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let text = "it is compressed with zstd, which is not read; decompress it: zstd -d";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text).into());
        }
        b"\xfd7zXZ\0" => {
            let text = "it is compressed with xz, which is not read; decompress it: xz -d";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text).into());
        }
        _ => Box::new(file),
    };
    let unpacker = Unpacker { root: InRoot::open(tree)? };
    let mut archive = tar::Archive::new(reader);
    let mut directories = Vec::new();
    let mut skipped = 0;
    let mut number = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        number += 1;
        let name = entry.path()?.into_owned();
        let refused = |what| TarError::Refused { number, name: name.clone(), what };
        if name.is_absolute() {
            return Err(refused(ABSOLUTE));
        }
        if name.components().any(|part| part == Component::ParentDir) {
            return Err(refused(LEAVES));
        }
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::Char | EntryType::Block) {
            skipped += 1;
            continue;
        }
        let place: PathBuf = Path::new("/")
            .join(name.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>());
        let failed = |source| TarError::Entry { number, name: name.clone(), source };
        if kind == EntryType::Directory {
            unpacker.directory(&place, &entry).map_err(failed)?;
            directories.push((place, mtime(&entry)));
        } else if place != Path::new("/") {
            unpacker.file(&place, &mut entry, kind).map_err(failed)?;
        }
    }
    if number == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds nothing").into());
    }
    // Last, because every file made in a directory touches its time.
    for (place, time) in directories.iter().rev() {
        unpacker.set_directory_time(place, time)?;
    }
    Ok(skipped)
}

struct Unpacker {
    root: InRoot,
}

type TarEntry<'a> = tar::Entry<'a, Box<dyn Read>>;

impl Unpacker {
    fn directory(&self, place: &Path, entry: &TarEntry<'_>) -> io::Result<()> {
        let header = entry.header();
        self.root.make_directory(place, 0o755)?;
        let directory = self.root.open_directory(place)?;
        set_owner(&directory, header)?;
        Ok(rustix::fs::fchmod(&directory, mode_of(header)?)?)
    }

    fn set_directory_time(&self, place: &Path, time: &Timestamps) -> io::Result<()> {
        let directory = self.root.open_directory(place)?;
        Ok(rustix::fs::futimens(directory, time)?)
    }

    fn file(&self, place: &Path, entry: &mut TarEntry<'_>, kind: EntryType) -> io::Result<()> {
        let (parent, name) = self.root.parent(place)?;
        // The last of several entries of one name counts.
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "a link to nothing");
        match kind {
            EntryType::Symlink => {
                let to = entry.link_name()?.ok_or_else(missing)?;
                rustix::fs::symlinkat(to.as_os_str(), &parent, name)?;
                return own_link(&parent, name, entry);
            }
            EntryType::Link => {
                let to = entry.link_name()?.ok_or_else(missing)?.into_owned();
                let (to_parent, to_name) = self.root.parent(&to).map_err(|_| missing())?;
                // The link's own end is not followed: it must be a file of this tree.
                rustix::fs::linkat(&to_parent, to_name, &parent, name, AtFlags::empty())?;
                return Ok(());
            }
            EntryType::Fifo => {
                rustix::fs::mknodat(&parent, name, FileType::Fifo, Mode::empty(), 0)?;
                return own_link(&parent, name, entry);
            }
            // Everything else carries contents, or is something a file is the nearest thing to.
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(file);
        io::copy(entry, &mut file)?;
        let file = OwnedFd::from(file);
        let header = entry.header();
        // Owner before mode: a change of owner takes set-uid away. Capabilities last of all, for
        // the same reason.
        set_owner(&file, header)?;
        rustix::fs::fchmod(&file, mode_of(header)?)?;
        if let Some(capability) = file_capability(entry)? {
            let flags = rustix::fs::XattrFlags::empty();
            match rustix::fs::fsetxattr(&file, "security.capability", &capability, flags) {
                Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(rustix::fs::futimens(&file, &mtime(entry))?)
    }
}

fn mode_of(header: &tar::Header) -> io::Result<Mode> {
    Ok(Mode::from_raw_mode(header.mode()? & 0o7777))
}

fn owner_of(header: &tar::Header) -> io::Result<(Uid, Gid)> {
    let id = |value: u64| u32::try_from(value).map_err(io::Error::other);
    Ok((Uid::from_raw(id(header.uid()?)?), Gid::from_raw(id(header.gid()?)?)))
}

/// Not allowed to give files away: then they are the caller's.
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

/// Owner and time of something that has no contents.
fn own_link(parent: &OwnedFd, name: &OsStr, entry: &TarEntry<'_>) -> io::Result<()> {
    let (uid, gid) = owner_of(entry.header())?;
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    allow_refusal(nix::unistd::fchownat(parent, name, Some(uid), Some(gid), flags))?;
    if entry.header().entry_type() == EntryType::Fifo {
        rustix::fs::chmodat(parent, name, mode_of(entry.header())?, AtFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(parent, name, &mtime(entry), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn mtime(entry: &TarEntry<'_>) -> Timestamps {
    let seconds = entry.header().mtime().ok().and_then(|time| i64::try_from(time).ok());
    let time = Timespec { tv_sec: seconds.unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// The file capabilities that GNU tar and Docker write as an extended header.
fn file_capability(entry: &mut TarEntry<'_>) -> io::Result<Option<Vec<u8>>> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(None) };
    for extension in extensions {
        let extension = extension?;
        if extension.key_bytes() == b"SCHILY.xattr.security.capability" {
            return Ok(Some(extension.value_bytes().to_vec()));
        }
    }
    Ok(None)
}
