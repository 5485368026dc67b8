//! The runner's side of PID 1's socket: sends requests and passes each reply to the caller that
//! waits for it.
//!
//! Used by every engine that runs our init. One task reads; callers write their requests, one at a
//! time. Dropping the client shuts the socket, which ends the container.

use super::{
    ExecError, ExecSpec, OpenMode, ProgramEnds, ProgramSignals, SignalReach, StartedProgram, Stdio,
};
use runner_wire::abi::{self, Header, Pid1Reply, REPLY_LEN, reply};
use runner_wire::init::{self as wire, Exit};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};

/// How long PID 1 may take, on a busy machine, to answer a request that needs no work.
const ANSWER: Duration = Duration::from_secs(2);

/// The connection to PID 1.
#[derive(Debug)]
pub(crate) struct InitClient {
    socket: Arc<UnixStream>,
    /// Locked while a request is written.
    writing: tokio::sync::Mutex<()>,
    waiting: Mutex<PendingRequests>,
    gone: Notify,
}

#[derive(Debug, Default)]
struct PendingRequests {
    next: u64,
    is_gone: bool,
    jobs: HashMap<u64, InitJob>,
}

#[derive(Debug)]
enum InitJob {
    Exec {
        asked: Instant,
        /// Waits for the terminal's master.
        terminal: Option<oneshot::Sender<Result<Option<OwnedFd>, ExecError>>>,
        exit: oneshot::Sender<Result<Exit, ExecError>>,
    },
    Open(oneshot::Sender<Result<OwnedFd, ExecError>>),
    KillAll(oneshot::Sender<()>),
    Ping(oneshot::Sender<()>),
    Freeze(oneshot::Sender<Result<(), ExecError>>),
    Census(oneshot::Sender<bool>),
}

