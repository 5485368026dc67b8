//! Runs the program as an ordinary process; it behaves as it does in a container.

use super::*;
use runner_wire::abi::files::{DIRECTORY, REGULAR, SYMLINK, stage};
use runner_wire::files::{ContentEnd, FileFacts, PathEntry, make, root, select};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as Connection};
use tempfile::TempDir;

const TREE: u32 = select::RECURSIVE | select::CONTENT;

impl FilesProgram {
    /// Reports paths below a root in the order of the requests. `each` gets entries, content and
    /// failures, but no [`Reply::Root`] and no [`Reply::Sync`]. A selection is its flags
    /// (`runner_wire::files::select`) and a path; an empty path selects everything in the root.
    ///
    /// # Errors
    /// The root cannot be opened ([`FilesProgramError::Failed`]), the program broke off, or `each`
    /// fails.
    fn read<E: From<FilesProgramError>>(
        self,
        root: &[u8],
        selections: impl IntoIterator<Item = (u32, Vec<u8>)> + Send,
        mut each: impl FnMut(Reply<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let FilesProgram { mut requests, mut replies } = self;
        std::thread::scope(|scope| {
            // Requests and replies must flow at the same time, or a long list would block.
            scope.spawn(move || -> io::Result<()> {
                requests.root(root, 0)?;
                for (flags, path) in selections {
                    requests.select(flags, &path)?;
                }
                requests.sync()
            });
            let mut told = || loop {
                match replies.read()? {
                    Some(Reply::Sync) => return Ok(()),
                    Some(Reply::Root(_)) => {}
                    Some(Reply::Failed(failed)) if failed.path.is_empty() => {
                        return Err(FilesProgramError::Failed(FileFailure {
                            path: root.to_vec(),
                            ..failed.into()
                        })
                        .into());
                    }
                    Some(reply) => each(reply)?,
                    None => return Err(FilesProgramError::Ended.into()),
                }
            };
            let result = told();
            // A thread that still sends requests finds the pipe closed.
            drop(replies);
            result
        })
    }

    /// Lists every path that the selections name, without content. `failed` gets the failures.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn list(
        self,
        root: &[u8],
        selections: impl IntoIterator<Item = (u32, Vec<u8>)> + Send,
        mut failed: impl FnMut(FileFailure),
    ) -> Result<Vec<Listed>, FilesProgramError> {
        let mut list = Vec::new();
        self.read(root, selections, |reply| {
            match reply {
                Reply::Entry(entry) => list.push(entry.into()),
                Reply::Failed(problem) => failed(problem.into()),
                Reply::Root(_) | Reply::Sync => {}
                Reply::Data(_) | Reply::Hole(_) | Reply::End(_) => {
                    return Err(FilesProgramError::Nonsense(wire::FilesError::Content));
                }
            }
            Ok(())
        })?;
        Ok(list)
    }
}

/// A path of the container with its facts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    facts: FileFacts,
    path: Vec<u8>,
    /// A symbolic link's target.
    target: Vec<u8>,
}

impl From<PathEntry<'_>> for Listed {
    fn from(entry: PathEntry<'_>) -> Self {
        Listed { facts: entry.facts, path: entry.path.to_vec(), target: entry.target.to_vec() }
    }
}

/// A directory and a program that works on it.
struct Bed {
    dir: TempDir,
    child: Option<Child>,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join(FILES_NAME);
        fs::write(&program, runner_init::PROGRAM).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
        fs::create_dir(dir.path().join("root")).expect("made");
        Bed { dir, child: None }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn path(&self) -> Vec<u8> {
        self.root().as_os_str().as_bytes().to_vec()
    }

    fn write(&self, name: &str, text: &[u8]) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().expect("has one")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn files(&mut self) -> FilesProgram {
        let mut child = Command::new(self.dir.path().join(FILES_NAME))
            .current_dir(self.root())
            .stdin(Connection::piped())
            .stdout(Connection::piped())
            .stderr(Connection::piped())
            .spawn()
            .expect("started");
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        self.child = Some(child);
        FilesProgram::over([
            stdin.expect("piped").into(),
            stdout.expect("piped").into(),
            stderr.expect("piped").into(),
        ])
    }

