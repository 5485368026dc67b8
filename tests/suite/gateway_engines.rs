//! Sessions of AWS's clients in containers created by a daemon, and without a container.

use crate::common::channel::{Channel, Heard};
use crate::common::engines::Engine;
use crate::common::gateway::{
    Mux, Place, data_frame, echo_server, in_the_foreground, open_frame, resize, typed,
};
use crate::common::{Bed, cases, until};
use crate::suite::elsewhere;
use runner_wire::ssm::Payload;
use serde_json::json;

cases! {
    [] => in_no_container;
    [Root, Image("busybox"), Program("dockerd"), Program("docker")] => in_docker, in_docker_elsewhere;
    [Users, Image("busybox"), Program("podman"), Program("runc")] => in_podman;
}

const SERVER: &str = "nc -ll -p 9000 -e cat & until nc 127.0.0.1 9000 < /dev/null; do :; done";

fn in_no_container() {
    let commands = ["export WHERE=here; codebuild-breakpoint; echo went on"];
    let place = Place::in_bed(Bed::host(), &commands, &["--engine", "process"]);
    // Its network is this machine's.
    sessions(place, echo_server());
}

fn in_docker() {
    in_daemon(Engine::Docker);
}

/// Here sockets are socket pairs whose other ends are connected through the daemon.
fn in_docker_elsewhere() {
    let commands = [SERVER, "export WHERE=here; codebuild-breakpoint; echo went on"];
    sessions(Place::in_bed(elsewhere::bed(), &commands, &["--engine", "docker"]), 9000);
}

fn in_podman() {
    in_daemon(Engine::Podman);
}

fn in_daemon(engine: Engine) {
    // On its own loopback interface.
    let commands = [SERVER, "export WHERE=here; codebuild-breakpoint; echo went on"];
    let options = engine.options(&["--network", "none"]);
    let place = Place::in_bed(engine.bed(), &commands, &options);
    sessions(place, 9000);
}

/// A shell, a command and its exit code, a port; the shell ends with its client, the build with the
/// last command.
fn sessions(place: Place, port: u16) {
    let (_, mut channel) = place.shell();
    typed(&mut channel, "stty size; echo $WHERE-$PWD; tty; id -u\n");
    for wanted in ["24 80", "here-/", "/dev/pts/"] {
        channel.wait_for(wanted);
    }
    resize(&mut channel);
    typed(&mut channel, "echo $$ > pid\n");
    in_the_foreground(&mut channel);
    typed(&mut channel, "\u{3}");
    channel.wait_for_after("^C", "ready> ");
    channel.input(Payload::Flag, &[0, 0, 0, 2]);
    assert_eq!(channel.wait_for_close(), "");
    let is_there = ["exec", "--", "sh", "-c", "kill -0 $(cat pid)"];
    until("its shell is gone", || place.bed.runner(is_there).code != 0);

    let script = "sh -c 'echo out $WHERE; echo err >&2; exit 5'";
    let parameters = json!({"command": [script], "separateOutputStream": ["true"]});
    let started = place.start("AWS-StartNonInteractiveCommand", &parameters);
    let mut channel = Channel::open(&started);
    let mut exit = Vec::new();
    loop {
        match channel.hear() {
            Heard::Output { payload: Payload::ExitCode, body, .. } => exit = body,
            Heard::Closed(reason) => break assert_eq!(reason, ""),
            Heard::Lost => panic!("lost"),
            Heard::Output { .. } | Heard::Acknowledged(_) => {}
        }
    }
    assert_eq!(exit, b"EXIT_CODE: 5");
    let shown = String::from_utf8_lossy(&channel.shown).into_owned();
    assert!(shown.contains("out here\n") && shown.contains("err\n"), "{shown}");

    let mut channel = Channel::open(&place.port("AWS-StartPortForwardingSession", port));
    let mut mux = Mux::new();
    channel.input(Payload::Bytes, &open_frame(3));
    let sent: Vec<u8> = (0..100_000_u32).map(|n| (n >> 3) as u8).collect();
    for part in sent.chunks(1000) {
        channel.input(Payload::Bytes, &data_frame(3, part));
    }
    while mux.data(3).len() < sent.len() {
        mux.hear(&mut channel);
    }
    assert!(mux.data(3) == sent);

    let (_, mut last) = place.shell();
    typed(&mut last, "codebuild-resume\n");
    assert_eq!(last.wait_for_close(), "the build has ended: SUCCEEDED");
    let Place { build, server, .. } = place;
    let output = build.stdout.clone();
    build.ends(0);
    assert!(output.text().contains("went on"), "{}", output.text());
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.ends(0);
}
