//! PID 1: one loop over the runner's socket and the deaths of children.
//!
//! It takes the runner's requests (`abi`) and sends replies. It opens and executes no path itself
//! and waits on nothing but its descriptors: whatever could hang happens in a forked child (`exec`,
//! `sockets`). When the runner's end of the socket closes, for whatever reason, it exits, and the
//! kernel ends the container with it.
//!
//! A reaper has no pid namespace: it adopts orphaned descendants, "every process" means its
//! descendants, and it ends those itself (`tree`) before it exits.

use crate::abi::{
    self, HEADER_LEN, Header, MAX_BODY, MAX_FDS, MAX_JOBS, Pid1Reply, flags, reply, request, scope,
    stage,
};
use crate::exec::{self, ChildStdio};
use crate::outbox::Outbox;
use crate::request::{ExecRequest, split_string};
use crate::sockets::Sockets;
use crate::still::{self, Before};
use crate::sys::{self, Errno, Fd, POLLHUP, POLLIN, POLLOUT, Pages, PollFd, SysResult};
use crate::tree;

/// Exit code when the runner breaks the protocol; only a debugger sees it.
const PROTOCOL_BROKEN: i32 = 70;
/// Deaths handled before the socket is checked again, so that a fork bomb cannot starve it.
const REAP_BATCH: usize = 64;

/// A child that handles a request.
struct ChildJob {
    id: u64,
    /// 0 if the slot is free.
    pid: i32,
    report: Option<Fd>,
    opens: bool,
    is_of_build: bool,
}

impl ChildJob {
    const FREE: ChildJob =
        ChildJob { id: 0, pid: 0, report: None, opens: false, is_of_build: false };
}

struct Pid1 {
    control: Fd,
    devpts: Option<Fd>,
    toolbox: Option<Fd>,
    sockets: Option<Sockets>,
    jobs: [ChildJob; MAX_JOBS],
    outbox: Outbox,
    /// The `KILL_ALL` that is not answered yet.
    awaited_end: Option<u64>,
    is_reaper: bool,
    /// The runner mounts the root anew once nobody lives but PID 1; so what is open may be of
    /// mounts that nobody sees any more.
    may_be_restacked: bool,
    stopped_before: Before,
}

/// Runs in a container made by a daemon: fetches what the runner itself sets up elsewhere. If the
/// runner is on another machine, its relay connects to the socket instead.
pub(crate) fn run_connected(socket: &[u8], waits: bool) -> ! {
    if connect(socket, waits).is_err() {
        // The daemon's log is the only place to report this.
        sys::complain(b"runner-container: the runner cannot be reached\n");
        sys::exit(abi::NOT_REACHED)
    }
    // A daemon's exec makes no descendants of ours, so a signal to everyone would hit the relay.
    run(waits)
}

fn connect(socket: &[u8], waits: bool) -> SysResult<()> {
    let control = if waits { wait_for_relay(socket)? } else { sys::connect(socket)? };
    sys::place(control, abi::CONTROL_FD)?;
    // An image without terminals has none.
    if let Ok(devpts) = sys::open_place(b"/dev/pts\0") {
        sys::place(devpts, abi::DEVPTS_FD)?;
    }
    let null = sys::open_null()?;
    (0..3).try_for_each(|number| sys::copy_to(&null, number))
}

/// Waits for the relay's connection. Only root can connect: nothing of the build runs yet.
fn wait_for_relay(path: &[u8]) -> SysResult<Fd> {
    sys::umask(0o077);
    let listener = sys::stream::listen(path)?;
    // A runner that was killed meanwhile sends no relay.
    sys::stream::wait_to_read(&listener, abi::relay::PATIENCE_MS)?;
    let relay = sys::stream::accept(&listener)?;
    sys::stream::unname(path);
    Ok(relay)
}

