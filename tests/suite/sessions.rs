//! Sessions: as good as sitting at the build's terminal.

use crate::common::{Bed, Running, Terminal, build, cases, list, outcome, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

cases! {
    [Containers, Image("busybox")] => context_is_that_of_the_caller, a_running_build_can_be_entered,
        size_and_resize, ctrl_c_reaches_the_foreground_job_only, detaching,
        the_terminal_is_restored_when_attach_is_killed, many_sessions_at_once,
        streams_are_kept_apart, input_has_an_end, output_has_an_end, exit_codes_are_the_programs, signals_are_passed_on, large_streams,
        a_client_that_dies_takes_its_shell_along, a_paste_into_an_echoing_program,
        the_runner_is_not_in_between, all_that_is_shown_is_seen,
        one_key_opens_a_shell, idle_sessions_are_closed, what_is_shown_keeps_a_session_open, the_end_of_the_build_is_told,
        without_sessions,
        attach_needs_a_terminal, a_program_that_fails_to_start;
    [Root, Image("busybox")] => another_user_is_refused;
    [Containers, Image("debian")] => a_hostile_build_harms_only_itself;
    [Users, Image("busybox")] => users, the_terminal_is_the_containers;
}

fn attach(bed: &Bed) -> Terminal {
    let terminal = bed.terminal(bed.command(["attach"]), 24, 80);
    // The echo of the input must not match what is waited for.
    terminal.send("PS1='rea''dy> '\r");
    terminal.wait_for("ready> ");
    terminal
}

/// Variables that only the process at the breakpoint has, its directory, and TERM.
fn context_is_that_of_the_caller() {
    let bed = Bed::new();
    let running = bed.paused(
        &build(&[
            "export SAVED=1; GONE=1; unset GOPATH",
            "NOT_SAVED=2; unset GONE; cd /bin; INNER=3 sh -c 'cd /etc; codebuild-breakpoint'",
        ]),
        &[],
    );
    let shown = "echo $SAVED [$GONE] $NOT_SAVED $INNER [$GOPATH] $PWD";
    let wanted = "1 [] 2 3 [] /etc";
    assert_eq!(bed.runner(["exec", "--", "sh", "-c", shown]).code(0).stdout, format!("{wanted}\n"));
    let terminal = attach(&bed);
    terminal.send(&format!("{shown} $TERM\r"));
    terminal.wait_for(&format!("{wanted} xterm"));
    terminal.send("exit 9\r");
    terminal.ends(9);
    bed.resume(running);
}

fn a_running_build_can_be_entered() {
    let bed = Bed::new();
    let commands = ["export A=1; cd /tmp; mkfifo go", "export B=2; read x < go; echo $x"];
    let running = bed.start(&build(&commands), &[]);
    running.stdout.wait_for("Running command export B=2");
    let state = bed.runner(["ps", "--format", "json"]).code(0).stdout;
    assert!(state.contains("\"running\""), "{state}");
    // As the last finished command has left it.
    let seen = bed.runner(["exec", "--", "sh", "-c", "echo $A [$B] $PWD"]).code(0).stdout;
    assert_eq!(seen, "1 [] /tmp\n");
    bed.runner(["exec", "--", "sh", "-c", "echo hello > go"]).code(0);
    running.ends(0);
}

fn size_and_resize() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let terminal = bed.terminal(bed.command(["attach"]), 33, 77);
    // The first thing the shell could ask.
    terminal.send("stty size\r");
    terminal.wait_for("33 77");
    terminal.resize(20, 50);
    // The resize and the input take different paths: wait where they arrive.
    terminal.send("until test \"$(stty size)\" = '20 50'; do :; done; echo chan''ged\r");
    terminal.wait_for("changed");
    terminal.send("exit\r");
    terminal.ends(0);
    bed.resume(running);
}

fn ctrl_c_reaches_the_foreground_job_only() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let terminal = attach(&bed);
    terminal.send("sleep 1000 & sh -c 'echo in the fore''ground; exec cat'\r");
    terminal.wait_for("in the foreground");
    terminal.send("\u{3}");
    terminal.wait_for_after("^C", "ready> ");
    terminal.send("echo status $?; jobs\r");
    terminal.wait_for("status 130");
    terminal.wait_for_after("status 130", "Running");
    terminal.send("kill %1; exit 0\r");
    terminal.ends(0);
    // The build noticed nothing.
    let state = bed.runner(["ps", "--format", "json"]).code(0).stdout;
    assert!(state.contains("\"paused\""), "{state}");
    bed.resume(running);
}

