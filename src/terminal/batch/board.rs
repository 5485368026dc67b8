//! Lines at the bottom of the terminal: one for each running build, with its phase, command and
//! time.

use super::follow::FollowedChild;
use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use runner_core::plain;
use runner_core::summary::clock_form;
use runner_host::clock;
use std::collections::BTreeMap;
use std::io::{self, Write};

pub(super) struct Board {
    term: Term,
    bars: MultiProgress,
    lines: BTreeMap<usize, ProgressBar>,
    style: ProgressStyle,
}

impl Board {
    pub(super) fn new(has_colors: bool) -> Self {
        let term = Term::stdout();
        let target = ProgressDrawTarget::term(term.clone(), 20);
        let template =
            if has_colors { "{spinner:.cyan} {wide_msg}" } else { "{spinner} {wide_msg}" };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_spinner())
            .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ");
        Board { term, bars: MultiProgress::with_draw_target(target), lines: BTreeMap::new(), style }
    }

    /// Draws a line for each of these builds and removes the lines of others.
    pub(super) fn draw(&mut self, follows: &BTreeMap<usize, FollowedChild>) {
        let ended: Vec<usize> =
            self.lines.keys().filter(|at| !follows.contains_key(at)).copied().collect();
        for at in ended {
            if let Some(bar) = self.lines.remove(&at) {
                bar.finish_and_clear();
                self.bars.remove(&bar);
            }
        }
        for (at, follow) in follows {
            let bar = self.lines.entry(*at).or_insert_with(|| {
                let bar = self.bars.add(ProgressBar::new_spinner());
                bar.set_style(self.style.clone());
                bar
            });
            bar.set_message(line(follow));
            bar.tick();
        }
    }

    /// Writes above the lines.
    pub(super) fn above(&mut self, text: &[u8]) -> io::Result<()> {
        let mut term = &self.term;
        self.bars.suspend(|| term.write_all(text).and_then(|()| term.flush()))
    }

    pub(super) fn clear(self) {
        let _ = self.bars.clear();
    }
}

fn line(follow: &FollowedChild) -> String {
    let now = clock::boot();
    let took = clock_form(now.saturating_sub(follow.since));
    let mut parts = vec![format!("{} {took}", follow.name)];
    if let Some(view) = follow.timeline.view() {
        parts.push(view.phase().to_string());
        if !view.paused.is_empty() {
            parts.push("paused".to_owned());
        } else if let Some(command) = &view.command {
            let first = command.text.lines().next().unwrap_or_default();
            let took = clock_form(now.saturating_sub(follow.command_since));
            parts.push(format!("{took} {first}"));
        }
    }
    plain::lines(&parts.join(" · ")).into_owned()
}
