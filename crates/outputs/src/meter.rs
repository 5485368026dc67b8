//! Progress of a transfer, reported from time to time.
//!
//! Counted where the bytes pass; written to the build's log a few times a second, but only by
//! transfers that take long enough to matter.

use super::Reporter;
use runner_core::event::TransferProgress;
use runner_core::machine::MachineInput;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Pause between two reports, and before the first.
const PERIOD: Duration = Duration::from_millis(400);

/// Counts bytes. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<AtomicU64>);

impl Meter {
    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Waits for `work` and reports its progress meanwhile.
    pub(super) async fn during<T>(
        &self,
        teller: &Reporter,
        what: &str,
        total: u64,
        work: impl Future<Output = T>,
    ) -> T {
        let mut last = 0;
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep(PERIOD) => {}
            }
            let done = self.0.load(Ordering::Relaxed);
            if done != last {
                last = done;
                let what = what.to_owned();
                teller.0.send(MachineInput::Progress(TransferProgress { what, done, total })).await;
            }
        }
    }
}