/// The terminal belongs to the container and to its user.
fn the_terminal_is_the_containers() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let terminal = bed.terminal(bed.command(["attach", "--user", "builder"]), 24, 80);
    terminal.send("echo $(tty) $(stat -c %U-%G $(tty))\r");
    terminal.wait_for("/dev/pts/0 builder-");
    terminal.send("exec 3<>/dev/tty && echo opened-$((1+1)); exit 0\r");
    terminal.wait_for("opened-2");
    terminal.ends(0);
    bed.resume(running);
}

fn detaching() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let terminal = attach(&bed);
    assert!(!terminal.is_cooked());
    terminal.send("\r~.");
    let text = terminal.ends(0);
    assert!(text.contains("detached; the build continues"), "{text}");
    bed.resume(running);
}

fn the_terminal_is_restored_when_attach_is_killed() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let mut terminal = attach(&bed);
        assert!(!terminal.is_cooked());
        kill(Pid::from_raw(i32::try_from(terminal.pid()).unwrap()), signal).unwrap();
        assert_eq!(terminal.wait(), code);
        assert!(terminal.is_cooked(), "{signal}");
    }
    bed.resume(running);
}

fn many_sessions_at_once() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let sessions: Vec<Terminal> = (0..12).map(|_| attach(&bed)).collect();
    let state = bed.runner(["ps", "--format", "json"]).code(0).stdout;
    let rows: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(rows[0]["sessions"], 12);
    for (number, session) in sessions.iter().enumerate() {
        session.send(&format!("exit {}\r", number + 10));
    }
    for (number, session) in sessions.into_iter().enumerate() {
        session.ends(i32::try_from(number).unwrap() + 10);
    }
    bed.resume(running);
}

fn streams_are_kept_apart() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let outcome = bed.runner(["exec", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]).code(3);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    // A background child that holds the pipe does not delay the client.
    let outcome = bed.runner(["exec", "--", "sh", "-c", "sleep 1000 & echo done"]).code(0);
    assert_eq!(outcome.stdout, "done\n");
    // A reader that closes ends the program, as in a pipe.
    let line = format!("{} exec -- yes | head -n 2", crate::common::runner().display());
    let output = bed.other("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(output.stdout, b"y\ny\n");
    bed.resume(running);
}

fn input_has_an_end() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    assert_eq!(bed.runner(["exec", "--", "cat"]).code(0).stdout, "");
    let mut command = bed.command(["exec", "--", "wc", "-c"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![7; 3_000_000]).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"3000000\n");
    // A program that does not read does not block the client.
    let mut command = bed.command(["exec", "--", "true"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let _stdin = child.stdin.take().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    bed.resume(running);
}

/// A program that has closed its output and continues: the reader sees the end at once.
fn output_has_an_end() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["mkfifo /tmp/go; codebuild-breakpoint"]), &[]);
    let script = "echo all; exec >&-; cat /tmp/go >&2; exit 4";
    let mut command = bed.command(["exec", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "all\n");
    assert_eq!(child.try_wait().unwrap(), None);
    bed.runner(["exec", "--", "sh", "-c", "echo late > /tmp/go"]).code(0);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(4), &b"late\n"[..]));
    bed.resume(running);
}

fn exit_codes_are_the_programs() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    for code in [0, 1, 2, 3, 125, 126, 127, 128, 130, 255] {
        bed.runner(["exec", "--", "sh", "-c", &format!("exit {code}")]).code(code);
    }
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        bed.runner(["exec", "--", "sh", "-c", &format!("kill -{signal} $$")]).code(code);
    }
    bed.runner(["exec", "--", "nosuch"]).code(127);
    bed.runner(["exec", "--", "/etc/passwd"]).code(126);
    bed.resume(running);
}

fn signals_are_passed_on() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let script = "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let exec = Running::spawn(bed.command(["exec", "--", "sh", "-c", script]));
    exec.stdout.wait_for("ready");
    exec.signal(Signal::SIGTERM);
    exec.stdout.wait_for("told");
    exec.ends(5);
    bed.resume(running);
}

fn large_streams() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let mut command = bed.command(["exec", "--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent: Vec<u8> = (0..8_000_000_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.stdout == sent, "{} bytes", output.stdout.len());
    bed.resume(running);
}

fn a_client_that_dies_takes_its_shell_along() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let mut terminal = attach(&bed);
    terminal.send("trap '' HUP; sleep 1000 & echo started-$((1+1))\r");
    terminal.wait_for("started-2");
    kill(Pid::from_raw(i32::try_from(terminal.pid()).unwrap()), Signal::SIGKILL).unwrap();
    assert_eq!(terminal.wait(), 137);
    // Its whole session ends, including what ignores SIGHUP, and nothing else.
    let gone = "while pidof sleep > /dev/null; do usleep 10000; done; pidof codebuild-breakpoint > \
                /dev/null && echo still paused";
    assert_eq!(bed.runner(["exec", "--", "sh", "-c", gone]).code(0).stdout, "still paused\n");
    bed.resume(running);
}

