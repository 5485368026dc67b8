//! Clusters of ECS, as callers of the endpoint have made them, and what builds are as tasks of them.
//!
//! ```text
//! ecs-clusters.json   all of it; missing while nobody has made or changed any
//! ecs-clusters.lock   locked with flock during a change
//! ```
//!
//! Every endpoint of a state folder reads it, again when it has changed. A build that nothing is said of is a task of
//! [`DEFAULT`], which is always there.

use super::home::Home;
use runner_core::time::WallTime;
use runner_host::private::write_durably;
use runner_host::users;
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The cluster of builds that nobody has put into another.
pub const DEFAULT: &str = "default";
/// The longest file.
const MAX_BYTES: u64 = 8 << 20;
/// Most clusters.
pub const MOST: usize = 1000;
/// A build without a folder has waited too long to be one that still waits.
const FORGOTTEN_MS: i64 = 3 * 24 * 3600 * 1000;
/// A file that was written so short a time ago may be written again without looking different.
const SETTLED: Duration = Duration::from_secs(1);

/// A cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    pub name: String,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// As CreateCluster and UpdateCluster take it.
    #[serde(default)]
    pub configuration: Option<Value>,
    #[serde(default)]
    pub settings: Option<Value>,
}

/// What a build is as a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    pub cluster: String,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Who has started it, in the words of the call.
    #[serde(default)]
    pub started_by: Option<String>,
    since: i64,
}

impl Task {
    pub fn new(cluster: &str, now: WallTime) -> Self {
        let (tags, started_by) = (BTreeMap::new(), None);
        Task { cluster: cluster.to_owned(), tags, started_by, since: now.epoch_millis() }
    }
}

/// All there is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterTable {
    #[serde(default)]
    clusters: Vec<Cluster>,
    /// By the builds' uuids.
    #[serde(default)]
    pub tasks: BTreeMap<String, Task>,
}

impl ClusterTable {
    /// The cluster of this name.
    pub fn cluster(&self, name: &str) -> Option<Cluster> {
        let found = self.clusters.iter().find(|cluster| cluster.name == name).cloned();
        found.or_else(|| (name == DEFAULT).then(default))
    }

    /// The cluster of this name, to be changed.
    pub fn cluster_mut(&mut self, name: &str) -> Option<&mut Cluster> {
        if name == DEFAULT && !self.clusters.iter().any(|cluster| cluster.name == DEFAULT) {
            self.clusters.insert(0, default());
        }
        self.clusters.iter_mut().find(|cluster| cluster.name == name)
    }

    /// Their names, that of the one that is always there first.
    pub fn names(&self) -> Vec<String> {
        let others = self.clusters.iter().map(|cluster| cluster.name.clone());
        [DEFAULT.to_owned()].into_iter().chain(others.filter(|name| name != DEFAULT)).collect()
    }

    pub fn add(&mut self, cluster: Cluster) {
        self.clusters.push(cluster);
    }

    pub fn remove(&mut self, name: &str) {
        self.clusters.retain(|cluster| cluster.name != name);
    }

    /// The cluster that a build is in.
    pub fn cluster_of(&self, uuid: &str) -> &str {
        self.tasks.get(uuid).map_or(DEFAULT, |task| &task.cluster)
    }
}

fn default() -> Cluster {
    Cluster { name: DEFAULT.to_owned(), ..Cluster::default() }
}

/// The clusters of a state folder.
#[derive(Debug)]
pub struct Clusters {
    home: Home,
    path: PathBuf,
    known: Mutex<(Arc<ClusterTable>, Option<ClustersFileStamp>)>,
}

/// By what a file is known to be the same.
type ClustersFileStamp = Option<((u64, u64), u64, (i64, i64))>;

impl Clusters {
    pub fn of(home: &Home) -> Self {
        let path = home.root().join("ecs-clusters.json");
        Clusters { home: home.clone(), path, known: Mutex::default() }
    }

