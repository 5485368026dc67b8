//! ECS clusters made by callers of the endpoint, and builds as their tasks.
//!
//! ```text
//! ecs-clusters.json   all clusters and tasks; missing until something is made or changed
//! ecs-clusters.lock   locked with flock during a change
//! ```
//!
//! Every endpoint of a state folder reads the file, again after each change. A build without an
//! entry is a task of [`DEFAULT`], which always exists.

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

/// The cluster of builds that were put into no other.
pub const DEFAULT: &str = "default";
/// Largest file, in bytes.
const MAX_BYTES: u64 = 8 << 20;
/// Most clusters.
pub const MOST: usize = 1000;
/// A build without a folder for this long, in milliseconds, is no longer expected to start.
const FORGOTTEN_MS: i64 = 3 * 24 * 3600 * 1000;
/// A file written within this time may change again without a new stamp.
const SETTLED: Duration = Duration::from_secs(1);

/// A cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    pub name: String,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// As passed to CreateCluster and UpdateCluster.
    #[serde(default)]
    pub configuration: Option<Value>,
    #[serde(default)]
    pub settings: Option<Value>,
}

/// A build's facts as a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    pub cluster: String,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The caller's `startedBy`.
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

/// The file's contents.
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

    /// The cluster of this name, for changes.
    pub fn cluster_mut(&mut self, name: &str) -> Option<&mut Cluster> {
        if name == DEFAULT && !self.clusters.iter().any(|cluster| cluster.name == DEFAULT) {
            self.clusters.insert(0, default());
        }
        self.clusters.iter_mut().find(|cluster| cluster.name == name)
    }

    /// The clusters' names, the default one first.
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

    /// The cluster of a build.
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

/// Identifies a version of the file.
type ClustersFileStamp = Option<((u64, u64), u64, (i64, i64))>;

impl Clusters {
    pub fn of(home: &Home) -> Self {
        let path = home.root().join("ecs-clusters.json");
        Clusters { home: home.clone(), path, known: Mutex::default() }
    }

    /// The table as the file has it now.
    pub fn current(&self) -> io::Result<Arc<ClusterTable>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.1 != Some(self.stamp()?) {
            let (table, stamp) = self.read()?;
            *known = (Arc::new(table), stamp);
        }
        Ok(Arc::clone(&known.0))
    }

    /// Changes the table under a lock. An error changes nothing.
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
        // The new stamp may equal the old one.
        self.known.lock().unwrap_or_else(PoisonError::into_inner).1 = None;
        Ok(done)
    }

    /// Forgets builds that no longer exist.
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

    /// Reads the file. Returns its stamp if the stamp will reveal the next change.
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
        // A refused change changes nothing.
        let refused = one.change(|table| {
            table.remove("web");
            Err::<(), _>(io::Error::other("no"))
        });
        assert!(refused.is_err());
        assert!(other.current().expect("three").cluster("web").is_some());
        // The default cluster can have a configuration.
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