fn users() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let id = |user: &str| bed.runner(["exec", "--user", user, "--", "id", "-u"]);
    assert_eq!(id("builder").code(0).stdout, "1000\n");
    assert_eq!(id("1000").code(0).stdout, "1000\n");
    assert_eq!(id("0").code(0).stdout, "0\n");
    id("nosuch").code(125).says("no user `nosuch`");
    bed.resume(running);
}

/// More input than all buffers on the way hold, into a program that sends it all back. With a
/// transcript the runner is in between.
fn a_paste_into_an_echoing_program() {
    let bed = Bed::new();
    let log = bed.path("sessions");
    for recorded in [&[][..], &["--session-log", log.to_str().unwrap()]] {
        paste(&bed, bed.paused(&build(&["codebuild-breakpoint"]), recorded));
    }
}

fn paste(bed: &Bed, running: Running) {
    let terminal = attach(bed);
    let program = "dd bs=1 count=100000 2>/dev/null | md5sum; stty sane";
    terminal.send(&format!("stty -echo -icanon; echo to''ld; {program}\r"));
    // Before that the terminal is in line mode, with at most 4096 bytes per line.
    terminal.wait_for("told");
    let paste = "0123456789".repeat(10_000);
    terminal.send(&paste);
    terminal.wait_for("13572e9e296cff52b79c52148313c3a5");
    terminal.send("exit\r");
    terminal.ends(0);
    bed.resume(running);
}

/// Neither a busy runner nor a stopped one blocks a shell.
fn the_runner_is_not_in_between() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let terminal = attach(&bed);
    let runner = Pid::from_raw(running.pid().cast_signed());
    kill(runner, Signal::SIGSTOP).unwrap();
    terminal.send("echo answer-$((6*7))\r");
    terminal.wait_for("answer-42");
    kill(runner, Signal::SIGCONT).unwrap();
    terminal.send("exit\r");
    terminal.ends(0);
    bed.resume(running);
}

/// Up to the last byte before the end; a background process that still has the terminal delays
/// nobody.
fn all_that_is_shown_is_seen() {
    let bed = Bed::new();
    let log = bed.path("sessions");
    let numbers: String = (1..=60_000).map(|n| format!("{n}\r\n")).collect();
    for recorded in [&[][..], &["--session-log", log.to_str().unwrap()]] {
        let running = bed.paused(&build(&["codebuild-breakpoint"]), recorded);
        let terminal = attach(&bed);
        terminal.send("trap '' HUP; sleep 1000 & exec seq 1 60000\r");
        let text = terminal.ends(0);
        assert!(text.contains(&numbers), "{} bytes", text.len());
        let terminal = attach(&bed);
        terminal.send("trap '' HUP; yes & exit 3\r");
        terminal.ends(3);
        bed.resume(running);
    }
    let texts = list(&log).into_iter().map(|name| fs::read_to_string(log.join(name)).unwrap());
    assert!(texts.into_iter().any(|text| text.contains(&numbers)));
}

fn one_key_opens_a_shell() {
    let bed = Bed::new();
    let commands = ["export HERE=yes; cd /tmp; codebuild-breakpoint", "echo the end"];
    let terminal =
        bed.terminal(bed.build_command(&build(&commands), &["--enable-session"]), 30, 100);
    terminal.wait_for("q stop");
    terminal.send("s");
    terminal.send("echo in-$HERE-$PWD; stty size\r");
    terminal.wait_for("in-yes-/tmp");
    terminal.wait_for("30 100");
    terminal.send("exit\r");
    terminal.wait_for_after("exit\r", "q stop");
    terminal.send("s");
    terminal.send("codebuild-resume\r");
    let text = terminal.ends(0);
    assert!(text.contains("the end"), "{text}");
}

fn idle_sessions_are_closed() {
    let bed = Bed::new();
    let running =
        bed.paused(&build(&["codebuild-breakpoint"]), &["--session-idle-timeout", "300ms"]);
    let terminal = bed.terminal(bed.command(["attach"]), 24, 80);
    let text = terminal.ends(0);
    assert!(text.contains("nothing happened for 300 milliseconds"), "{text}");
    bed.resume(running);
}

/// Longer than its idle timeout, because there is output all the time; then it is closed all the
/// same.
fn what_is_shown_keeps_a_session_open() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &["--session-idle-timeout", "4s"]);
    let terminal = attach(&bed);
    terminal.send("for n in $(seq 50); do sleep 0.1; echo tick-$n; done; echo o''ver\r");
    terminal.wait_for("over");
    let text = terminal.ends(0);
    assert!(text.contains("nothing happened for 4 seconds"), "{text}");
    bed.resume(running);
}

