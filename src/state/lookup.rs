//! BUILD on the command line to a build's folder.
//!
//! A build id, its uuid or a unique prefix of either; nothing where one build is live.

use super::build_dir::BuildDir;
use super::home::{Home, StateError};
use std::fs;

/// A build on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// `<project>:<uuid>`.
    pub(crate) id: String,
    pub(crate) uuid: String,
    pub(crate) dir: BuildDir,
}

/// No build is meant, or more than one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("no build is live")]
    NoneLive,
    #[error("{} builds are live: say which one", ids.len())]
    Ambiguous { ids: Vec<String> },
    #[error("there is no build `{wanted}` on this machine")]
    Unknown { wanted: String, live: Vec<String> },
    #[error("`{wanted}` fits {} builds", ids.len())]
    NotUnique { wanted: String, ids: Vec<String> },
    #[error(transparent)]
    State(#[from] StateError),
}

/// Builds whose owner lives, in no order. Dead ones have been swept before.
pub(crate) fn live_builds(home: &Home) -> Result<Vec<Known>, StateError> {
    builds_in(home, &home.live())
}

/// All builds that left a record or still run, in no order.
pub(crate) fn all_builds(home: &Home) -> Result<Vec<Known>, StateError> {
    builds_in(home, &home.builds())
}

fn builds_in(home: &Home, list: &std::path::Path) -> Result<Vec<Known>, StateError> {
    let failed = |error| StateError::new("list", list, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(list).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(uuid) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let dir = BuildDir::of(home, uuid);
        // Gone meanwhile, or not ours.
        let Ok(meta) = dir.meta() else { continue };
        found.push(Known { id: meta.build_id(), uuid: uuid.to_owned(), dir });
    }
    Ok(found)
}

/// The build that is meant.
pub(crate) fn find(home: &Home, wanted: Option<&str>) -> Result<Known, LookupError> {
    let live = live_builds(home)?;
    let Some(wanted) = wanted else {
        return match live.len() {
            0 => Err(LookupError::NoneLive),
            1 => live.into_iter().next().ok_or(LookupError::NoneLive),
            _ => Err(LookupError::Ambiguous { ids: ids(&live) }),
        };
    };
    let mut matching = all_builds(home)?;
    matching.retain(|build| {
        build.uuid.starts_with(wanted) || build.id.starts_with(wanted) && wanted.contains(':')
    });
    if let Some(exact) =
        matching.iter().position(|build| build.uuid == wanted || build.id == wanted)
    {
        return Ok(matching.swap_remove(exact));
    }
    match matching.len() {
        0 => Err(LookupError::Unknown { wanted: wanted.to_owned(), live: ids(&live) }),
        1 => Ok(matching.swap_remove(0)),
        _ => Err(LookupError::NotUnique { wanted: wanted.to_owned(), ids: ids(&matching) }),
    }
}

fn ids(builds: &[Known]) -> Vec<String> {
    let mut ids: Vec<String> = builds.iter().map(|build| build.id.clone()).collect();
    ids.sort();
    ids
}
