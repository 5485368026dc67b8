//! Deflate on every processor: blocks of bytes go in and come back compressed, in any order.
//!
//! Used by the ZIP writer and for cache archives. A large file is cut into blocks, each of which
//! ends on a byte boundary, so that they can be concatenated; [`END`] terminates them.

use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress, Status};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::{io, thread};

/// Bytes of a block, the unit of work of one processor.
pub(super) const BLOCK: usize = 1 << 20;
/// An empty last block.
pub(super) const END: [u8; 2] = [0x03, 0x00];
/// The default level of zip and gzip.
const LEVEL: u32 = 6;
/// The start of a block is tried first; if it does not shrink, the block is stored.
const SAMPLE: usize = 16 << 10;

/// How a piece is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeflatePiece {
    /// All of a file: a complete stream, or the bytes unchanged if that is shorter.
    Whole,
    /// Part of a file.
    Block,
}

/// A compressed piece.
#[derive(Clone)]
pub(super) struct Squeezed {
    /// Checksum of the input.
    pub crc: Hasher,
    pub length: usize,
    /// Whether `bytes` are deflated; otherwise they are the input.
    pub is_deflated: bool,
    pub bytes: Vec<u8>,
}

struct DeflateJob {
    pieces: Vec<Vec<u8>>,
    kind: DeflatePiece,
    answer: SyncSender<Vec<Squeezed>>,
}

/// Compression threads.
pub(super) struct Pool {
    jobs: Option<SyncSender<DeflateJob>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// One thread for each processor.
    pub(super) fn new() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        // Capacity equals the number of threads, so that none waits for work.
        let (jobs, queue) = sync_channel::<DeflateJob>(count);
        let queue = Arc::new(Mutex::new(queue));
        let mut pool = Pool { jobs: Some(jobs), threads: Vec::new() };
        for _ in 0..count {
            let queue = Arc::clone(&queue);
            let work = move || worker(&queue);
            pool.threads.push(thread::Builder::new().name("deflate".to_owned()).spawn(work)?);
        }
        Ok(pool)
    }

    /// How many pieces can be queued before one has to be taken.
    pub(super) fn depth(&self) -> usize {
        self.threads.len() * 2 + 1
    }

    /// Compresses some pieces; the results come out of the receiver, in order.
    pub(super) fn squeeze(
        &self,
        pieces: Vec<Vec<u8>>,
        kind: DeflatePiece,
    ) -> Receiver<Vec<Squeezed>> {
        let (answer, squeezed) = sync_channel(1);
        if let Some(jobs) = &self.jobs {
            // If the threads are gone, the receiver gets no answer and reports that.
            let _ = jobs.send(DeflateJob { pieces, kind, answer });
        }
        squeezed
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panicked thread gave no answer, and the receiver has noticed.
            let _ = thread.join();
        }
    }
}

fn worker(queue: &Mutex<Receiver<DeflateJob>>) {
    let mut state = Squeezer::new();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let squeezed = job.pieces.into_iter().map(|piece| state.squeeze(piece, job.kind)).collect();
        // The receiver is gone if something else failed meanwhile.
        let _ = job.answer.send(squeezed);
    }
}

struct Squeezer {
    usual: Compress,
    stored: Compress,
    /// The result for a block of zeros, cached because a sparse file has many.
    zeros: Option<Squeezed>,
}

impl Squeezer {
    fn new() -> Self {
        Squeezer {
            usual: Compress::new(Compression::new(LEVEL), false),
            stored: Compress::new(Compression::none(), false),
            zeros: None,
        }
    }

    fn squeeze(&mut self, piece: Vec<u8>, kind: DeflatePiece) -> Squeezed {
        let is_zeros = kind == DeflatePiece::Block && piece.len() == BLOCK && is_zero(&piece);
        if is_zeros && let Some(zeros) = &self.zeros {
            return zeros.clone();
        }
        let mut crc = Hasher::new();
        crc.update(&piece);
        let length = piece.len();
        let flush = match kind {
            DeflatePiece::Whole => FlushCompress::Finish,
            DeflatePiece::Block => FlushCompress::Sync,
        };
        let shrinks = length <= SAMPLE * 2 || {
            let sample = deflate(&mut self.usual, &piece[..SAMPLE], FlushCompress::Finish);
            sample.len() < SAMPLE - SAMPLE / 32
        };
        let squeezed = match kind {
            DeflatePiece::Whole if !shrinks => None,
            DeflatePiece::Block if !shrinks => Some(deflate(&mut self.stored, &piece, flush)),
            DeflatePiece::Whole | DeflatePiece::Block => {
                Some(deflate(&mut self.usual, &piece, flush))
            }
        };
        let squeezed = match squeezed {
            Some(bytes) if kind == DeflatePiece::Block || bytes.len() < length => {
                Squeezed { crc, length, is_deflated: true, bytes }
            }
            _ => Squeezed { crc, length, is_deflated: false, bytes: piece },
        };
        if is_zeros {
            self.zeros = Some(squeezed.clone());
        }
        squeezed
    }
}

/// Whether all bytes are zero.
fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

fn deflate(state: &mut Compress, input: &[u8], flush: FlushCompress) -> Vec<u8> {
    state.reset();
    // Incompressible input grows by at most five bytes for each 16 KiB.
    let mut output = Vec::with_capacity(input.len() + input.len() / 2048 + 128);
    loop {
        let taken = usize::try_from(state.total_in()).unwrap_or(usize::MAX).min(input.len());
        // Its only error is a missing dictionary, and none is used.
        let status = state.compress_vec(&input[taken..], &mut output, flush);
        let is_all = state.total_in() == input.len() as u64;
        let is_done = match flush {
            FlushCompress::Finish => matches!(status, Ok(Status::StreamEnd) | Err(_)),
            _ => is_all && output.len() < output.capacity(),
        };
        if is_done {
            return output;
        }
        output.reserve(input.len() / 2 + 128);
    }
}
