//! Sends copies of a build's log to AWS: CloudWatch Logs, and a compressed object on S3.
//!
//! Started by `build` if a project asks for them. Each copy has a thread that reads the log at its
//! own pace, so a slow or silent service does not slow the build; nothing waits for these threads
//! before the build's processes have ended. Then they have some time to catch up. What has not
//! arrived by then is reported, and remains in the log on disk.

mod cloudwatch;
mod object;

use crate::driver::LogDeliveries;
use cloudwatch::DeliveryStream;
use runner_cloud::s3::{Location, S3};
use runner_cloud::{Amazon, CloudIdentity};
use runner_engine::Fut;
use runner_folder::events::{LogReader, LogWriter, OutputReader};
use runner_folder::state::BuildDir;
use std::future::Future;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// How long a service may make no progress after the build has ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// Destinations of the log's copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogCopies {
    /// Log group and log stream.
    pub cloudwatch: Option<(String, String)>,
    /// Where the object goes.
    pub s3: Option<Location>,
}

/// What each of the threads works with.
struct DeliverySource {
    log: LogWriter,
    reader: LogReader,
    output: OutputReader,
    hurry: watch::Receiver<bool>,
}

/// The copies of one build's log.
pub struct Couriers {
    log: LogWriter,
    hurry: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<Result<(), String>>>>,
}

impl Couriers {
    /// Starts the requested copies. Nothing is sent yet.
    pub fn start(
        to: &LogCopies,
        uuid: &str,
        identity: &CloudIdentity,
        dir: &BuildDir,
        log: &LogWriter,
    ) -> io::Result<Self> {
        let (hurry, _) = watch::channel(false);
        let mut threads = Vec::new();
        let source = || -> io::Result<DeliverySource> {
            Ok(DeliverySource {
                log: log.clone(),
                reader: LogReader::open(dir)?,
                output: OutputReader::open(dir)?,
                hurry: hurry.subscribe(),
            })
        };
        if let Some((group, stream)) = to.cloudwatch.clone() {
            let (source, identity) = (source()?, identity.clone());
            let rest = format!("the whole log: runner logs {uuid}");
            threads.push(thread("cloudwatch logs", async move {
                let name = format!("CloudWatch Logs {group} {stream}");
                let stream = DeliveryStream::new(Amazon::load(&identity).await, group, stream);
                cloudwatch::send(source, stream)
                    .await
                    .map_err(|problem| format!("not sent to {name}: {problem}; {rest}"))
            })?);
        }
        if let Some(place) = to.s3.clone() {
            let (source, identity) = (source()?, identity.clone());
            let rest = format!("the whole log: runner logs {uuid}");
            let mut to = place.object(&format!("{uuid}.gz"));
            to.content_type = Some("application/gzip".to_owned());
            // Unnamed, so that nothing is left of it whatever happens.
            let file = tempfile::tempfile_in(dir.path())?;
            threads.push(thread("s3 logs", async move {
                let s3 = S3::new(&Amazon::load(&identity).await);
                let name = to.to_string();
                object::send(source, file, &s3, &to)
                    .await
                    .map_err(|problem| format!("the log is not in {name}: {problem}; {rest}"))
            })?);
        }
        Ok(Couriers { log: log.clone(), hurry, threads: Mutex::new(threads) })
    }
}

/// A thread with a separate runtime, because reading the log may block.
fn thread(
    name: &str,
    work: impl Future<Output = Result<(), String>> + Send + 'static,
) -> io::Result<JoinHandle<Result<(), String>>> {
    let runtime = runner_host::runtime::start().map_err(io::Error::other)?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = runtime.block_on(work);
        // Tasks that hang are not waited for.
        runtime.shutdown_background();
        result
    })
}

impl LogDeliveries for Couriers {
    fn finish(&self) -> Fut<'_, Vec<String>> {
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.is_empty() {
            return Box::pin(std::future::ready(Vec::new()));
        }
        self.log.complete();
        Box::pin(async move {
            let joined = tokio::task::spawn_blocking(move || {
                let results = threads.into_iter().map(JoinHandle::join);
                let failed = results.filter_map(|result| match result {
                    Ok(result) => result.err(),
                    Err(_) => Some("a copy of the log broke off".to_owned()),
                });
                failed.collect()
            });
            joined.await.unwrap_or_default()
        })
    }

    fn hurry(&self) {
        self.hurry.send_replace(true);
    }
}

impl DeliverySource {
    /// Runs something that may take long. Gives up when the user is in a hurry, or when it has made
    /// no progress for a while after the build's end.
    async fn bounded<T>(
        &self,
        progress: impl Fn() -> u64,
        work: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let mut hurry = self.hurry.clone();
        let mut heads = self.log.watch();
        let too_long = async {
            // An error means that the log writer is gone, and with it anything more to read.
            drop(heads.wait_for(|heads| heads.complete).await);
            let mut before = progress();
            loop {
                tokio::time::sleep(PATIENCE).await;
                let now = progress();
                if now == before {
                    return format!("no answer within {} seconds", PATIENCE.as_secs());
                }
                before = now;
            }
        };
        let hurried = async {
            let is_alone = hurry.wait_for(|hurry| *hurry).await.is_err();
            if is_alone {
                // The sender is gone, so no hurry can be announced any more.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            result = work => result,
            () = hurried => Err("there was no time for it".to_owned()),
            problem = too_long => Err(problem),
        }
    }
}
