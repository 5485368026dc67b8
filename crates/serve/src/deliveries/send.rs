//! Sends one job: its sources go to a log group and to a bucket.

use super::{Deliveries, LET_GO, LET_GO_LONGEST};
use runner_cloud::logs::LogStream;
use runner_cloud::s3::Object;
use runner_cloud::{CLOUDWATCH_LOGS, SIMPLE_STORAGE};
use runner_core::destination::Form;
use runner_core::destination::events::{self, EventBatch};
use runner_core::time::WallTime;
use runner_folder::state::{OwnedJob, SpoolJob};
use runner_host::clock;
use serde_json::json;
use std::fs::File;
use std::io;
use std::sync::Arc;
use tokio::time::Instant;

/// The next part of a source.
struct Window {
    batch: EventBatch,
    /// When it was written.
    time: WallTime,
    /// Bytes read.
    length: usize,
    /// Whether nothing follows it.
    is_all: bool,
}

/// A job that is being sent.
pub(super) struct Sending {
    owned: Arc<OwnedJob>,
    /// The current state; the file may be a step behind.
    job: SpoolJob,
    streams: Vec<LogStream>,
}

impl Sending {
    pub(super) fn new(owned: OwnedJob) -> Self {
        let job = owned.job.clone();
        let streams = match &job.to.group {
            None => Vec::new(),
            Some(group) => job
                .sources
                .iter()
                .map(|source| {
                    LogStream::new(group.name.clone(), source.stream.clone(), group.is_made)
                })
                .collect(),
        };
        Sending { owned: Arc::new(owned), job, streams }
    }

    pub(super) fn job(&self) -> &SpoolJob {
        &self.job
    }

    /// Works with the files on a blocking thread.
    async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&OwnedJob) -> io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let owned = Arc::clone(&self.owned);
        let done = tokio::task::spawn_blocking(move || work(&owned)).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| error.to_string())
    }

    /// Waits until no process writes any more. Fails after a time limit.
    async fn until_let_go(&self) -> Result<(), String> {
        let until = Instant::now() + LET_GO_LONGEST;
        while self.with_files(OwnedJob::is_written_to).await? {
            if Instant::now() >= until {
                return Err("more is still being written".to_owned());
            }
            tokio::time::sleep(LET_GO).await;
        }
        Ok(())
    }

    /// Sends the rest once no process writes any more.
    pub(super) async fn send_last(&mut self, to: &Deliveries) -> Result<(), String> {
        self.until_let_go().await?;
        self.send(to, true).await
    }

    async fn save(&self) -> Result<(), String> {
        let job = self.job.clone();
        self.with_files(move |owned| owned.save(&job)).await
    }

    /// Stores the problem. Returns whether it is a new one.
    pub(super) async fn is_new(&mut self, problem: &str) -> bool {
        if self.job.problem == problem {
            return false;
        }
        problem.clone_into(&mut self.job.problem);
        // If saving fails, the problem is reported again later.
        let _ = self.save().await;
        true
    }

    pub(super) async fn remove(self) -> io::Result<()> {
        let owned = self.owned;
        let removed = tokio::task::spawn_blocking(move || owned.remove()).await;
        removed.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Sends new output, and all of it if `is_over`. A failing target does not hold up the other.
    pub(super) async fn send(&mut self, to: &Deliveries, is_over: bool) -> Result<(), String> {
        let mut problems: Vec<String> = Vec::new();
        for source in 0..self.job.sources.len() {
            if self.job.to.group.is_some() && !self.job.sources[source].is_streamed {
                problems.extend(self.stream(to, source, is_over).await.err());
            }
            if self.job.to.bucket.is_some() && is_over && !self.job.sources[source].is_stored {
                problems.extend(self.store(to, source).await.err());
            }
        }
        problems.dedup();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    /// The next part of a source.
    async fn window(&self, at: usize, form: Form, is_over: bool) -> Result<Window, String> {
        let (from, context) = (self.job.sources[at].sent, self.job.context.clone());
        self.with_files(move |owned| {
            let (bytes, written) = owned.read(at, from, events::MOST)?;
            let time = clock::wall().min(written);
            let length = bytes.len();
            let is_all = is_over && length < events::MOST;
            let batch = events::batch(&bytes, is_all, form, &context, time);
            Ok(Window { batch, time, length, is_all })
        })
        .await
    }

    async fn stream(&mut self, to: &Deliveries, at: usize, is_over: bool) -> Result<(), String> {
        let Some(group) = self.job.to.group.clone() else { return Ok(()) };
        let named = |error: String| format!("log group {}: {error}", group.name);
        let cloud = to.cloud(CLOUDWATCH_LOGS).await.map_err(named)?;
        loop {
            let Window { batch, time, length, is_all } =
                self.window(at, group.form, is_over).await?;
            if !batch.messages.is_empty()
                && let Some(stream) = self.streams.get_mut(at)
            {
                let events = as_events(&batch, time);
                let put = stream.put(&cloud.amazon, &events).await;
                put.map_err(|error| named(error.to_string()))?;
            }
            self.job.sources[at].sent += batch.bytes as u64;
            let is_at_end = batch.bytes == length;
            self.job.sources[at].is_streamed = is_all && is_at_end;
            if batch.bytes > 0 || self.job.sources[at].is_streamed {
                self.save().await?;
            }
            // More may follow a full window.
            let is_last = is_at_end && length < events::MOST;
            if batch.bytes == 0 || is_last {
                return Ok(());
            }
        }
    }

    async fn store(&mut self, to: &Deliveries, at: usize) -> Result<(), String> {
        let Some(bucket) = self.job.to.bucket.clone() else { return Ok(()) };
        let cloud = to.cloud(SIMPLE_STORAGE).await;
        let cloud = cloud.map_err(|error| format!("bucket {}: {error}", bucket.name))?;
        let file = self.with_files(move |owned| {
            let file = owned.open(at)?;
            let length = file.as_ref().map(File::metadata).transpose()?;
            Ok(file.filter(|_| length.is_some_and(|metadata| metadata.len() > 0)))
        });
        if let Some(file) = file.await? {
            let object = Object {
                bucket: bucket.name.clone(),
                key: self.job.sources[at].key.clone(),
                content_type: Some("text/plain".to_owned()),
                is_owners: true,
                ..Object::default()
            };
            let put = cloud.s3.put(&object, file, &|_| ()).await;
            put.map_err(|error| match error.hint() {
                Some(hint) => format!("{error} ({hint})"),
                None => error.to_string(),
            })?;
        }
        self.job.sources[at].is_stored = true;
        self.save().await
    }
}

fn as_events(batch: &EventBatch, time: WallTime) -> Vec<serde_json::Value> {
    let event = |message: &String| json!({"timestamp": time.epoch_millis(), "message": message});
    batch.messages.iter().map(event).collect()
}
