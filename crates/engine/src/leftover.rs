//! What an engine leaves of a build whose runner was killed: written down before it is made, and removed
//! from what is written there.
//!
//! A build's folder has two notes of it. One is part of its `meta.json` and says where layer and control groups
//! may be; it stands before anything is made. The other is `container.json`, written by the engine that makes the
//! container, before anything runs in it.

use super::{Recorder, daemon, kept, process};
use runner_host::private::remove_tree;
use runner_host::users;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What of a build's folder is its engine's.
#[derive(Clone, Debug)]
pub struct EngineFolder(PathBuf);

/// A container, as far as its end may have to be seen to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum LeftoverContainer {
    /// Its PID 1, on this machine, and the group in which what it runs may stand still.
    Process {
        pid: u32,
        start_time: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<PathBuf>,
    },
    /// What a daemon holds. The address is not there where the daemon was started for the build.
    Daemon { program: String, address: Option<String>, image: Option<String> },
}

/// What may be left beside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leavings {
    /// Where the layer may be; not always below the build's own folder.
    pub layers: Vec<PathBuf>,
    /// Control groups that may have been made.
    #[serde(default)]
    pub groups: Vec<PathBuf>,
}

impl EngineFolder {
    pub fn of(build: &Path) -> Self {
        EngineFolder(build.to_path_buf())
    }

    /// What the build wrote; removed with its end.
    pub fn layer(&self) -> PathBuf {
        self.0.join("layer")
    }

    /// What the program needs that carries the build's network.
    pub(super) fn network(&self) -> PathBuf {
        self.0.join("network")
    }

    /// Writes down which container there is, or will be.
    pub(super) fn recorder(&self) -> Recorder {
        let path = self.container();
        Arc::new(move |record| {
            // Whole or not there: the sweep believes what it finds.
            let new = path.with_extension("new");
            fs::write(&new, serde_json::to_vec(record)?)?;
            users::give(&new)?;
            fs::rename(&new, &path)
        })
    }

    /// The first process of the build's container, where that is one of this machine's.
    pub fn first_process(&self) -> Option<u32> {
        match self.record().ok()?? {
            LeftoverContainer::Process { pid, .. } => Some(pid),
            // Its containers have a pid namespace of their own.
            LeftoverContainer::Daemon { .. } => None,
        }
    }

    fn container(&self) -> PathBuf {
        self.0.join("container.json")
    }

    /// `None` where no container was ever made.
    fn record(&self) -> io::Result<Option<LeftoverContainer>> {
        match fs::read(self.container()) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sees to it that the container has ended. What is left at a daemon, and why, is the answer.
    pub fn end_container(&self, build: &str) -> io::Result<Option<io::Error>> {
        // It ends by itself when its runner is gone, unless it cannot.
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

    /// Removes the layer and what else the engine has put there. Goes on after a failure; the first one is
    /// returned.
    pub fn clear(&self, leavings: &Leavings) -> io::Result<()> {
        let record = match fs::remove_file(self.container()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        };
        let others = [remove_tree(&self.network()), record];
        clear_layers(&leavings.layers).into_iter().chain(others).collect()
    }
}

impl Leavings {
    /// As a part of the build's `meta.json`.
    pub fn noted(&self) -> io::Result<Map<String, Value>> {
        match serde_json::to_value(self)? {
            Value::Object(noted) => Ok(noted),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// What `meta.json` says; where it says nothing, the one place that every build has.
    pub fn read(noted: Map<String, Value>, folder: &EngineFolder) -> Self {
        serde_json::from_value(Value::Object(noted))
            .unwrap_or_else(|_| Leavings { layers: vec![folder.layer()], groups: Vec::new() })
    }

    /// Removes the control groups, with all that runs in them.
    pub fn remove_groups(&self) -> io::Result<()> {
        self.groups.iter().try_for_each(|group| runner_sandbox::remove_group(group))
    }

    /// Gives the name back by which a build without a container knows its directory.
    pub fn release(&self) {
        process::release(&self.layers);
    }
}

/// Removes what a build has written, its name first: once that leads nowhere, the next build takes it for a dead
/// one's.
pub fn clear_layers(layers: &[PathBuf]) -> Vec<io::Result<()>> {
    process::release(layers);
    remove_layers(layers)
}

/// Removes what was written for a build that goes on.
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
}
