//! Failures of a build's commands by place, and which of them count.
//!
//! Used by `machine::build`. A failure is cleared only by a run of that command that exits with 0.
//! It counts again if its place is skipped later.

use crate::debug::CommandPlace;
use crate::phase::{Phase, PhaseContext};
use std::collections::BTreeMap;

/// Places with a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures(BTreeMap<CommandPlace, PhaseFailure>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct PhaseFailure {
    context: PhaseContext,
    /// Whether the failure counts: the build has moved past the place and will not run it again.
    stands: bool,
}

impl Failures {
    pub(super) fn failed(&mut self, place: CommandPlace, context: PhaseContext) {
        self.0.insert(place, PhaseFailure { context, stands: false });
    }

    pub(super) fn succeeded(&mut self, place: CommandPlace) {
        if let Some(failure) = self.0.get_mut(&place) {
            failure.stands = false;
        }
    }

    /// Moves past a place, after a failure or because it is skipped.
    pub(super) fn leave(&mut self, place: CommandPlace) {
        if let Some(failure) = self.0.get_mut(&place) {
            failure.stands = true;
        }
    }

    /// Everything from this place on will run again.
    pub(super) fn go_back(&mut self, place: CommandPlace) {
        self.0.range_mut(place..).for_each(|(_, failure)| failure.stands = false);
    }

    /// Rewinds to an earlier state. Later failures are kept, but do not count for now.
    pub(super) fn go_back_to(&mut self, then: &Failures) {
        for (place, failure) in &mut self.0 {
            failure.stands = then.0.get(place).is_some_and(|then| then.stands);
        }
    }

    pub(super) fn at(&self, place: CommandPlace) -> Option<&PhaseContext> {
        self.0.get(&place).map(|failure| &failure.context)
    }

    /// The first failure of a phase.
    pub(super) fn of(&self, phase: Phase) -> Option<&PhaseContext> {
        self.standing().find(|(place, _)| Phase::from(place.phase) == phase).map(|(_, why)| why)
    }

    /// The first failure before a phase.
    pub(super) fn before(&self, phase: Phase) -> Option<&PhaseContext> {
        self.standing().find(|(place, _)| Phase::from(place.phase) < phase).map(|(_, why)| why)
    }

    fn standing(&self) -> impl Iterator<Item = (&CommandPlace, &PhaseContext)> {
        let standing = self.0.iter().filter(|(_, failure)| failure.stands);
        standing.map(|(place, failure)| (place, &failure.context))
    }
}
