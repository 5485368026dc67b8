//! The suites, each about one promise.

mod bad_input;
mod chain;
mod ends;
mod engine;
mod host;
mod images;
mod interpreter;
mod output;
mod places;
mod sessions;

use crate::common::Case;

pub(crate) fn cases() -> Vec<Case> {
    [
        bad_input::cases(),
        chain::cases(),
        engine::cases(),
        ends::cases(),
        host::cases(),
        images::cases(),
        interpreter::cases(),
        output::cases(),
        places::cases(),
        sessions::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
