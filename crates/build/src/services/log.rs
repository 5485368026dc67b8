//! Writes a service's output, masked, to a file in the build's folder.

use runner_core::mask::{Masker, SharedSecrets};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Maximum bytes kept of a service's log. Further output is read, so that the service continues,
/// and dropped.
const MOST: usize = 64 << 20;
/// Bytes shown of the log of a service that did not start.
const SHOWN: u64 = 1000;
const PIECE: usize = 32 << 10;
/// How long to wait for the last output of a service that has ended.
const LAST: Duration = Duration::from_secs(1);

/// A log that grows while the service's pipe is open.
pub(super) struct ServiceLog {
    path: PathBuf,
    writer: JoinHandle<()>,
}

impl ServiceLog {
    pub(super) fn start(pipe: OwnedFd, path: &Path, secrets: &SharedSecrets) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        runner_host::users::give(path)?;
        let secrets = secrets.clone();
        let writer = tokio::task::spawn_blocking(move || {
            if let Err(error) = write(File::from(pipe), file, &secrets) {
                tracing::debug!(%error, "a service's log is not complete");
            }
        });
        Ok(ServiceLog { path: path.to_path_buf(), writer })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last lines of the log, once the service has ended or was given up.
    pub(super) async fn last_lines(&mut self) -> String {
        // Output that is not there by then is not waited for.
        let _ = tokio::time::timeout(LAST, &mut self.writer).await;
        let bytes = end_of(&self.path).unwrap_or_default();
        runner_core::plain::lines(String::from_utf8_lossy(&bytes).trim_end()).into_owned()
    }
}

fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(SHOWN)))?;
    let mut bytes = Vec::new();
    file.take(SHOWN).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write(mut pipe: File, mut file: File, secrets: &SharedSecrets) -> io::Result<()> {
    let mut masker = Masker::new(secrets.get());
    let (mut piece, mut space, mut written) = (vec![0; PIECE], Vec::new(), 0);
    loop {
        let got = pipe.read(&mut piece)?;
        if got == 0 {
            return file.write_all(&masker.finish());
        }
        if written > MOST {
            continue;
        }
        masker.renew(secrets.get());
        let masked = masker.push(&piece[..got], &mut space);
        written += masked.len();
        file.write_all(masked)?;
    }
}
