//! The engine `process`: no container at all, for machines that are thrown away anyway.
//!
//! The build runs as the caller, on this machine's own files; a reaper holds its processes together
//! so that they end with it. Only when asked for. Uses the same program and protocol as the other
//! engine, and the same [`Container`].

use super::container::{InitContainer, Own};
use super::freezing::Freezing;
use super::init::InitClient;
use super::leftover::Record;
use super::unseen::Unseen;
use super::{
    Container, ContainerSpec, Engine, EngineError, Fut, Note, Recorder, SourceMount, Teller, limits,
};
use runner_host::beneath::{self, Dir, join, kind};
use runner_sandbox::{Groups, Sandbox};
use runner_wire::abi::COMMANDS;
use rustix::fs::{AtFlags, CWD, FileType, Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a build expects its directories.
pub(super) const USUAL: &str = "/codebuild";

/// Makes "containers" out of processes.
#[derive(Clone)]
pub(crate) struct ProcessEngine {
    pub record: Recorder,
    pub tell: Teller,
}

impl Engine for ProcessEngine {
    fn start(&self, spec: ContainerSpec) -> Fut<'_, Result<Arc<dyn Container>, EngineError>> {
        let engine = self.clone();
        let layer = spec.layers.first().cloned().unwrap_or_default();
        Box::pin(async move {
            let fault = |message: String| EngineError::fault(message, None);
            let started = tokio::task::spawn_blocking(move || engine.start_now(&spec)).await;
            let (mut sandbox, groups) =
                started.map_err(|panic| fault(format!("the start failed: {panic}")))??;
            let control = sandbox.take_control().ok_or(io::ErrorKind::NotConnected.into());
            let init = control
                .and_then(InitClient::new)
                .map_err(|error| fault(format!("cannot talk to the reaper: {error}")))?;
            // Numbers of processes are the machine's: by them nothing is put into a group.
            let freezing = Freezing::default();
            let own = Own { sandbox, pasta: None, image: None, etc: None, groups, freezing };
            Ok(Arc::new(InitContainer::of_caller(init, own, layer)) as Arc<dyn Container>)
        })
    }
}

impl ProcessEngine {
    fn start_now(&self, spec: &ContainerSpec) -> Result<(Sandbox, Groups), EngineError> {
        let fault = |error: io::Error| {
            EngineError::fault(format!("cannot prepare the build's directories: {error}"), None)
        };
        prepare(spec).map_err(fault)?;
        (self.tell)(Note::NotIsolated);
        if spec.privileged {
            (self.tell)(Note::PrivilegedIsIdle);
        }
        if let Some(source) = spec.sources.first()
            && !source.target.starts_with(USUAL)
        {
            let target = source.target.clone();
            (self.tell)(Note::SourceElsewhere { usual: USUAL, target });
        }
        let mut groups = limits::groups(spec, &self.tell);
        let mut refused = None;
        let sandbox = runner_sandbox::start_reaper(|pid, start_time| {
            (self.record)(&Record::Process { pid, start_time, group: None })?;
            refused = groups.add(pid).err();
            Ok(())
        })
        .map_err(|error| EngineError::fault(error.to_string(), None))?;
        if let Some(error) = refused {
            (self.tell)(limits::not_enforced(&spec.limits, error.to_string()));
            groups = Groups::default();
        }
        Ok((sandbox, groups))
    }
}

/// A build's directory: where all of it lies, and the name the build knows it by.
///
/// The usual name where that is free, else the place itself.
pub(super) fn claim(layer: &Path) -> io::Result<String> {
    let own = layer.join("codebuild");
    // Nobody else passes, whatever lies below: `container` lets the build's other users in.
    fs::DirBuilder::new().mode(0o700).create(layer)?;
    fs::create_dir(&own)?;
    fs::set_permissions(&own, Permissions::from_mode(0o755))?;
    clear_usual();
    Ok(match symlink(&own, USUAL) {
        Ok(()) => USUAL.to_owned(),
        Err(_) => own.display().to_string(),
    })
}

/// Removes what a build that is gone has left at the usual name. One at a time: two that had both seen it
/// would remove it twice, and the second time it is the other one's.
fn clear_usual() {
    let Ok(turn) = fs::File::open("/") else { return };
    // Whoever does not get it finds the name taken, and does without.
    if turn.try_lock().is_ok() && fs::read_link(USUAL).is_ok_and(|target| !target.exists()) {
        let _ = fs::remove_file(USUAL);
    }
}

/// Gives the usual name back, if it is this build's. While what it leads to is still there: from then on it
/// is anybody's to take.
pub(super) fn release(layers: &[PathBuf]) {
    if let Ok(target) = fs::read_link(USUAL)
        && layers.iter().any(|layer| target.starts_with(layer))
    {
        // What cannot be removed, the next build removes.
        let _ = fs::remove_file(USUAL);
    }
}

