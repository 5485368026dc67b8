//! Waits until a live build's log has grown.

use runner_client::SharedClient;
use runner_folder::state::BuildDir;
use runner_wire::control::{ControlRequest, ControlResponse};
use std::time::Duration;

/// How long a request waits before an empty response; shorter than the timeouts of machines in
/// between.
const LONGEST: Duration = Duration::from_secs(25);

/// Waits until the log's events exceed `seen` bytes, the build has ended, or time is up.
pub(in super::super) async fn wait(dir: &BuildDir, seen: u64) {
    // Whatever happens to the build, the caller looks at its log again.
    let _ = tokio::time::timeout(LONGEST, grown(dir, seen)).await;
}

async fn grown(dir: &BuildDir, seen: u64) -> Option<()> {
    let mut link = SharedClient::connect(dir).await.ok()?;
    link.send(&ControlRequest::Watch).await.ok()?;
    while let Some(frame) = link.next().await.ok()? {
        match serde_json::from_slice(&frame).ok()? {
            ControlResponse::Status(status) if status.events <= seen => {}
            _ => return Some(()),
        }
    }
    None
}
