//! `--network pasta`: a separate network for the container. It reaches the outside through a
//! private instance of pasta (Debian's package passt).
//!
//! The engine starts pasta once PID 1 exists and before anything runs. One more process of this
//! program supervises it ([`supervise`], a chore): pasta gives up its rights as it starts, so the
//! kernel cannot be told to end it with the runner. The supervisor holds a pipe from the runner and
//! ends pasta when the pipe closes, for whatever reason.

use super::{ContainerSpec, EngineError, NetworkAccess};
use super::{EngineNote, Teller};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The container's resolver if the host's listens on loopback; pasta forwards requests sent to this
/// address. Routers never pass it on.
const RESOLVER: &str = "169.254.1.1";
/// The supervisor's message when the network is up.
const READY: &str = "ready";
/// How long the supervisor may take to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// The device behind every tap interface.
const TUN: &str = "/dev/net/tun";

/// A running pasta.
#[derive(Debug)]
pub(super) struct Pasta {
    /// Closing it makes the supervisor end.
    hold: Option<ChildStdin>,
    supervisor: Child,
    is_over: Arc<AtomicBool>,
}

pub(super) struct PastaOptions<'a> {
    /// PID 1 of the container.
    pub(super) pid: u32,
    /// A port of the host's loopback that the container also has on its own.
    pub(super) port: Option<u16>,
    pub(super) resolver: &'a Resolver,
    /// The build's private folder, which lasts as long as the build.
    pub(super) dir: &'a Path,
    /// Whether the container has a user namespace.
    pub(super) has_users: bool,
}

impl Pasta {
    /// Starts pasta and waits until the container's network is up.
    pub(super) fn start(wanted: &PastaOptions<'_>, tell: &Teller) -> Result<Self, EngineError> {
        let failed = |doing: &str, error: io::Error| {
            EngineError::fault(format!("--network pasta: cannot {doing}: {error}"), None)
        };
        let program = find().ok_or_else(|| failed("find it", io::ErrorKind::NotFound.into()))?;
        // The folder is not empty if the container is made again.
        runner_host::private::remove_tree(wanted.dir)
            .and_then(|()| runner_host::private::make_private(wanted.dir))
            .map_err(|error| failed("make a folder for it", error))?;
        let mut command = Command::new("/proc/self/exe");
        runner_sandbox::with_inherited_descriptors(&mut command);
        command.args([runner_sandbox::CHORE_ARG, "pasta"]).arg(&program).arg(wanted.dir);
        command.arg(wanted.pid.to_string());
        command.arg(if wanted.has_users { "users" } else { "host" });
        if *wanted.resolver == Resolver::Forwarded {
            // Forwarded to the first server in the host's resolv.conf.
            command.args(["--dns-forward", RESOLVER]);
        }
        let port = wanted.port.map_or_else(|| "none".to_owned(), |port| port.to_string());
        command.args(["--tcp-ns", &port]);
        let mut supervisor = command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // The runner handles Ctrl-C.
            .process_group(0)
            .spawn()
            .map_err(|error| failed("start its supervisor", error))?;
        let (hold, said) = (supervisor.stdin.take(), supervisor.stdout.take());
        let is_over = Arc::new(AtomicBool::new(false));
        let pasta = Pasta { hold, supervisor, is_over: Arc::clone(&is_over) };
        let Some(said) = said else {
            return Err(failed("hear of it", io::ErrorKind::NotConnected.into()));
        };
        let mut said = BufReader::new(said);
        let mut first = String::new();
        said.read_line(&mut first).map_err(|error| failed("hear of it", error))?;
        if first.trim_end() != READY {
            let mut rest = first;
            // Its own message is all that is known.
            let _ = said.read_to_string(&mut rest);
            return Err(EngineError::fault(
                format!("--network pasta: {}", rest.trim()),
                Some(NOT_STARTED),
            ));
        }
        let tell = Arc::clone(tell);
        std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = said.read_to_string(&mut rest);
            if !is_over.load(Ordering::Relaxed) {
                tell(EngineNote::NetworkLost { said: rest.trim().to_owned() });
            }
        });
        Ok(pasta)
    }
}

impl Drop for Pasta {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        drop(self.hold.take());
        // The supervisor has nothing left to do but end.
        let _ = runner_sandbox::wait_or_kill(&mut self.supervisor, PATIENCE);
    }
}

const NOT_STARTED: &str = "pasta copies the host's default route: is there one? Without any network: \
                           --network none; with this machine's own: --network host";

/// Checks that pasta is available, before anything is made that needs it.
pub(super) fn check(spec: &ContainerSpec) -> Result<(), EngineError> {
    if spec.network != NetworkAccess::Pasta {
        return Ok(());
    }
    let lacking = |what: String, mend: &str| {
        let other = if spec.privileged {
            "; a build that may change this machine's own firewall: --privileged --network host"
        } else {
            ""
        };
        EngineError::fault(format!("--network pasta: {what}"), Some(&format!("{mend}{other}")))
    };
    let no_program = "there is no program `pasta` on PATH".to_owned();
    find().ok_or_else(|| {
        lacking(no_program, "it is in the package passt: sudo apt-get install passt")
    })?;
    OpenOptions::new().read(true).write(true).open(TUN).map(drop).map_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            let mend = "let users open it, as most systems do; interfaces need further rights: \
                        sudo chmod 666 /dev/net/tun";
            lacking(format!("this user may not open {TUN}: {error}"), mend)
        } else {
            let mend = "load the kernel's module for it: sudo modprobe tun; in a container, start \
                        that one with --device /dev/net/tun";
            lacking(format!("cannot open {TUN}: {error}"), mend)
        }
    })
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("pasta"))
        .find(|program| program.is_file())
}

