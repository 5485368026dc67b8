//! The contents of files before and after a run, as far as checkpoints have them.
//!
//! Each checkpoint leaves a line in the layer that names the directories of each overlay. `runner
//! diff --run N --patch` reads two of them and starts a separate process, which reads the files as
//! the container saw them: through overlays of the same directories, since only overlays know
//! renames and whiteouts.

use super::{KeptLayer, LayerCopies, SHELF};
use runner_host::beneath::Dir;
use runner_sandbox::{Chore, UserMap, merged, with_own_mounts};
use rustix::fs::{FileType, MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The lines, in the layer.
const LINES: &str = "runs";
/// Bytes of a file that is shown.
const MOST_OF_ONE: u64 = 1 << 20;
/// Bytes of all.
const MOST_OF_ALL: u64 = 16 << 20;
/// Files of a directory that is gone or has another name.
const MOST_IN_ONE: usize = 1000;
/// Bytes of the lines.
const MOST_LINES: u64 = 64 << 20;

/// Before a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunLine {
    Kept {
        before: u32,
        views: Vec<OverlayView>,
        users: Option<UserMap>,
    },
    /// Nothing was kept, for this reason.
    Lacks {
        before: u32,
        why: String,
    },
    /// The build has gone back to before this run.
    Rewound {
        to: u32,
    },
}

/// The directories of an overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayView {
    /// Where the container sees it.
    path: PathBuf,
    /// What it writes to until the next checkpoint.
    upper: PathBuf,
    /// The copy of that; none where it was empty.
    copy: Option<PathBuf>,
    lower: Vec<PathBuf>,
}

impl OverlayView {
    /// What it showed at the checkpoint.
    fn then(&self) -> Vec<PathBuf> {
        self.copy.iter().chain(&self.lower).cloned().collect()
    }

    /// What it shows now, if no checkpoint has followed.
    fn now(&self) -> Vec<PathBuf> {
        std::iter::once(&self.upper).chain(&self.lower).cloned().collect()
    }
}

/// A file whose contents are asked for, or a directory with all that is in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// Its path before the run, in the container.
    pub old: Option<ContentText>,
    /// Its path behind it.
    pub new: Option<ContentText>,
    /// Whether the run may have written to it.
    pub is_written: bool,
}

/// Bytes, each as one character.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentText(String);

impl From<&[u8]> for ContentText {
    fn from(bytes: &[u8]) -> Self {
        ContentText(bytes.iter().map(|&byte| char::from(byte)).collect())
    }
}

impl ContentText {
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.0.chars().map(|one| u8::try_from(u32::from(one)).unwrap_or(b'?')).collect()
    }
}

/// A file as it was before and behind the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FoundFile {
    pub old: Option<(ContentText, KeptNode)>,
    pub new: Option<(ContentText, KeptNode)>,
    /// As it was asked for.
    pub is_written: bool,
}

/// A file, or a part of a directory, that is not among what was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeftOutPaths {
    pub path: ContentText,
    pub why: String,
}

/// What was found of the files that were asked for.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FoundFiles {
    pub files: Vec<FoundFile>,
    pub left_out: Vec<LeftOutPaths>,
    /// A directory of those that overlays consisted of is not there any more.
    is_gone: bool,
}

/// A file or a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptNode {
    pub mode: u32,
    /// Its contents, or a link's target; none where it is too large.
    pub content: Option<ContentText>,
}

/// The request to the separate process that reads contents.
#[derive(Debug, Serialize, Deserialize)]
struct ContentsOrder {
    old: Vec<(PathBuf, Vec<PathBuf>)>,
    new: Vec<(PathBuf, Vec<PathBuf>)>,
    wanted: Vec<Wanted>,
}

impl KeptLayer {
    /// The line of a checkpoint whose copies are these.
    #[must_use]
    pub fn line(&self, before: u32, copies: &LayerCopies) -> RunLine {
        let view = |upper: &runner_sandbox::WritableDirectory| OverlayView {
            path: upper.path.clone(),
            upper: self.dir.join(&upper.dir),
            copy: copies
                .get(&upper.name)
                .map(|number| self.dir.join(SHELF).join(number.to_string()).join(&upper.name)),
            lower: upper.lower.clone(),
        };
        let views = self.uppers.iter().map(view).collect();
        RunLine::Kept { before, views, users: self.users.clone() }
    }

