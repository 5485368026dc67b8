//! Shows the progress of a pull: one bar for each layer and one for the total, if the output is a
//! terminal.
//!
//! Used by `pull`. Other output to that terminal makes way.

use super::manifest::Digest;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt;
use std::sync::Arc;

/// Called with `true` before drawing starts, and with `false` once everything is cleared.
pub type Curtain = Arc<dyn Fn(bool) + Send + Sync>;

/// Whether and where to draw bars.
#[derive(Clone, Default)]
pub struct PullProgress {
    pub is_visible: bool,
    pub curtain: Option<Curtain>,
}

impl fmt::Debug for PullProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("is_visible", &self.is_visible).finish_non_exhaustive()
    }
}

/// The bars of one pull.
pub struct Bars {
    bars: MultiProgress,
    total: ProgressBar,
    curtain: Option<Curtain>,
}

impl PullProgress {
    /// Starts the bars of a pull of this many bytes.
    pub fn start(&self, bytes: u64) -> Bars {
        let curtain = self.curtain.clone().filter(|_| self.is_visible);
        if let Some(curtain) = &curtain {
            curtain(true);
        }
        let target = match self.is_visible {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bars = MultiProgress::with_draw_target(target);
        let total = bars.add(ProgressBar::new(bytes).with_style(style()).with_prefix("all"));
        Bars { bars, total, curtain }
    }
}

impl Bars {
    /// Adds a layer's bar, which disappears with its last handle.
    pub(super) fn layer(&self, digest: &Digest, size: u64) -> LayerBar {
        let bar = ProgressBar::new(size).with_style(style()).with_prefix(digest.short().to_owned());
        LayerBar { bar: self.bars.insert_before(&self.total, bar), total: self.total.clone() }
    }

    /// Adds the bar of a layer that a daemon pulls.
    pub fn told(&self, name: &str) -> LayerBar {
        let bar = ProgressBar::new(0).with_style(style()).with_prefix(name.to_owned());
        LayerBar { bar: self.bars.insert_before(&self.total, bar), total: self.total.clone() }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.total.finish_and_clear();
        // A bar that cannot be cleared stays on the screen.
        let _ = self.bars.clear();
        if let Some(curtain) = &self.curtain {
            curtain(false);
        }
    }
}

/// The bar of one layer.
pub struct LayerBar {
    bar: ProgressBar,
    total: ProgressBar,
}

impl LayerBar {
    pub(super) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        self.total.inc(bytes);
    }

    /// Sets position and length as the daemon reports them.
    pub fn set(&self, bytes: u64, of: u64) {
        self.total.inc_length(of.saturating_sub(self.bar.length().unwrap_or(0)));
        self.bar.set_length(of);
        self.advance(bytes.saturating_sub(self.bar.position()));
    }
}

impl Drop for LayerBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template(
        "  {prefix:12} {wide_bar} {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
}
