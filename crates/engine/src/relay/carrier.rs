//! Carries PID 1's socket to another machine through the relay.
//!
//! To [`InitClient`] the other end looks like PID 1: descriptors of a request become channels, and
//! channels of a reply become descriptors. The relay's messages are accepted only as answers to
//! requests.
//!
//! [`InitClient`]: crate::init::InitClient

use super::copies::FileCopies;
use super::flows::{Flows, Say, nonsense};
use futures_util::{Stream, StreamExt};
use runner_host::private::ShortPath;
use runner_wire::abi::relay::{ERROR, FIRST_SHIM, GIVEN, INPUT, MAX_SHIMS, OUTPUT, channel};
use runner_wire::abi::{self, HEADER_LEN, Header, MAX_BODY, Pid1Reply, flags, reply, request};
use runner_wire::relay::{
    PassedDescriptor, Word, WordReader, end, request as request_word, resize, stop,
};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// How long the report that no process is left waits for the last output.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A request not yet answered.
enum PendingJob {
    /// A program, and whether it still waits for its terminal.
    Program { wants_terminal: bool },
    /// A connection.
    Stream,
    /// A file, with its path if it is opened for writing.
    File(Option<Vec<u8>>),
}

/// The connection between the engine and the relay.
pub(super) struct Carrier {
    engine: UnixStream,
    say: Say,
    flows: Arc<Flows>,
    asked: Mutex<HashMap<u64, PendingJob>>,
    copies: Mutex<FileCopies>,
    /// The socket for shims, if it exists.
    shims: Option<PathBuf>,
    /// The number of program exits not reported yet.
    untold: watch::Sender<usize>,
}