    /// Writes a line down. Blocks.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_line(&self, line: &RunLine) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let layer = Dir::top_itself(&self.dir)?;
        if !is_ended(&layer)? {
            text.insert(0, b'\n');
        }
        layer.append(LINES, 0o600)?.write_all(&text)
    }
}

/// Whether the last line is whole: a full disk may have cut it off.
fn is_ended(layer: &Dir) -> io::Result<bool> {
    let file = match layer.file(LINES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        file => file?,
    };
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

/// The lines of a layer, the oldest first; none where no checkpoint was ever come to.
///
/// # Errors
/// They cannot be read.
pub fn lines(layer: &Path) -> io::Result<Vec<RunLine>> {
    let file = match Dir::top_itself(layer).and_then(|layer| layer.file(LINES)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let lines = BufReader::new(file.take(MOST_LINES)).split(b'\n');
    // A line without its end is being written, or was cut off.
    Ok(lines.map_while(Result::ok).filter_map(|line| serde_json::from_slice(&line).ok()).collect())
}

/// What these files held before and behind a run: between two checkpoints, or between one and now.
///
/// # Errors
/// What was kept is not there any more, which is `NotFound`, or cannot be looked at.
pub fn contents(
    old: &[OverlayView],
    new: Option<&[OverlayView]>,
    users: Option<&UserMap>,
    wanted: Vec<Wanted>,
) -> io::Result<FoundFiles> {
    let then = |view: &OverlayView| (view.path.clone(), view.then());
    let order = ContentsOrder {
        old: old.iter().map(then).collect(),
        new: match new {
            Some(new) => new.iter().map(then).collect(),
            None => old.iter().map(|view| (view.path.clone(), view.now())).collect(),
        },
        wanted,
    };
    let mut input = File::from(memfd_create("contents", MemfdFlags::CLOEXEC)?);
    input.write_all(&serde_json::to_vec(&order)?)?;
    input.rewind()?;
    let said = Chore::start(users, &["contents"], Some(input.into()))?.finish()?;
    let found: FoundFiles = serde_json::from_str(&said)?;
    if found.is_gone { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
}

/// The chore.
///
/// # Errors
/// In words.
pub fn chore_of_contents(input: impl Read) -> Result<String, String> {
    let done = || -> io::Result<FoundFiles> {
        let order: ContentsOrder = serde_json::from_reader(input)?;
        with_own_mounts()?;
        let (mut old, mut new) = (ContentSide::of(&order.old), ContentSide::of(&order.new));
        let mut found = FoundFiles::default();
        let mut left = MOST_OF_ALL;
        for wanted in &order.wanted {
            find(wanted, (&mut old, &mut new), &mut left, &mut found)?;
        }
        Ok(found)
    };
    let found = match done() {
        // Of files that is no failure.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            FoundFiles { is_gone: true, ..FoundFiles::default() }
        }
        done => done.map_err(|error| error.to_string())?,
    };
    serde_json::to_string(&found).map_err(|error| error.to_string())
}

/// Fails only where the directories themselves cannot be looked at.
fn find<'o>(
    wanted: &Wanted,
    (old, new): (&mut ContentSide<'o>, &mut ContentSide<'o>),
    left: &mut u64,
    found: &mut FoundFiles,
) -> io::Result<()> {
    let [from, to] = [&wanted.old, &wanted.new].map(|path| path.as_ref().map(ContentText::bytes));
    let (side, above) = match (&from, &to) {
        (Some(from), _) => (&mut *old, from),
        (None, Some(to)) => (&mut *new, to),
        (None, None) => return Ok(()),
    };
    // What stands below a directory, beside the directory's own name.
    let (inner, why) = side.below(above)?;
    let mut leave_out = |path: &[u8], why: String| {
        found.left_out.push(LeftOutPaths { path: ContentText::from(path), why });
    };
    if let Some(why) = why {
        leave_out(above, why);
    }
    for inner in inner {
        let whole =
            |path: &Option<Vec<u8>>| path.as_ref().map(|path| [path.as_slice(), &inner].concat());
        let (from, to) = (whole(&from), whole(&to));
        let mut nodes = [None, None];
        let mut is_left_out = false;
        for (node, (side, path)) in nodes.iter_mut().zip([(&mut *old, &from), (&mut *new, &to)]) {
            let Some(path) = path else { continue };
            match side.node(path, left)? {
                Ok(there) => *node = there.map(|there| (ContentText::from(&**path), there)),
                Err(why) => {
                    leave_out(path, why);
                    is_left_out = true;
                    break;
                }
            }
        }
        let [old, new] = nodes;
        if is_left_out {
            continue;
        }
        if old.is_none() && new.is_none() {
            let path = to.or(from).unwrap_or_default();
            leave_out(&path, NOT_THERE.to_owned());
            continue;
        }
        found.files.push(FoundFile { old, new, is_written: wanted.is_written });
    }
    Ok(())
}

/// Why a file is on neither side.
const NOT_THERE: &str = "not found: a secret in its name is masked, or it has changed since";

/// The container's files at one time.
struct ContentSide<'o> {
    views: &'o [(PathBuf, Vec<PathBuf>)],
    open: Vec<Option<Dir>>,
}

