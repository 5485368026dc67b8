//! `runner port-forward`: forwards connections to local ports into the build.
//!
//! Started by `cli`. For each connection the build's owner hands over a socket connected inside the
//! container; the bytes pass through this program alone. One thread with its own runtime.

use super::connection::{Client, ClientError};
use super::ended::SessionEnd;
use runner_engine::dial::Remote;
use runner_host::signals::{ENDS, SignalReader};
use runner_wire::control::{ControlRequest, ControlResponse, encode};
use runner_wire::frame::FrameDecoder;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Bytes buffered for each direction of a connection.
const CHUNK: usize = 64 << 10;
/// How long connections have for their last bytes after the build has ended.
const GRACE: Duration = Duration::from_secs(1);
/// Pause after a failed accept, which is mostly a lack of descriptors.
const REST: Duration = Duration::from_millis(20);

/// A local port and its remote end.
#[derive(Debug)]
pub struct Forward {
    pub listener: StdListener,
    pub remote: Remote,
}

impl Forward {
    /// Listens at `local`; port 0 takes a free one.
    pub fn listen(local: SocketAddr, remote: Remote) -> io::Result<Self> {
        let listener = StdListener::bind(local)?;
        listener.set_nonblocking(true)?;
        Ok(Forward { listener, remote })
    }

    pub fn local(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Forwards until the build ends or a signal comes. Calls `ready` once connections are accepted,
/// and `tell` with messages for the user.
pub fn forward(
    mut client: Client,
    forwards: Vec<Forward>,
    ready: impl FnOnce(&[Forward]) -> io::Result<()>,
    tell: fn(&str),
) -> Result<SessionEnd, ClientError> {
    let lost = ClientError::Lost;
    let ports = forwards.iter().map(|forward| forward.remote.to_string()).collect();
    let locals = forwards.iter().map(|forward| Ok(forward.local()?.to_string()));
    let locals = locals.collect::<io::Result<_>>().map_err(lost)?;
    match client.ask(&ControlRequest::Forward { ports, name: None, denied: None, locals })? {
        ControlResponse::Opened { .. } => {}
        other => return Err(other.into()),
    }
    let signals = SignalReader::listen(&ENDS).map_err(lost)?;
    let runtime = runner_host::runtime::start().map_err(|error| lost(io::Error::other(error)))?;
    ready(&forwards).map_err(ClientError::Output)?;
    runtime.block_on(run(client, forwards, tell, signals))
}

async fn run(
    client: Client,
    forwards: Vec<Forward>,
    tell: fn(&str),
    signals: SignalReader,
) -> Result<SessionEnd, ClientError> {
    let lost = ClientError::Lost;
    let (asks_tx, asks_rx) = mpsc::channel(64);
    let mut relays = JoinSet::new();
    let dialler = Dialler { asks: asks_tx, refused: Arc::default(), tell };
    let (relay_tx, mut relay_rx) = mpsc::channel(64);
    let mut listeners = JoinSet::new();
    for Forward { listener, remote } in forwards {
        let listener = TcpListener::from_std(listener).map_err(lost)?;
        let relays = relay_tx.clone();
        listeners.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(relays.send((stream, remote.clone())).await),
                    Err(_) => tokio::time::sleep(REST).await,
                }
            }
        });
    }
    let mut owner = Box::pin(OwnerConnection::new(client)?.serve(asks_rx));
    let mut signals = signals.stream().map_err(lost)?;
    let ended = loop {
        tokio::select! {
            ended = &mut owner => break ended,
            signal = signals.next() => {
                let code = u8::try_from(128 + signal as i32).unwrap_or(125);
                return Ok(SessionEnd { code, message: None });
            }
            Some((stream, remote)) = relay_rx.recv() => {
                let dialler = dialler.clone();
                relays.spawn(async move { dialler.relay(stream, remote).await });
            }
            Some(_) = relays.join_next() => {}
        }
    };
    drop(listeners);
    // The build's last bytes are still on their way.
    let _ =
        tokio::time::timeout(GRACE, async { while relays.join_next().await.is_some() {} }).await;
    ended
}

struct ConnectionRequest {
    remote: String,
    answer: oneshot::Sender<Result<OwnedFd, String>>,
}

/// Asks the build's owner for connections.
#[derive(Clone)]
struct Dialler {
    asks: mpsc::Sender<ConnectionRequest>,
    /// The last report for each remote, so that it is not repeated.
    refused: Arc<Mutex<HashMap<String, String>>>,
    tell: fn(&str),
}

impl Dialler {
    async fn relay(&self, local: TcpStream, remote: Remote) {
        // Otherwise small messages would wait for each other.
        let _ = local.set_nodelay(true);
        match self.dial(&remote).await {
            Ok(RemoteSocket::Tcp(remote)) => relay(local, remote).await,
            Ok(RemoteSocket::Unix(remote)) => relay(local, remote).await,
            Err(message) => {
                reset(&local);
                self.complain(&remote, &message);
            }
        }
    }

