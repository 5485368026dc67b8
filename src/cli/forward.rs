//! `runner port-forward`.

use super::error::CliError;
use super::sessions::connect;
use clap::Args;
use clap_complete::ArgValueCandidates;
use runner_client::{self as client, Forward};
use runner_engine::dial::Remote;
use runner_host::stdio::{self, say};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Options of `runner port-forward`.
#[derive(Debug, Args)]
#[command(
    override_usage = "runner port-forward [OPTIONS] [BUILD] LOCAL:REMOTE...",
    after_help = FORWARD_HELP
)]
pub(super) struct ForwardArgs {
    /// Build id, its uuid, a unique prefix of either, or a project with one live build (optional if
    /// only one build is live), then ports: LOCAL:REMOTE, :REMOTE for a free port of this machine,
    /// or PORT for the same port on both sides
    #[arg(
        required = true,
        value_name = "[BUILD] LOCAL:REMOTE",
        add = ArgValueCandidates::new(super::completions::builds)
    )]
    words: Vec<String>,
    /// Address of this machine to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
}

const FORWARD_HELP: &str = "\
REMOTE is a PORT on the container's own loopback interface, a HOST:PORT that the container can
reach, or the absolute path of a unix socket in it (@NAME for an abstract one).

  runner port-forward 8080               port 8080 on both sides
  runner port-forward 8080:80            http://127.0.0.1:8080 is port 80 in the one live build
  runner port-forward :5432 9000:db:90   a free port, which is printed; a host beside the container
  runner port-forward 2375:/run/d.sock   a unix socket

Each forwarded port is printed as LOCAL -> REMOTE once connections to it are taken. Runs until the
build ends (exit status 0) or signal N ends this program (128+N).";

/// A parsed port argument.
#[derive(Debug, PartialEq, Eq)]
struct PortPair {
    /// 0: any free port.
    local: u16,
    remote: Remote,
}

impl PortPair {
    /// `None` if the text is neither a pair nor a port, and may be a build.
    fn parse(text: &str) -> Option<Result<Self, String>> {
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        let local = match local {
            "" => 0,
            digits => digits.parse::<u16>().ok().filter(|port| *port > 0)?,
        };
        Some(remote.parse().map(|remote| PortPair { local, remote }))
    }
}

/// Splits the arguments into the build and the ports.
fn read(words: &[String]) -> Result<(Option<&str>, Vec<PortPair>), CliError> {
    // A number alone may be either; before other words it is a build.
    let is_number = words.len() > 1 && !words[0].contains(':');
    let first_is_build = is_number || !matches!(PortPair::parse(&words[0]), Some(Ok(_)));
    let (build, pairs) = match words {
        [build, pairs @ ..] if first_is_build && !pairs.is_empty() => (Some(build.as_str()), pairs),
        pairs => (None, pairs),
    };
    let mut ports = Vec::new();
    let mut problems = Vec::new();
    for text in pairs {
        match PortPair::parse(text) {
            Some(Ok(pair)) => ports.push(pair),
            Some(Err(problem)) => problems.push(problem),
            None if text.parse::<u64>().is_ok() => {
                problems.push(format!("`{text}` is not a port: 1 to 65535"));
            }
            None => problems.push(format!("`{text}` is not of the form LOCAL:REMOTE")),
        }
    }
    if problems.is_empty() {
        return Ok((build, ports));
    }
    // It was taken for a build but may have been meant as a port.
    if let Some(Some(Err(problem))) = build.map(PortPair::parse) {
        problems.insert(0, problem);
    }
    Err(CliError::usage(problems.join("; "))
        .hint("for example 8080:80, :80 for a free port, 8080:/run/app.sock for a unix socket"))
}

/// Forwards ports until the build ends. Returns the exit code.
pub(super) fn forward(args: &ForwardArgs) -> Result<u8, CliError> {
    let (build, ports) = read(&args.words)?;
    let client = connect(build)?;
    let mut forwards = Vec::new();
    let mut problems = Vec::new();
    for PortPair { local, remote } in ports {
        let at = SocketAddr::new(args.address, local);
        match Forward::listen(at, remote) {
            Ok(forward) => forwards.push(forward),
            Err(error) => problems.push(format!("cannot listen at {at}: {error}")),
        }
    }
    if !problems.is_empty() {
        return Err(CliError::ours(problems.join("; "))
            .hint("leave out the first number, as in :80, for a port that is free; with --network host, what a build \
                   serves is at this machine's port already"));
    }
    let ended = client::forward(client, forwards, announce, say)?;
    if let Some(message) = ended.message {
        say(&message);
    }
    Ok(ended.code)
}

/// Prints one line per port, for people and scripts.
fn announce(forwards: &[Forward]) -> std::io::Result<()> {
    for forward in forwards {
        stdio::answer(format!("{} -> {}\n", forward.local()?, forward.remote))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (Option<String>, Vec<(u16, String)>);

    fn words(text: &str) -> Result<Read, String> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let (build, ports) = read(&words).map_err(|error| error.message)?;
        let ports = ports.iter().map(|pair| (pair.local, pair.remote.to_string())).collect();
        Ok((build.map(str::to_owned), ports))
    }

    #[test]
    fn a_build_is_told_from_ports() {
        let pair = |local, remote: &str| (local, remote.to_owned());
        let build = |text: &str| Some(text.to_owned());
        for (text, wanted) in [
            ("8080:80", (None, vec![pair(8080, "localhost:80")])),
            ("8080", (None, vec![pair(8080, "localhost:8080")])),
            (
                "demo 8080 :1",
                (build("demo"), vec![pair(8080, "localhost:8080"), pair(0, "localhost:1")]),
            ),
            ("8080 9090", (build("8080"), vec![pair(9090, "localhost:9090")])),
            (":80 :81", (None, vec![pair(0, "localhost:80"), pair(0, "localhost:81")])),
            ("1:db:2", (None, vec![pair(1, "db:2")])),
            ("1:[::1]:2", (None, vec![pair(1, "[::1]:2")])),
            (":/run/x.sock", (None, vec![pair(0, "/run/x.sock")])),
            ("demo:0b5e-11 :1", (build("demo:0b5e-11"), vec![pair(0, "localhost:1")])),
            ("12:0b5e-11 :1", (build("12:0b5e-11"), vec![pair(0, "localhost:1")])),
            ("1234 :1", (build("1234"), vec![pair(0, "localhost:1")])),
        ] {
            assert_eq!(words(text), Ok(wanted), "{text}");
        }
        for text in ["0", "70000", "demo", "8080:", "8080:x", ":0", "a:1", "x y", "1:2 x"] {
            assert!(words(text).is_err(), "{text}");
        }
    }
}