/// Runs until the runner is gone.
pub(crate) fn run(is_reaper: bool) -> ! {
    sys::hide_from_tracers();
    sys::set_name(if is_reaper { c"runner-reaper" } else { c"runner-init" });
    if is_reaper && sys::adopt_descendants().is_err() {
        sys::exit(PROTOCOL_BROKEN)
    }
    sys::default_signals();
    sys::umask(0o022);
    let control = Fd::from_number(abi::CONTROL_FD);
    let devpts = Fd::from_number(abi::DEVPTS_FD);
    // They had to stay open across the exec of this program; no later exec inherits them.
    let kept = |fd: Fd| match sys::close_on_exec(&fd) {
        Ok(()) => Some(fd),
        Err(_) => None,
    };
    let devpts = kept(devpts);
    let toolbox = kept(Fd::from_number(abi::TOOLBOX_FD));
    let listener = kept(Fd::from_number(abi::LISTENER_FD));
    // With a listener, the set-up has left PID 1 a capability that nothing else may inherit.
    if listener.is_some() && sys::listener::end_inheritance().is_err() {
        sys::exit(PROTOCOL_BROKEN)
    }
    let sockets = listener.map(Sockets::new);
    let (Ok(()), Ok(deaths), Ok(outbox)) =
        (sys::close_on_exec(&control), sys::child_signals(), Outbox::new())
    else {
        sys::exit(PROTOCOL_BROKEN)
    };
    let jobs = [ChildJob::FREE; MAX_JOBS];
    let awaited_end = None;
    let mut pid1 = Pid1 {
        control,
        devpts,
        toolbox,
        sockets,
        jobs,
        outbox,
        awaited_end,
        is_reaper,
        may_be_restacked: false,
        stopped_before: Before::new(),
    };
    pid1.reply(reply::HELLO, 0, abi::ABI_VERSION, 0, None);
    pid1.serve(&deaths)
}

impl Pid1 {
    fn serve(&mut self, deaths: &Fd) -> ! {
        let mut incoming = IncomingRequest::new();
        let mut more_deaths = false;
        loop {
            // A stopped runner reads no replies. Then no request is accepted either, so that the
            // outbox stays bounded.
            let wanted = if self.outbox.has_room() { POLLIN } else { 0 }
                | if self.outbox.is_empty() { 0 } else { POLLOUT };
            let asked = self.sockets.as_ref().and_then(Sockets::source);
            let mut ready = [
                PollFd::new(&self.control, wanted),
                PollFd::new(deaths, POLLIN),
                asked.map_or(PollFd::idle(), |listener| PollFd::new(listener, POLLIN)),
            ];
            if !more_deaths && sys::poll(&mut ready).is_err_and(|errno| errno != Errno::INTR) {
                self.leave(PROTOCOL_BROKEN);
            }
            if ready[1].ready(POLLIN) {
                // One signal may stand for many deaths, so its content is useless; drain it.
                let mut signals = [0_u8; 512];
                let _ = sys::read(deaths, &mut signals);
                more_deaths = true;
            }
            if more_deaths {
                more_deaths = self.reap();
            }
            if let Some(sockets) = &mut self.sockets
                && ready[2].ready(POLLIN)
            {
                sockets.take();
            }
            if ready[0].ready(POLLOUT) {
                self.outbox.flush(&self.control);
            }
            if ready[0].ready(POLLIN | POLLHUP) {
                while self.outbox.has_room() {
                    match incoming.next(&self.control) {
                        NextRequest::Nothing => break,
                        NextRequest::Closed => self.leave(0),
                        NextRequest::Broken => self.leave(PROTOCOL_BROKEN),
                        NextRequest::Request(header, body, fds) => self.perform(header, &body, fds),
                    }
                }
            }
        }
    }

    /// Exits and ends everything with it; in a container the kernel does that.
    fn leave(&self, code: i32) -> ! {
        if self.is_reaper {
            tree::end();
        }
        sys::exit(code)
    }