    fn told(&mut self, flags: u32, paths: &[&str]) -> Told {
        self.told_below(self.path().as_slice(), flags, paths)
    }

    fn told_below(&mut self, root: &[u8], flags: u32, paths: &[&str]) -> Told {
        let mut told = Told::default();
        let selections: Vec<_> =
            paths.iter().map(|path| (flags, path.as_bytes().to_vec())).collect();
        let files = self.files();
        let mut last = String::new();
        files
            .read::<FilesProgramError>(root, selections, |reply| {
                match reply {
                    Reply::Entry(entry) => {
                        last = String::from_utf8_lossy(entry.path).into_owned();
                        told.order.push(last.clone());
                        told.entries.insert(last.clone(), entry.into());
                    }
                    Reply::Data(bytes) => {
                        told.content.entry(last.clone()).or_default().extend_from_slice(bytes);
                    }
                    Reply::Hole(length) => {
                        *told.holes.entry(last.clone()).or_default() += length;
                        let content = told.content.entry(last.clone()).or_default();
                        let length = content.len() + usize::try_from(length).expect("small");
                        content.resize(length, 0);
                    }
                    Reply::End(end) => drop(told.ends.insert(last.clone(), end)),
                    Reply::Failed(failed) => told.failed.push(failed.into()),
                    Reply::Root(_) | Reply::Sync => panic!("{reply:?}"),
                }
                Ok(())
            })
            .expect("told");
        assert!(self.child.take().expect("started").wait().expect("ended").success());
        told
    }

    fn make<E: From<FilesProgramError>>(
        &mut self,
        make: impl FnOnce(&mut FileRequests) -> Result<(), E>,
    ) -> Result<FileFailures, E> {
        let path = self.path();
        let failures = self.files().write(&path, 0, make);
        assert!(self.child.take().expect("started").wait().expect("ended").success());
        failures
    }
}

#[derive(Default)]
struct Told {
    order: Vec<String>,
    entries: BTreeMap<String, Listed>,
    content: BTreeMap<String, Vec<u8>>,
    holes: BTreeMap<String, u64>,
    ends: BTreeMap<String, ContentEnd>,
    failed: Vec<FileFailure>,
}

fn node(kind: u32, mode: u32, size: usize) -> NewFile {
    let facts = FileFacts {
        mode: kind | mode,
        size: size as u64,
        modified: 1_000_000_000,
        modified_ns: 5,
        ..FileFacts::default()
    };
    NewFile { flags: make::TIMES, facts }
}

fn file(
    requests: &mut FileRequests,
    path: &str,
    mode: u32,
    text: &[u8],
) -> Result<(), FilesProgramError> {
    requests.make(&node(REGULAR, mode, text.len()), path.as_bytes(), b"")?;
    requests.data(text)?;
    Ok(requests.end()?)
}

