//! Watches a run for breakpoints: the lines it writes, its silence, its memory.
//!
//! Fed by the run's pump and by a clock; sends inputs to the machine. Without such a breakpoint it
//! does nothing: a pump only checks one flag.

use super::inbox::Inbox;
use runner_core::debug::What;
use runner_core::event::{BreakpointId, Notice};
use runner_core::machine::{MachineInput, Wants};
use runner_engine::Container;
use runner_folder::events::LogWriter;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Maximum length of a line that is searched, in bytes.
const LINE: usize = 64 << 10;
/// Maximum bytes of a run's output that a condition sees.
pub(super) const OUTPUT: usize = 1 << 20;
/// Interval between two checks of memory.
const LOOK: Duration = Duration::from_millis(250);

/// The watch over one run. Clones share its state.
#[derive(Clone)]
pub(super) struct RunWatch(Arc<WatchShared>);

struct WatchShared {
    inbox: Inbox,
    log: LogWriter,
    command: u32,
    /// Position in the log at which the run's output begins.
    begin: u64,
    /// Whether there is anything to watch for.
    is_on: AtomicBool,
    state: Mutex<WatchState>,
    changed: Notify,
    /// Whether the warning about unmeasured memory has been shown.
    is_told: Arc<AtomicBool>,
}

struct WatchState {
    wants: Wants,
    /// The current, incomplete line.
    line: Vec<u8>,
    /// Breakpoints that were hit and have not been reset yet.
    met: BTreeMap<BreakpointId, Met>,
    last_output: Instant,
    is_still: bool,
    /// Whether a breakpoint watches memory that nothing measures.
    is_uncounted: bool,
}

/// What a breakpoint was hit by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    /// The current line.
    Line,
    /// Silence, or memory.
    State,
}

impl RunWatch {
    /// `is_told`: whether the warning about unmeasured memory has been shown.
    pub(super) fn new(
        inbox: Inbox,
        log: LogWriter,
        command: u32,
        wants: Wants,
        is_told: Arc<AtomicBool>,
    ) -> Self {
        let is_on = AtomicBool::new(!wants.watched.is_empty());
        let begin = log.output_length();
        let state = Mutex::new(WatchState {
            wants,
            line: Vec::new(),
            met: BTreeMap::new(),
            last_output: Instant::now(),
            is_still: false,
            is_uncounted: false,
        });
        RunWatch(Arc::new(WatchShared {
            inbox,
            log,
            command,
            begin,
            is_on,
            state,
            changed: Notify::new(),
            is_told,
        }))
    }

    /// What breakpoints currently watch for.
    pub(super) fn wants(&self) -> Wants {
        self.lock().wants.clone()
    }

    pub(super) fn command(&self) -> u32 {
        self.0.command
    }

    /// Where the run's output begins in the log.
    pub(super) fn begin(&self) -> u64 {
        self.0.begin
    }

    /// Sets what to watch for from now on.
    pub(super) fn set(&self, wants: Wants) {
        let mut state = self.lock();
        state.met.retain(|id, _| wants.watched.iter().any(|(wanted, _)| wanted == id));
        self.0.is_on.store(!wants.watched.is_empty(), Ordering::Relaxed);
        state.wants = wants;
        // If nothing was watched before, silence counts from here.
        state.last_output = Instant::now();
        drop(state);
        self.0.changed.notify_one();
    }

    /// Notes whether the run stands still.
    pub(super) fn stands_still(&self, is_still: bool) {
        let mut state = self.lock();
        state.is_still = is_still;
        state.last_output = Instant::now();
        drop(state);
        self.0.changed.notify_one();
    }

    /// Takes output of the run. Must be called on a thread that may block.
    pub(super) fn sees(&self, bytes: &[u8]) {
        if !self.0.is_on.load(Ordering::Relaxed) || bytes.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.last_output = Instant::now();
        state.met.retain(|_, met| *met == Met::Line);
        let hit = state.lines(bytes);
        let wants_output = state.wants.output;
        drop(state);
        for breakpoint in hit {
            self.0.inbox.send_blocking(self.watched(breakpoint, wants_output));
        }
    }

