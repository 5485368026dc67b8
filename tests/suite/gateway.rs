//! The message gateway with valid and invalid clients, using one that does whatever a test wants.

use crate::common::channel::{Channel, Heard, Started, head};
use crate::common::endpoint::Endpoint;
use crate::common::gateway::{Place, in_the_foreground, open_frame, resize, typed};
use crate::common::{Bed, build, cases, until};
use nix::sys::signal::Signal;
use runner_wire::ssm::message::{MAX_PAYLOAD, encode};
use runner_wire::ssm::{MessageKind, Payload};
use serde_json::{Value, json};
use std::net::{Shutdown, TcpListener};

cases! {
    [Containers, Image("busybox")] => a_shell, tokens, what_is_no_token, harmed_frames,
        a_client_that_never_acknowledges, a_client_that_never_reads, another_socket_under_output,
        the_newest_client_counts, two_hundred_sessions, idle_sessions,
        the_end_of_the_build, terminated_by_the_client, outputs_of_a_command, a_command_on_a_terminal,
        a_dying_endpoint, sessions_of_two_builds;
}

fn a_shell() {
    let place = Place::new();
    let (started, mut channel) = place.shell();
    typed(&mut channel, "pwd; tty; stty size; echo $TERM\n");
    for wanted in ["/tmp", "/dev/pts/0", "24 80", "xterm-256color"] {
        channel.wait_for(wanted);
    }
    resize(&mut channel);
    in_the_foreground(&mut channel);
    typed(&mut channel, "\u{3}");
    channel.wait_for_after("^C", "ready> ");
    typed(&mut channel, "exit 3\n");
    assert_eq!(channel.wait_for_close(), "");
    // No exit code: clients print whatever they receive.
    assert!(!String::from_utf8_lossy(&channel.shown).contains("EXIT_CODE"));
    channel.wait_for_loss();
    assert!(started.resume(&place.endpoint).is_none());
    place.ends();
}

/// Valid once. A refusal is sent in the channel: by HTTP it would make clients hang.
fn tokens() {
    let place = Place::new();
    let started = place.start("", &json!({}));
    let refused = |started: &Started, token: &str| {
        let mut channel = Channel::dial(started);
        channel.token(token);
        let reason = channel.wait_for_close();
        channel.wait_for_loss();
        reason
    };
    let wrong = "the token is wrong, or was used before";
    assert_eq!(refused(&started, "x"), wrong);
    assert_eq!(refused(&started, &started.token[1..]), wrong);
    // A wrong guess does not invalidate the right token.
    let mut channel = Channel::open(&started);
    assert_eq!(refused(&started, &started.token), wrong);
    let other = place.start("", &json!({}));
    let crossed = Started { token: other.token.clone(), ..started.clone() };
    assert_eq!(refused(&crossed, &other.token), wrong);
    // A new token invalidates the previous one.
    let renewed = started.resume(&place.endpoint).unwrap();
    let again = started.resume(&place.endpoint).unwrap();
    assert_eq!(refused(&started, &renewed.token), wrong);
    typed(&mut channel, "echo still-$((1+1))\n");
    channel.wait_for("still-2");
    channel.resume(&again);
    typed(&mut channel, "echo again-$((1+1))\n");
    channel.wait_for("again-2");
    let unknown = Started { url: started.url.replace(&started.id, "nobody-1"), ..started };
    assert!(refused(&unknown, "x").contains("no such session"));
    place.ends();
}

fn what_is_no_token() {
    let place = Place::new();
    for first in [&b"{"[..], b"", b"\xff\xfe", &vec![b'x'; 5000], &vec![b' '; 200_000]] {
        let started = place.start("", &json!({}));
        let mut channel = Channel::dial(&started);
        channel.raw(first);
        // It is told, or cut off; the session waits for its client all the same.
        while !matches!(channel.hear(), Heard::Closed(_) | Heard::Lost) {}
        Channel::open(&started);
    }
    place.ends();
}