    fn perform(&mut self, header: Header, body: &Pages, fds: [Option<Fd>; MAX_FDS]) {
        let bytes = &body.bytes()[..header.body_len as usize];
        let done = match header.kind {
            request::EXEC => self.exec(header.id, bytes, fds),
            request::OPEN => self.open(header.id, bytes),
            request::DIAL => self.fetch(header.id, |report| exec::dial(bytes, report)),
            request::LISTEN => self.fetch(header.id, |report| exec::listen(bytes, report)),
            request::SIGNAL => self.signal(header.id, bytes),
            request::KILL_ALL => self.kill_all(header.id, bytes),
            request::PING => {
                self.reply(reply::ALIVE, header.id, 0, 0, None);
                Ok(())
            }
            request::FREEZE => self.freeze(header.id, &fds),
            request::THAW => {
                self.thaw();
                Ok(())
            }
            request::CENSUS => {
                self.may_be_restacked = true;
                self.count(header.id);
                Ok(())
            }
            _ => Err((stage::REQUEST, Errno::INVAL)),
        };
        if let Err((stage, errno)) = done {
            self.reply(reply::FAILED, header.id, stage, errno.0 as u32, None);
        }
    }

    fn exec(
        &mut self,
        id: u64,
        body: &[u8],
        fds: [Option<Fd>; MAX_FDS],
    ) -> core::result::Result<(), (u32, Errno)> {
        let at = |stage| move |errno| (stage, errno);
        let request = ExecRequest::decode(body).map_err(at(stage::REQUEST))?;
        let place = self.free_place().ok_or((stage::FORK, Errno::AGAIN))?;
        let mut pointers =
            Pages::new(request.pointer_words() * size_of::<usize>()).map_err(at(stage::REQUEST))?;
        let terminal = if request.head.flags & flags::PTY != 0 {
            let devpts = self.devpts.as_ref().ok_or((stage::PTY, Errno::NOENT))?;
            let shown =
                if self.may_be_restacked { sys::shown_again(devpts, b"/dev/pts\0") } else { None };
            let devpts = shown.as_ref().unwrap_or(devpts);
            let (rows, cols) = (request.head.rows, request.head.cols);
            Some(sys::open_pty(devpts, rows, cols).map_err(at(stage::PTY))?)
        } else {
            None
        };
        let stdio = match (&terminal, &fds) {
            (Some((_, slave)), _) => ChildStdio::Terminal(slave),
            (None, [Some(output), Some(error), None])
                if request.head.flags & flags::NULL_INPUT != 0 =>
            {
                ChildStdio::OutputOnly([output, error])
            }
            (None, [Some(input), Some(output), Some(error)]) => {
                ChildStdio::Given([input, output, error])
            }
            (None, _) => return Err((stage::REQUEST, Errno::INVAL)),
        };
        let (ours, theirs) = sys::message_pair().map_err(at(stage::FORK))?;
        let pid = sys::fork().map_err(at(stage::FORK))?;
        if pid == 0 {
            exec::program(&request, &mut pointers, &stdio, self.toolbox.as_ref(), &theirs)
        }
        let is_of_build = request.head.flags & flags::OF_BUILD != 0;
        self.jobs[place] = ChildJob { id, pid, report: Some(ours), opens: false, is_of_build };
        // A program with pipes needs no message about its start: a reply would wake the runner just
        // when the program needs the CPU.
        if let Some((master, _)) = terminal {
            self.reply(reply::TERMINAL, id, 0, 0, Some(master));
        }
        Ok(())
    }

    fn open(&mut self, id: u64, body: &[u8]) -> core::result::Result<(), (u32, Errno)> {
        let at = |stage| move |errno| (stage, errno);
        let (Some(flags), Some(mode)) = (abi::u32_at(body, 0), abi::u32_at(body, 4)) else {
            return Err((stage::REQUEST, Errno::INVAL));
        };
        let (path, rest) = split_string(&body[8..]).map_err(at(stage::REQUEST))?;
        if !rest.is_empty() {
            return Err((stage::REQUEST, Errno::INVAL));
        }
        self.fetch(id, |report| exec::open(path, flags, mode, report))
    }

