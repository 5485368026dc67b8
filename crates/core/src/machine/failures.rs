//! Failures of a build's commands, each at its place: which of them count.
//!
//! Used by `machine::build`. A failure goes by one thing only: a run of that command that ended 0. It comes back
//! where the place is left out later.

use crate::debug::CommandPlace;
use crate::phase::{Phase, PhaseContext};
use std::collections::BTreeMap;

/// Places that have failed once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures(BTreeMap<CommandPlace, PhaseFailure>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct PhaseFailure {
    context: PhaseContext,
    /// Whether it is the phase's: the place is left behind, and not to be run again.
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

    /// A place is left behind: after a failure, or because it is left out.
    pub(super) fn leave(&mut self, place: CommandPlace) {
        if let Some(failure) = self.0.get_mut(&place) {
            failure.stands = true;
        }
    }

    /// What comes from here on is to be run again.
    pub(super) fn go_back(&mut self, place: CommandPlace) {
        self.0.range_mut(place..).for_each(|(_, failure)| failure.stands = false);
    }

    /// The build is back where these stood. What has failed since is known still.
    pub(super) fn go_back_to(&mut self, then: &Failures) {
        for (place, failure) in &mut self.0 {
            failure.stands = then.0.get(place).is_some_and(|then| then.stands);
        }
    }

    pub(super) fn at(&self, place: CommandPlace) -> Option<&PhaseContext> {
        self.0.get(&place).map(|failure| &failure.context)
    }

    /// The failure of a phase, of several the first.
    pub(super) fn of(&self, phase: Phase) -> Option<&PhaseContext> {
        self.standing().find(|(place, _)| Phase::from(place.phase) == phase).map(|(_, why)| why)
    }

    /// The first of what stands before a phase.
    pub(super) fn before(&self, phase: Phase) -> Option<&PhaseContext> {
        self.standing().find(|(place, _)| Phase::from(place.phase) < phase).map(|(_, why)| why)
    }

    fn standing(&self) -> impl Iterator<Item = (&CommandPlace, &PhaseContext)> {
        let standing = self.0.iter().filter(|(_, failure)| failure.stands);
        standing.map(|(place, failure)| (place, &failure.context))
    }
}