impl<'o> ContentSide<'o> {
    fn of(views: &'o [(PathBuf, Vec<PathBuf>)]) -> Self {
        ContentSide { views, open: views.iter().map(|_| None).collect() }
    }

    /// The overlay that a path belongs to, and the path in there.
    fn place(&mut self, path: &[u8]) -> io::Result<(&Dir, Vec<u8>)> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let views = self.views.iter().enumerate().filter(|(_, view)| path.starts_with(&view.0));
        let (at, (top, dirs)) = views
            .max_by_key(|(_, view)| view.0.as_os_str().len())
            .ok_or(io::ErrorKind::NotFound)?;
        let inner = path.strip_prefix(top).unwrap_or(path).as_os_str().as_bytes().to_vec();
        if self.open[at].is_none() {
            self.open[at] = Some(Dir::from(merged(dirs)?));
        }
        let dir = self.open[at].as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok((dir, inner))
    }

    /// What follows a path in the paths of the files that it stands for, and why some are left out.
    fn below(&mut self, path: &[u8]) -> io::Result<(Vec<Vec<u8>>, Option<String>)> {
        let (dir, inner) = self.place(path)?;
        let is_directory = dir.look(&inner).is_ok_and(|stat| {
            stat.is_some_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::Directory)
        });
        if !is_directory {
            return Ok((vec![Vec::new()], None));
        }
        let mut all = Vec::new();
        let walked = dir.open(&inner).map_err(ContentWalkEnd::Failed).and_then(|dir| {
            dir.walk(|item| {
                if !matches!(item.kind, FileType::RegularFile | FileType::Symlink) {
                    return Ok(());
                }
                if all.len() == MOST_IN_ONE {
                    return Err(ContentWalkEnd::Full);
                }
                all.push([b"/", item.path].concat());
                Ok(())
            })
        });
        let why = match walked {
            Ok(()) => None,
            Err(ContentWalkEnd::Full) => {
                Some(format!("only {MOST_IN_ONE} of its files are looked at"))
            }
            Err(ContentWalkEnd::Failed(error)) => {
                Some(format!("not all of it can be read: {error}"))
            }
        };
        Ok((all, why))
    }

    /// Inside: why it is not looked at.
    fn node(
        &mut self,
        path: &[u8],
        left: &mut u64,
    ) -> io::Result<Result<Option<KeptNode>, String>> {
        let (dir, inner) = self.place(path)?;
        Ok(match read(dir, &inner, left) {
            // A file or a link is where its directory was.
            Err(error) if is_absent(&error) => Ok(None),
            done => done.map_err(|error| format!("it cannot be read: {error}")),
        })
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Why a walk has ended.
enum ContentWalkEnd {
    Full,
    Failed(io::Error),
}

impl From<io::Error> for ContentWalkEnd {
    fn from(error: io::Error) -> Self {
        ContentWalkEnd::Failed(error)
    }
}

fn read(dir: &Dir, inner: &[u8], left: &mut u64) -> io::Result<Option<KeptNode>> {
    let Some(stat) = dir.look(inner)? else { return Ok(None) };
    let content = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => Some(dir.read_link(inner)?),
        FileType::RegularFile => {
            let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
            let is_small = size <= MOST_OF_ONE.min(*left);
            is_small.then(|| dir.read_small(inner, MOST_OF_ONE)).transpose()?
        }
        _ => return Ok(None),
    };
    *left = left.saturating_sub(content.as_ref().map_or(0, |content| content.len() as u64));
    Ok(Some(KeptNode { mode: stat.st_mode, content: content.map(|it| ContentText::from(&*it)) }))
}
