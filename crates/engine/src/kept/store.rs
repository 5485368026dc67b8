//! Where the indexes of a layer are between two orders: in memory, or for a chore in files.

use super::SEEN;
use super::index::LayerIndex;
use runner_host::beneath::Dir;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was seen of a layer, between two orders. Those of a chore find it in files.
#[derive(Debug, Default)]
pub struct LayerMemory(Mutex<BTreeMap<String, Arc<LayerIndex>>>);

/// Where indexes are.
pub(super) enum Store<'m> {
    Memory(&'m LayerMemory),
    Files(Dir),
}

impl Store<'_> {
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Arc<LayerIndex>>> {
        match self {
            Store::Memory(memory) => Ok(memory.lock().get(name).cloned()),
            Store::Files(shelf) => match LayerIndex::read(shelf, name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                done => done.map(|index| Some(Arc::new(index))),
            },
        }
    }

    pub(super) fn write(&self, name: &str, index: &Arc<LayerIndex>) -> io::Result<()> {
        match self {
            Store::Memory(memory) => {
                let mut all = memory.lock();
                // That of the last look, and that of the last checkpoint.
                all.retain(|other, _| other == SEEN || name == SEEN);
                all.insert(name.to_owned(), Arc::clone(index));
                Ok(())
            }
            Store::Files(shelf) => index.write(shelf, name),
        }
    }

    pub(super) fn forget(&self, name: &str) -> io::Result<()> {
        match self {
            Store::Memory(memory) => {
                memory.lock().remove(name);
                Ok(())
            }
            Store::Files(shelf) => shelf.remove_tree(name),
        }
    }
}

impl LayerMemory {
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<LayerIndex>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
