//! The watchdog: receives the user's signals, and ends this program if the build's loop does not.
//!
//! It is a separate thread, because the loop itself may hang, for example in a call to an
//! unresponsive disk. After each step the loop announces when the next one is due; it must handle a
//! signal within the same margin. Ctrl-C once stops the build, twice ends it at once; SIGTERM and
//! SIGHUP count as Ctrl-C. Ctrl-Z stops this program and with it the build's clock, but not the
//! build.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use runner_core::phase::Status;
use runner_host::clock;
use runner_host::signals::{self, SignalReader};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Signals that can come from elsewhere than the terminal.
pub const SIGNALS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTSTP];

/// How late the loop may be.
const MARGIN: Duration = Duration::from_secs(7);
/// How many times, and for how long each, the loop is checked again before it counts as hung: when
/// a stopped program continues, every deadline has passed.
const LOOKS: u8 = 3;
const LOOK: Duration = Duration::from_secs(1);

/// The requests made by signals so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignalRequests {
    /// Number of stop requests.
    pub stops: u32,
    /// Name of the last signal, for a message.
    pub name: &'static str,
    /// Total time for which the program has been stopped (Ctrl-Z).
    pub slept: Duration,
}

/// The loop's handle of the watchdog. Clones share it.
#[derive(Clone)]
pub struct Watchdog(Arc<WatchdogShared>);

struct WatchdogShared {
    timer: TimerFd,
    state: Mutex<WatchdogState>,
    asked: watch::Sender<SignalRequests>,
    /// Maps a build's status to the program's exit code.
    exit_code: fn(Status) -> u8,
}

struct WatchdogState {
    /// When the loop is late.
    due: Option<Duration>,
    /// When an unhandled signal has waited too long.
    unheard: Option<Duration>,
    /// The build's final status, once it is decided.
    verdict: Option<Status>,
    /// The final status if the loop is late before that.
    if_late: Status,
    /// Changes with every sign of life from the loop.
    steps: u64,
    kill: Option<Box<dyn Fn() + Send>>,
}

impl WatchdogState {
    fn next(&self) -> Option<Duration> {
        self.due.into_iter().chain(self.unheard).min()
    }
}

impl Watchdog {
    /// Starts the watchdog. The receiver gets the requests made by signals.
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

    /// The loop has made a step and will make the next one by `next`. `verdict`: the build's final
    /// status, once it is decided; `if_late`: its status if no other step follows.
    pub fn step(&self, next: Option<Duration>, verdict: Option<Status>, if_late: Status) {
        let mut state = self.0.lock();
        state.steps += 1;
        state.verdict = verdict;
        state.if_late = if_late;
        state.due = next.map(|next| next + MARGIN);
        self.0.set(&state);
    }

    /// The loop has handled all signals so far.
    pub fn heard(&self) {
        let mut state = self.0.lock();
        state.unheard = None;
        self.0.set(&state);
    }

    /// Sets the function that kills the build's container without waiting.
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
        // A valid time can always be set.
        debug_assert!(set.is_ok(), "{set:?}");
    }

    fn watch(&self, signals: &SignalReader) {
        loop {
            let mut ready = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
            ];
            // An interruption counts as a wake-up: both descriptors are checked.
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
            // A build that cannot be stopped goes on.
            let _ = signals::suspend();
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

    /// Whether the loop makes no step during all the checks.
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

/// Prints a message if that is possible without waiting.
fn tell(text: &str) {
    let stderr = io::stderr();
    let mut room = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut room, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
        // Do not take the lock of standard error, which the hanging thread may hold.
        let _ = nix::unistd::write(&stderr, text.as_bytes());
    }
}
