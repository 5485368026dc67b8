//! Limits how many scripts run at a node, and how many wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most invocations that wait at a node, besides the running ones.
const WAITING: usize = 50;

/// The nodes with running or waiting invocations.
#[derive(Debug)]
pub(super) struct Lanes {
    workers: usize,
    lanes: Mutex<HashMap<String, Lane>>,
}

#[derive(Debug)]
struct Lane {
    places: Arc<Semaphore>,
    invocations: usize,
}

/// An invocation at a node, from the call to its end.
#[derive(Debug)]
pub(super) struct InLane {
    lanes: Arc<Lanes>,
    node: String,
    places: Arc<Semaphore>,
}

impl Lanes {
    /// Lanes with this many scripts at a node at once.
    pub(super) fn new(workers: usize) -> Arc<Self> {
        Arc::new(Lanes { workers, lanes: Mutex::default() })
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits an invocation at a node; `None` if too many wait there.
    pub(super) fn enter(self: &Arc<Self>, node: &str) -> Option<InLane> {
        let mut table = self.table();
        let lane = table.entry(node.to_owned()).or_insert_with(|| Lane {
            places: Arc::new(Semaphore::new(self.workers)),
            invocations: 0,
        });
        if lane.invocations >= WAITING + self.workers {
            return None;
        }
        lane.invocations += 1;
        let places = Arc::clone(&lane.places);
        Some(InLane { lanes: Arc::clone(self), node: node.to_owned(), places })
    }
}

impl InLane {
    /// Most scripts that run at the node at once.
    pub(super) fn workers(&self) -> usize {
        self.lanes.workers
    }

    /// Waits for a place to run, in order of arrival.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }
}

impl Drop for InLane {
    fn drop(&mut self) {
        let mut table = self.lanes.table();
        if let Some(lane) = table.get_mut(&self.node) {
            lane.invocations -= 1;
            if lane.invocations == 0 {
                table.remove(&self.node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_so_many_places() {
        let lanes = Lanes::new(5);
        let mut inside: Vec<InLane> = (0..55).filter_map(|_| lanes.enter("a")).collect();
        assert_eq!(inside.len(), 55);
        assert!(lanes.enter("a").is_none() && lanes.enter("b").is_some());
        inside.pop();
        assert!(lanes.enter("a").is_some());
        drop(inside);
        assert!(lanes.table().is_empty());
    }
}
