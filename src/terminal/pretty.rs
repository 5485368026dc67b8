//! The display for a person at a terminal: the log, and below it one line with phase, command and
//! elapsed time.
//!
//! The only user of indicatif. The line is redrawn from this sink's own thread, so that nothing
//! draws while a shell uses the terminal. An incomplete line of output is held back for a while:
//! the status line would be drawn into it.

use super::notices::{LeftOut, debugged, resumed, verdict};
use super::pauses::PauseNotices;
use super::summary::EndSummary;
use super::ways::WaysIn;
use super::{EventSink, Gate};
use console::{Style, Term};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use runner_core::debug::DecisionKind;
use runner_core::event::{
    Block, CommandOutcome, Event, EventBody, NoticeLevel, StopFacts, StoredArtifact,
    TransferProgress,
};
use runner_core::phase::{Phase, Status};
use runner_core::plain;
use runner_core::report::{self, ReportFacts, Tone};
use runner_core::summary::clock_form;
use runner_folder::events::OutputReader;
use runner_host::clock;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// How often the displayed time is updated.
const TICK: Duration = Duration::from_millis(100);
/// Maximum length of an incomplete line that is held back, in bytes.
const MAX_PARTIAL: usize = 16 << 10;

/// Draws on a terminal.
pub(super) struct Pretty {
    term: Term,
    bar: ProgressBar,
    pauses: PauseNotices,
    gate: Arc<Gate>,
    /// Text waiting to be written above the status line.
    pending: Vec<u8>,
    phase: Option<(Phase, Duration)>,
    /// The current phase, if its title has not been printed: that happens before its first event.
    untitled: Option<Phase>,
    command: Option<(String, Duration)>,
    transfer: Option<TransferProgress>,
    paused: usize,
    /// When the pause ends by itself, and how long it waits; `None` while somebody is there.
    pause_ends: Option<Duration>,
    patience: Option<Duration>,
    sessions: usize,
    /// The keys that have an effect at the pause.
    keys: String,
    /// Whether the build can only end.
    is_stuck: bool,
    /// For the final table.
    reports: Vec<ReportFacts>,
    left_out: LeftOut,
    ending: EndSummary,
    colors: Colors,
}

struct Colors {
    title: Style,
    command: Style,
    good: Style,
    bad: Style,
    note: Style,
    dim: Style,
}

