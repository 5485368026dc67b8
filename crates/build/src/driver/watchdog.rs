//! The watchdog: hears the user's signals, and ends this program where the build's loop does not.
//!
//! A thread of its own, because the loop itself may hang: in a call to a disk that does not answer, for
//! one. The loop tells it after each step by when there will be another; a signal is to be heard within
//! the same margin. Ctrl-C once stops the build, twice ends it at once; SIGTERM and SIGHUP count as
//! Ctrl-C. Ctrl-Z stops this program and with it the build's clock, though not the build.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use runner_core::phase::Status;
use runner_host::clock;
use runner_host::signals::SignalReader;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Signals that are not the terminal's alone.
pub const SIGNALS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTSTP];

/// How late the loop may be.
const MARGIN: Duration = Duration::from_secs(7);
/// How often it is looked at again before it counts as hung, and how long each time: a program that was
/// stopped finds every deadline passed when it goes on.
const LOOKS: u8 = 3;
const LOOK: Duration = Duration::from_secs(1);

/// What signals have asked for so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignalRequests {
    /// Stops.
    pub stops: u32,
    /// The last of them, for a message.
    pub name: &'static str,
    /// How long the program has been stopped (Ctrl-Z), all in all.
    pub slept: Duration,
}

/// The loop's end of it. Clones are of the same one.
#[derive(Clone)]
pub struct Watchdog(Arc<WatchdogShared>);

struct WatchdogShared {
    timer: TimerFd,
    state: Mutex<WatchdogState>,
    asked: watch::Sender<SignalRequests>,
    /// Of a build that ends with this.
    exit_code: fn(Status) -> u8,
}

struct WatchdogState {
    /// When the loop is too late.
    due: Option<Duration>,
    /// When a signal has waited too long to be heard.
    unheard: Option<Duration>,
    /// How the build ends, where that is decided.
    verdict: Option<Status>,
    /// How it ends where the loop is too late before.
    if_late: Status,
    /// Changes whenever the loop shows that it lives.
    steps: u64,
    kill: Option<Box<dyn Fn() + Send>>,
}

impl WatchdogState {
    fn next(&self) -> Option<Duration> {
        self.due.into_iter().chain(self.unheard).min()
    }
}

impl Watchdog {
    /// Starts it; what signals ask for from now on.
    pub fn start(
        signals: SignalReader,
        exit_code: fn(Status) -> u8,
    ) -> io::Result<(Self, watch::Receiver<SignalRequests>)> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        let state = Mutex::new(WatchdogState {
            due: None,
            unheard: None,
            verdict: None,
            if_late: Status::Fault,
            steps: 0,
            kill: None,
        });
        let (asked, heard) = watch::channel(SignalRequests::default());
        let shared = Arc::new(WatchdogShared { timer, state, asked, exit_code });
        let watching = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watching.watch(&signals))?;
        Ok((Watchdog(shared), heard))
    }

    /// The loop has made a step and will make the next one by then. `verdict`: how the build ends, where that
    /// is decided; `if_late`: what its end is else, if there is no other step.
    pub fn step(&self, next: Option<Duration>, verdict: Option<Status>, if_late: Status) {
        let mut state = self.0.lock();
        state.steps += 1;
        state.verdict = verdict;
        state.if_late = if_late;
        state.due = next.map(|next| next + MARGIN);
        self.0.set(&state);
    }

    /// The loop has heard all signals so far.
    pub fn heard(&self) {
        let mut state = self.0.lock();
        state.unheard = None;
        self.0.set(&state);
    }

    /// What kills the build's container without waiting for anything.
    pub fn kills_with(&self, kill: impl Fn() + Send + 'static) {
        self.0.lock().kill = Some(Box::new(kill));
    }
}

impl WatchdogShared {
    fn lock(&self) -> MutexGuard<'_, WatchdogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: &WatchdogState) {
        let set = match state.next() {
            Some(at) => {
                let at = Expiration::OneShot(TimeSpec::from_duration(at));
                self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            }
            None => self.timer.unset(),
        };
        // A time that can be told can be set.
        debug_assert!(set.is_ok(), "{set:?}");
    }

    fn watch(&self, signals: &SignalReader) {
        loop {
            let mut ready = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
            ];
            // Interrupted is as good as woken: both are looked at.
            let _ = poll(&mut ready, PollTimeout::NONE);
            while let Some(signal) = signals.next() {
                self.hear(signal);
            }
            if self.is_late() && self.is_hung() {
                self.end();
            }
        }
    }

    fn hear(&self, signal: Signal) {
        if signal == Signal::SIGTSTP {
            let stopped = clock::boot();
            // Comes back when the shell lets this program go on.
            let _ = raise(Signal::SIGSTOP);
            let slept = clock::boot().saturating_sub(stopped);
            self.asked.send_modify(|asked| asked.slept += slept);
            return;
        }
        let mut state = self.lock();
        state.unheard.get_or_insert_with(|| clock::boot() + MARGIN);
        self.set(&state);
        drop(state);
        let name = if signal == Signal::SIGINT { "Ctrl-C" } else { signal.as_str() };
        self.asked.send_modify(|asked| {
            asked.stops += 1;
            asked.name = name;
        });
    }

    fn is_late(&self) -> bool {
        self.lock().next().is_some_and(|at| at <= clock::boot())
    }

    /// Whether the loop stands still all the time that it is looked at.
    fn is_hung(&self) -> bool {
        let steps = self.lock().steps;
        for _ in 0..LOOKS {
            std::thread::sleep(LOOK);
            if self.lock().steps != steps || !self.is_late() {
                return false;
            }
        }
        true
    }

    fn end(&self) -> ! {
        let state = self.lock();
        let is_late = |at: Option<Duration>| at.is_some_and(|at| at <= clock::boot());
        let if_late = if is_late(state.unheard) { Status::Stopped } else { state.if_late };
        let status = state.verdict.unwrap_or(if_late);
        if let Some(kill) = &state.kill {
            kill();
        }
        tell(&format!(
            "runner: error: {status}: the runner itself hangs, at a disk that does not answer for one; it \
             ends without clearing up, which the next runner command does\n"
        ));
        std::process::exit((self.exit_code)(status).into())
    }
}

/// Says it, if it can be said without waiting.
fn tell(text: &str) {
    let stderr = io::stderr();
    let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut room, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
        // Not by way of the lock of standard error, which whoever hangs may hold.
        let _ = nix::unistd::write(&stderr, text.as_bytes());
    }
}
