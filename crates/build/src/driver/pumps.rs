//! The pumps of a build's commands, each on a thread that may wait, and how many still run.
//!
//! Used by `effects`.

use runner_folder::events::pump::Pump;
use std::io;
use tokio::sync::watch;

/// Clones count the same pumps.
#[derive(Clone, Debug, Default)]
pub(super) struct Pumps(watch::Sender<usize>);

/// One more of them, as long as it lives.
struct RunningPump(watch::Sender<usize>);

impl Pumps {
    /// Runs it. `failed` hears of a log that cannot be written.
    pub(super) fn start(&self, pump: Pump, failed: impl FnOnce(io::Error) + Send + 'static) {
        self.0.send_modify(|running| *running += 1);
        let running = RunningPump(self.0.clone());
        tokio::task::spawn_blocking(move || {
            let _running = running;
            if let Err(error) = pump.run() {
                failed(error);
            }
        });
    }

    /// Resolves when every pump has logged all it will ever get.
    pub(super) async fn drained(&self) {
        // The sender is right here.
        let _ = self.0.subscribe().wait_for(|running| *running == 0).await;
    }
}

impl Drop for RunningPump {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}