impl Pretty {
    /// `color`: whether to use colours. `gate` says whether keys have an effect.
    pub(super) fn new(
        term: Term,
        ways: WaysIn,
        ending: EndSummary,
        gate: Arc<Gate>,
        color: bool,
    ) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::term(term.clone(), 20));
        let template = if color { "{spinner:.cyan} {wide_msg}" } else { "{spinner} {wide_msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        }
        let style = || Style::new().force_styling(color);
        let colors = Colors {
            title: style().bold(),
            command: style().cyan(),
            good: style().green().bold(),
            bad: style().red().bold(),
            note: style().yellow(),
            dim: style().dim(),
        };
        Pretty {
            term,
            bar,
            pauses: PauseNotices::new(ways),
            gate,
            pending: Vec::new(),
            phase: None,
            untitled: None,
            command: None,
            transfer: None,
            paused: 0,
            pause_ends: None,
            patience: None,
            sessions: 0,
            keys: String::new(),
            is_stuck: false,
            reports: Vec::new(),
            left_out: LeftOut::default(),
            ending,
            colors,
        }
    }

    /// Prints a line of our own.
    fn say(&mut self, text: &str) {
        if !self.pending.is_empty() && !self.pending.ends_with(b"\n") {
            self.pending.push(b'\n');
        }
        if let Some(phase) = self.untitled.take() {
            let title = self.colors.title.apply_to(format!("── {phase}")).to_string();
            self.pending.extend_from_slice(title.as_bytes());
            self.pending.push(b'\n');
        }
        self.pending.extend_from_slice(text.as_bytes());
        self.pending.push(b'\n');
    }

    /// Prints lines for the user.
    fn note(&mut self, lines: &[String]) {
        for line in lines {
            let line = self.colors.note.apply_to(plain::lines(line)).to_string();
            self.say(&line);
        }
    }

    /// Writes pending text; an incomplete line only if `all` is set or it is too long.
    fn write(&mut self, all: bool) -> io::Result<()> {
        let complete = match self.pending.iter().rposition(|&byte| byte == b'\n') {
            _ if all || self.pending.len() > MAX_PARTIAL => self.pending.len(),
            Some(at) => at + 1,
            None => 0,
        };
        if complete == 0 {
            return Ok(());
        }
        let rest = self.pending.split_off(complete);
        let mut text = std::mem::replace(&mut self.pending, rest);
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        let mut term = &self.term;
        self.bar.suspend(|| term.write_all(&text).and_then(|()| term.flush()))
    }

    fn draw(&mut self) {
        let now = clock::boot();
        let elapsed = |since: Duration| clock_form(now.saturating_sub(since));
        let mut parts = Vec::new();
        if let Some((phase, since)) = &self.phase {
            parts.push(format!("{phase} {}", elapsed(*since)));
        }
        if self.paused > 0 {
            let keys = if self.gate.is_hearing() { &*self.keys } else { "" };
            let left = self.pause_ends.map_or_else(String::new, |ends| {
                format!(" · {} left", clock_form(ends.saturating_sub(now)))
            });
            parts.push(format!("paused{left}{keys}"));
        } else if let Some((text, since)) = &self.command {
            let first = text.lines().next().unwrap_or_default();
            parts.push(format!("{} {}", elapsed(*since), plain::lines(first)));
        } else if let Some(progress) = &self.transfer {
            parts.push(gauge(progress));
        }
        self.bar.set_message(parts.join(" · "));
        self.bar.tick();
    }

    /// Starts the time after which the pause ends if nobody responds.
    fn wait_for_somebody(&mut self) {
        if self.paused > 0 && self.sessions == 0 {
            self.pause_ends = self.patience.map(|patience| clock::boot() + patience);
        }
    }

    fn command_ended(&mut self, outcome: &CommandOutcome, duration_ms: u64) {
        self.command = None;
        let time = clock_form(Duration::from_millis(duration_ms));
        match outcome {
            CommandOutcome::Exited(0) => {
                if duration_ms >= 1000 {
                    let text = self.colors.dim.apply_to(format!("  {time}")).to_string();
                    self.say(&text);
                }
            }
            CommandOutcome::Cut => {}
            CommandOutcome::Exited(_)
            | CommandOutcome::Signaled(_)
            | CommandOutcome::NotStarted(_) => {
                let text =
                    self.colors.bad.apply_to(plain::lines(&format!("✗ {outcome}"))).to_string();
                self.say(&format!("{text} after {time}"));
            }
        }
    }

    fn build_ended(
        &mut self,
        event: &Event,
        (status, reason): (Status, Option<&str>),
        output: &mut OutputReader,
    ) -> io::Result<()> {
        self.untitled = None;
        for (tone, line) in report::table(&std::mem::take(&mut self.reports)) {
            let style = match tone {
                Tone::Good => &self.colors.good,
                Tone::Bad => &self.colors.bad,
                Tone::Detail => &self.colors.dim,
            };
            let line = style.apply_to(plain::lines(&line)).to_string();
            self.say(&line);
        }
        for line in self.ending.lines(output)? {
            let line = self.colors.dim.apply_to(plain::lines(&line)).to_string();
            self.say(&line);
        }
        let (mark, style) = match status {
            Status::Succeeded => ("✓", &self.colors.good),
            _ => ("✗", &self.colors.bad),
        };
        let text = verdict(&event.build_id, status, reason, &self.left_out);
        let text = style.apply_to(plain::lines(&format!("{mark} {text}"))).to_string();
        self.say(&text);
        Ok(())
    }
}

/// The keys at a pause, with their effects.
fn menu(stop: Option<&StopFacts>) -> String {
    let decisions = [
        ("t retry", DecisionKind::Retry),
        ("e edit", DecisionKind::Edit),
        ("k skip", DecisionKind::Skip),
        ("n step", DecisionKind::Step),
    ];
    let applies = |decision| stop.is_some_and(|stop| stop.decisions.contains(&decision));
    let applying = decisions.into_iter().filter(|(_, decision)| applies(*decision));
    let keys = applying.map(|(key, _)| key);
    let all = ["s shell"].into_iter().chain(keys).chain(["r resume", "q stop"]);
    all.map(|key| format!(" · {key}")).collect()
}

/// A transfer's progress bar, with its description.
fn gauge(progress: &TransferProgress) -> String {
    const WIDTH: u64 = 24;
    let TransferProgress { what, done, total } = progress;
    let what = plain::lines(what);
    if *total == 0 {
        return format!("{what} {}", HumanBytes(*done));
    }
    let part =
        |of: u64| (u128::from(of) * u128::from(*done.min(total)) / u128::from(*total)) as u64;
    let full = part(WIDTH);
    let bar: String = (0..WIDTH).map(|at| if at < full { '█' } else { '░' }).collect();
    format!("{what} {bar} {}% of {}", part(100), HumanBytes(*total))
}

