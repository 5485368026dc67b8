//! Removes what a killed runner's engine left of a build, from notes written before anything is
//! made.
//!
//! A build's folder has two such notes. One is part of its `meta.json` and says where layer and
//! control groups may be; it is written first. The other is `container.json`, which the engine
//! writes before anything runs in the container.

use super::{Recorder, daemon, kept, process};
use runner_host::private::remove_tree;
use runner_host::users;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The engine's part of a build's folder.
#[derive(Clone, Debug)]
pub struct EngineFolder(PathBuf);

/// A container that may still have to be ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum LeftoverContainer {
    /// Its PID 1 on this machine, and the cgroup in which its processes may be frozen.
    Process {
        pid: u32,
        start_time: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<PathBuf>,
    },
    /// A daemon's container. `address` is `None` if the daemon was started for the build.
    Daemon { program: String, address: Option<String>, image: Option<String> },
}

/// What may be left besides the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leavings {
    /// Where the layer may be; not always below the build's own folder.
    pub layers: Vec<PathBuf>,
    /// Control groups that may exist.
    #[serde(default)]
    pub groups: Vec<PathBuf>,
}

impl EngineFolder {
    pub fn of(build: &Path) -> Self {
        EngineFolder(build.to_path_buf())
    }

    /// The build's layer, removed when the build ends.
    pub fn layer(&self) -> PathBuf {
        self.0.join("layer")
    }

    /// Files for the program that carries the build's network.
    pub(super) fn network(&self) -> PathBuf {
        self.0.join("network")
    }

    /// A recorder that writes down the container, which may not exist yet.
    pub(super) fn recorder(&self) -> Recorder {
        let path = self.container();
        Arc::new(move |record| {
            // Atomic: the sweep trusts what it reads.
            let new = unfinished(&path);
            fs::write(&new, serde_json::to_vec(record)?)?;
            users::give(&new)?;
            fs::rename(&new, &path)
        })
    }

    /// The first process of the build's container, if it runs on this machine.
    pub fn first_process(&self) -> Option<u32> {
        match self.record().ok()?? {
            LeftoverContainer::Process { pid, .. } => Some(pid),
            // A daemon's containers have their own pid namespace.
            LeftoverContainer::Daemon { .. } => None,
        }
    }

    fn container(&self) -> PathBuf {
        self.0.join("container.json")
    }

    /// `None` if no container was ever made.
    fn record(&self) -> io::Result<Option<LeftoverContainer>> {
        match fs::read(self.container()) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends the container. Returns the reason if something is left at a daemon.
    pub fn end_container(&self, build: &str) -> io::Result<Option<io::Error>> {
        // It normally ends by itself with its runner.
        Ok(match self.record()? {
            Some(LeftoverContainer::Process { pid, start_time, group }) => {
                runner_sandbox::end(pid, start_time)?;
                if let Some(group) = group {
                    runner_sandbox::remove_group(&group)?;
                }
                None
            }
            Some(LeftoverContainer::Daemon { program, address, image }) => {
                let (address, image) = (address.as_deref(), image.as_deref());
                daemon::remove_leftover(&program, address, image, build).err()
            }
            None => None,
        })
    }

    /// Removes the layer and the engine's other files. Goes on after a failure and returns the
    /// first one.
    pub fn clear(&self, leavings: &Leavings) -> io::Result<()> {
        let remove = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        };
        let container = self.container();
        let others =
            [remove_tree(&self.network()), remove(&unfinished(&container)), remove(&container)];
        clear_layers(&leavings.layers).into_iter().chain(others).collect()
    }
}

/// The record of a container while it is being written; a killed runner may leave it.
fn unfinished(container: &Path) -> PathBuf {
    container.with_extension("new")
}

impl Leavings {
    /// The note for the build's `meta.json`.
    pub fn noted(&self) -> io::Result<Map<String, Value>> {
        match serde_json::to_value(self)? {
            Value::Object(noted) => Ok(noted),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Reads the note in `meta.json`. Without one, the layer is in the default place.
    pub fn read(noted: Map<String, Value>, folder: &EngineFolder) -> Self {
        serde_json::from_value(Value::Object(noted))
            .unwrap_or_else(|_| Leavings { layers: vec![folder.layer()], groups: Vec::new() })
    }

    /// Removes the control groups and kills everything in them.
    pub fn remove_groups(&self) -> io::Result<()> {
        self.groups.iter().try_for_each(|group| runner_sandbox::remove_group(group))
    }

    /// Releases the name under which a build without a container knows its directory.
    pub fn release(&self) {
        process::release(&self.layers);
    }
}

/// Removes a build's layers, but its name first: a name that leads nowhere looks to the next build
/// like a dead build's.
pub fn clear_layers(layers: &[PathBuf]) -> Vec<io::Result<()>> {
    process::release(layers);
    remove_layers(layers)
}

/// Removes the layers of a build that goes on.
pub fn remove_layers(layers: &[PathBuf]) -> Vec<io::Result<()>> {
    let removed = layers.iter().map(|layer| {
        kept::remove_quickly(layer);
        remove_tree(layer)
    });
    removed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leavings_are_read_as_earlier_versions_wrote_them() {
        let folder = EngineFolder::of(Path::new("/b"));
        let read = |text: &str| {
            let noted: Map<String, Value> = serde_json::from_str(text).expect("an object");
            Leavings::read(noted, &folder)
        };
        let leavings = Leavings { layers: vec!["/l".into()], groups: vec!["/g".into()] };
        assert_eq!(read(r#"{"layers":["/l"],"groups":["/g"]}"#), leavings);
        assert_eq!(Leavings::read(leavings.noted().expect("noted"), &folder), leavings);
        assert_eq!(read(r#"{"layers":["/l"],"other":1}"#).groups, [""; 0].map(PathBuf::from));
        assert_eq!(read(r#"{"layers":7}"#).layers, [PathBuf::from("/b/layer")]);
        let daemon = r#"{"daemon":{"program":"podman","address":null,"image":null}}"#;
        let record =
            LeftoverContainer::Daemon { program: "podman".to_owned(), address: None, image: None };
        assert_eq!(serde_json::to_string(&record).expect("written"), daemon);
        let process = r#"{"process":{"pid":7,"startTime":9}}"#;
        let record = LeftoverContainer::Process { pid: 7, start_time: 9, group: None };
        assert_eq!(serde_json::from_str::<LeftoverContainer>(process).expect("read"), record);
    }

    /// The runner was killed between writing the record and giving it its name.
    #[test]
    fn an_unfinished_record_is_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = EngineFolder::of(dir.path());
        let record = LeftoverContainer::Process { pid: 7, start_time: 9, group: None };
        fs::create_dir(folder.container()).expect("in the way of its name");
        folder.recorder()(&record).expect_err("not renamed");
        fs::remove_dir(folder.container()).expect("removed");
        let leavings = Leavings { layers: Vec::new(), groups: Vec::new() };
        folder.clear(&leavings).expect("cleared");
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0);
    }
}