/// Reordered, duplicated, truncated, damaged, foreign messages: input arrives once and in order.
fn harmed_frames() {
    let place = Place::new();
    let (started, mut channel) = place.shell();
    let first = channel.next;
    let text = "echo o''ne two three four five\n";
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(4).collect();
    let frame = |n: i64, body: &[u8]| encode(&head(MessageKind::Input, n, Payload::Bytes), body);
    for (n, piece) in pieces.iter().enumerate().rev() {
        let n = first + i64::try_from(n).unwrap();
        let sound = frame(n, piece);
        let mut harmed = sound.clone();
        *harmed.last_mut().unwrap() ^= 1;
        channel.raw(&harmed);
        channel.raw(&sound[..sound.len() - 1]);
        channel.raw(&sound[..100]);
        channel.raw(&sound);
        channel.raw(&sound);
    }
    channel.raw(&encode(&head(MessageKind::Output, 0, Payload::Bytes), b"rm -rf /\n"));
    channel.raw(&encode(&head(MessageKind::ChannelClosed, 0, Payload::None), b"{}"));
    channel.raw(&encode(&head(MessageKind::Acknowledge, 0, Payload::None), b"[]"));
    for far in [-1, i64::MIN, i64::MAX, first + 100_000] {
        channel.numbered(far, Payload::Bytes, b"x");
    }
    channel.numbered(first, Payload::Other(77), b"x");
    channel.next = first + i64::try_from(pieces.len()).unwrap();
    channel.wait_for("one two three four five");
    let shown = String::from_utf8_lossy(&channel.shown).into_owned();
    assert_eq!(shown.matches("one two three four five").count(), 1, "{shown}");
    // Longer than any client sends: the socket is closed, the session continues.
    channel.raw(&frame(channel.next, &vec![b'x'; MAX_PAYLOAD + 1]));
    channel.wait_for_loss();
    channel.resume(&started.resume(&place.endpoint).unwrap());
    typed(&mut channel, "echo going-$((1+1))\n");
    channel.wait_for("going-2");
    place.ends();
}

fn a_client_that_never_acknowledges() {
    let place = Place::new();
    let (_, mut channel) = place.shell();
    let before = place.memory();
    channel.acknowledges = false;
    typed(
        &mut channel,
        "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done\n",
    );
    // As much as may be in flight, in bytes or in messages, and then the same again and again.
    let mut others = Place::shell(&place).1;
    while channel.shown.len() < 900 << 10 && channel.expected < 500 {
        channel.listen();
    }
    let seen = channel.expected;
    for n in 0..20 {
        typed(&mut others, &format!("echo other-$(({n}+1000))\n"));
        others.wait_for(&format!("other-{}", n + 1000));
    }
    let after = place.memory();
    assert!(after < before + 40, "{before} MiB, then {after}");
    // Then it does, and everything continues.
    channel.acknowledges = true;
    (0..seen).for_each(|n| channel.acknowledge(n));
    let shown = channel.shown.len();
    while channel.shown.len() < shown + 4096 {
        channel.listen();
    }
    place.ends();
}

fn a_client_that_never_reads() {
    let place = Place::new();
    let (_, mut channel) = place.shell();
    let before = place.memory();
    typed(
        &mut channel,
        "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done\n",
    );
    let (_, mut other) = place.shell();
    for n in 0..50 {
        typed(&mut other, &format!("echo other-$(({n}+1000))\n"));
        other.wait_for(&format!("other-{}", n + 1000));
    }
    let after = place.memory();
    assert!(after < before + 40, "{before} MiB, then {after}");
    while channel.shown.len() < 2 << 20 {
        channel.listen();
    }
    place.ends();
}

/// Sockets break in the middle of everything; not a byte is lost, duplicated, or out of order.
fn another_socket_under_output() {
    let place = Place::new();
    let (started, mut channel) = place.shell();
    typed(&mut channel, "echo $$ > pid; seq 1 30000; echo that-was-$((1+1))\n");
    for round in 1..=8 {
        while channel.shown.len() < round * 15_000 {
            channel.listen();
        }
        // The last acknowledgements are lost with it.
        channel.stream().shutdown(Shutdown::Both).unwrap();
        channel.resume(&started.resume(&place.endpoint).unwrap());
    }
    channel.wait_for("that-was-2");
    let shown = String::from_utf8_lossy(&channel.shown).replace('\r', "");
    let numbers: Vec<u32> = shown.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(numbers, (1..=30_000).collect::<Vec<_>>());
    let active = json!({"State": "Active"});
    let (_, sessions) = place.endpoint.call("AmazonSSM.DescribeSessions", &active);
    assert_eq!(sessions["Sessions"][0]["Status"], "Connected");
    channel.stream().shutdown(Shutdown::Both).unwrap();
    until("it is known to be gone", || {
        let (_, sessions) = place.endpoint.call("AmazonSSM.DescribeSessions", &active);
        sessions["Sessions"][0]["Status"] == "Disconnected"
    });
    // If it ends while no client is connected, a returning client is told.
    place.bed.runner(["exec", "--", "sh", "-c", "kill -9 $(cat /tmp/pid)"]).code(0);
    channel.resume(&started.resume(&place.endpoint).unwrap());
    assert_eq!(channel.wait_for_close(), "");
    place.ends();
}

