//! `--network`: what a build can reach.

use crate::common::{Bed, build, cases};
use std::net::TcpListener;

cases! {
    [Containers, Image("busybox")] => nothing_but_its_own_loopback, its_own_abstract_sockets,
        sessions_work_without_a_network;
    [] => what_does_not_go_together;
}

const NONE: [&str; 2] = ["--network", "none"];

/// The port of a service of this machine that listens on loopback, and hangs up on whoever connects.
fn service() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    port
}

fn nothing_but_its_own_loopback() {
    let bed = Bed::new();
    let port = service();
    let commands = [
        "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; ls /sys/class/net; wc -l < /proc/net/route"
            .to_owned(),
        format!("nc -w 5 127.0.0.1 {port} < /dev/null 2>&1 | grep -o refused"),
        // Takes raw packets, which a network of its own can be trusted with.
        "ping -c 1 -w 5 127.0.0.1 > /dev/null && echo pong".to_owned(),
    ];
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let output = bed.build(&build(&commands), &NONE).code(0).output();
    assert_eq!(output, "lo\nlo\n1\nrefused\npong\n");
    // The same on the host's network, so that the above means something.
    let reach = format!("nc -w 5 127.0.0.1 {port} < /dev/null && echo reached");
    assert_eq!(Bed::new().build(&build(&[&reach]), &[]).code(0).output(), "reached\n");
}

/// Those of the host are listed in one table for each network.
fn its_own_abstract_sockets() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("runner-network-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let look = format!("grep -c {name} /proc/net/unix || true");
    let output = Bed::new().build(&build(&[&look]), &NONE).code(0).output();
    assert_eq!(output, "0\n");
    assert_eq!(Bed::new().build(&build(&[&look]), &[]).code(0).output(), "1\n");
}

fn sessions_work_without_a_network() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &NONE);
    let seen = bed.runner(["exec", "--", "ls", "/sys/class/net"]).code(0).stdout;
    assert_eq!(seen, "lo\n");
    bed.resume(running);
}

fn what_does_not_go_together() {
    let bed = Bed::new();
    let spec = build(&["true"]);
    bed.build(&spec, &["--network", "none", "--aws-profile", "env"])
        .code(2)
        .says("--network none keeps the build from everything that --aws-profile is for");
    bed.write("buildspec.yml", spec);
    bed.runner(["run", "--engine", "process", "--network", "none"])
        .code(2)
        .says("has no network but this machine's");
}
