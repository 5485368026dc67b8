//! A container on Linux: namespaces, a root file system, and PID 1 in it.
//!
//! The runner describes a container as a [`SandboxSpec`] and calls [`start`]. It gets a [`Sandbox`]
//! with a socket to PID 1 (`runner-init`), which starts everything that runs in the container. Two
//! halves do the work: [`start`] in the runner's process (`parent`), and [`set_up_and_become_init`]
//! in the process it makes (`child`), which is the same program executed again with the argument
//! [`REEXEC_ARG`]. They talk through `handshake`.
//!
//! Synchronous, no async runtime, no logging: a failure is a [`StartError`] with the step, the path
//! and the errno. `sys` holds every unsafe block.

mod caps;
mod cgroup;
mod child;
mod descendants;
mod descriptors;
mod devices;
mod fdpass;
mod handed;
mod handshake;
mod in_root;
mod kernel_dirs;
mod masks;
mod merged;
mod mount_table;
mod mounts;
mod network;
mod parent;
mod process;
mod reaper;
mod restack;
mod root;
mod sealed;
mod seccomp;
mod spec;
mod sys;
mod toolbox;
mod users;

pub use caps::kept_capabilities;
pub use cgroup::{
    ContainerGroups, Cpus, Freezer, Plan as GroupPlan, Pressure, Problem as LimitProblem,
    ResourceLimits,
};
pub use cgroup::{WatchedGroups, watch as watch_groups};
pub use cgroup::{plan as plan_groups, remove as remove_group};
pub use child::{filter_this_process, set_up_and_become_init};
pub use descendants::{Living, living};
pub use descriptors::{inherited_descriptors, raise_descriptors, with_inherited_descriptors};
pub use fdpass::{ReceivedMessage, receive, send};
pub use handed::handed;
pub use handshake::{CHORE_ARG, REEXEC_ARG, RESTACK_ARG, SandboxSetupError, SetupStep};
pub use in_root::InRoot;
pub use masks::{masked_paths, read_only_paths};
pub use merged::{merged, with_own_mounts};
pub use mounts::{overlay_marks, unescape};
pub use network::pin_network;
pub use parent::{Sandbox, StartError, end, start};
pub use process::wait_or_kill;
pub use reaper::start_reaper;
pub use restack::{NotRestacked, Restacker, RestackerKill, serve_restacks};
pub use seccomp::seccomp_profile;
pub use spec::{
    BuildLayer, Confinement, ContainerNetwork, GroupsSpec as GroupView, Hidden, IdRange, IdSwap,
    RootEntry,
};
pub use spec::{
    LayerMerge, LayerStore, Restored, Root, SandboxSpec, SealedPart, Stack, Toolbox, UserMap,
    WritableDirectory,
};
pub use sys::GroupDoors;
pub use users::{Chore, MapError, chore};