    /// As the file has them now.
    pub fn current(&self) -> io::Result<Arc<ClusterTable>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.1 != Some(self.stamp()?) {
            let (table, stamp) = self.read()?;
            *known = (Arc::new(table), stamp);
        }
        Ok(Arc::clone(&known.0))
    }

    /// Changes them, one process after the other. What fails to be decided changes nothing.
    pub fn change<T, E: From<io::Error>>(
        &self,
        change: impl FnOnce(&mut ClusterTable) -> Result<T, E>,
    ) -> Result<T, E> {
        let _changing = self.locked()?;
        let (mut table, _) = self.read()?;
        let done = change(&mut table)?;
        self.forget(&mut table);
        let text = serde_json::to_vec_pretty(&table).map_err(io::Error::from)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(io::Error::other("there are too many clusters and tasks").into());
        }
        write_durably(&self.path, &text)?;
        users::give(&self.path)?;
        // Its stamp may be the one it had.
        self.known.lock().unwrap_or_else(PoisonError::into_inner).1 = None;
        Ok(done)
    }

    /// Forgets builds that are no longer there.
    fn forget(&self, table: &mut ClusterTable) {
        let now = runner_host::clock::wall().epoch_millis();
        let builds = self.home.root().join("builds");
        table.tasks.retain(|uuid, task| {
            now - task.since < FORGOTTEN_MS || builds.join(uuid).symlink_metadata().is_ok()
        });
    }

    fn locked(&self) -> io::Result<File> {
        let path = self.path.with_extension("lock");
        let flags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).bits().cast_signed();
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false).mode(0o600).custom_flags(flags);
        let file = options.open(&path)?;
        users::give(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    fn stamp(&self) -> io::Result<ClustersFileStamp> {
        match fs::metadata(&self.path) {
            Ok(data) => {
                Ok(Some(((data.dev(), data.ino()), data.len(), (data.ctime(), data.ctime_nsec()))))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the file says; its stamp, where that will tell the next change.
    fn read(&self) -> io::Result<(ClusterTable, Option<ClustersFileStamp>)> {
        let stamp = self.stamp()?;
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((ClusterTable::default(), Some(None)));
            }
            file => file?,
        };
        let age = file.metadata()?.modified()?;
        let is_settled = SystemTime::now().duration_since(age).is_ok_and(|age| age > SETTLED);
        let mut text = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
        let damaged = |why: String| {
            io::Error::other(format!("{} cannot be used: {why}", self.path.display()))
        };
        if text.len() as u64 > MAX_BYTES {
            return Err(damaged("it is too long".to_owned()));
        }
        let table = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        Ok((table, is_settled.then_some(stamp)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_kept_for_all_endpoints() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().to_path_buf()).expect("a home");
        let (one, other) = (Clusters::of(&home), Clusters::of(&home));
        assert_eq!(one.current().expect("none").names(), [DEFAULT]);
        let add = |clusters: &Clusters, name: &str| {
            clusters.change(|table| {
                table.add(Cluster { name: name.to_owned(), ..Cluster::default() });
                Ok::<_, io::Error>(())
            })
        };
        add(&one, "web").expect("added");
        add(&other, "db").expect("added");
        assert_eq!(one.current().expect("three").names(), [DEFAULT, "web", "db"]);
        // What is refused changes nothing.
        let refused = one.change(|table| {
            table.remove("web");
            Err::<(), _>(io::Error::other("no"))
        });
        assert!(refused.is_err());
        assert!(other.current().expect("three").cluster("web").is_some());
        // The one that is always there can have a configuration.
        one.change(|table| {
            let cluster = table.cluster_mut(DEFAULT).ok_or_else(|| io::Error::other("none"))?;
            cluster.settings = Some(Value::Bool(true));
            Ok::<_, io::Error>(())
        })
        .expect("changed");
        let table = other.current().expect("three");
        assert_eq!(table.names(), [DEFAULT, "web", "db"]);
        assert_eq!(table.cluster(DEFAULT).expect("there").settings, Some(Value::Bool(true)));
        fs::write(dir.path().join("ecs-clusters.json"), "{").expect("written");
        assert!(one.current().is_err());
    }

    #[test]
    fn builds_that_are_gone_are_forgotten() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().to_path_buf()).expect("a home");
        let clusters = Clusters::of(&home);
        fs::create_dir_all(dir.path().join("builds/here")).expect("made");
        let put = |names: &[&str], when: i64| {
            clusters.change(|table| {
                for name in names {
                    table.tasks.insert((*name).to_owned(), Task::new("web", WallTime(when)));
                }
                Ok::<_, io::Error>(())
            })
        };
        put(&["here", "gone"], 0).expect("put");
        put(&["waits"], runner_host::clock::wall().0).expect("put");
        let table = clusters.current().expect("a table");
        assert_eq!(table.tasks.keys().collect::<Vec<_>>(), ["here", "waits"]);
        assert_eq!((table.cluster_of("here"), table.cluster_of("gone")), ("web", DEFAULT));
    }
}