/// How a container in a separate network resolves names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resolver {
    /// As the host does.
    Same,
    /// Through pasta, which asks the resolver on the host's loopback.
    Forwarded,
}

impl Resolver {
    /// Reads the host's resolv.conf. Also returns the container's version if it differs.
    pub(super) fn of_host(text: &str) -> (Self, Option<String>) {
        let server = |line: &str| -> Option<IpAddr> {
            let mut words = line.split_ascii_whitespace();
            words.next().filter(|word| *word == "nameserver")?;
            words.next()?.parse().ok()
        };
        let servers: Vec<IpAddr> = text.lines().filter_map(server).collect();
        if !servers.iter().any(IpAddr::is_loopback) {
            return (Resolver::Same, None);
        }
        let is_reachable = servers.iter().any(|server| !server.is_loopback());
        let resolver = if is_reachable { Resolver::Same } else { Resolver::Forwarded };
        let mut own: String = text
            .lines()
            .filter(|line| server(line).is_none_or(|server| !server.is_loopback()))
            .map(|line| format!("{line}\n"))
            .collect();
        if !is_reachable {
            own.push_str(&format!("nameserver {RESOLVER}\n"));
        }
        (resolver, Some(own))
    }
}

/// The chore: runs pasta for the container whose PID 1 is `pid` until standard input closes.
///
/// `options` are passed to pasta. Prints [`READY`] when the network is up. `owner` is `users` if
/// the container has a user namespace.
pub fn supervise(
    program: &str,
    dir: &str,
    pid: &str,
    owner: &str,
    options: &[&str],
) -> io::Result<String> {
    let dir = Path::new(dir);
    let fifo = dir.join("ready");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    // pasta writes its pid there once all is set up. Opened first, so that neither side waits for
    // the other.
    let ready = rustix::fs::openat(
        CWD,
        &fifo,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut command = Command::new(program);
    if owner == "users" {
        command.args(["--userns", &format!("/proc/{pid}/ns/user")]);
        command.args(["--netns", &format!("/proc/{pid}/ns/net")]);
    } else {
        // Not through /proc: by then pasta may no longer inspect root's processes.
        let place = dir.join("net");
        File::create(&place)?;
        runner_sandbox::pin_network(pid, &place)?;
        command.arg("--netns").arg(place);
    }
    if nix::unistd::geteuid().is_root() {
        // Otherwise pasta switches to a user who may not enter the network. It drops its rights
        // anyway.
        command.args(["--runas", "0"]);
    }
    command.args(["--config-net", "--foreground", "--quiet", "--no-map-gw", "--no-netns-quit"]);
    // Nothing from the host comes in by default, and nothing of its loopback is reachable.
    command.args(["--tcp-ports", "none", "--udp-ports", "none", "--udp-ns", "none"]);
    command.args(options).arg("--pid").arg(&fifo);
    let mut pasta =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let result = watch(&mut pasta, &ready);
    // It may have ended already.
    let _ = pasta.kill();
    pasta.wait()?;
    result.map(|()| String::new())
}

/// Waits until the runner or pasta is gone.
fn watch(pasta: &mut Child, ready: &impl AsFd) -> io::Result<()> {
    let pid =
        i32::try_from(pasta.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let mut stderr = pasta.stderr.take().ok_or(io::ErrorKind::NotConnected)?;
    let runner = io::stdin();
    let mut said = Vec::new();
    let (mut is_up, mut is_silent) = (false, false);
    loop {
        let mut fds =
            vec![PollFd::new(&runner, PollFlags::IN), PollFd::new(&process, PollFlags::IN)];
        if !is_silent {
            fds.push(PollFd::new(&stderr, PollFlags::IN));
        }
        if !is_up {
            fds.push(PollFd::new(ready, PollFlags::IN));
        }
        poll(&mut fds, None)?;
        let events: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if events[0] {
            // The runner never writes, so the pipe has closed.
            return Ok(());
        }
        if !is_silent && events[2] {
            let mut part = [0; 4096];
            let got = stderr.read(&mut part)?;
            is_silent = got == 0;
            // Once the network is up, errors are discarded: the build could cause many.
            if !is_up && said.len() < 64 << 10 {
                said.extend_from_slice(&part[..got]);
            }
            continue;
        }
        if events[1] {
            let text = String::from_utf8_lossy(&said);
            // Without a system logger it complains about that, too.
            let mut lines = text.lines().filter(|line| !line.contains("to syslog"));
            let last = lines.next_back().unwrap_or("it ended without a word").trim();
            return Err(io::Error::other(format!("pasta: {last}")));
        }
        if !is_up && events.last() == Some(&true) {
            is_up = true;
            let mut stdout = io::stdout();
            writeln!(stdout, "{READY}")?;
            stdout.flush()?;
        }
    }
}

/// The host's resolv.conf; empty if there is none.
pub(super) fn resolv_conf() -> String {
    fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_on_loopback_is_reached_by_way_of_pasta() {
        let of_host = |text: &str| Resolver::of_host(text);
        assert_eq!(of_host("nameserver 10.0.0.1\nsearch x\n"), (Resolver::Same, None));
        assert_eq!(of_host(""), (Resolver::Same, None));
        assert_eq!(
            of_host("# a\nnameserver 127.0.0.53\noptions edns0\n"),
            (Resolver::Forwarded, Some("# a\noptions edns0\nnameserver 169.254.1.1\n".to_owned()))
        );
        assert_eq!(
            of_host("nameserver ::1\nnameserver 10.0.0.1\n"),
            (Resolver::Same, Some("nameserver 10.0.0.1\n".to_owned()))
        );
    }
}
