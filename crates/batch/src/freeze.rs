//! The sources of a batch, copied once. Every build sees the copy through a separate layer.

use runner_build::source;
use runner_build::{BuildRequest, FrozenSource};
use runner_engine::tree::copy_tree;
use runner_engine::unseen::Unseen;
use runner_folder::state::{BatchDir, Home};
use runner_host::private::make_private;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Copies of a request's sources, the primary one first.
pub struct FrozenSources {
    pub frozen: Vec<FrozenSource>,
    /// Paths the caller may not read; they are missing from the copies.
    pub left_out: Vec<PathBuf>,
}

/// Copies the sources. Ends early, with [`io::ErrorKind::Interrupted`], when `stop` is set.
pub fn freeze(
    request: &BuildRequest,
    home: &Home,
    dir: &BatchDir,
    stop: &AtomicBool,
) -> io::Result<FrozenSources> {
    let unseen = Unseen::of(home.root());
    let secondary = request.secondary_sources.iter().map(|(_, source)| source);
    let mut sources = FrozenSources { frozen: Vec::new(), left_out: Vec::new() };
    make_private(&dir.sources())?;
    for (number, from) in [&request.source].into_iter().chain(secondary).enumerate() {
        let to = dir.sources().join(number.to_string());
        let mut facts = source::facts(from);
        // As in AWS: whatever branch was named, all builds use one commit.
        if facts.commit.is_some() {
            facts.branch = None;
        }
        let left_out = &mut sources.left_out;
        let mut failed = |path: &std::path::Path, error: io::Error| match error.kind() {
            // A build of this user could not read the file either.
            io::ErrorKind::PermissionDenied => {
                left_out.push(from.join(path));
                Ok(())
            }
            _ => Err(error),
        };
        copy_tree(from, &to, &unseen, stop, &mut failed)?;
        sources.frozen.push(FrozenSource { dir: to, facts });
    }
    Ok(sources)
}
