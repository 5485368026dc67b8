//! Finds a build's folder by BUILD, the name that users and clients give.
//!
//! One rule for every verb and for targets of session calls ([`choose`]): a build id, its uuid, a
//! unique prefix of either, the name of a project with one live build, or a build's name in a batch
//! (`identifier`). If a live build is needed, prefixes must be unique among live builds, otherwise
//! among all. Names in batches repeat: of the ended builds with one, the last counts. Without a
//! name: the one live build; for reading also the build that ended last, if none is live.

use super::build_dir::{BuildDir, MetaError};
use super::home::{Home, StateError};
use std::fs;
use std::time::SystemTime;

/// Most builds named in a message.
const MOST_NAMED: usize = 10;

/// A build on this machine.
#[derive(Clone, Debug)]
pub struct KnownBuild {
    /// `<project>:<uuid>`.
    pub id: String,
    pub uuid: String,
    /// Its name in its batch, if it is part of one.
    pub identifier: Option<String>,
    pub dir: BuildDir,
    /// Whether it has not ended.
    pub is_live: bool,
}

/// A build that this program cannot read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    pub uuid: String,
    pub why: String,
}

/// What the caller needs the build for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildNeed {
    /// An operation that needs a live build.
    Live,
    /// An operation that works on any build.
    Any,
    /// Reading only.
    Reading,
}

/// A build's names.
pub(super) trait BuildNames {
    /// `<project>:<uuid>`.
    fn id(&self) -> &str;
    fn uuid(&self) -> &str;
    fn identifier(&self) -> Option<&str>;
    /// When it began; may be read from disk.
    fn begun(&self) -> SystemTime;
    fn is_live(&self) -> bool;
}

impl BuildNames for KnownBuild {
    fn id(&self) -> &str {
        &self.id
    }

    fn uuid(&self) -> &str {
        &self.uuid
    }

    fn identifier(&self) -> Option<&str> {
        self.identifier.as_deref()
    }

    fn begun(&self) -> SystemTime {
        let written = fs::metadata(self.dir.path().join("meta.json"));
        written.and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    fn is_live(&self) -> bool {
        self.is_live
    }
}

/// Why a name gives no single suitable build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotOne {
    None,
    Several(Vec<String>),
    /// All matching builds have ended.
    Ended(Vec<String>),
}

/// Chooses the build that a name means.
pub(super) fn choose<'a, B: BuildNames>(
    builds: &'a [B],
    wanted: &str,
    need: BuildNeed,
) -> Result<&'a B, NotOne> {
    let is_exact = |build: &&B| build.id() == wanted || build.uuid() == wanted;
    let found = match builds.iter().find(is_exact) {
        Some(exact) => vec![exact],
        None => {
            let mut found = in_batches(builds, wanted);
            let is_live = found.iter().any(|build| build.is_live());
            // The author of a buildspec chooses names in a batch; none hides another's project or
            // the beginning of another's uuid.
            if is_live {
                let is_another = |build: &&B| {
                    build.identifier() != Some(wanted)
                        && (is_of_project(*build, wanted)
                            || build.is_live() && build.uuid().starts_with(wanted))
                };
                found.extend(builds.iter().filter(is_another));
            } else if found.is_empty()
                || !fitting(builds, wanted, true).is_empty()
                || builds.iter().any(|build| project_of(build) == Some(wanted))
            {
                found = fitting(builds, wanted, need == BuildNeed::Live);
            }
            // Report that a build has ended rather than that it does not exist.
            if found.is_empty() { fitting(builds, wanted, false) } else { found }
        }
    };
    let ids = || found.iter().map(|build| build.id().to_owned()).collect();
    match found.as_slice() {
        [] => Err(NotOne::None),
        ended if need == BuildNeed::Live && !ended.iter().any(|build| build.is_live()) => {
            Err(NotOne::Ended(ids()))
        }
        [one] => Ok(one),
        _ => Err(NotOne::Several(ids())),
    }
}

