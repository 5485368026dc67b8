//! State on disk: the state folder, with one folder per build and one per batch.
//!
//! A build's folder is the authority about it (docs/architecture.md): the holder of its lock owns
//! it, and its files tell the rest. Used by `build` for the build it runs, by `cli` for all others.

mod batch_dir;
mod build_dir;
mod changes;
mod clusters;
mod commands;
mod documents;
mod home;
mod lookup;
mod page_links;
mod random;
mod retention;
mod serving;
mod session_log;
mod signing_key;
mod spool;

pub use batch_dir::{
    BatchDir, OwnedBatch, RecordVersion, batches_with_records, listed_batches, prune_old_batches,
};
pub use build_dir::{BuildDir, Meta, MetaError, Owned, SCHEMA, pid_namespace};
pub use changes::{FolderChanges, Waited};
pub use clusters::{
    Cluster, ClusterTable, Clusters, DEFAULT as DEFAULT_CLUSTER, MOST as MOST_CLUSTERS, Task,
};
pub use commands::{
    CommandNode, CommandStep, Commands, CutOutput, FoundCommand, Invocation, OwnedCommand, STOPPED,
    SentCommand, StepOutputs, StepState,
};
pub use documents::{Documents, DocumentsWriter, Stored, StoredVersion};
pub use home::{Home, StateError};
pub use lookup::{BuildLookupError, BuildNeed, KnownBuild, Unreadable};
pub use lookup::{all_builds, find, known, listed_builds, live_builds};
pub use page_links::{LinkFor, PageLinks};
pub use random::random;
pub use retention::prune_old;
pub use serving::{ServeLock, Serving, live_serve};
pub use spool::{JobOf, OwnedJob, Spool, SpoolJob, SpoolSource};