impl InitClient {
    /// Uses PID 1's socket, whose hello has been read. Call it in the runtime.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Arc<Self>> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let client = Arc::new(InitClient {
            socket: Arc::new(UnixStream::from_std(socket)?),
            writing: tokio::sync::Mutex::new(()),
            waiting: Mutex::new(PendingRequests { next: 1, ..PendingRequests::default() }),
            gone: Notify::new(),
        });
        let reader = Arc::downgrade(&client);
        let socket = Arc::clone(&client.socket);
        tokio::spawn(async move {
            // Weak, so that dropping the client ends the socket.
            let mut incoming = Incoming::default();
            while let Ok(Some((reply, fd))) = incoming.next(&socket).await {
                let Some(client) = reader.upgrade() else { return };
                client.dispatch(reply, fd);
            }
            if let Some(client) = reader.upgrade() {
                client.lost();
            }
        });
        Ok(client)
    }

    /// Takes a new connection from PID 1 and waits for its hello.
    pub(crate) async fn greeted(socket: UnixStream) -> io::Result<Arc<Self>> {
        let hello = Incoming::default().next(&socket).await?;
        let (hello, _) = hello.ok_or(io::ErrorKind::UnexpectedEof)?;
        if hello.kind != reply::HELLO || hello.a != abi::ABI_VERSION {
            return Err(io::Error::other(format!(
                "PID 1 speaks version {} of the protocol, this runner {}",
                hello.a,
                abi::ABI_VERSION
            )));
        }
        Self::new(socket.into_std()?.into())
    }

    /// Starts a program as its user, or with `keep_user` as PID 1's user.
    pub(crate) async fn exec(
        self: &Arc<Self>,
        spec: &ExecSpec,
        keep_user: bool,
    ) -> Result<StartedProgram, ExecError> {
        let asked = Instant::now();
        let (theirs, ours) =
            connections(spec.stdio).map_err(|error| ExecError::Pipe(error.to_string()))?;
        let size = match spec.stdio {
            Stdio::Terminal(rows, cols) => (rows, cols),
            Stdio::Merged | Stdio::Separate => (0, 0),
        };
        let mut flags = 0;
        if matches!(spec.stdio, Stdio::Terminal(..)) {
            flags |= abi::flags::PTY;
        }
        if spec.stdio == Stdio::Merged {
            flags |= abi::flags::NULL_INPUT;
        }
        if spec.cwd_or_root {
            flags |= abi::flags::CWD_OR_ROOT;
        }
        if keep_user {
            flags |= abi::flags::KEEP_USER;
        }
        if spec.toolbox {
            flags |= abi::flags::TOOLBOX;
        }
        if spec.of_build {
            flags |= abi::flags::OF_BUILD;
        }
        let request = wire::Exec {
            flags,
            uid: spec.user.uid,
            gid: spec.user.gid,
            groups: &spec.user.groups,
            size,
            cwd: &spec.cwd,
            path: &spec.path,
            argv: spec.argv.iter().map(Vec::as_slice).collect(),
            env: spec.env.clone(),
        };
        let (terminal_tx, terminal_rx) = oneshot::channel();
        let terminal = ours.is_none().then_some(terminal_tx);
        let (exit_tx, exit_rx) = oneshot::channel();
        let job = self.register(InitJob::Exec { asked, terminal, exit: exit_tx })?;
        let (header, body) = wire::exec(job, &request).inspect_err(|_| self.forget(job))?;
        match &theirs {
            Theirs::Terminal => self.send(header, &body, &[]).await?,
            Theirs::Merged(out) => {
                self.send(header, &body, &[out.as_fd(), out.as_fd()]).await?;
            }
            Theirs::Separate(fds) => {
                self.send(header, &body, &fds.each_ref().map(AsFd::as_fd)).await?;
            }
        }
        // Only the program may hold these, so that its end is noticed.
        drop(theirs);
        let ends = match ours {
            Some(ends) => ends,
            None => {
                let master = terminal_rx.await.unwrap_or(Err(ExecError::ContainerGone))?;
                ProgramEnds::Terminal(master.ok_or(ExecError::ContainerGone)?)
            }
        };
        let signals = ProgramSignals { job, init: Arc::clone(self) };
        Ok(StartedProgram { ends, exit: exit_rx, signals })
    }

    pub(crate) async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<OwnedFd> {
        use nix::fcntl::OFlag;
        use std::os::unix::ffi::OsStrExt;
        let flags = match mode {
            OpenMode::Read => OFlag::O_RDONLY,
            OpenMode::Look => OFlag::O_PATH,
            OpenMode::ReadWriteCreate => OFlag::O_RDWR | OFlag::O_CREAT,
        };
        let flags = u32::try_from(flags.bits()).map_err(io::Error::other)?;
        let encode = |job| wire::open(job, path.as_os_str().as_bytes(), flags, 0o666);
        let fd = self.fetch(encode).await?;
        // Opening a pipe or a device could block the host, or do worse.
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        match kind {
            rustix::fs::FileType::RegularFile | rustix::fs::FileType::Directory => Ok(fd),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither a regular file nor a directory",
            )),
        }
    }

    pub(crate) async fn dial(&self, listener: &wire::Listener) -> io::Result<OwnedFd> {
        self.fetch_socket(|job| wire::dial(job, listener)).await
    }

    pub(crate) async fn listen(&self, at: SocketAddr) -> io::Result<OwnedFd> {
        self.fetch_socket(|job| wire::listen(job, &at)).await
    }

    async fn fetch_socket(
        &self,
        encode: impl FnOnce(u64) -> Result<(Header, Vec<u8>), wire::EncodeError>,
    ) -> io::Result<OwnedFd> {
        let fd = self.fetch(encode).await?;
        match rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            rustix::fs::FileType::Socket => Ok(fd),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a socket")),
        }
    }

    /// Requests a descriptor.
    async fn fetch(
        &self,
        encode: impl FnOnce(u64) -> Result<(Header, Vec<u8>), wire::EncodeError>,
    ) -> io::Result<OwnedFd> {
        let (opened_tx, opened_rx) = oneshot::channel();
        let job = self.register(InitJob::Open(opened_tx)).map_err(io::Error::other)?;
        let (header, body) =
            encode(job).inspect_err(|_| self.forget(job)).map_err(io::Error::other)?;
        self.send(header, &body, &[]).await.map_err(io::Error::other)?;
        opened_rx.await.unwrap_or(Err(ExecError::ContainerGone)).map_err(|error| match error {
            ExecError::Refused { errno, .. } => io::Error::from_raw_os_error(errno),
            other => io::Error::other(other),
        })
    }

    pub(crate) async fn signal(&self, job: u64, signal: i32, reach: SignalReach) {
        let scope = match reach {
            SignalReach::Group => abi::scope::GROUP,
            SignalReach::Session => abi::scope::SESSION,
        };
        let (header, body) = wire::signal(job, signal.unsigned_abs(), scope);
        // A container that is gone needs no signals.
        let _ = self.send(header, &body, &[]).await;
    }

    /// Resizes a terminal on another machine.
    pub(crate) async fn resize(&self, job: u64, rows: u16, cols: u16) {
        let body = [rows.to_le_bytes(), cols.to_le_bytes()].concat();
        let header = Header { body_len: 4, kind: abi::request::RESIZE, id: job };
        // A container that is gone has no terminals.
        let _ = self.send(header, &body, &[]).await;
    }

    pub(crate) async fn signal_all(&self, signal: i32) {
        let (gone_tx, gone_rx) = oneshot::channel();
        let Ok(job) = self.register(InitJob::KillAll(gone_tx)) else { return };
        let (header, body) = wire::kill_all(job, signal.unsigned_abs());
        if self.send(header, &body, &[]).await.is_ok() {
            let _ = gone_rx.await;
        }
    }

    /// Stops the build's processes. Given the `cgroup.procs` of a group, moves them there instead.
    pub(crate) async fn freeze(&self, group: Option<BorrowedFd<'_>>) -> Result<(), ExecError> {
        let (still_tx, still_rx) = oneshot::channel();
        let job = self.register(InitJob::Freeze(still_tx))?;
        self.send(wire::freeze(job), &[], group.as_slice()).await?;
        still_rx.await.unwrap_or(Err(ExecError::ContainerGone))
    }

    /// Whether only PID 1 is left in there, as far as it can tell.
    pub(crate) async fn is_alone(&self) -> Result<bool, ExecError> {
        let (counted_tx, counted_rx) = oneshot::channel();
        let job = self.register(InitJob::Census(counted_tx))?;
        self.send(wire::census(job), &[], &[]).await?;
        counted_rx.await.map_err(|_| ExecError::ContainerGone)
    }

    /// Lets the build's processes go on.
    pub(crate) async fn thaw(&self) {
        // A container that is gone has no stopped processes.
        let _ = self.send(wire::thaw(), &[], &[]).await;
    }

    /// Whether PID 1 answers. It does not if it is stopped or gone.
    pub(crate) async fn answers(&self) -> bool {
        let ping = async {
            let (heard_tx, heard_rx) = oneshot::channel();
            let job = self.register(InitJob::Ping(heard_tx)).ok()?;
            self.send(wire::ping(job), &[], &[]).await.ok()?;
            heard_rx.await.ok()
        };
        tokio::time::timeout(ANSWER, ping).await.ok().flatten().is_some()
    }

    /// Resolves when PID 1 is gone.
    pub(crate) async fn gone(&self) {
        loop {
            let notified = self.gone.notified();
            if self.lock().is_gone {
                return;
            }
            notified.await;
        }
    }

    /// Closes the socket, so that PID 1 exits and everything in the container ends.
    pub(crate) fn hang_up(&self) {
        let _ = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Both);
        self.lost();
    }

    fn register(&self, job: InitJob) -> Result<u64, ExecError> {
        let mut waiting = self.lock();
        if waiting.is_gone {
            return Err(ExecError::ContainerGone);
        }
        let id = waiting.next;
        waiting.next += 1;
        waiting.jobs.insert(id, job);
        Ok(id)
    }

    fn forget(&self, job: u64) {
        self.lock().jobs.remove(&job);
    }

    async fn send(
        &self,
        header: Header,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ExecError> {
        let _turn = self.writing.lock().await;
        // Sent in one piece, to wake PID 1 once. PID 1 reads the header first, and the descriptors
        // with it.
        let request = [&header.to_bytes(), body].concat();
        let (mut bytes, mut fds) = (request.as_slice(), fds);
        while !bytes.is_empty() {
            let send = || runner_sandbox::send(&*self.socket, bytes, fds);
            let sent = self.socket.async_io(Interest::WRITABLE, send).await;
            bytes = &bytes[sent.map_err(|_| ExecError::ContainerGone)?..];
            fds = &[];
        }
        Ok(())
    }

    fn dispatch(&self, reply: Pid1Reply, fd: Option<OwnedFd>) {
        let mut waiting = self.lock();
        let failure = ExecError::Refused {
            stage: reply.a,
            doing: wire::stage_name(reply.a),
            errno: i32::try_from(reply.b).unwrap_or(0),
        };
        if reply.kind == reply::TERMINAL {
            if let Some(InitJob::Exec { terminal, .. }) = waiting.jobs.get_mut(&reply.id)
                && let Some(terminal) = terminal.take()
            {
                let _ = terminal.send(Ok(fd));
            }
            return;
        }
        // Every other reply is its job's last one. The caller that waited may be gone.
        match (waiting.jobs.remove(&reply.id), reply.kind, fd) {
            (Some(InitJob::Exec { asked, exit, .. }), reply::EXITED, _) => {
                // `cargo xtask bench` reads this.
                tracing::trace!(micros = asked.elapsed().as_micros(), "a program has exited");
                let _ = exit.send(Ok(Exit::from_wait_status(reply.a)));
            }
            (Some(InitJob::Exec { terminal: Some(terminal), .. }), reply::FAILED, _) => {
                let _ = terminal.send(Err(failure));
            }
            (Some(InitJob::Exec { exit, .. }), reply::FAILED, _) => {
                let _ = exit.send(Err(failure));
            }
            (Some(InitJob::Open(opened)), reply::OPENED, Some(fd)) => {
                let _ = opened.send(Ok(fd));
            }
            (Some(InitJob::Open(opened)), reply::FAILED, _) => {
                let _ = opened.send(Err(failure));
            }
            (Some(InitJob::Freeze(still)), reply::STILL, _) => {
                let _ = still.send(Ok(()));
            }
            (Some(InitJob::Freeze(still)), reply::FAILED, _) => {
                let _ = still.send(Err(failure));
            }
            (Some(InitJob::Census(counted)), reply::COUNTED, _) => {
                let _ = counted.send(reply.a == 0);
            }
            (Some(InitJob::Ping(heard)), reply::ALIVE, _) => {
                let _ = heard.send(());
            }
            (Some(InitJob::KillAll(gone)), reply::ALL_GONE, _) => {
                let _ = gone.send(());
                // PID 1 answers only the last of several such requests; its answer holds for all.
                for (_, job) in waiting.jobs.extract_if(|_, job| matches!(job, InitJob::KillAll(_)))
                {
                    if let InitJob::KillAll(gone) = job {
                        let _ = gone.send(());
                    }
                }
            }
            _ => {}
        }
    }

    /// Fails all waiting requests: no more replies will come.
    fn lost(&self) {
        let mut waiting = self.lock();
        waiting.is_gone = true;
        for (_, job) in waiting.jobs.drain() {
            match job {
                InitJob::Exec { terminal, exit, .. } => {
                    if let Some(terminal) = terminal {
                        let _ = terminal.send(Err(ExecError::ContainerGone));
                    }
                    let _ = exit.send(Err(ExecError::ContainerGone));
                }
                InitJob::Open(opened) => {
                    let _ = opened.send(Err(ExecError::ContainerGone));
                }
                InitJob::KillAll(gone) => {
                    let _ = gone.send(());
                }
                InitJob::Freeze(still) => {
                    let _ = still.send(Err(ExecError::ContainerGone));
                }
                InitJob::Ping(_) | InitJob::Census(_) => {}
            }
        }
        drop(waiting);
        self.gone.notify_waiters();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, PendingRequests> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InitClient {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// The program's ends of its pipes or terminal.
enum Theirs {
    /// PID 1 opens the terminal itself.
    Terminal,
    Merged(OwnedFd),
    Separate([OwnedFd; 3]),
}

fn connections(stdio: Stdio) -> io::Result<(Theirs, Option<ProgramEnds>)> {
    Ok(match stdio {
        Stdio::Terminal(..) => (Theirs::Terminal, None),
        Stdio::Merged => {
            let (reader, writer) = io::pipe()?;
            (Theirs::Merged(writer.into()), Some(ProgramEnds::Merged(reader.into())))
        }
        Stdio::Separate => {
            let (stdin_reader, stdin) = io::pipe()?;
            let (stdout, stdout_writer) = io::pipe()?;
            let (stderr, stderr_writer) = io::pipe()?;
            let theirs = [stdin_reader.into(), stdout_writer.into(), stderr_writer.into()];
            let ours = [stdin.into(), stdout.into(), stderr.into()];
            (Theirs::Separate(theirs), Some(ProgramEnds::Separate(ours)))
        }
    })
}

/// Reads replies from the socket.
#[derive(Debug, Default)]
struct Incoming {
    bytes: [u8; REPLY_LEN],
    got: usize,
    fd: Option<OwnedFd>,
}

impl Incoming {
    /// The next reply; `None` when PID 1 is gone.
    async fn next(
        &mut self,
        socket: &UnixStream,
    ) -> io::Result<Option<(Pid1Reply, Option<OwnedFd>)>> {
        while self.got < REPLY_LEN {
            // Never read past one reply: the next one may carry its own descriptor.
            let rest = &mut self.bytes[self.got..];
            let receive = || runner_sandbox::receive(socket, rest);
            let received = socket.async_io(Interest::READABLE, receive).await?;
            if received.bytes == 0 {
                return Ok(None);
            }
            self.got += received.bytes;
            self.fd = received.fds.into_iter().next().or(self.fd.take());
        }
        self.got = 0;
        Ok(Some((Pid1Reply::from_bytes(&self.bytes), self.fd.take())))
    }
}