/// Builds with this name in their batch: the live ones, or else the one that began last.
fn in_batches<'a, B: BuildNames>(builds: &'a [B], wanted: &str) -> Vec<&'a B> {
    let named = || builds.iter().filter(|build| build.identifier() == Some(wanted));
    let live: Vec<&B> = named().filter(|build| build.is_live()).collect();
    match live.is_empty() {
        true => named().max_by_key(|build| build.begun()).into_iter().collect(),
        false => live,
    }
}

/// Whether a build is a live one of the project with this name.
fn is_of_project<B: BuildNames>(build: &B, wanted: &str) -> bool {
    build.is_live() && project_of(build) == Some(wanted)
}

fn project_of<B: BuildNames>(build: &B) -> Option<&str> {
    build.id().strip_suffix(build.uuid())?.strip_suffix(':')
}

/// Builds that match an incomplete name.
fn fitting<'a, B: BuildNames>(builds: &'a [B], wanted: &str, only_live: bool) -> Vec<&'a B> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let is_project = builds.iter().any(|build| is_of_project(build, wanted));
    let fits = |build: &&B| {
        let is_in = build.is_live() || !only_live;
        is_of_project(*build, wanted)
            || is_in && build.uuid().starts_with(wanted)
            // A project's name is not a prefix of another project's.
            || is_in && !is_project && build.id().starts_with(wanted)
    };
    builds.iter().filter(fits).collect()
}

/// Why there is no build.
#[derive(Debug, thiserror::Error)]
pub enum BuildLookupError {
    #[error("no build is live")]
    NoneLive,
    #[error("there are no builds on this machine")]
    NoneAtAll,
    #[error("{count} builds are live: say which one")]
    Ambiguous { count: usize, ids: Vec<String> },
    #[error("there is no build `{wanted}` on this machine")]
    Unknown { wanted: String, live: Vec<String> },
    #[error("`{wanted}` matches {count} builds")]
    NotUnique { wanted: String, count: usize, ids: Vec<String> },
    #[error("build {id} has ended")]
    Ended { id: String, live: Vec<String> },
    #[error("`{wanted}` matches no live build, and {count} ended ones")]
    AllEnded { wanted: String, count: usize, live: Vec<String> },
    #[error("build {uuid} cannot be read: {why}")]
    Unreadable { uuid: String, why: String },
    #[error(transparent)]
    State(#[from] StateError),
}

impl BuildLookupError {
    /// The error in one line, with the possible choices.
    pub fn in_full(&self) -> String {
        match self {
            BuildLookupError::Ambiguous { ids, .. } | BuildLookupError::NotUnique { ids, .. } => {
                format!("{self}: {}", ids.join(", "))
            }
            BuildLookupError::Unknown { live, .. }
            | BuildLookupError::Ended { live, .. }
            | BuildLookupError::AllEnded { live, .. } => match live.as_slice() {
                [] => format!("{self}; no build is live"),
                live => format!("{self}; live builds: {}", live.join(", ")),
            },
            BuildLookupError::NoneLive
            | BuildLookupError::NoneAtAll
            | BuildLookupError::Unreadable { .. }
            | BuildLookupError::State(_) => self.to_string(),
        }
    }
}

/// Builds whose owner lives, unsorted. Dead builds have been swept before.
pub fn live_builds(home: &Home) -> Result<Vec<KnownBuild>, StateError> {
    let mut live = builds_in(home, &home.live())?.0;
    live.retain(|known| known.is_live);
    Ok(live)
}

/// Builds listed as live; some may just have ended.
pub fn listed_builds(home: &Home) -> Result<Vec<KnownBuild>, StateError> {
    Ok(builds_in(home, &home.live())?.0)
}

/// All builds that left a record or still run, unsorted, and those that cannot be read.
pub fn all_builds(home: &Home) -> Result<(Vec<KnownBuild>, Vec<Unreadable>), StateError> {
    builds_in(home, &home.builds())
}

fn builds_in(
    home: &Home,
    list: &std::path::Path,
) -> Result<(Vec<KnownBuild>, Vec<Unreadable>), StateError> {
    let failed = |error| StateError::new("list", list, error);
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(list).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(uuid) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        match known(home, uuid) {
            Ok(Some(known)) => found.push(known),
            // Removed meanwhile.
            Ok(None) => {}
            Err(why) => unreadable.push(Unreadable { uuid: uuid.to_owned(), why: why.to_string() }),
        }
    }
    Ok((found, unreadable))
}