    /// Watches silence and memory. Never resolves.
    pub(super) async fn keep(&self, container: &dyn Container) -> Infallible {
        loop {
            let (hit, next, wants_output) = {
                let mut state = self.lock();
                let (hit, next) = state.look(|| container.memory());
                (hit, next, state.wants.output)
            };
            for breakpoint in hit {
                self.0.inbox.send(self.watched(breakpoint, wants_output)).await;
            }
            self.tell_uncounted().await;
            let time = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = time => {}
                () = self.0.changed.notified() => {}
            }
        }
    }

    async fn tell_uncounted(&self) {
        let is_new = std::mem::take(&mut self.lock().is_uncounted);
        if is_new && !self.0.is_told.swap(true, Ordering::Relaxed) {
            let text = "a breakpoint watches the build's memory, but nothing counts it here: the \
                        build has no control group. With --memory SIZE it has one, if this user \
                        may create one";
            self.0.inbox.send(MachineInput::Notice(Notice::warning(text.to_owned()))).await;
        }
    }

    /// The last bytes of the run's output.
    pub(super) fn output(&self, most: usize) -> String {
        self.0.log.last_output(self.0.begin, most).unwrap_or_default()
    }

    fn watched(&self, breakpoint: BreakpointId, wants_output: bool) -> MachineInput {
        let output = wants_output.then(|| self.output(OUTPUT).into());
        MachineInput::Watched { command: self.0.command, breakpoint, output }
    }

    fn lock(&self) -> MutexGuard<'_, WatchState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatchState {
    /// Breakpoints with a matching line in these bytes, once per match. An incomplete line is
    /// searched too: it may be a prompt.
    fn lines(&mut self, bytes: &[u8]) -> Vec<BreakpointId> {
        let mut hit = Vec::new();
        if !self.wants.watched.iter().any(|(_, found)| matches!(found.what, What::Output(_))) {
            return hit;
        }
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let room = LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            let text = String::from_utf8_lossy(&self.line);
            let text = text.trim_end_matches(['\n', '\r']);
            for (id, breakpoint) in &self.wants.watched {
                if let What::Output(pattern) = &breakpoint.what
                    && !self.met.contains_key(id)
                    && pattern.is_in(text)
                {
                    self.met.insert(*id, Met::Line);
                    hit.push(*id);
                }
            }
            if piece.ends_with(b"\n") {
                self.line.clear();
                self.met.retain(|_, met| *met != Met::Line);
            }
        }
        hit
    }

    /// Breakpoints that are due, and the time of the next check.
    fn look(&mut self, memory: impl Fn() -> Option<u64>) -> (Vec<BreakpointId>, Option<Instant>) {
        let (mut hit, mut next) = (Vec::new(), None);
        if self.is_still {
            return (hit, next);
        }
        let now = Instant::now();
        let mut again = |at: Instant| next = Some(next.map_or(at, |next: Instant| next.min(at)));
        let mut counted = None;
        for (id, breakpoint) in self.wants.watched.clone() {
            let is_met = match breakpoint.what {
                What::Idle(time) => {
                    let due = self.last_output + time;
                    // Output written meanwhile is noticed when the time has come.
                    again(if due > now { due } else { now + time });
                    due <= now
                }
                What::Memory(most) => match *counted.get_or_insert_with(&memory) {
                    Some(taken) => {
                        again(now + LOOK);
                        if taken < most {
                            self.met.remove(&id);
                        }
                        taken >= most
                    }
                    None => {
                        self.is_uncounted |= self.met.insert(id, Met::State).is_none();
                        false
                    }
                },
                _ => false,
            };
            if is_met && self.met.insert(id, Met::State).is_none() {
                hit.push(id);
            }
        }
        (hit, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(breakpoints: &[&str]) -> WatchState {
        let watched = (1..)
            .zip(breakpoints)
            .map(|(id, text)| (BreakpointId(id), Arc::new(text.parse().expect("a breakpoint"))));
        WatchState {
            wants: Wants { watched: watched.collect(), ..Wants::default() },
            line: Vec::new(),
            met: BTreeMap::new(),
            last_output: Instant::now(),
            is_still: false,
            is_uncounted: false,
        }
    }

    fn ids(hit: Vec<BreakpointId>) -> Vec<u64> {
        hit.into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn lines_are_found_however_they_are_cut() {
        let mut state = state(&["output:/^ab$/", "output:/b/"]);
        assert_eq!(ids(state.lines(b"a")), [0_u64; 0]);
        assert_eq!(ids(state.lines(b"b")), [1, 2]);
        // The same line, now complete.
        assert_eq!(ids(state.lines(b"\n")), [0_u64; 0]);
        assert_eq!(ids(state.lines(b"b\nx\nb\r\nab\n")), [2, 2, 1, 2]);
        // A line without an end is cut.
        let long = vec![b'x'; LINE];
        state.lines(&long);
        assert_eq!(ids(state.lines(b"b\nb\n")), [2]);
    }

    #[test]
    fn silence_counts_from_the_last_output() {
        let mut state = state(&["idle:1ms", "idle:1h"]);
        state.last_output = Instant::now() - Duration::from_secs(1);
        let (hit, next) = state.look(|| None);
        assert_eq!(ids(hit), [1]);
        assert!(next.is_some());
        assert_eq!(ids(state.look(|| None).0), [0_u64; 0], "once, until it writes");
        state.met.clear();
        state.is_still = true;
        assert_eq!(state.look(|| None), (Vec::new(), None));
    }

    #[test]
    fn memory_is_met_each_time_it_is_passed() {
        let mut counted = state(&["memory:10"]);
        for (taken, hit) in [(9, 0), (10, 1), (11, 0), (9, 0), (12, 1)] {
            assert_eq!(counted.look(|| Some(taken)).0.len(), hit, "{taken}");
        }
        let mut state = state(&["memory:10"]);
        state.look(|| None);
        assert!(std::mem::take(&mut state.is_uncounted));
        state.look(|| None);
        assert!(!state.is_uncounted, "told once");
    }
}
