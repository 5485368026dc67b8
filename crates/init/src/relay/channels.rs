//! All channels, and program exits that are held back until the output is sent.
//!
//! Used by the relay's loop.

use super::channel::RelayChannel;
use super::words::WordStreams;
use crate::abi::{Pid1Reply, relay};
use crate::sys::{PollFd, SysResult};

pub(super) struct RelayChannels {
    places: [Option<RelayChannel>; relay::MAX_CHANNELS],
    /// Slots from here on have never been used.
    used: usize,
    /// `EXITED` replies of programs whose output is not completely sent.
    exits: [Option<Pid1Reply>; relay::MAX_CHANNELS],
}

impl RelayChannels {
    pub(super) fn new() -> Self {
        RelayChannels {
            places: [const { None }; relay::MAX_CHANNELS],
            used: 0,
            exits: [const { None }; relay::MAX_CHANNELS],
        }
    }

    pub(super) fn has_room(&self, count: usize) -> bool {
        self.places.iter().filter(|place| place.is_none()).take(count).count() == count
    }

    pub(super) fn has_room_for_shim(&self) -> bool {
        let is_shim = |place: &&Option<RelayChannel>| {
            place.as_ref().is_some_and(|channel| channel.id >= relay::FIRST_SHIM)
        };
        self.has_room(1) && self.places.iter().filter(is_shim).count() < relay::MAX_SHIMS
    }

    /// The caller has made sure that there is room.
    pub(super) fn add(&mut self, channel: RelayChannel) {
        if let Some(at) = self.places.iter().position(Option::is_none) {
            self.places[at] = Some(channel);
            self.used = self.used.max(at + 1);
        }
    }

    /// Fills the poll set with each channel's events. Returns the number of entries.
    pub(super) fn fill(&self, polled: &mut [PollFd]) -> usize {
        for (place, channel) in polled.iter_mut().zip(&self.places[..self.used]) {
            *place = channel.as_ref().map_or(PollFd::idle(), RelayChannel::wanted);
        }
        self.used
    }

    /// Moves bytes on all ready channels.
    pub(super) fn pass(&mut self, polled: &[PollFd], words: &mut WordStreams) -> SysResult<()> {
        for (at, ready) in polled.iter().enumerate() {
            if ready.is_any() {
                self.with(at, |channel| channel.pass(words))?;
            }
        }
        Ok(())
    }

    /// Handles a message from the runner for a channel. A missing channel is no error: the message
    /// crossed the report of its end.
    pub(super) fn obey(
        &mut self,
        kind: u32,
        id: u64,
        body: &[u8],
        words: &mut WordStreams,
    ) -> SysResult<()> {
        let found = self.places[..self.used]
            .iter()
            .position(|place| place.as_ref().is_some_and(|channel| channel.id == id));
        match found {
            Some(at) => self.with(at, |channel| channel.obey(kind, body, words)),
            None => Ok(()),
        }
    }

    /// A program has ended: report it after its output.
    pub(super) fn exited(&mut self, said: Pid1Reply, words: &mut WordStreams) -> SysResult<()> {
        for at in 0..self.used {
            if self.places[at].as_ref().is_some_and(|channel| channel.is_output_of(said.id)) {
                self.with(at, |channel| channel.settle(words))?;
            }
        }
        if self.owes(said.id)
            && let Some(place) = self.exits.iter_mut().find(|place| place.is_none())
        {
            *place = Some(said);
            return Ok(());
        }
        words.reply(said)
    }

    /// Reports the exits of programs whose output is sent.
    pub(super) fn tell_exits(&mut self, words: &mut WordStreams) -> SysResult<()> {
        for at in 0..self.exits.len() {
            if let Some(said) = self.exits[at]
                && !self.owes(said.id)
            {
                self.exits[at] = None;
                words.reply(said)?;
            }
        }
        Ok(())
    }

    fn owes(&self, job: u64) -> bool {
        self.places[..self.used]
            .iter()
            .flatten()
            .any(|channel| channel.is_output_of(job) && channel.owes())
    }

    /// Runs an action on a channel and drops the channel if that was its last.
    fn with(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut RelayChannel) -> SysResult<bool>,
    ) -> SysResult<()> {
        if let Some(channel) = &mut self.places[at]
            && !act(channel)?
        {
            self.places[at] = None;
        }
        Ok(())
    }
}