/// The build with this uuid.
pub fn known(home: &Home, uuid: &str) -> Result<Option<KnownBuild>, MetaError> {
    let dir = BuildDir::of(home, uuid);
    let Some(meta) = dir.meta()? else { return Ok(None) };
    let is_live = dir.is_listed() && !dir.has_record();
    let (id, identifier) = (meta.build_id(), meta.identifier);
    Ok(Some(KnownBuild { id, uuid: uuid.to_owned(), identifier, dir, is_live }))
}

/// The build that a name means.
pub fn find(
    home: &Home,
    wanted: Option<&str>,
    need: BuildNeed,
) -> Result<KnownBuild, BuildLookupError> {
    match wanted {
        None => only_one(home, need),
        Some(wanted) => {
            let (mut builds, unreadable) = all_builds(home)?;
            let chosen = choose(&builds, wanted, need).map(|chosen| chosen.uuid.clone());
            match chosen {
                Ok(uuid) => {
                    builds.retain(|build| build.uuid == uuid);
                    builds.pop().ok_or(BuildLookupError::NoneLive)
                }
                Err(NotOne::None) => {
                    Err(match unreadable.into_iter().find(|it| it.uuid.starts_with(wanted)) {
                        Some(Unreadable { uuid, why }) if !wanted.is_empty() => {
                            BuildLookupError::Unreadable { uuid, why }
                        }
                        _ => BuildLookupError::Unknown {
                            wanted: wanted.to_owned(),
                            live: live_ids(&builds),
                        },
                    })
                }
                Err(NotOne::Several(ids)) => Err(BuildLookupError::NotUnique {
                    wanted: wanted.to_owned(),
                    count: ids.len(),
                    ids: some(ids),
                }),
                Err(NotOne::Ended(mut ids)) => {
                    let (count, live) = (ids.len(), live_ids(&builds));
                    Err(match ids.pop() {
                        Some(id) if count == 1 => BuildLookupError::Ended { id, live },
                        _ => BuildLookupError::AllEnded { wanted: wanted.to_owned(), count, live },
                    })
                }
            }
        }
    }
}

fn only_one(home: &Home, need: BuildNeed) -> Result<KnownBuild, BuildLookupError> {
    let mut live = live_builds(home)?;
    match live.len() {
        1 => live.pop().ok_or(BuildLookupError::NoneLive),
        0 if need == BuildNeed::Reading => newest(home)?.ok_or(BuildLookupError::NoneAtAll),
        0 => Err(BuildLookupError::NoneLive),
        count => Err(BuildLookupError::Ambiguous { count, ids: live_ids(&live) }),
    }
}

/// The build that ended last.
fn newest(home: &Home) -> Result<Option<KnownBuild>, StateError> {
    let ended = |known: &KnownBuild| -> Option<SystemTime> {
        fs::metadata(known.dir.record_file()).ok()?.modified().ok()
    };
    let (builds, _) = all_builds(home)?;
    let ended = builds.into_iter().filter_map(|known| Some((ended(&known)?, known)));
    Ok(ended.max_by_key(|(time, _)| *time).map(|(_, known)| known))
}

fn live_ids(builds: &[KnownBuild]) -> Vec<String> {
    let live = builds.iter().filter(|build| build.is_live);
    some(live.map(|build| build.id.clone()).collect())
}

