//! `--network`: what a build can reach.

use crate::common::machine::{self, ADDRESS, GATEWAY, OUTSIDE};
use crate::common::{Bed, Outcome, Running, build, cases, has_tun, is_root, outcome, until};
use nix::sys::signal::Signal;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

cases! {
    [Containers, Image("busybox")] => nothing_but_its_own_loopback, its_own_abstract_sockets,
        sessions_work_without_a_network, without_pasta, without_a_device;
    [Containers, Image("busybox"), Pasta] => no_loopback_and_nothing_inbound, credentials_are_reached,
        pasta_ends_with_the_runner, pasta_ends_by_itself;
    [Root, Image("busybox"), Program("pasta"), Program("ip")] => the_outside_and_nothing_else,
        a_resolver_on_loopback, without_a_way_out;
    [Root, Image("busybox"), Program("pasta"), Program("ip"), Program("setpriv")] =>
        the_outside_for_users;
    [] => what_does_not_go_together;
}

const NONE: [&str; 2] = ["--network", "none"];

/// The port of a service on this machine's loopback that closes each connection at once.
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
        // Sends raw packets, which are allowed in its own network.
        "ping -c 1 -w 5 127.0.0.1 > /dev/null && echo pong".to_owned(),
    ];
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let output = bed.build(&build(&commands), &NONE).code(0).output();
    assert_eq!(output, "lo\nlo\n1\nrefused\npong\n");
    // The same on the host's network, to prove that the checks above are meaningful.
    let reach = format!("nc -w 5 127.0.0.1 {port} < /dev/null && echo reached");
    assert_eq!(Bed::new().build(&build(&[&reach]), &[]).code(0).output(), "reached\n");
}

/// The kernel lists the host's abstract sockets in one table per network.
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

const PASTA: [&str; 2] = ["--network", "pasta"];

/// Whether a process with this argument exists.
fn runs(argument: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(argument)
    })
}

/// A string in the arguments of this build's pasta only.
fn mark(bed: &Bed) -> String {
    bed.only().join("network").display().to_string()
}

fn no_loopback_and_nothing_inbound() {
    let bed = Bed::new();
    let port = service();
    let commands = [
        format!("nc -w 2 127.0.0.1 {port} < /dev/null 2> /dev/null || echo not there"),
        "nc -l -p 7010 & ls /sys/class/net | grep -c .; codebuild-breakpoint".to_owned(),
        "grep Seccomp: /proc/self/status".to_owned(),
    ];
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let mut running = bed.paused(&build(&commands), &PASTA);
    // It listens (0A) at that port in its whole network before anyone connects, from inside or
    // outside.
    let listens = "until grep -qs ':1B62 [0-9A-F:]* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done";
    bed.runner(["exec", "--", "sh", "-c", listens]).code(0);
    std::net::TcpStream::connect(("127.0.0.1", 7010)).unwrap_err();
    let inside = bed.runner(["exec", "--", "nc", "-w", "60", "127.0.0.1", "7010"]).code(0);
    assert_eq!(inside.stdout, "");
    assert!(runs(&mark(&bed)));
    bed.runner(["resume"]).code(0);
    assert_eq!(running.wait(), 0);
    let shown = running.stdout.text();
    assert!(shown.contains("not there\n") && shown.contains("\n2\n"), "{shown}");
    assert!(shown.contains("Seccomp:\t2\n"), "{shown}");
    assert!(!runs(&mark(&bed)));
}

/// On the test's own machine. Nobody is at its gateway's address, so if anything answers there, it
/// is the machine itself.
fn the_outside_and_nothing_else() {
    machine::run(|| reaches_the_outside(&Bed::new(), outcome));
}

fn reaches_the_outside(bed: &Bed, run: fn(&mut Command) -> Outcome) {
    let outside = machine::service(OUTSIDE, "outside\n");
    let local = machine::service(Ipv4Addr::LOCALHOST, "loopback\n");
    let own = machine::service(ADDRESS, "own\n");
    let nobody = |address: Ipv4Addr, port: u16| {
        format!(
            "(timeout 3 nc -w 2 {address} {port} < /dev/null | grep .) 2> /dev/null || echo nobody"
        )
    };
    let commands = [
        first_word(&OUTSIDE.to_string(), outside),
        nobody(Ipv4Addr::LOCALHOST, local),
        nobody(GATEWAY, local),
        nobody(ADDRESS, own),
    ];
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let outcome = run(&mut bed.build_command(&build(&commands), &PASTA)).code(0);
    assert_eq!(outcome.output(), "outside\nnobody\nnobody\nnobody\n", "{outcome:?}");
}

/// A command that writes the first line of a service as soon as it arrives. It does not wait for
/// the connection's end: pasta of Debian 12 may lose or repeat the end of a connection that is
/// closed at once.
fn first_word(name: &str, port: u16) -> String {
    format!(
        "mkfifo /tmp/said; nc {name} {port} < /dev/null > /tmp/said 2> /dev/null & head -n 1 /tmp/said; \
         kill $! 2> /dev/null; rm /tmp/said"
    )
}

