//! Carries the bytes of channels between local descriptors and the relay.
//!
//! Used by `carrier`. Each direction of a channel is a task. Both sides limit the bytes in flight,
//! so that a program without a reader blocks no other channel and a misbehaving relay cannot fill
//! the memory.

use runner_wire::abi::relay::{GIVEN, INPUT, MAX_DATA, WINDOW, channel};
use runner_wire::relay::{credit, data, end, stop};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

/// Sends words (messages) to the relay.
#[derive(Clone)]
pub(super) struct Say {
    words: mpsc::UnboundedSender<Vec<u8>>,
    /// Words to send with the next one.
    later: Arc<Mutex<Vec<u8>>>,
}

impl Say {
    /// Starts a task that writes words as long as senders exist.
    pub(super) fn to(mut input: impl AsyncWrite + Unpin + Send + 'static) -> Self {
        /// Most words written at once.
        const AT_ONCE: usize = 64;
        let (say_tx, mut say_rx) = mpsc::unbounded_channel::<Vec<u8>>();
        tokio::spawn(async move {
            let mut words = Vec::new();
            while say_rx.recv_many(&mut words, AT_ONCE).await > 0 {
                let bytes = words.concat();
                words.clear();
                if input.write_all(&bytes).await.is_err() || input.flush().await.is_err() {
                    break;
                }
            }
            let _ = input.shutdown().await;
        });
        Say { words: say_tx, later: Arc::default() }
    }

    pub(super) fn word(&self, word: Vec<u8>) {
        let mut later = lock(&self.later);
        let words = if later.is_empty() { word } else { [later.as_slice(), &word].concat() };
        later.clear();
        // If the relay is gone, its reader notices.
        let _ = self.words.send(words);
    }

    /// Queues a word that can wait for the next one: sent alone, a small packet without a reply
    /// delays the next small one by 40 ms.
    pub(super) fn later(&self, word: &[u8]) {
        lock(&self.later).extend_from_slice(word);
    }
}

/// All open channels.
pub(super) struct Flows {
    say: Say,
    arriving: Mutex<HashMap<u64, Arriving>>,
    leaving: Mutex<HashMap<u64, Leaving>>,
}

/// A channel from the relay.
struct Arriving {
    queue: mpsc::UnboundedSender<FlowPiece>,
    under_way: Arc<watch::Sender<usize>>,
}

enum FlowPiece {
    Bytes(Vec<u8>),
    /// Resolves when everything before it has been written.
    Mark(oneshot::Sender<()>),
    End,
}