/// Shortens a list of ids for a message.
fn some(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    if ids.len() > MOST_NAMED {
        ids.truncate(MOST_NAMED);
        ids.push("...".to_owned());
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An id, with a name in a batch after a blank, and whether it is live.
    struct Build(&'static str, bool);

    impl BuildNames for Build {
        fn id(&self) -> &str {
            self.0.split(' ').next().unwrap_or_default()
        }

        fn uuid(&self) -> &str {
            self.id().rsplit_once(':').map_or("", |(_, uuid)| uuid)
        }

        fn identifier(&self) -> Option<&str> {
            self.0.split_once(' ').map(|(_, name)| name)
        }

        fn begun(&self) -> SystemTime {
            // A later uuid began later.
            let last = self.uuid().bytes().last().unwrap_or_default();
            SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(last.into())
        }

        fn is_live(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn one_rule_for_names() {
        let builds = [
            Build("shop:aaaa-1", false),
            Build("shop:aaaa-2", true),
            Build("shop-front:abcd-1", true),
            Build("blog:bbbb-1", true),
            Build("blog:bbbb-2", true),
            Build("old:cccc-1", false),
            Build("older:cccc-2", false),
            Build("c:dddd-1", true),
            Build("many:eeee-1 unit", false),
            Build("many:eeee-2 unit", false),
            Build("many:eeee-3 lint", false),
            Build("many:eeee-4 lint", true),
            Build("many:eeee-5 blog", true),
            Build("many:eeee-6 ffff", true),
            Build("many:eeee-7 older", false),
            Build("many:eeee-8 abcd", false),
            Build("many:ffff-1 x", false),
            Build("more:ffff-2 twice", true),
            Build("more:ffff-3 twice", true),
        ];
        let choose = |wanted: &str, need| {
            choose(&builds, wanted, need).map(|build| build.id().to_owned()).map_err(
                |not| match not {
                    NotOne::None => "none".to_owned(),
                    NotOne::Several(ids) => format!("{} of them", ids.len()),
                    NotOne::Ended(ids) => format!("{} ended", ids.join(", ")),
                },
            )
        };
        let one = |id: &str| Ok(id.to_owned());
        let not = |why: &str| Err(why.to_owned());
        for (wanted, live, any) in [
            // Full names, and prefixes.
            ("shop:aaaa-2", one("shop:aaaa-2"), one("shop:aaaa-2")),
            ("aaaa-1", not("shop:aaaa-1 ended"), one("shop:aaaa-1")),
            ("aaaa", one("shop:aaaa-2"), not("2 of them")),
            ("a", not("2 of them"), not("3 of them")),
            ("shop:a", one("shop:aaaa-2"), not("2 of them")),
            ("shop-", one("shop-front:abcd-1"), one("shop-front:abcd-1")),
            // A project's name, even if it is a prefix of another's.
            ("shop", one("shop:aaaa-2"), one("shop:aaaa-2")),
            // Names in batches; none hides a project, or a live build of which it is a prefix.
            ("unit", not("many:eeee-2 ended"), one("many:eeee-2")),
            ("lint", one("many:eeee-4"), one("many:eeee-4")),
            ("blog", not("3 of them"), not("3 of them")),
            ("abcd", one("shop-front:abcd-1"), one("shop-front:abcd-1")),
            ("ffff", not("3 of them"), not("3 of them")),
            ("twice", not("2 of them"), not("2 of them")),
            ("uni", not("none"), not("none")),
            ("old", not("old:cccc-1, older:cccc-2 ended"), not("2 of them")),
            ("older", not("older:cccc-2 ended"), one("older:cccc-2")),
            // A project's name that is also a prefix of uuids.
            ("c", one("c:dddd-1"), not("3 of them")),
            ("", not("none"), not("none")),
            ("nowhere", not("none"), not("none")),
            ("front", not("none"), not("none")),
        ] {
            assert_eq!(choose(wanted, BuildNeed::Live), live, "{wanted}");
            assert_eq!(choose(wanted, BuildNeed::Any), any, "{wanted}");
            assert_eq!(choose(wanted, BuildNeed::Reading), any, "{wanted}");
        }
    }
}