    /// Starts a child that fetches a descriptor.
    fn fetch(
        &mut self,
        id: u64,
        child: impl FnOnce(&Fd),
    ) -> core::result::Result<(), (u32, Errno)> {
        let at = |stage| move |errno| (stage, errno);
        let place = self.free_place().ok_or((stage::FORK, Errno::AGAIN))?;
        let (ours, theirs) = sys::message_pair().map_err(at(stage::FORK))?;
        let pid = sys::fork().map_err(at(stage::FORK))?;
        if pid == 0 {
            child(&theirs);
            sys::exit(PROTOCOL_BROKEN)
        }
        self.jobs[place] =
            ChildJob { id, pid, report: Some(ours), opens: true, is_of_build: false };
        Ok(())
    }

    /// A finished job cannot and need not be signalled: no reply either way.
    fn signal(&mut self, id: u64, body: &[u8]) -> core::result::Result<(), (u32, Errno)> {
        let (Some(signal), Some(reach)) = (abi::u32_at(body, 0), abi::u32_at(body, 4)) else {
            return Err((stage::REQUEST, Errno::INVAL));
        };
        let Some(job) = self.jobs.iter().find(|job| job.pid != 0 && job.id == id) else {
            return Ok(());
        };
        // The job is not reaped yet, so its pid is still its own, and so is its session, which each
        // job leads.
        let (pid, signal) = (job.pid, signal as i32);
        match reach {
            scope::PROCESS => drop(sys::kill(pid, signal)),
            scope::GROUP => drop(sys::kill(-pid, signal)),
            scope::SESSION => {
                if sys::fork() == Ok(0) {
                    exec::signal_session(pid, signal)
                }
            }
            _ => return Err((stage::REQUEST, Errno::INVAL)),
        }
        Ok(())
    }

    fn kill_all(&mut self, id: u64, body: &[u8]) -> core::result::Result<(), (u32, Errno)> {
        let signal = abi::u32_at(body, 0).ok_or((stage::REQUEST, Errno::INVAL))?;
        if self.is_reaper {
            tree::signal(signal as i32);
        } else {
            let _ = sys::kill(-1, signal as i32);
        }
        self.awaited_end = Some(id);
        self.reap();
        Ok(())
    }

    fn freeze(
        &mut self,
        id: u64,
        fds: &[Option<Fd>; MAX_FDS],
    ) -> core::result::Result<(), (u32, Errno)> {
        let jobs = &self.jobs;
        if let [Some(group), ..] = fds {
            let gathered = still::gather(group, |pid| is_spared(jobs, pid));
            gathered.map_err(|errno| (stage::FREEZE, errno))?;
            self.reply(reply::STILL, id, 0, 0, None);
            return Ok(());
        }
        let stopped = still::stop(&mut self.stopped_before, |pid| is_spared(jobs, pid));
        if let Err(errno) = stopped {
            self.thaw();
            return Err((stage::FREEZE, errno));
        }
        self.reply(reply::STILL, id, 0, 0, None);
        Ok(())
    }

    fn thaw(&mut self) {
        let jobs = &self.jobs;
        still::go_on(&mut self.stopped_before, |pid| is_spared(jobs, pid));
    }

    /// Reports whether any process lives here. The dead do not count once they are reaped.
    fn count(&mut self, id: u64) {
        // In batches, up to the most that can be here: constant deaths do not mean that nobody is
        // left.
        let _ = (0..MAX_JOBS / REAP_BATCH).all(|_| self.reap());
        // A reaper shares the pid namespace with others, so it cannot tell.
        let is_alone = !self.is_reaper && sys::kill(-1, 0) == Err(Errno::SRCH);
        self.reply(reply::COUNTED, id, u32::from(!is_alone), 0, None);
    }

    /// Reaps dead children, orphans included. Returns whether there may be more.
    fn reap(&mut self) -> bool {
        for _ in 0..REAP_BATCH {
            match sys::reap() {
                Ok(Some((pid, status))) => self.bury(pid, status),
                Ok(None) => return false,
                Err(_) => {
                    // No children at all. Every orphan becomes one, so no process is left.
                    if let Some(id) = self.awaited_end.take() {
                        self.reply(reply::ALL_GONE, id, 0, 0, None);
                    }
                    return false;
                }
            }
        }
        true
    }

