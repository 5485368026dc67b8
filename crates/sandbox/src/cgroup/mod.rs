//! Control groups: limits on a container's resources, and how often it hits them.
//!
//! Used by the engines that start our own init. A container gets its own groups only if limits are
//! requested, or with privileges, because joining them takes longer than the rest of a start
//! (decision 24). They are made below the runner's own group, so that its limits apply to them as
//! well. [`plan`] says which directories these will be, so that they can be recorded before they
//! are made.

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