fn the_end_of_the_build_is_told() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint", "false"]), &[]);
    let terminal = attach(&bed);
    let exec = Running::spawn(bed.command(["exec", "--", "sleep", "1000"]));
    until("both are there", || {
        bed.runner(["ps", "--format", "json"]).code(0).stdout.contains("\"sessions\": 2")
    });
    bed.runner(["resume"]).code(0);
    let text = terminal.ends(0);
    assert!(text.contains("the build has ended: FAILED"), "{text}");
    exec.stderr.wait_for("the build has ended");
    exec.ends(0);
    running.ends(1);
}

fn another_user_is_refused() {
    use std::os::unix::process::CommandExt;
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let mut command = bed.other(bed.open_to_others().to_str().unwrap());
    command.args(["exec", "--", "id"]).uid(65534).gid(65534);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(text.contains("it belongs to user root"), "{text}");
    // Another user's state folder gives no access either, and the socket checks by itself: it is
    // copied into one of their own.
    let (live, own) = (bed.live(), bed.path("nobody"));
    let build = own.join("builds").join(live.file_name().unwrap());
    fs::create_dir_all(&build).unwrap();
    for dir in ["live", "counters", "images"] {
        fs::create_dir(own.join(dir)).unwrap();
    }
    fs::write(own.join("live").join(live.file_name().unwrap()), "").unwrap();
    fs::copy(live.join("meta.json"), build.join("meta.json")).unwrap();
    let lock = fs::File::create(build.join("lock")).unwrap();
    lock.lock().unwrap();
    std::os::unix::fs::symlink(live.join("control.sock"), build.join("control.sock")).unwrap();
    outcome(std::process::Command::new("chown").args(["-hR", "65534:65534"]).arg(&own)).code(0);
    for dir in [&live, live.parent().unwrap(), &bed.home()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
    }
    fs::set_permissions(live.join("control.sock"), fs::Permissions::from_mode(0o666)).unwrap();
    let output = command.env("RUNNER_HOME", &own).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(text.contains("this build belongs to another user"), "{text}");
    bed.resume(running);
}

/// Garbage, partial messages, silence and floods on the shim socket; then a breakpoint works as
/// usual.
fn a_hostile_build_harms_only_itself() {
    let bed = Bed::with_image(&format!("rootfs:{}", crate::common::image("debian").display()));
    bed.write(
        "hostile.pl",
        r#"
        use IO::Socket::UNIX;
        sub talk {
            my ($bytes) = @_;
            my $s = IO::Socket::UNIX->new("/codebuild/readonly/shim.sock") or die "no socket: $!";
            $SIG{PIPE} = 'IGNORE';
            syswrite($s, $bytes);
            return $s;
        }
        sub reply { my ($s) = @_; shutdown($s, 1); my $got = ""; sysread($s, $got, 9); return unpack("H*", $got); }
        srand(1);
        reply(talk(join("", map { chr(int(rand(256))) } 1 .. 5000))) for 1 .. 50;
        print "huge: [", reply(talk(pack("VV", 0xffffffff, 1))), "]
";
        print "kind: [", reply(talk(pack("VV", 0, 77))), "]
";
        print "half: [", reply(talk(pack("VV", 100, 1) . "x" x 20)), "]
";
        print "resume: [", reply(talk(pack("VV", 0, 2))), "]
";
        # As many silent connections as are taken, and then some.
        my @silent = map { talk("") } 1 .. 300;
        my $full = talk(pack("VV", 0, 2));
        print "full: [", reply($full), "]
";
        close($_) for @silent;
        print unlink("/codebuild/readonly/shim.sock") ? "removed
" : "kept
";
        "#,
    );
    let running = bed.paused(
        &build(&[
            "perl hostile.pl",
            "for i in $(seq 50); do codebuild-resume 2>&1; done | sort -u",
            "codebuild-breakpoint",
        ]),
        &[],
    );
    running.stdout.wait_for("huge: []\nkind: []\nhalf: []\nresume: [01]\nfull: [02]\nkept\n");
    running.stdout.wait_for("\ncodebuild-resume: nothing is paused\n\n");
    bed.resume(running);
}

/// Without --enable-session both commands do nothing, and there is no socket.
fn without_sessions() {
    let outcome = Bed::new()
        .build(
            &build(&[
                "codebuild-breakpoint; echo $?; codebuild-resume; echo $?; ls /codebuild/readonly",
            ]),
            &[],
        )
        .code(0);
    assert_eq!(outcome.output(), "0\n0\nbin\n");
}

fn attach_needs_a_terminal() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    bed.runner(["attach"]).code(125).says("needs a terminal");
    bed.resume(running);
}

fn a_program_that_fails_to_start() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    bed.runner(["exec", "--", "/nosuch"]).code(127).says("/nosuch: cannot execute the program");
    bed.runner(["exec", "nosuch", "--", "id"]).code(125).says("live builds: demo:");
    bed.resume(running);
}