fn the_newest_client_counts() {
    let place = Place::new();
    let (started, mut first) = place.shell();
    let mut second = Channel::with_token(&started.resume(&place.endpoint).unwrap());
    second.next = first.next;
    second.expected = first.expected;
    first.wait_for_loss();
    typed(&mut second, "echo second-$((1+1))\n");
    second.wait_for("second-2");
    place.ends();
}

fn two_hundred_sessions() {
    let place = Place::new();
    let mut channels = Vec::new();
    while channels.len() < 200 {
        channels.push(place.shell().1);
        // That may take longer than a client may be silent.
        channels.iter_mut().for_each(Channel::attend);
    }
    for (n, channel) in channels.iter_mut().enumerate() {
        typed(channel, &format!("echo number-$(({n}+1000))\n"));
    }
    for (n, channel) in channels.iter_mut().enumerate() {
        channel.wait_for(&format!("number-{}", n + 1000));
        typed(channel, "exit\n");
    }
    channels.iter_mut().for_each(|channel| assert_eq!(channel.wait_for_close(), ""));
    let state = place.bed.runner(["ps", "--format", "json"]).code(0).stdout;
    assert!(state.contains("\"sessions\": 0"), "{state}");
    place.ends();
}

fn idle_sessions() {
    let place = Place::with(&["--session-idle-timeout", "1s"]);
    let started = place.start("", &json!({}));
    let mut channel = Channel::open(&started);
    channel.input(Payload::Size, br#"{"cols":80,"rows":24}"#);
    // Output does not count as activity. Type at once: a shell may take longer to begin.
    typed(&mut channel, "while :; do echo x; sleep 0.1; done\n");
    assert!(channel.wait_for_close().contains("nothing happened"));
    channel.wait_for_loss();
    assert!(started.resume(&place.endpoint).is_none());
    place.ends();
}

fn the_end_of_the_build() {
    let place = Place::new();
    let (_, mut shell) = place.shell();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut ports = Channel::open(&place.port("AWS-StartPortForwardingSession", port));
    ports.input(Payload::Bytes, &open_frame(3));
    listener.accept().unwrap();
    place.bed.resume(place.build);
    for channel in [&mut shell, &mut ports] {
        assert_eq!(channel.wait_for_close(), "the build has ended: SUCCEEDED");
        channel.wait_for_loss();
    }
    place.server.signal(Signal::SIGTERM);
    place.server.ends(0);
}

fn terminated_by_the_client() {
    let place = Place::new();
    let (_, mut channel) = place.shell();
    typed(&mut channel, "sleep 1000 & echo $! > pid; echo start''ed\n");
    channel.wait_for("started");
    channel.input(Payload::Flag, &[0, 0, 0, 2]);
    assert_eq!(channel.wait_for_close(), "");
    let is_there = ["exec", "--", "sh", "-c", "kill -0 $(cat /tmp/pid)"];
    until("its programs are gone", || place.bed.runner(is_there).code != 0);
    place.ends();
}

fn outputs_of_a_command() {
    let place = Place::new();
    let script = "sh -c 'echo out; echo err >&2; printf more; exit 5'";
    let run = |parameters: Value| {
        let started = place.start("AWS-StartNonInteractiveCommand", &parameters);
        let mut channel = Channel::open(&started);
        let mut parts = Vec::new();
        loop {
            match channel.hear() {
                Heard::Output { payload, body, .. } => {
                    parts.push((payload, String::from_utf8(body).unwrap()));
                }
                Heard::Closed(reason) => return (parts, reason),
                Heard::Lost => panic!("lost"),
                Heard::Acknowledged(_) => {}
            }
        }
    };
    let of = |parts: &[(Payload, String)], wanted: Payload| -> String {
        parts.iter().filter(|part| part.0 == wanted).map(|part| part.1.as_str()).collect()
    };
    let (parts, reason) = run(json!({"command": [script]}));
    assert_eq!((of(&parts, Payload::Bytes), reason), ("out\nerr\nmore".to_owned(), String::new()));
    assert!(parts.iter().all(|part| part.0 == Payload::Bytes), "{parts:?}");
    let (parts, _) = run(json!({
        "command": [script], "separateOutputStream": ["true"],
        "stdOutSeparatorPrefix": ["O:"], "stdErrSeparatorPrefix": ["E:"],
    }));
    let output = of(&parts, Payload::Bytes);
    assert!(output == "O:out\nO:more" || output == "O:out\nmore", "{output}");
    assert_eq!(of(&parts, Payload::StdErr), "E:err\n");
    assert_eq!(parts.last().unwrap(), &(Payload::ExitCode, "EXIT_CODE: 5".to_owned()));
    let (_, reason) = run(json!({"command": ["no-such-program"]}));
    assert!(reason.contains("no-such-program"), "{reason}");
    // Clients that read exit codes get one.
    let (parts, reason) = run(json!({
        "command": ["no such program"], "separateOutputStream": ["true"],
        "stdErrSeparatorPrefix": ["E:"],
    }));
    let told = of(&parts, Payload::StdErr);
    assert!(
        told.starts_with("E:no: ") && told.ends_with(": No such file or directory\n"),
        "{told}"
    );
    assert_eq!(parts.last().unwrap(), &(Payload::ExitCode, "EXIT_CODE: 1".to_owned()));
    assert_eq!(reason, "");
    // A background child does not delay it.
    let (parts, _) = run(json!({"command": ["sh -c 'sleep 1000 & echo done'"]}));
    assert_eq!(of(&parts, Payload::Bytes), "done\n");
    // Ctrl-C is its only input.
    let script = "sh -c 'trap \"echo caught; exit 7\" INT; echo up; while :; do sleep 0.1; done'";
    let parameters = json!({"command": [script], "separateOutputStream": ["true"]});
    let started = place.start("AWS-StartNonInteractiveCommand", &parameters);
    let mut channel = Channel::open(&started);
    channel.wait_for("up");
    typed(&mut channel, "ignored\u{3}");
    channel.wait_for("caught");
    assert_eq!(channel.wait_for_close(), "");
    place.ends();
}

fn a_command_on_a_terminal() {
    let place = Place::new();
    let parameters = json!({"command": ["sh -c 'tty; read x; echo got $x; exit 4'"]});
    let mut channel = Channel::open(&place.start("AWS-StartInteractiveCommand", &parameters));
    // Its size is not sent: it gets a default one.
    channel.wait_for("/dev/pts/");
    typed(&mut channel, "input\n");
    channel.wait_for("got input");
    assert_eq!(channel.wait_for_close(), "");
    let parameters = json!({"command": ["no-such-program"]});
    let mut channel = Channel::open(&place.start("AWS-StartInteractiveCommand", &parameters));
    assert!(channel.wait_for_close().contains("no-such-program"));
    place.ends();
}

/// Its sessions end, the build does not.
fn a_dying_endpoint() {
    let place = Place::new();
    let (_, mut told) = place.shell();
    place.server.signal(Signal::SIGTERM);
    assert!(told.wait_for_close().contains("the build continues"));
    place.server.ends(0);
    let (endpoint, mut server) = Endpoint::serve(&place.bed, &["--no-auth"]);
    let started = Started::new(&place.bed, &endpoint, "", &json!({}));
    let mut channel = Channel::open(&started);
    typed(&mut channel, "echo $$ > pid; echo start''ed\n");
    channel.wait_for("started");
    server.signal(Signal::SIGKILL);
    server.wait();
    channel.wait_for_loss();
    let is_there = ["exec", "--", "sh", "-c", "kill -0 $(cat /tmp/pid)"];
    until("its shell is gone", || place.bed.runner(is_there).code != 0);
    place.bed.resume(place.build);
}

fn sessions_of_two_builds() {
    let bed = Bed::new();
    let first = bed.paused(&build(&["echo first > /tmp/who; codebuild-breakpoint"]), &[]);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let second = bed.paused(&build(&["echo second > /tmp/who; codebuild-breakpoint"]), &[]);
    let others = crate::common::list(&bed.home().join("live"));
    let other = others.iter().find(|name| **name != uuid).unwrap();
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    for (uuid, wanted) in [(&uuid, "first"), (other, "second")] {
        let started = Started::in_build(&endpoint, uuid, "", &json!({}));
        let mut channel = Channel::open(&started);
        typed(&mut channel, "cat /tmp/who\n");
        channel.wait_for(&format!("{wanted}\r\n"));
    }
    server.signal(Signal::SIGTERM);
    server.ends(0);
    bed.runner(["resume", &uuid]).code(0);
    bed.runner(["resume", other]).code(0);
    first.ends(0);
    second.ends(0);
}
