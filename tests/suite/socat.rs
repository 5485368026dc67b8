//! socat at both ends: data and ends of streams arrive unchanged, as if directly connected.

use crate::common::endpoint::Endpoint;
use crate::common::{Bed, Running, build, cases, outcome, until};
use std::fs::{self, File};
use std::process::Command;

cases! {
    [Containers, Program("socat")] => through_port_forward;
    [Containers, Program("socat"), Python, Clients] => through_a_session;
}

/// The first line of a connection selects what the server does.
const SERVER: &str = "read what
case $what in
    echo) exec cat ;;
    hash) exec sha256sum ;;
    up) exec cat > received ;;
    down) exec cat data ;;
esac
";

/// A build with socat as its server, at a port and at a path, and the port.
fn serving(bed: &Bed) -> (Running, u16) {
    bed.write("server.sh", SERVER);
    bed.write("data", data(7));
    let listen = "socat -d -d -t 60 TCP-LISTEN:0,bind=127.0.0.1,fork SYSTEM:'sh server.sh' 2>&1 & \
                  socat -d -d -t 60 UNIX-LISTEN:/tmp/s.sock,fork SYSTEM:'sh server.sh' 2>&1 & \
                  codebuild-breakpoint";
    let running = bed.paused(&build(&[listen]), &[]);
    running.stdout.wait_for("listening on AF=1");
    let port = running.stdout.number_after("listening on AF=2 127.0.0.1:");
    (running, port)
}

/// Text, because outcomes are text.
fn data(seed: u32) -> String {
    (0..200_000).map(|n| format!("{}\n", n * seed)).collect()
}

/// Runs socat between a file and an address to its end.
fn socat(bed: &Bed, options: &[&str], input: &str, address: &str) -> String {
    let mut command = bed.other("socat");
    let file = bed.write("input", input);
    command.args(["-t", "60"]).args(options).arg(address).stdin(File::open(file).unwrap());
    outcome(&mut command).code(0).stdout
}

fn sha256(text: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let seen = outcome(Command::new("sha256sum").stdin(File::open(file.path()).unwrap())).code(0);
    seen.stdout
}

/// The server answers after it has seen the end of its input, and its answer still arrives.
fn through_port_forward() {
    let bed = Bed::host();
    let (running, port) = serving(&bed);
    let ports = [format!(":{port}"), ":/tmp/s.sock".to_owned()];
    let forward = Running::spawn(bed.command(["port-forward", &ports[0], &ports[1]]));
    forward
        .stdout
        .wait_until("its ports", |bytes| bytes.iter().filter(|byte| **byte == b'\n').count() == 2);
    let text = forward.stdout.text();
    for line in text.lines() {
        let at = format!("TCP:{}", line.split(" -> ").next().unwrap());
        let sent = data(3);
        assert!(socat(&bed, &["-"], &format!("echo\n{sent}"), &at) == sent, "{line}");
        assert_eq!(socat(&bed, &["-"], &format!("hash\n{sent}"), &at), sha256(&sent), "{line}");
        assert!(socat(&bed, &["-"], "down\n", &at) == data(7), "{line}");
    }
    bed.resume(running);
    forward.ends(0);
}

/// In the protocol of sessions a connection ends when its client does: what was sent until then
/// arrives, and so does the server's output until its own end.
fn through_a_session() {
    let bed = Bed::host();
    let (running, port) = serving(&bed);
    let endpoint = Endpoint::of_notice(&running);
    let target = format!("codebuild:{}", bed.live().file_name().unwrap().to_str().unwrap());
    let parameters = format!("portNumber={port}");
    let mut arguments = vec!["ssm", "start-session", "--target", &target, "--document-name"];
    arguments.extend(["AWS-StartPortForwardingSession", "--parameters", &parameters]);
    let client = Running::spawn(endpoint.aws_with_clients(&bed, &arguments, ""));
    client.stdout.wait_for("Waiting for connections...");
    let text = client.stdout.text();
    let (_, rest) = text.split_once("Port ").unwrap();
    let at = format!("TCP:127.0.0.1:{}", rest.split_once(' ').unwrap().0);
    assert!(socat(&bed, &["STDIO,ignoreeof"], "down\n", &at) == data(7));
    let sent = data(3);
    socat(&bed, &["-u", "-"], &format!("up\n{sent}"), &at);
    let wanted = sha256(&sent);
    let is_there = ["exec", "--", "sh", "-c", "sha256sum < received"];
    until("everything has arrived", || bed.runner(is_there).stdout == wanted);
    bed.resume(running);
    client.ends(0);
}