    async fn dial(&self, remote: &Remote) -> Result<RemoteSocket, String> {
        let (answer, dialled) = oneshot::channel();
        let ask = ConnectionRequest { remote: remote.to_string(), answer };
        let gone = || "the build has ended".to_owned();
        self.asks.send(ask).await.map_err(|_| gone())?;
        let fd = dialled.await.map_err(|_| gone())??;
        self.lock().remove(&remote.to_string());
        RemoteSocket::new(fd, remote).map_err(|error| format!("{remote}: {error}"))
    }

    /// Reports why a connection failed, unless the last report was the same.
    fn complain(&self, remote: &Remote, message: &str) {
        let before = self.lock().insert(remote.to_string(), message.to_owned());
        if before.as_deref() != Some(message) {
            (self.tell)(message);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket connected in the container.
enum RemoteSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl RemoteSocket {
    fn new(fd: OwnedFd, remote: &Remote) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(match remote {
            Remote::Tcp { .. } => RemoteSocket::Tcp(TcpStream::from_std(fd.into())?),
            Remote::Unix(_) => RemoteSocket::Unix(UnixStream::from_std(fd.into())?),
        })
    }
}

/// Moves bytes until each direction has ended.
async fn relay(mut local: TcpStream, mut remote: impl AsyncRead + AsyncWrite + AsFd + Unpin) {
    let moved = copy_bidirectional_with_sizes(&mut local, &mut remote, CHUNK, CHUNK).await;
    if moved.is_err() {
        // One end broke off: the other must not take that for an orderly end.
        reset(&local);
        reset(&remote);
    }
}

/// Makes the next close a reset.
fn reset(socket: &impl AsFd) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

struct OwnerConnection {
    stream: UnixStream,
    decoder: FrameDecoder,
    /// Sockets received, in the order of the responses they belong to.
    sockets: VecDeque<OwnedFd>,
    waiting: HashMap<u64, oneshot::Sender<Result<OwnedFd, String>>>,
    next: u64,
}

impl OwnerConnection {
    fn new(client: Client) -> Result<Self, ClientError> {
        let (stream, decoder, fds) = client.into_parts();
        stream.set_nonblocking(true).map_err(ClientError::Lost)?;
        let stream = UnixStream::from_std(stream).map_err(ClientError::Lost)?;
        Ok(OwnerConnection {
            stream,
            decoder,
            sockets: fds.into(),
            waiting: HashMap::new(),
            next: 1,
        })
    }

    /// Passes requests and responses on until the build ends.
    async fn serve(
        mut self,
        mut asks: mpsc::Receiver<ConnectionRequest>,
    ) -> Result<SessionEnd, ClientError> {
        let mut buffer = vec![0; CHUNK];
        loop {
            tokio::select! {
                Some(ask) = asks.recv() => self.ask(ask).await.map_err(ClientError::Lost)?,
                got = receive(&self.stream, &mut buffer) => {
                    let received = got.map_err(ClientError::Lost)?;
                    if received.bytes == 0 {
                        return Err(ClientError::Closed);
                    }
                    self.sockets.extend(received.fds);
                    self.decoder.feed(&buffer[..received.bytes]);
                    while let Some(answer) = self.answer()? {
                        if let Some(ended) = self.take(answer)? {
                            return Ok(ended);
                        }
                    }
                }
            }
        }
    }

    async fn ask(&mut self, ask: ConnectionRequest) -> io::Result<()> {
        let id = self.next;
        self.next += 1;
        let frame = encode(&ControlRequest::Dial { id, remote: ask.remote })?;
        self.waiting.insert(id, ask.answer);
        self.stream.write_all(&frame).await
    }

    fn answer(&mut self) -> Result<Option<ControlResponse>, ClientError> {
        let lost = |error| ClientError::Lost(io::Error::other(error));
        match self.decoder.next_frame().map_err(lost)? {
            None => Ok(None),
            Some(body) => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|error| ClientError::Lost(error.into())),
        }
    }

    fn take(&mut self, answer: ControlResponse) -> Result<Option<SessionEnd>, ClientError> {
        let (id, result) = match answer {
            ControlResponse::Dialled { id } => {
                let socket = self.sockets.pop_front();
                (id, socket.ok_or_else(|| "the connection did not come along".to_owned()))
            }
            ControlResponse::NotDialled { id, message } => (id, Err(message)),
            ControlResponse::Closed { message } => {
                return Ok(Some(SessionEnd { code: 0, message: Some(message) }));
            }
            other => return Err(other.into()),
        };
        if let Some(answer) = self.waiting.remove(&id) {
            // The requester may be gone.
            let _ = answer.send(result);
        }
        Ok(None)
    }
}

async fn receive(
    stream: &UnixStream,
    buffer: &mut [u8],
) -> io::Result<runner_sandbox::ReceivedMessage> {
    stream.async_io(Interest::READABLE, || runner_sandbox::receive(stream, buffer)).await
}