fn prepare(spec: &ContainerSpec) -> io::Result<()> {
    let root = spec.layers.first().ok_or(io::ErrorKind::NotFound)?.join("codebuild");
    let make = |path: &Path, mode| {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(mode))
    };
    make(&root.join("output"), 0o755)?;
    make(&root.join("output/tmp"), 0o700)?;
    let bin = root.join("user/bin");
    make(&bin, 0o755)?;
    for name in COMMANDS {
        symlink(spec.readonly.join("bin").join(name), bin.join(name))?;
    }
    for (number, source) in spec.sources.iter().enumerate() {
        copy_tree(&source.dir, &source.target, &spec.unseen)?;
        let place = root.join("output").join(format!("repository{number}"));
        copy_repositories(source, &place, &spec.unseen)?;
    }
    Ok(())
}

/// Copies what source control keeps outside of the source, and has the source name the copies: a
/// commit of the build must not show in the caller's repository.
fn copy_repositories(source: &SourceMount, place: &Path, unseen: &Unseen) -> io::Result<()> {
    let mut places = Vec::new();
    for (number, from) in source.extras.iter().enumerate() {
        let to = place.join(number.to_string());
        copy_tree(from, &to, unseen)?;
        places.push((from, to));
    }
    for (path, text) in &source.files {
        let moved =
            places.iter().find_map(|(from, to)| Some(to.join(path.strip_prefix(from).ok()?)));
        // Anything else that is absolute is the caller's own file.
        let own = path.is_relative().then(|| source.target.join(path));
        let Some(place) = moved.or(own) else { continue };
        let text = places.iter().fold(text.clone(), |text, (from, to)| {
            text.replace(&*from.to_string_lossy(), &to.to_string_lossy())
        });
        // A link at this place leads elsewhere.
        fs::remove_file(&place)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&place)?;
        file.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Copies a source: files and links with their times, directories and files with their modes; not our own
/// state in it, and not what goes while it is copied, as an editor's files and git's locks do.
fn copy_tree(from: &Path, to: &Path, unseen: &Unseen) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let top = Dir::top(from)?;
    let (mut pending, mut modes) = (vec![Vec::new()], Vec::new());
    while let Some(path) = pending.pop() {
        let listed = top.open(&path).and_then(|here| Ok((here.entries()?, here)));
        let (entries, here) = match listed {
            Err(error) if !path.is_empty() && error.kind() == io::ErrorKind::NotFound => continue,
            listed => listed?,
        };
        for beneath::Entry { name, .. } in entries {
            let path = join(&path, &name);
            let below = Path::new(OsStr::from_bytes(&path));
            let (source, target) = (from.join(below), to.join(below));
            if unseen.is(&source) {
                continue;
            }
            match copy_one(&here, &name, &target) {
                Ok(Some(mode)) => {
                    modes.push((target, mode));
                    pending.push(path);
                }
                Ok(None) => {}
                Err(_) if here.look(&name).is_ok_and(|there| there.is_none()) => {
                    // There may be the beginning of a copy.
                    let _ = fs::remove_file(&target);
                }
                Err(error) => {
                    let text = format!("cannot copy {}: {error}", source.display());
                    return Err(io::Error::other(text));
                }
            }
        }
    }
    // Last: a directory may be closed to writing.
    modes.into_iter().try_for_each(|(dir, mode)| fs::set_permissions(dir, mode))
}

/// Copies one thing; of a directory, which is empty yet, the mode it is to have.
fn copy_one(here: &Dir, name: &[u8], to: &Path) -> io::Result<Option<Permissions>> {
    let there = here.stat(name)?;
    let mode = Permissions::from_mode(there.st_mode & 0o7777);
    match kind(&there) {
        FileType::Directory => return fs::create_dir(to).map(|()| Some(mode)),
        FileType::Symlink => symlink(OsStr::from_bytes(&here.read_link(name)?), to)?,
        FileType::RegularFile => {
            let mut file = here.file(name)?;
            let mut copy = fs::File::create_new(to)?;
            io::copy(&mut file, &mut copy)?;
            copy.set_permissions(mode)?;
        }
        _ => return Ok(None),
    }
    // What `make`, for one, goes by.
    let nanoseconds = i64::try_from(there.st_mtime_nsec).unwrap_or(0);
    let time = Timespec { tv_sec: there.st_mtime, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_source_in_which_files_come_and_go() -> io::Result<()> {
        let bed = tempfile::tempdir()?;
        let (from, unseen) = (bed.path().join("from"), Unseen::of(&bed.path().join("state")));
        fs::create_dir(&from)?;
        fs::write(from.join("kept"), "as it was")?;
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let coming_and_going = scope.spawn(|| -> io::Result<()> {
                while !is_over.load(Ordering::Relaxed) {
                    fs::write(from.join("lock"), "")?;
                    fs::remove_file(from.join("lock"))?;
                    fs::create_dir(from.join("dir"))?;
                    fs::remove_dir(from.join("dir"))?;
                }
                Ok(())
            });
            let copied = (0..200).try_for_each(|number| {
                let to = bed.path().join(number.to_string());
                copy_tree(&from, &to, &unseen)?;
                assert_eq!(fs::read_to_string(to.join("kept"))?, "as it was");
                Ok(())
            });
            is_over.store(true, Ordering::Relaxed);
            coming_and_going.join().map_err(|_| io::ErrorKind::Other)?.and(copied)
        })
    }
}