impl Carrier {
    /// Carries messages until the engine or the relay is gone. Call it in the runtime.
    pub(super) fn start(
        engine: UnixStream,
        input: impl AsyncWrite + Unpin + Send + 'static,
        output: impl Stream<Item = io::Result<Vec<u8>>> + Unpin + Send + 'static,
        shims: Option<PathBuf>,
    ) {
        let say = Say::to(input);
        let carrier = Arc::new(Carrier {
            engine,
            flows: Flows::new(say.clone()),
            say,
            asked: Mutex::default(),
            copies: Mutex::default(),
            shims,
            untold: watch::Sender::new(0),
        });
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = carrier.to_relay() => ended,
                ended = carrier.from_relay(output) => ended,
            };
            if let Err(error) = ended {
                tracing::warn!(%error, "the connection to the container is given up");
            }
            let _ = rustix::net::shutdown(&carrier.engine, rustix::net::Shutdown::Both);
            carrier.flows.end();
        });
    }

    /// Passes on the engine's requests until it hangs up.
    async fn to_relay(&self) -> io::Result<()> {
        while let Some((header, body, fds)) = self.request().await? {
            self.ask(header, &body, fds)?;
        }
        Ok(())
    }

    /// The next request, read as PID 1 does: its descriptors come with its header.
    async fn request(&self) -> io::Result<Option<(Header, Vec<u8>, Vec<OwnedFd>)>> {
        let (mut head, mut got, mut fds) = ([0; HEADER_LEN], 0, Vec::new());
        while got < HEADER_LEN {
            let receive = || runner_sandbox::receive(&self.engine, &mut head[got..]);
            let received = self.engine.async_io(Interest::READABLE, receive).await?;
            if received.bytes == 0 {
                return Ok(None);
            }
            got += received.bytes;
            fds.extend(received.fds);
        }
        let header = Header::from_bytes(&head);
        let mut body = vec![0; (header.body_len as usize).min(MAX_BODY)];
        let mut got = 0;
        while got < body.len() {
            let receive = || runner_sandbox::receive(&self.engine, &mut body[got..]);
            match self.engine.async_io(Interest::READABLE, receive).await?.bytes {
                0 => return Ok(None),
                more => got += more,
            }
        }
        Ok(Some((header, body, fds)))
    }

    fn ask(&self, header: Header, body: &[u8], fds: Vec<OwnedFd>) -> io::Result<()> {
        let job = header.id;
        let first = abi::u32_at(body, 0).unwrap_or(0);
        match header.kind {
            request::RESIZE => {
                self.say.word(resize(channel(job, GIVEN), body));
                return Ok(());
            }
            request::EXEC => {
                lock(&self.copies).bring(&self.say)?;
                let wants_terminal = first & flags::PTY != 0;
                lock(&self.asked).insert(job, PendingJob::Program { wants_terminal });
            }
            request::OPEN => {
                lock(&self.copies).bring(&self.say)?;
                let writes = first & rustix::fs::OFlags::RWMODE.bits() != 0;
                let path = writes.then(|| body.get(8..).unwrap_or_default().to_vec());
                lock(&self.asked).insert(job, PendingJob::File(path));
            }
            request::DIAL => drop(lock(&self.asked).insert(job, PendingJob::Stream)),
            _ => {}
        }
        // Before the request is sent, so that no answer comes too early.
        match <[OwnedFd; 3]>::try_from(fds) {
            Ok([input, output, error]) => {
                self.flows.leave(channel(job, INPUT), pipe::Receiver::from_owned_fd(input)?);
                self.flows.arrive(channel(job, OUTPUT), pipe::Sender::from_owned_fd(output)?);
                self.flows.arrive(channel(job, ERROR), pipe::Sender::from_owned_fd(error)?);
            }
            // Output and error are one pipe, or a terminal will follow.
            Err(fds) => {
                if let Some(output) = fds.into_iter().next() {
                    self.flows.arrive(channel(job, OUTPUT), pipe::Sender::from_owned_fd(output)?);
                }
            }
        }
        self.say.word(request_word(header, body));
        Ok(())
    }

    /// Handles the relay's messages until it is gone.
    async fn from_relay(
        self: &Arc<Self>,
        mut output: impl Stream<Item = io::Result<Vec<u8>>> + Unpin,
    ) -> io::Result<()> {
        let mut words = WordReader::default();
        while let Some(bytes) = output.next().await {
            words.feed(&bytes?);
            while let Some(word) = words.next_word().map_err(io::Error::other)? {
                self.obey(word).await?;
            }
        }
        Ok(())
    }

    async fn obey(self: &Arc<Self>, word: Word<'_>) -> io::Result<()> {
        match word {
            Word::Reply(said, given) => self.reply(said, given).await?,
            Word::Data(id, bytes) => self.flows.bytes(id, bytes)?,
            Word::End(id) => self.flows.ended(id),
            Word::Stop(id) => self.flows.stopped(id),
            Word::Credit(id, bytes) => self.flows.taken(id, bytes)?,
            Word::Shim(id) => self.shim(id).await?,
        }
        Ok(())
    }

    async fn reply(
        self: &Arc<Self>,
        said: Pid1Reply,
        given: PassedDescriptor<'_>,
    ) -> io::Result<()> {
        match said.kind {
            reply::TERMINAL | reply::OPENED => {
                let fd = self.given(said, given)?;
                return self.pass(said, Some(fd)).await;
            }
            reply::EXITED => match lock(&self.asked).remove(&said.id) {
                Some(PendingJob::Program { .. }) => self.exited(said),
                _ => return Err(nonsense("the end of a program that was not started")),
            },
            reply::ALL_GONE => {
                let (carrier, mut untold) = (Arc::clone(self), self.untold.subscribe());
                tokio::spawn(async move {
                    // Unless nobody reads their output.
                    let all = untold.wait_for(|count| *count == 0);
                    let _ = tokio::time::timeout(LAST_WORDS, all).await;
                    let _ = carrier.pass(said, None).await;
                });
            }
            _ => {
                lock(&self.asked).remove(&said.id);
                return self.pass(said, None).await;
            }
        }
        Ok(())
    }

    /// Reports a program's exit once all its output has arrived.
    fn exited(self: &Arc<Self>, said: Pid1Reply) {
        let (carrier, settled) = (Arc::clone(self), self.flows.settled(said.id));
        self.untold.send_modify(|count| *count += 1);
        tokio::spawn(async move {
            settled.await;
            let _ = carrier.pass(said, None).await;
            carrier.untold.send_modify(|count| *count -= 1);
        });
    }

    /// Makes the descriptor for what a reply brings.
    fn given(&self, said: Pid1Reply, given: PassedDescriptor<'_>) -> io::Result<OwnedFd> {
        let id = channel(said.id, GIVEN);
        let asked = lock(&self.asked).remove(&said.id);
        match (said.kind, asked, given) {
            (
                reply::TERMINAL,
                Some(PendingJob::Program { wants_terminal: true }),
                PassedDescriptor::Stream,
            ) => {
                lock(&self.asked).insert(said.id, PendingJob::Program { wants_terminal: false });
                self.stream(id)
            }
            (reply::OPENED, Some(PendingJob::Stream), PassedDescriptor::Stream) => self.stream(id),
            (
                reply::OPENED,
                Some(PendingJob::File(path)),
                PassedDescriptor::File { mode, contents },
            ) => {
                let copy = lock(&self.copies).add(id, path, mode, contents, &self.say)?;
                Ok(copy.into())
            }
            _ => Err(nonsense("an answer that nobody has asked for")),
        }
    }

    /// A local socket connected to a channel.
    fn stream(&self, id: u64) -> io::Result<OwnedFd> {
        let (theirs, ours) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        self.flows.join(id, UnixStream::from_std(ours)?);
        Ok(theirs.into())
    }

    async fn pass(&self, said: Pid1Reply, fd: Option<OwnedFd>) -> io::Result<()> {
        let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
        // A message this short is sent whole or not at all.
        let send = || runner_sandbox::send(&self.engine, &said.to_bytes(), &fds);
        self.engine.async_io(Interest::WRITABLE, send).await.map(drop)
    }

    /// Connects a process in the container to the shim socket.
    async fn shim(&self, id: u64) -> io::Result<()> {
        let is_shim = |id| id >= FIRST_SHIM;
        // Ended shims may still be listed.
        if self.flows.has(id) || self.flows.count(is_shim) >= 2 * MAX_SHIMS {
            return Err(nonsense("more shims than there can be"));
        }
        let Some(path) = &self.shims else { return Err(nonsense("a shim without sessions")) };
        match connect(path).await {
            Ok(stream) => self.flows.join(id, stream),
            Err(_) => {
                self.say.word(end(id));
                self.say.word(stop(id));
            }
        }
        Ok(())
    }
}

async fn connect(path: &std::path::Path) -> io::Result<UnixStream> {
    let short = ShortPath::new(path)?;
    UnixStream::connect(short.path()).await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
