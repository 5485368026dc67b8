//! Destinations of the log besides the build's folder: a file, and copies on AWS.

use super::BegunBuild;
use crate::deliveries::{Couriers, LogCopies};
use runner_cloud::s3::Location;
use runner_core::event::LogsFacts;
use runner_core::project::CloudWatchLogs;
use runner_folder::events::{CodeBuild, Growth, Heads, LogReader, LogWriter, OutputReader};
use runner_folder::state::BuildDir;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::thread::JoinHandle;

/// The requested copies of the log on AWS.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LogsWanted {
    pub cloudwatch: Option<CloudWatchLogs>,
    pub s3: Option<Location>,
}

impl BegunBuild {
    /// The destinations of the log's copies.
    pub(super) fn copies(&self) -> LogCopies {
        let LogsWanted { cloudwatch, s3 } = self.request.outputs.logs.clone();
        let uuid = self.identity.uuid;
        let cloudwatch = cloudwatch.map(|CloudWatchLogs { group, stream }| {
            let group = group.unwrap_or_else(|| format!("/aws/codebuild/{}", self.request.project));
            let before = stream.map_or_else(String::new, |stream| format!("{stream}/"));
            (group, format!("{before}{uuid}"))
        });
        LogCopies { cloudwatch, s3 }
    }

    /// Starts the threads that send copies of the log to AWS.
    pub(super) fn couriers(&self, log: &LogWriter) -> io::Result<Couriers> {
        let identity = self.request.values.identity();
        let uuid = self.identity.uuid.to_string();
        Couriers::start(&self.copies(), &uuid, &identity, &self.dir, log)
    }

    /// The same as facts for the record.
    pub(super) fn logs_facts(&self) -> LogsFacts {
        let LogCopies { cloudwatch, s3 } = self.copies();
        let s3 = s3.map(|place| {
            let object = place.object(&format!("{}.gz", self.identity.uuid));
            format!("{}/{}", object.bucket, object.key)
        });
        LogsFacts { cloudwatch, s3 }
    }
}

/// Writes the log to a file as it grows, on a separate thread. The handle returns the result.
pub(super) fn write_to(
    file: File,
    dir: &BuildDir,
    growth: Growth,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let (mut reader, mut output) = (LogReader::open(dir)?, OutputReader::open(dir)?);
    let mut lines = CodeBuild::new(file);
    std::thread::Builder::new().name("log file".to_owned()).spawn(move || {
        let mut seen = Heads::default();
        loop {
            while let Some(event) = reader.next_event()? {
                lines.event(&event, &mut output)?;
            }
            lines.flushed()?;
            if seen.closed && reader.position() == seen.events {
                return Ok(());
            }
            seen = growth.wait(seen, None);
        }
    })
}