impl EventSink for Pretty {
    fn event(&mut self, event: &Event, output: &mut OutputReader) -> io::Result<()> {
        let lines = self.pauses.take(event);
        self.note(&lines);
        self.left_out.note(&event.body);
        self.ending.take(event);
        match &event.body {
            EventBody::BuildStarted(facts) => {
                let text = format!(
                    "build {} · image {} · {}",
                    event.build_id, facts.image, facts.buildspec
                );
                self.say(&text);
            }
            EventBody::PhaseStarted { phase: Phase::Completed } => self.phase = None,
            EventBody::PhaseStarted { phase } => {
                self.phase = Some((*phase, clock::boot()));
                self.untitled = phase.user_phase().map(Phase::from);
            }
            EventBody::PhaseEnded { .. } => {
                self.untitled = None;
                self.transfer = None;
            }
            EventBody::Progress(progress) => self.transfer = Some(progress.clone()),
            EventBody::ArtifactStored(stored) => {
                self.transfer = None;
                let StoredArtifact { location, files, bytes, .. } = stored;
                let count = if *files == 1 { "1 file" } else { &format!("{files} files") };
                let size = HumanBytes(*bytes);
                let text = format!("→ {location} ({count}, {size})");
                let text = self.colors.dim.apply_to(plain::lines(&text)).to_string();
                self.say(&text);
            }
            EventBody::CommandStarted { text, block, .. } => {
                let prompt = match block {
                    Block::Commands => "$",
                    Block::Finally => "finally $",
                    Block::Eval => "eval $",
                };
                let line = self
                    .colors
                    .command
                    .apply_to(plain::lines(&format!("{prompt} {text}")))
                    .to_string();
                self.say(&line);
                self.command = Some((text.clone(), clock::boot()));
            }
            EventBody::Output { offset, length, .. } => {
                self.pending.extend_from_slice(output.read(*offset, *length)?);
                // Whatever a build prints, at most one chunk waits here.
                self.write(false)?;
            }
            EventBody::CommandEnded { outcome, duration_ms, .. } => {
                self.command_ended(outcome, *duration_ms);
                self.write(true)?;
            }
            EventBody::Notice(notice) => {
                for (level, text) in notice.shown() {
                    let style = match level {
                        NoticeLevel::Note | NoticeLevel::Warning => &self.colors.note,
                        NoticeLevel::Error => &self.colors.bad,
                    };
                    let text = style.apply_to(plain::lines(&format!("runner: {text}"))).to_string();
                    self.say(&text);
                }
            }
            EventBody::Paused { stuck, stop, resumes_in_s, .. } => {
                self.paused += 1;
                self.is_stuck |= stuck.is_some();
                self.keys = menu(stop.as_deref());
                self.patience = resumes_in_s.map(Duration::from_secs);
                self.wait_for_somebody();
            }
            EventBody::Resumed { by, .. } => {
                self.paused = self.paused.saturating_sub(1);
                if self.paused == 0 {
                    self.pause_ends = None;
                }
                if let Some(text) = resumed(*by, self.is_stuck) {
                    self.note(&[text.to_owned()]);
                }
            }
            EventBody::BuildEnded { status, reason } => {
                self.build_ended(event, (*status, reason.as_deref()), output)?;
                self.write(true)?;
                self.bar.finish_and_clear();
            }
            EventBody::Intervened(_)
            | EventBody::CommandSkipped { .. }
            | EventBody::Rewound(_)
            | EventBody::Logged { .. } => {
                if let Some(text) = debugged(&event.body) {
                    for line in text.lines() {
                        let line = format!("runner: {line}");
                        let line = self.colors.note.apply_to(plain::lines(&line)).to_string();
                        self.say(&line);
                    }
                }
            }
            EventBody::Checkpoint(_) | EventBody::FilesChanged(_) => {}
            EventBody::Report(facts) => self.reports.push((**facts).clone()),
            EventBody::Agent { .. }
            | EventBody::ContainerStarted { .. }
            | EventBody::Exported { .. }
            | EventBody::Breakpoint(_)
            | EventBody::EndpointOpened { .. }
            | EventBody::EndpointFailed { .. } => {}
            EventBody::SessionOpened { .. } => {
                self.sessions += 1;
                self.pause_ends = None;
            }
            EventBody::SessionClosed { .. } => {
                self.sessions = self.sessions.saturating_sub(1);
                self.wait_for_somebody();
            }
        }
        Ok(())
    }

    fn caught_up(&mut self) -> io::Result<()> {
        self.write(false)?;
        if !self.bar.is_finished() {
            self.draw();
        }
        Ok(())
    }

    fn tick(&self) -> Option<Duration> {
        Some(TICK)
    }

    fn ticked(&mut self) -> io::Result<()> {
        let lines = self.pauses.overdue();
        if !lines.is_empty() {
            self.note(&lines);
            self.write(false)?;
        }
        if !self.bar.is_finished() {
            self.draw();
        }
        Ok(())
    }

    fn hide(&mut self) {
        // The line below now belongs to whatever uses the terminal.
        let _ = self.write(true);
        self.bar.finish_and_clear();
    }

    fn show(&mut self, said: Option<String>) {
        if let Some(text) = said {
            self.note(&[format!("runner: {text}")]);
            // A write error is reported by the next event.
            let _ = self.write(false);
        }
        self.bar.reset();
        self.draw();
    }
}
