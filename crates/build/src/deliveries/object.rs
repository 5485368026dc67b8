//! The log as one compressed object on S3.
//!
//! It is compressed as it grows, into an unnamed file, and uploaded when it is complete.

use super::DeliverySource;
use flate2::Compression;
use flate2::write::GzEncoder;
use runner_cloud::s3::{Object, S3};
use runner_folder::events::LineReader;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// Uploads the log. The error says why that failed.
pub(super) async fn send(
    mut source: DeliverySource,
    file: File,
    s3: &S3,
    to: &Object,
) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let mut lines = LineReader::new();
    let mut packed = GzEncoder::new(BufWriter::new(file), Compression::default());
    let mut heads = source.log.watch();
    loop {
        let known = *heads.borrow_and_update();
        while let Some(event) = source.reader.next_event().map_err(failed)? {
            let text = lines.text(&event, &mut source.output).map_err(failed)?;
            packed.write_all(&text).map_err(failed)?;
        }
        if known.complete {
            break;
        }
        if heads.changed().await.is_err() {
            return Err("the log broke off".to_owned());
        }
    }
    let whole = packed.finish().and_then(|out| out.into_inner().map_err(io::Error::from));
    let mut file = whole.map_err(failed)?;
    file.rewind().map_err(failed)?;
    let arrived = AtomicU64::new(0);
    let told = |bytes: u64| {
        arrived.fetch_add(bytes, Ordering::Relaxed);
    };
    let put = async { s3.put(to, file, &told).await.map_err(|error| error.to_string()) };
    source.bounded(|| arrived.load(Ordering::Relaxed), put).await
}