#[test]
fn a_tree_is_told_in_order_with_all_that_is_in_it() {
    let mut bed = Bed::new();
    bed.write("b/one", b"1");
    bed.write("b/two", &[7; 700_000]);
    bed.write("a", b"");
    fs::set_permissions(bed.root().join("b/one"), fs::Permissions::from_mode(0o4750)).expect("set");
    symlink("../else/where", bed.root().join("b/link")).expect("made");
    nix::unistd::mkfifo(&bed.root().join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("made");
    let told = bed.told(TREE, &[""]);
    assert_eq!(told.order, ["a", "b", "b/link", "b/one", "b/two", "fifo"]);
    assert_eq!(told.failed, []);
    let one = fs::metadata(bed.root().join("b/one")).expect("there");
    let facts = told.entries["b/one"].facts;
    assert_eq!((facts.mode, facts.size, facts.inode), (one.mode(), 1, one.ino()));
    assert_eq!((facts.modified, i64::from(facts.modified_ns)), (one.mtime(), one.mtime_nsec()));
    assert_eq!(told.entries["b/link"].target, b"../else/where");
    assert_eq!(told.content["b/two"], [7; 700_000]);
    assert_eq!(told.ends.len(), 3);
    assert!(told.ends.values().all(|end| *end == ContentEnd::Whole));
    // Exact paths, without their contents and without anything below them.
    let told = bed.told(0, &["b/two", "b", "b/nosuch", "nosuch/x", "b/link/x"]);
    assert_eq!(told.order, ["b/two", "b"]);
    assert!(told.ends.is_empty());
    let failed: Vec<_> = told.failed.iter().map(|failure| failure.path.as_slice()).collect();
    assert_eq!(failed, [&b"b/nosuch"[..], b"nosuch/x", b"b/link/x"]);
}

#[test]
fn names_are_bytes() {
    use std::ffi::OsStr;
    let mut bed = Bed::new();
    let name = b"\xff\n \x01'\"\\";
    fs::write(bed.root().join(OsStr::from_bytes(name)), "x").expect("written");
    let list = bed.files().list(bed.path().as_slice(), [(0, name.to_vec())], drop).expect("told");
    assert_eq!(list[0].path, name);
    let path = bed.path();
    let list = bed.files().list(&path, [(select::RECURSIVE, Vec::new())], drop).expect("told");
    assert_eq!(list[0].path, name);
}

#[test]
fn links_are_followed_only_where_that_is_asked_for() {
    let mut bed = Bed::new();
    bed.write("dir/file", b"text");
    symlink("dir", bed.root().join("link")).expect("made");
    symlink("file", bed.root().join("dir/same")).expect("made");
    symlink("..", bed.root().join("dir/up")).expect("made");
    symlink("round", bed.root().join("round")).expect("made");
    let told = bed.told(TREE, &["link", "link/file"]);
    assert_eq!(told.entries["link"].facts.kind(), SYMLINK);
    assert_eq!((told.order.len(), told.failed.len()), (1, 1));
    let told = bed.told(TREE | select::FOLLOW, &["link", "round", "link/same"]);
    assert_eq!(
        told.order,
        [
            "link",
            "link/file",
            "link/same",
            "link/up",
            "link/up/dir",
            "link/up/link",
            "link/up/round",
            "round",
            "link/same"
        ]
    );
    assert_eq!(told.content["link/same"], b"texttext");
    assert_eq!(told.entries["round"].facts.kind(), SYMLINK);
    let loops: Vec<_> = told.failed.iter().map(|failure| failure.errno).collect();
    assert_eq!(loops, [nix::libc::ELOOP; 2], "{:?}", told.failed);
}

#[test]
fn holes_are_not_sent() {
    let mut bed = Bed::new();
    let sparse = File::create(bed.root().join("sparse")).expect("made");
    sparse.set_len(64 << 20).expect("long");
    sparse.write_all_at(b"here", 32 << 20).expect("written");
    let told = bed.told(TREE, &["sparse"]);
    assert_eq!(told.content["sparse"].len(), 64 << 20);
    assert_eq!(&told.content["sparse"][32 << 20..][..4], b"here");
    assert!(told.holes["sparse"] > 60 << 20);
    assert_eq!(told.ends["sparse"], ContentEnd::Whole);
    // Nor do holes take space where they arrive.
    let failures = bed.make::<FilesProgramError>(|requests| {
        requests.make(&node(REGULAR, 0o644, 64 << 20), b"copy", b"")?;
        requests.hole(32 << 20)?;
        requests.data(b"here")?;
        requests.hole((32 << 20) - 4)?;
        Ok(requests.end()?)
    });
    assert_eq!(failures.expect("made").count, 0);
    let copy = fs::metadata(bed.root().join("copy")).expect("there");
    assert_eq!(copy.len(), 64 << 20);
    assert!(copy.blocks() < 1000);
}

/// Some kernel files report a size of zero.
#[test]
fn a_file_that_does_not_tell_its_size_is_read_all_the_same() {
    let mut bed = Bed::new();
    let told = bed.told_below(b"/proc/self", TREE, &["status"]);
    let text = String::from_utf8_lossy(&told.content["status"]).into_owned();
    assert!(text.contains(FILES_NAME), "{text}");
    assert_eq!(told.entries["status"].facts.size, text.len() as u64);
}

/// A file truncated while being read still has the announced length, and the reader learns of it.
#[test]
fn what_changes_while_it_is_read_is_found_out() {
    let mut bed = Bed::new();
    let size = 64 << 20;
    fs::write(bed.root().join("log"), vec![1; size]).expect("written");
    let path = bed.root().join("log");
    let root = bed.path();
    for cuts in [true, false] {
        fs::write(&path, vec![1; size]).expect("written");
        let (mut length, mut how) = (0, None);
        bed.files()
            .read::<FilesProgramError>(&root, [(TREE, b"log".to_vec())], |reply| {
                match reply {
                    Reply::Data(bytes) => {
                        if length == 0 {
                            let file = File::options().write(true).open(&path)?;
                            if cuts {
                                file.set_len(1000)?;
                            } else {
                                file.write_all_at(b"x", size as u64)?;
                            }
                        }
                        length += bytes.len() as u64;
                    }
                    Reply::Hole(zeros) => length += zeros,
                    Reply::End(end) => how = Some(end),
                    _ => {}
                }
                Ok(())
            })
            .expect("told");
        assert_eq!((length, how), (size as u64, Some(ContentEnd::Changed)));
    }
}

#[test]
fn what_may_not_be_read_is_told_path_by_path() {
    if nix::unistd::geteuid().is_root() {
        // Root may read everything, so this test does not apply.
        return;
    }
    let mut bed = Bed::new();
    bed.write("dir/file", b"x");
    bed.write("secret", b"x");
    bed.write("z", b"x");
    for name in ["dir", "secret"] {
        fs::set_permissions(bed.root().join(name), fs::Permissions::from_mode(0o0)).expect("set");
    }
    let told = bed.told(TREE, &[""]);
    let failed: Vec<_> = told.failed.iter().map(|failure| failure.path.clone()).collect();
    assert_eq!(failed, [b"dir".to_vec(), b"secret".to_vec()]);
    assert_eq!(told.failed[1].stage, stage::OPEN);
    assert_eq!(told.content["z"], b"x");
    fs::set_permissions(bed.root().join("dir"), fs::Permissions::from_mode(0o700)).expect("set");
}

#[test]
fn a_root_that_is_not_there_is_named() {
    let mut bed = Bed::new();
    let error = bed.files().list(b"/nosuch/root", [(0, b"x".to_vec())], drop).expect_err("none");
    let text = "/nosuch/root: cannot open the directory in the container: No such file or \
                directory (os error 2)";
    assert_eq!(error.to_string(), text);
    // Relative to the program's directory, through links, created if asked.
    symlink("real", bed.root().join("link")).expect("made");
    fs::create_dir(bed.root().join("real")).expect("made");
    let made = bed.files().write::<FilesProgramError>(b"link/a/b", root::CREATE, |requests| {
        file(requests, "f", 0o600, b"x")
    });
    assert_eq!(made.expect("made").count, 0);
    assert_eq!(fs::read(bed.root().join("real/a/b/f")).expect("there"), b"x");
}

#[test]
fn a_tree_is_made_with_modes_and_times() {
    let mut bed = Bed::new();
    bed.write("there", b"old and longer");
    symlink("/etc/passwd", bed.root().join("was-a-link")).expect("made");
    let failures = bed.make::<FilesProgramError>(|requests| {
        requests.make(&node(DIRECTORY, 0o555, 0), b"dir", b"")?;
        file(requests, "dir/file", 0o4751, &[3; 300_000])?;
        file(requests, "there", 0o640, b"new")?;
        file(requests, "was-a-link", 0o600, b"mine")?;
        file(requests, "not/yet/there", 0o600, b"x")?;
        requests.make(&node(SYMLINK, 0o777, 0), b"dir/link", b"../there")?;
        requests.link(b"second", b"dir/file")?;
        requests.set(&node(DIRECTORY, 0o555, 0), b"dir")?;
        Ok(())
    });
    assert_eq!(failures.expect("made").first, []);
    let stat = |name: &str| fs::symlink_metadata(bed.root().join(name)).expect("there");
    assert_eq!(stat("dir").mode() & 0o7777, 0o555);
    assert_eq!(stat("dir/file").mode() & 0o7777, 0o4751);
    assert_eq!(stat("second").ino(), stat("dir/file").ino());
    for name in ["dir", "dir/file", "there", "dir/link"] {
        assert_eq!((stat(name).mtime(), stat(name).mtime_nsec()), (1_000_000_000, 5), "{name}");
    }
    assert_eq!(fs::read(bed.root().join("there")).expect("there"), b"new");
    assert_eq!(fs::read(bed.root().join("was-a-link")).expect("there"), b"mine");
    assert!(stat("was-a-link").is_file());
    assert_eq!(fs::read_link(bed.root().join("dir/link")).expect("a link"), Path::new("../there"));
    let names = fs::read_dir(bed.root()).expect("there").count();
    assert_eq!(names, 5, "something is left behind");
    fs::set_permissions(bed.root().join("dir"), fs::Permissions::from_mode(0o755)).expect("set");
}

#[test]
fn nothing_is_made_through_a_link_or_in_the_place_of_a_directory() {
    let mut bed = Bed::new();
    let outside = tempfile::tempdir().expect("a directory");
    symlink(outside.path(), bed.root().join("way")).expect("made");
    fs::create_dir(bed.root().join("dir")).expect("made");
    bed.write("file", b"x");
    let failures = bed
        .make::<FilesProgramError>(|requests| {
            file(requests, "way/out", 0o600, b"x")?;
            file(requests, "dir", 0o600, b"x")?;
            requests.make(&node(DIRECTORY, 0o755, 0), b"file", b"")?;
            requests.make(&node(DIRECTORY, 0o755, 0), b"way", b"")?;
            file(requests, "good", 0o600, b"x")?;
            requests.make(&node(REGULAR, 0o600, 3), b"left", b"")?;
            requests.data(b"x")?;
            requests.abandon()?;
            for path in ["../x", "/x", "a//x", ""] {
                assert!(file(requests, path, 0o600, b"x").is_err(), "{path}");
            }
            Ok(())
        })
        .expect("told");
    let failed: Vec<_> = failures.first.iter().map(|failure| failure.path.as_slice()).collect();
    assert_eq!(failed, [&b"way/out"[..], b"dir", b"file", b"way"]);
    assert_eq!(fs::read_dir(outside.path()).expect("there").count(), 0);
    assert!(bed.root().join("good").is_file());
    assert!(!bed.root().join("left").exists());
    assert!(!bed.dir.path().join("x").exists());
}

/// A reader that gives up need not wait for the rest.
#[test]
fn a_reader_may_leave() {
    let mut bed = Bed::new();
    for number in 0..50 {
        bed.write(&format!("file{number}"), &[1; 100_000]);
    }
    let path = bed.path();
    let mut count = 0;
    let result = bed.files().read::<FilesProgramError>(&path, [(TREE, Vec::new())], |_| {
        count += 1;
        if count < 3 { Ok(()) } else { Err(FilesProgramError::Ended) }
    });
    assert!(matches!(result, Err(FilesProgramError::Ended)));
    let _ = bed.child.take().expect("started").wait();
}
