//! Control groups: what a container may use of the machine, and what became of its limits.
//!
//! Used by the engines that start our own init. A container gets groups of its own only when limits are
//! asked for, or with privileges, since joining them takes longer than all the rest of a start
//! (decision 24). They are made below the group that the runner itself is in, so that its own limits hold
//! for them as well. [`plan`] says which directories these will be, so that they can be written down
//! before they are made.

mod find;
mod freezer;
mod group;
mod limits;
mod view;
mod watched;

pub use freezer::Freezer;
pub use group::{ContainerGroups, Plan, Problem, plan, remove};
pub use limits::{Cpus, Pressure, ResourceLimits};
pub(crate) use view::{PLACE, show};
pub use watched::{WatchedGroups, watch};