    fn bury(&mut self, pid: i32, status: u32) {
        if self.sockets.as_mut().is_some_and(|sockets| sockets.bury(pid)) {
            return;
        }
        let Some(place) = self.jobs.iter().position(|job| job.pid == pid) else { return };
        let job = core::mem::replace(&mut self.jobs[place], ChildJob::FREE);
        let mut words = [0; 8];
        let mut fds = [None, None, None];
        let told = match &job.report {
            Some(report) => sys::receive(report, &mut words, &mut fds).unwrap_or(0),
            None => 0,
        };
        let said = abi::u32_at(&words, 0).unwrap_or(0);
        let errno = abi::u32_at(&words, 4).unwrap_or(0);
        let [opened, ..] = fds;
        match (told, said, opened) {
            (8, 0, Some(fd)) => self.reply(reply::OPENED, job.id, 0, 0, Some(fd)),
            (8, 1.., _) => self.reply(reply::FAILED, job.id, said, errno, None),
            _ if job.opens => {
                self.reply(reply::FAILED, job.id, stage::LOST, Errno::PERM.0 as u32, None);
            }
            _ => self.reply(reply::EXITED, job.id, status, 0, None),
        }
    }

    fn free_place(&self) -> Option<usize> {
        self.jobs.iter().position(|job| job.pid == 0)
    }

    fn reply(&mut self, kind: u32, id: u64, a: u32, b: u32, fd: Option<Fd>) {
        self.outbox.send(&self.control, Pid1Reply { kind, a, id, b }, fd);
    }
}

/// Whether a process is a job that does not belong to the build.
fn is_spared(jobs: &[ChildJob], pid: i32) -> bool {
    jobs.iter().any(|job| job.pid == pid && pid != 0 && !job.is_of_build)
}

enum NextRequest {
    /// The rest of a request has not arrived.
    Nothing,
    Closed,
    /// Reset, too many descriptors, or no memory for a body: cannot go on.
    Broken,
    Request(Header, Pages, [Option<Fd>; MAX_FDS]),
}

/// A request being received.
struct IncomingRequest {
    head: [u8; HEADER_LEN],
    head_got: usize,
    fds: [Option<Fd>; MAX_FDS],
    body: Option<Pages>,
    body_got: usize,
}

impl IncomingRequest {
    fn new() -> Self {
        IncomingRequest {
            head: [0; HEADER_LEN],
            head_got: 0,
            fds: [None, None, None],
            body: None,
            body_got: 0,
        }
    }

    fn next(&mut self, control: &Fd) -> NextRequest {
        match self.advance(control) {
            Ok(Some(next)) => next,
            Ok(None) => NextRequest::Closed,
            Err(Errno::AGAIN | Errno::INTR) => NextRequest::Nothing,
            Err(_) => NextRequest::Broken,
        }
    }

    fn advance(&mut self, control: &Fd) -> SysResult<Option<NextRequest>> {
        while self.head_got < HEADER_LEN {
            // Never read past the header: the next request's descriptors must not arrive yet.
            let got = sys::receive(control, &mut self.head[self.head_got..], &mut self.fds)?;
            if got == 0 {
                return Ok(None);
            }
            self.head_got += got;
        }
        let header = Header::from_bytes(&self.head);
        let length = header.body_len as usize;
        if length > MAX_BODY {
            return Err(Errno::TOOBIG);
        }
        let mut body = match self.body.take() {
            Some(body) => body,
            None => Pages::new(length)?,
        };
        while self.body_got < length {
            let mut none = [None, None, None];
            match sys::receive(control, &mut body.bytes_mut()[self.body_got..length], &mut none) {
                Ok(0) => return Ok(None),
                Ok(got) => self.body_got += got,
                Err(errno) => {
                    self.body = Some(body);
                    return Err(errno);
                }
            }
        }
        self.head_got = 0;
        self.body_got = 0;
        let fds = core::mem::take(&mut self.fds);
        Ok(Some(NextRequest::Request(header, body, fds)))
    }
}
