//! The threads that pump the output of the build's commands into the log, and a count of those
//! running.
//!
//! Used by `effects`.

use runner_folder::events::pump::Pump;
use std::io;
use tokio::sync::watch;

/// Counts running pumps. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct Pumps(watch::Sender<usize>);

/// Counts one running pump while it lives.
struct RunningPump(watch::Sender<usize>);

impl Pumps {
    /// Starts a pump. `failed` is called if the log cannot be written.
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

    /// Resolves when every pump has logged its last output.
    pub(super) async fn drained(&self) {
        // Cannot fail: the sender lives in `self`.
        let _ = self.0.subscribe().wait_for(|running| *running == 0).await;
    }
}

impl Drop for RunningPump {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}
