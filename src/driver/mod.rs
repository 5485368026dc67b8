//! The driver: the loop between the pure machine and the world.
//!
//! [`run`] selects one input, has the machine apply it, logs the events and performs the effects.
//! Inputs come from the [`inbox`], from effects that are done, from the clock and, by way of the
//! [`watchdog`], from signals.

mod breakpoints;
mod deliveries;
mod effects;
mod entrypoint;
mod housing;
pub(crate) mod inbox;
mod pumps;
mod run;
mod sessions;
mod setup;
mod shell;
mod upload;
mod watchdog;
mod world;

pub(crate) use breakpoints::Breakpoints;
pub(crate) use deliveries::Deliveries;
pub(crate) use run::{Driver, Ended, Parts, Progress};
pub(crate) use sessions::Sessions;
pub(crate) use shell::{SharedSnapshot, Snapshot};
pub(crate) use watchdog::{Asked, SIGNALS, Watchdog};
pub(crate) use world::{Advice, Guests, World};