/// The same for a user without rights and without subordinate ids.
fn the_outside_for_users() {
    machine::run(|| {
        const NOBODY: u32 = 65534;
        let bed = Bed::new();
        let program = bed.open_to_others();
        for path in ["source", "home"] {
            std::os::unix::fs::chown(bed.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fs::create_dir(bed.home()).unwrap();
        std::os::unix::fs::chown(bed.home(), Some(NOBODY), Some(NOBODY)).unwrap();
        let tar = bed.path("busybox.tar");
        fs::copy(crate::common::image("busybox").with_extension("tar"), &tar).unwrap();
        let device = bed.path("tun");
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        let number = nix::sys::stat::makedev(10, 200);
        nix::sys::stat::mknod(&device, nix::sys::stat::SFlag::S_IFCHR, mode, number).unwrap();
        fs::set_permissions(&device, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        machine::replace("/dev/net/tun", &device);
        reaches_the_outside(&bed, |command| {
            let bed = command.get_current_dir().unwrap().parent().unwrap().to_path_buf();
            let image = format!("rootfs:{}", bed.join("busybox.tar").display());
            let mut as_user = Command::new("setpriv");
            as_user
                .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
                .arg(bed.join("runner"))
                .args(["run", "--image", &image])
                .args(PASTA)
                .current_dir(bed.join("source"))
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("HOME", bed.join("home"))
                .env("RUNNER_HOME", bed.join("state"));
            outcome(&mut as_user)
        });
        drop(program);
    });
}

/// As with systemd-resolved. The build asks pasta, and pasta asks the resolver.
fn a_resolver_on_loopback() {
    machine::run(|| {
        let bed = Bed::new();
        let conf = bed.path("resolv.conf");
        fs::write(&conf, "nameserver 127.0.0.53\noptions edns0\n").unwrap();
        machine::replace("/etc/resolv.conf", &conf);
        machine::resolver(Ipv4Addr::new(127, 0, 0, 53));
        let port = machine::service(OUTSIDE, "found\n");
        let commands = ["cat /etc/resolv.conf", &first_word("somewhere.example", port)];
        let output = bed.build(&build(&commands), &PASTA).code(0).output();
        assert_eq!(output, "options edns0\nnameserver 169.254.1.1\nfound\n");
    });
}

/// pasta has nothing to copy; reported before anything runs, and no weaker network is used instead.
fn without_a_way_out() {
    machine::run(|| {
        let status = Command::new("ip").args(["route", "del", "default"]).status().unwrap();
        assert!(status.success());
        let bed = Bed::new();
        let outcome = bed.build(&build(&["echo never"]), &PASTA).code(3);
        assert_eq!(outcome.output(), "");
        outcome
            .says("--network pasta: pasta: ")
            .says("hint: pasta copies the host's default route");
    });
}

/// The only thing on this machine's loopback that a build can reach.
fn credentials_are_reached() {
    let bed = Bed::new();
    let port = service();
    let ask = r#"printf 'GET /v2/credentials HTTP/1.0\nAuthorization: %s\n\n' $AWS_CONTAINER_AUTHORIZATION_TOKEN | nc -w 60 $(echo $AWS_CONTAINER_CREDENTIALS_FULL_URI | cut -d/ -f3 | tr : ' ') | grep -o AccessKeyId"#;
    let other = format!("nc -w 2 127.0.0.1 {port} < /dev/null 2> /dev/null || echo not there");
    let options = ["--network", "pasta", "--aws-profile", "env"];
    let mut command = bed.build_command(&build(&[ask, &other]), &options);
    command.env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "example-secret");
    let outcome = outcome(&mut command).code(0);
    assert_eq!(outcome.output(), "AccessKeyId\nnot there\n");
}

fn pasta_ends_with_the_runner() {
    let bed = Bed::new();
    let mut running: Running = bed.paused(&build(&["codebuild-breakpoint"]), &PASTA);
    let mark = mark(&bed);
    assert!(runs(&mark));
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait(), 137);
    until("pasta is gone", || !runs(&mark));
    bed.runner(["ps"]).code(0).says("left by a runner that was killed");
}

/// A build's user is told once that its network is gone.
fn pasta_ends_by_itself() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &PASTA);
    let mark = mark(&bed);
    let pasta = fs::read_dir("/proc").unwrap().flatten().find(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        command.contains(&mark) && !command.contains("__chore")
    });
    let pid: i32 = pasta.unwrap().file_name().to_str().unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    running.stderr.wait_for("warning: pasta has ended; the build no longer has a network");
    bed.resume(running);
}

/// No weaker network is used instead.
fn without_pasta() {
    let bed = Bed::new();
    let mut command = bed.build_command(&build(&["echo never"]), &PASTA);
    let outcome = outcome(command.env("PATH", bed.path("home"))).code(3);
    assert_eq!(outcome.output(), "");
    outcome.says("there is no program `pasta`").says("hint: it is in the package passt");
}

fn without_a_device() {
    let refused = || {
        let bed = Bed::new();
        let bin = bed.path("bin");
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("pasta"), "").unwrap();
        let mut command = bed.build_command(&build(&["echo never"]), &PASTA);
        outcome(command.env("PATH", bin)).code(3)
    };
    if is_root() {
        machine::run(|| {
            let bed = Bed::new();
            let nothing = bed.path("nothing");
            fs::create_dir(&nothing).unwrap();
            machine::replace("/dev/net", &nothing);
            let outcome = bed.build(&build(&["echo never"]), &PASTA).code(3);
            outcome.says("cannot open /dev/net/tun").says("sudo modprobe tun");
        });
    } else if !has_tun() {
        refused().says("this user may not open /dev/net/tun").says("sudo chmod 666 /dev/net/tun");
    }
}
