//! Sends the log to CloudWatch Logs: one event per line, in batches within the service's limits.
//!
//! A batch is sent when it is full or a second old. Failures that may be temporary are retried with
//! growing pauses for as long as the build runs; meanwhile the log waits on disk, not in memory.

use super::DeliverySource;
use runner_cloud::{Amazon, CallError, logs};
use runner_folder::events::{Line, LineReader};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Maximum bytes of a batch; each event adds a fixed overhead.
const MAX_BATCH: usize = 1 << 20;
const OVERHEAD: usize = 26;
/// Maximum events of a batch.
const MAX_EVENTS: usize = 10_000;
/// How long a line waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// Maximum time between the first and the last event of a batch, in milliseconds.
const MAX_SPAN: u64 = 24 * 60 * 60 * 1000;
/// Pause before the first retry.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A log stream and the client that writes to it.
pub(super) struct DeliveryStream {
    amazon: Amazon,
    stream: logs::LogStream,
}

impl DeliveryStream {
    pub(super) fn new(amazon: Amazon, group: String, stream: String) -> Self {
        DeliveryStream { amazon, stream: logs::LogStream::new(group, stream, true) }
    }

    async fn put(&mut self, batch: &[Line]) -> Result<(), CallError> {
        let events: Vec<Value> = batch
            .iter()
            .map(|line| json!({"timestamp": line.time, "message": line.text}))
            .collect();
        self.stream.put(&self.amazon, &events).await
    }

    /// Sends a batch, retrying as often as needed.
    async fn put_at_last(&mut self, batch: &[Line]) -> Result<(), String> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.put(batch).await {
                Ok(()) => return Ok(()),
                Err(error) if !error.may_pass() => return Err(error.to_string()),
                Err(error) => {
                    tracing::debug!(%error, "CloudWatch Logs: trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

/// Sends the log until all of it has arrived. The error says why it did not.
pub(super) async fn send(
    mut source: DeliverySource,
    mut stream: DeliveryStream,
) -> Result<(), String> {
    let mut lines = LineReader::new();
    let (mut rest, mut batch) = (Vec::new(), LineBatch::default());
    let mut heads = source.log.watch();
    loop {
        let known = *heads.borrow_and_update();
        let mut is_at_end = false;
        while !batch.is_full() {
            let event = source.reader.next_event().map_err(|error| error.to_string())?;
            let Some(event) = event else {
                is_at_end = true;
                break;
            };
            let text = lines.text(&event, &mut source.output).map_err(|error| error.to_string())?;
            rest.extend(text);
            lines.cut(&mut rest, false, |line| batch.push(line));
        }
        let is_over = known.complete && is_at_end;
        if is_over {
            lines.cut(&mut rest, true, |line| batch.push(line));
        }
        while batch.is_full() || is_over && !batch.waiting.is_empty() || batch.is_due() {
            let part = batch.take();
            // A batch that arrives, however late, counts as progress.
            source.bounded(|| 0, stream.put_at_last(&part)).await?;
        }
        if is_over {
            return Ok(());
        }
        if is_at_end {
            let due = batch.since.map(|since| since + GATHER);
            tokio::select! {
                changed = heads.changed() => if changed.is_err() {
                    return Err("the log broke off".to_owned());
                },
                () = sleep_until(due) => {}
            }
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Lines waiting to be sent.
#[derive(Default)]
struct LineBatch {
    waiting: Vec<Line>,
    bytes: usize,
    /// When the first of them was added.
    since: Option<Instant>,
}

impl LineBatch {
    fn push(&mut self, line: Line) {
        self.since.get_or_insert_with(Instant::now);
        self.bytes += line.text.len() + OVERHEAD;
        self.waiting.push(line);
    }

    fn is_full(&self) -> bool {
        self.bytes >= MAX_BATCH || self.waiting.len() >= MAX_EVENTS
    }

    fn is_due(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= GATHER)
    }

    /// Takes as many of the first lines as the service accepts at once.
    fn take(&mut self) -> Vec<Line> {
        let first = self.waiting.first().map_or(0, |line| line.time);
        let mut bytes = 0;
        let fits = |line: &&Line| {
            bytes += line.text.len() + OVERHEAD;
            bytes <= MAX_BATCH && line.time < first + MAX_SPAN
        };
        let count = self.waiting.iter().take(MAX_EVENTS).take_while(fits).count();
        let rest = self.waiting.split_off(count);
        let taken = std::mem::replace(&mut self.waiting, rest);
        self.bytes = self.waiting.iter().map(|line| line.text.len() + OVERHEAD).sum();
        self.since = (!self.waiting.is_empty()).then(Instant::now);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_stay_within_the_services_limits() {
        let mut batch = LineBatch::default();
        let line = |time, length| Line { time, text: "x".repeat(length) };
        for _ in 0..30 {
            batch.push(line(1, 100_000));
        }
        assert!(batch.is_full());
        assert_eq!(batch.take().len(), 10);
        assert_eq!((batch.waiting.len(), batch.bytes), (20, 20 * 100_026));
        let mut batch = LineBatch::default();
        for time in 0..25_000 {
            batch.push(line(time, 1));
        }
        assert_eq!(batch.take().len(), MAX_EVENTS);
        let mut batch = LineBatch::default();
        batch.push(line(0, 1));
        batch.push(line(MAX_SPAN, 1));
        assert_eq!((batch.take().len(), batch.take().len()), (1, 1));
        assert!(!batch.is_due());
    }
}
