//! What files held before and behind a run, as far as checkpoints have it.
//!
//! Each checkpoint leaves a line in the layer that says of which directories each overlay consisted. `runner diff --run N
//! --patch` reads two of them and has a process of its own look at the files as the container saw them: through overlays of the
//! same directories, which alone know renames and whiteouts.

use super::{Copies, KeptLayer, SHELF};
use runner_host::beneath::Dir;
use runner_sandbox::{Chore, UserMap, merged, with_own_mounts};
use rustix::fs::{FileType, MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
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
    pub old: Option<Text>,
    /// Its path behind it.
    pub new: Option<Text>,
}

/// Bytes, each as one character.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text(String);

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Text(bytes.iter().map(|&byte| char::from(byte)).collect())
    }
}

impl Text {
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.0.chars().map(|one| u8::try_from(u32::from(one)).unwrap_or(b'?')).collect()
    }
}

/// A file as it was before and behind the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FoundFile {
    pub old: Option<(Text, KeptNode)>,
    pub new: Option<(Text, KeptNode)>,
}

/// A file or a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptNode {
    pub mode: u32,
    /// Its contents, or a link's target; none where it is too large.
    pub content: Option<Text>,
}

/// What a process of its own is to look at.
#[derive(Debug, Serialize, Deserialize)]
struct ContentsOrder {
    old: Vec<(PathBuf, Vec<PathBuf>)>,
    new: Vec<(PathBuf, Vec<PathBuf>)>,
    wanted: Vec<Wanted>,
}

impl KeptLayer {
    /// The line of a checkpoint whose copies are these.
    #[must_use]
    pub fn line(&self, before: u32, copies: &Copies) -> RunLine {
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
        Dir::top_itself(&self.dir)?.append(LINES, 0o600)?.write_all(&text)
    }
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
    // A last line without its end is being written.
    Ok(lines.map_while(|line| serde_json::from_slice(&line.ok()?).ok()).collect())
}

/// What these files held before and behind a run: between two checkpoints, or between one and now.
///
/// # Errors
/// In words: what was kept is not there any more, or cannot be looked at.
pub fn contents(
    old: &[OverlayView],
    new: Option<&[OverlayView]>,
    users: Option<&UserMap>,
    wanted: Vec<Wanted>,
) -> io::Result<Vec<FoundFile>> {
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
    Ok(serde_json::from_str(&said)?)
}

/// The chore.
///
/// # Errors
/// In words.
pub fn chore_of_contents(input: impl Read) -> Result<String, String> {
    let done = || -> io::Result<String> {
        let order: ContentsOrder = serde_json::from_reader(input)?;
        with_own_mounts()?;
        let (mut old, mut new) = (Side::of(&order.old), Side::of(&order.new));
        let (mut found, mut left) = (Vec::new(), MOST_OF_ALL);
        for Wanted { old: from, new: to } in &order.wanted {
            let [from, to] = [from, to].map(|path| path.as_ref().map(Text::bytes));
            // What stood below a directory, beside the directory's own name.
            let inner = match &from {
                Some(from) => old.below(from)?,
                None => vec![Vec::new()],
            };
            for inner in inner {
                let whole = |path: &Option<Vec<u8>>| {
                    path.as_ref().map(|path| [path.as_slice(), &inner].concat())
                };
                let (from, to) = (whole(&from), whole(&to));
                let mut node = |side: &mut Side, path: Option<Vec<u8>>| -> io::Result<_> {
                    let Some(path) = path else { return Ok(None) };
                    let node = side.node(&path, &mut left)?;
                    Ok(node.map(|node| (Text::from(&*path), node)))
                };
                let (before, behind) = (node(&mut old, from)?, node(&mut new, to)?);
                if before.is_some() || behind.is_some() {
                    found.push(FoundFile { old: before, new: behind });
                }
            }
        }
        Ok(serde_json::to_string(&found)?)
    };
    done().map_err(|error| error.to_string())
}

/// The container's files at one time.
struct Side<'o> {
    views: &'o [(PathBuf, Vec<PathBuf>)],
    open: Vec<Option<Dir>>,
}

impl<'o> Side<'o> {
    fn of(views: &'o [(PathBuf, Vec<PathBuf>)]) -> Self {
        Side { views, open: views.iter().map(|_| None).collect() }
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

    /// What follows a path in the paths of the files that it stands for.
    fn below(&mut self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let (dir, inner) = self.place(path)?;
        let is_directory = dir
            .look(&inner)?
            .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        if !is_directory {
            return Ok(vec![Vec::new()]);
        }
        let mut all = Vec::new();
        dir.open(&inner)?.walk(|item| {
            if item.kind != FileType::Directory && all.len() < MOST_IN_ONE {
                all.push([b"/", item.path].concat());
            }
            Ok::<(), io::Error>(())
        })?;
        Ok(all)
    }

    fn node(&mut self, path: &[u8], left: &mut u64) -> io::Result<Option<KeptNode>> {
        let (dir, inner) = self.place(path)?;
        let stat = match dir.look(&inner) {
            // A file or a link is where its directory was.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => None,
            done => done?,
        };
        let Some(stat) = stat else { return Ok(None) };
        let content = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Some(dir.read_link(&inner)?),
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                let is_small = size <= MOST_OF_ONE.min(*left);
                is_small.then(|| dir.read_small(&inner, MOST_OF_ONE)).transpose()?
            }
            _ => return Ok(None),
        };
        *left = left.saturating_sub(content.as_ref().map_or(0, |content| content.len() as u64));
        Ok(Some(KeptNode { mode: stat.st_mode, content: content.map(|it| Text::from(&*it)) }))
    }
}
