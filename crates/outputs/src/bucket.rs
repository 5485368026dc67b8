//! Artifacts in a bucket, one object per file.
//!
//! Files arrive one after the other from a thread that may block; many objects are uploaded at
//! once. Memory is bounded: it holds small files whole, and a few pieces of each large one.

use super::OutputError;
use super::meter::Meter;
use super::transfer::{Chosen, Keeper};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use runner_cloud::s3::{Object, S3};
use runner_wire::files::FileFacts;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::mpsc;

/// Concurrent uploads.
const AT_ONCE: usize = 16;
/// A file up to this size is uploaded in one request.
const SMALL: u64 = 1 << 20;
/// Pieces of a large file that may be queued.
const PIECES: usize = 16;
const PIECE: usize = 128 << 10;

pub(super) struct BucketUpload {
    object: Object,
    body: UploadBody,
}

enum UploadBody {
    Whole(Bytes),
    Pieces(UploadPieces),
}

/// Turns files into objects.
pub(super) struct BucketKeeper {
    /// The bucket and the prefix of each key.
    prefix: Object,
    queue: mpsc::Sender<BucketUpload>,
    current: Option<CurrentObject>,
}

enum CurrentObject {
    Whole(Object, Vec<u8>),
    Pieces(SyncSender<BodyPart>),
}

/// A piece of a file; the file is whole only with [`BodyPart::End`].
enum BodyPart {
    Data(Bytes),
    End,
}

impl BucketKeeper {
    /// The keeper's uploads come out of the receiver, for [`upload`].
    pub(super) fn new(prefix: Object) -> (Self, mpsc::Receiver<BucketUpload>) {
        let (queue, uploads) = mpsc::channel(AT_ONCE);
        (BucketKeeper { prefix, queue, current: None }, uploads)
    }

    fn send(&self, object: Object, body: UploadBody) -> Result<(), OutputError> {
        let sent = self.queue.blocking_send(BucketUpload { object, body });
        sent.map_err(|_| stopped())
    }

    fn piece(&self, piece: BodyPart) -> Result<(), OutputError> {
        match &self.current {
            Some(CurrentObject::Pieces(pieces)) => pieces.send(piece).map_err(|_| stopped()),
            _ => Ok(()),
        }
    }
}

/// The receiver is gone; its error names the reason.
fn stopped() -> OutputError {
    OutputError::Other("the upload has ended".to_owned())
}

impl Keeper for BucketKeeper {
    fn begin(&mut self, file: &Chosen, facts: &FileFacts) -> Result<(), OutputError> {
        let Ok(name) = str::from_utf8(&file.name) else {
            let problem =
                "S3 accepts only names in UTF-8; rename it, or pack the artifact as a ZIP";
            return Err(OutputError::Source { path: file.name.clone(), problem: problem.into() });
        };
        let slash = if self.prefix.key.is_empty() { "" } else { "/" };
        let key = format!("{}{slash}{name}", self.prefix.key);
        let object = Object { key, ..self.prefix.clone() };
        self.current = Some(if facts.size <= SMALL {
            CurrentObject::Whole(object, Vec::new())
        } else {
            let (pieces, receiver) = sync_channel(PIECES);
            let reader = UploadPieces { receiver, now: Bytes::new(), is_over: false };
            self.send(object, UploadBody::Pieces(reader))?;
            CurrentObject::Pieces(pieces)
        });
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        if let Some(CurrentObject::Whole(_, whole)) = &mut self.current {
            whole.extend_from_slice(bytes);
            return Ok(());
        }
        self.piece(BodyPart::Data(Bytes::copy_from_slice(bytes)))
    }

    fn hole(&mut self, mut length: u64) -> Result<(), OutputError> {
        static ZEROS: [u8; PIECE] = [0; PIECE];
        while length > 0 {
            let now = usize::try_from(length).unwrap_or(PIECE).min(PIECE);
            match &mut self.current {
                Some(CurrentObject::Whole(_, whole)) => whole.extend_from_slice(&ZEROS[..now]),
                _ => self.piece(BodyPart::Data(Bytes::from_static(&ZEROS[..now])))?,
            }
            length -= now as u64;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), OutputError> {
        match self.current.take() {
            Some(CurrentObject::Whole(object, bytes)) => {
                self.send(object, UploadBody::Whole(bytes.into()))
            }
            Some(CurrentObject::Pieces(pieces)) => {
                pieces.send(BodyPart::End).map_err(|_| stopped())
            }
            None => Ok(()),
        }
    }

    fn link(&mut self, _: &Chosen, _: &[u8]) -> Result<(), OutputError> {
        // A bucket has no links; links were followed.
        Ok(())
    }
}

/// A large file, piece by piece.
struct UploadPieces {
    receiver: Receiver<BodyPart>,
    now: Bytes,
    is_over: bool,
}

impl Read for UploadPieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() && !self.is_over {
            match self.receiver.recv() {
                Ok(BodyPart::Data(bytes)) => self.now = bytes,
                Ok(BodyPart::End) => self.is_over = true,
                // The code that reads the file reports the reason.
                Err(_) => return Err(io::Error::other("the file was not read to its end")),
            }
        }
        let count = self.now.len().min(into.len());
        into[..count].copy_from_slice(&self.now.split_to(count));
        Ok(count)
    }
}

/// Uploads everything it receives, until the channel closes or something fails. Uploads dropped on
/// failure are also aborted at the server.
pub(super) async fn upload(
    s3: &S3,
    mut uploads: mpsc::Receiver<BucketUpload>,
    meter: &Meter,
) -> Result<(), OutputError> {
    // No spawned tasks: they would briefly outlive this function, and abort their uploads when
    // nobody waits for that any more.
    let mut running = FuturesUnordered::new();
    loop {
        let next = tokio::select! {
            Some(done) = running.next(), if !running.is_empty() => {
                done?;
                continue;
            }
            next = uploads.recv(), if running.len() < AT_ONCE => next,
        };
        let Some(BucketUpload { object, body }) = next else { break };
        running.push(async move {
            let told = |bytes| meter.add(bytes);
            match body {
                UploadBody::Whole(bytes) => s3.put_bytes(&object, bytes, &told).await,
                UploadBody::Pieces(pieces) => s3.put(&object, pieces, &told).await,
            }
        });
    }
    while let Some(done) = running.next().await {
        done?;
    }
    Ok(())
}