/// A channel to the relay.
struct Leaving {
    under_way: Arc<watch::Sender<usize>>,
    task: AbortHandle,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error for an impossible message from the relay.
pub(super) fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Flows {
    pub(super) fn new(say: Say) -> Arc<Self> {
        Arc::new(Flows { say, arriving: Mutex::default(), leaving: Mutex::default() })
    }

    /// Writes the relay's bytes to `to`.
    pub(super) fn arrive(
        self: &Arc<Self>,
        id: u64,
        mut to: impl AsyncWrite + Unpin + Send + 'static,
    ) {
        let (queue, mut pieces) = mpsc::unbounded_channel();
        let under_way = Arc::new(watch::Sender::new(0));
        let arriving = Arriving { queue, under_way: Arc::clone(&under_way) };
        lock(&self.arriving).insert(id, arriving);
        let flows = Arc::clone(self);
        tokio::spawn(async move {
            let mut taken = 0;
            while let Some(piece) = pieces.recv().await {
                match piece {
                    FlowPiece::Bytes(bytes) => {
                        if to.write_all(&bytes).await.is_err() {
                            // To the program this is a pipe without a reader.
                            flows.say.word(stop(id));
                            break;
                        }
                        taken += bytes.len();
                        // Not after each piece: words that the relay does not read pile up in
                        // memory.
                        if taken >= WINDOW / 4 {
                            under_way.send_modify(|count| *count -= taken);
                            flows.say.word(credit(id, taken));
                            taken = 0;
                        }
                    }
                    FlowPiece::Mark(written) => drop(written.send(())),
                    FlowPiece::End => break,
                }
            }
            let _ = to.shutdown().await;
            lock(&flows.arriving).remove(&id);
        });
    }

    /// Sends the bytes read from `from` to the relay.
    pub(super) fn leave(
        self: &Arc<Self>,
        id: u64,
        mut from: impl AsyncRead + Unpin + Send + 'static,
    ) {
        let under_way = Arc::new(watch::Sender::new(0));
        let (flows, count) = (Arc::clone(self), Arc::clone(&under_way));
        // Locked before the task starts, so that it cannot finish before it is listed.
        let mut leaving = lock(&self.leaving);
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; MAX_DATA];
            let mut room = count.subscribe();
            loop {
                let Ok(sent) = room.wait_for(|count| *count < WINDOW).await.map(|count| *count)
                else {
                    break;
                };
                let most = (WINDOW - sent).min(MAX_DATA);
                match from.read(&mut buffer[..most]).await {
                    Ok(got @ 1..) => {
                        count.send_modify(|count| *count += got);
                        flows.say.word(data(id, &buffer[..got]));
                    }
                    // The writer is gone.
                    Ok(0) | Err(_) => break,
                }
            }
            flows.say.word(end(id));
            lock(&flows.leaving).remove(&id);
        });
        leaving.insert(id, Leaving { under_way, task: task.abort_handle() });
    }

    /// Carries both directions until both end.
    pub(super) fn join(self: &Arc<Self>, id: u64, stream: UnixStream) {
        let (from, to) = stream.into_split();
        self.arrive(id, to);
        self.leave(id, from);
    }

    /// Whether the channel exists.
    pub(super) fn has(&self, id: u64) -> bool {
        lock(&self.arriving).contains_key(&id) || lock(&self.leaving).contains_key(&id)
    }

    /// How many channels from the relay have a number that `is_meant` accepts.
    pub(super) fn count(&self, is_meant: impl Fn(u64) -> bool) -> usize {
        lock(&self.arriving).keys().filter(|id| is_meant(**id)).count()
    }

    /// Takes bytes from the relay. Bytes of a stopped channel crossed the stop message and are
    /// ignored.
    pub(super) fn bytes(&self, id: u64, bytes: &[u8]) -> io::Result<()> {
        let arriving = lock(&self.arriving);
        let Some(Arriving { queue, under_way }) = arriving.get(&id) else { return Ok(()) };
        let fits = under_way.send_if_modified(|count| {
            let fits = *count + bytes.len() <= WINDOW;
            *count += if fits { bytes.len() } else { 0 };
            fits
        });
        if !fits {
            return Err(nonsense("more bytes than were asked for"));
        }
        // Fails only if the channel's end came first.
        let _ = queue.send(FlowPiece::Bytes(bytes.to_vec()));
        Ok(())
    }

    /// The relay sends no more on this channel.
    pub(super) fn ended(&self, id: u64) {
        if let Some(arriving) = lock(&self.arriving).get(&id) {
            let _ = arriving.queue.send(FlowPiece::End);
        }
    }

    /// The relay accepts no more on this channel.
    pub(super) fn stopped(&self, id: u64) {
        if let Some(leaving) = lock(&self.leaving).remove(&id) {
            leaving.task.abort();
        }
    }

    /// The relay has consumed this many bytes.
    pub(super) fn taken(&self, id: u64, bytes: usize) -> io::Result<()> {
        let leaving = lock(&self.leaving);
        let Some(Leaving { under_way, .. }) = leaving.get(&id) else { return Ok(()) };
        let fits = under_way.send_if_modified(|count| {
            let left = count.checked_sub(bytes);
            *count = left.unwrap_or(*count);
            left.is_some()
        });
        if fits { Ok(()) } else { Err(nonsense("more bytes taken than were sent")) }
    }

    /// Resolves when all output received for a job has been written.
    pub(super) fn settled(&self, job: u64) -> impl Future<Output = ()> + use<> {
        let arriving = lock(&self.arriving);
        let marks: Vec<_> = (INPUT..=GIVEN)
            .filter_map(|which| arriving.get(&channel(job, which)))
            .map(|arriving| {
                let (written, mark) = oneshot::channel();
                let _ = arriving.queue.send(FlowPiece::Mark(written));
                mark
            })
            .collect();
        async move {
            for mark in marks {
                // Fails if the channel has ended; then everything has been written.
                let _ = mark.await;
            }
        }
    }

    /// Ends all channels. Bytes already received are still written.
    pub(super) fn end(&self) {
        lock(&self.arriving).clear();
        for (_, leaving) in lock(&self.leaving).drain() {
            leaving.task.abort();
        }
    }
}
