//! The driver: the loop that connects the pure state machine with the world.
//!
//! [`run`] waits for one input, applies it to the machine, logs the events and performs the
//! effects. Inputs come from the [`inbox`], from finished effects, from the clock and, through the
//! [`watchdog`], from signals.

mod advice;
mod beside;
mod breakpoints;
mod checkpoints;
mod command;
mod deliveries;
mod effects;
mod entrypoint;
mod housing;
pub mod inbox;
mod people;
mod pumps;
mod run;
mod runtimes;
mod scene;
mod sessions;
mod setup;
mod shell;
mod stillness;
mod trust;
mod upload;
mod watch;
mod watchdog;
mod world;

pub use beside::Beside;
pub use breakpoints::PausedProcesses;
pub use deliveries::LogDeliveries;
pub use run::{BuildProgressView, Driver, DriverParts, EndedBuild};
pub use sessions::Sessions;
pub use shell::{SharedSnapshot, ShellSnapshot};
pub use watchdog::{SIGNALS, SignalRequests, Watchdog};
pub use world::{Advice, ContainerGuests, World};
