//! Bytes of channels between descriptors of this machine and the relay.
//!
//! Used by `carrier`. Each direction of a channel is a task; how much may be under way in it is counted on
//! both sides, so that a program that nobody reads holds up nobody else, and a relay that does not stop
//! fills nobody's memory.

use runner_wire::abi::relay::{GIVEN, INPUT, MAX_DATA, WINDOW, channel};
use runner_wire::relay::{credit, data, end, stop};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

/// Words on their way to the relay.
#[derive(Clone)]
pub(super) struct Say {
    words: mpsc::UnboundedSender<Vec<u8>>,
    /// Words that go with the next one.
    later: Arc<Mutex<Vec<u8>>>,
}

impl Say {
    /// Writes words until nobody has any more.
    pub(super) fn to(mut input: impl AsyncWrite + Unpin + Send + 'static) -> Self {
        /// Words that are written at once.
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
        // That nobody is left to hear it is seen where the relay is heard.
        let _ = self.words.send(words);
    }

    /// A word that has time until the next one: where nobody answers a small piece, a network has the
    /// next small one wait for 40 ms.
    pub(super) fn later(&self, word: &[u8]) {
        lock(&self.later).extend_from_slice(word);
    }
}

/// All that is under way.
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
    /// Answered when all before it has been written.
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

/// The relay has said what cannot be.
pub(super) fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Flows {
    pub(super) fn new(say: Say) -> Arc<Self> {
        Arc::new(Flows { say, arriving: Mutex::default(), leaving: Mutex::default() })
    }

    /// What the relay sends is written.
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
                            // As a pipe without a reader is for the program.
                            flows.say.word(stop(id));
                            break;
                        }
                        taken += bytes.len();
                        // Not after each: words that a relay does not read stay in memory here.
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

    /// What is read is sent to the relay.
    pub(super) fn leave(
        self: &Arc<Self>,
        id: u64,
        mut from: impl AsyncRead + Unpin + Send + 'static,
    ) {
        let under_way = Arc::new(watch::Sender::new(0));
        let (flows, count) = (Arc::clone(self), Arc::clone(&under_way));
        // Before it is known, so that it cannot be over before.
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
                    // Whoever wrote it has gone.
                    Ok(0) | Err(_) => break,
                }
            }
            flows.say.word(end(id));
            lock(&flows.leaving).remove(&id);
        });
        leaving.insert(id, Leaving { under_way, task: task.abort_handle() });
    }

    /// Both ways, until both are over.
    pub(super) fn join(self: &Arc<Self>, id: u64, stream: UnixStream) {
        let (from, to) = stream.into_split();
        self.arrive(id, to);
        self.leave(id, from);
    }

    /// Whether there is such a channel.
    pub(super) fn has(&self, id: u64) -> bool {
        lock(&self.arriving).contains_key(&id) || lock(&self.leaving).contains_key(&id)
    }

    /// How many channels have such a number.
    pub(super) fn count(&self, is_meant: impl Fn(u64) -> bool) -> usize {
        lock(&self.arriving).keys().filter(|id| is_meant(**id)).count()
    }

    /// Bytes from the relay. Those of a channel that was stopped have crossed that word.
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
        // Refused only where its end has come before.
        let _ = queue.send(FlowPiece::Bytes(bytes.to_vec()));
        Ok(())
    }

    /// The relay sends no more.
    pub(super) fn ended(&self, id: u64) {
        if let Some(arriving) = lock(&self.arriving).get(&id) {
            let _ = arriving.queue.send(FlowPiece::End);
        }
    }

    /// The relay takes no more.
    pub(super) fn stopped(&self, id: u64) {
        if let Some(leaving) = lock(&self.leaving).remove(&id) {
            leaving.task.abort();
        }
    }

    /// The relay has taken as much.
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

    /// Resolves when all that has come of a job has been written.
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
                // Refused where the channel is over, and with it all that has come.
                let _ = mark.await;
            }
        }
    }

    /// Nothing comes any more; what has come is still written.
    pub(super) fn end(&self) {
        lock(&self.arriving).clear();
        for (_, leaving) in lock(&self.leaving).drain() {
            leaving.task.abort();
        }
    }
}
