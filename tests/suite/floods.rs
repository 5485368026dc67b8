//! Floods of connections, by other users and by this one: no build loses its descriptors, and the
//! owner can always connect.

use crate::common::channel::{Channel, Started};
use crate::common::endpoint::Endpoint;
use crate::common::gateway::{Place, typed};
use crate::common::{Bed, Running, build, cases, list, runner, until};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

cases! {
    [Containers, Image("busybox"), Program("prlimit"), Program("bash"), Program("setpriv"), Root] =>
        connections_of_another_user, connections_of_another_user_for_credentials;
    [Containers, Image("busybox"), Program("prlimit")] =>
        connections_of_our_own, connections_for_credentials, limits_are_the_callers_own;
    [Program("prlimit")] => limits_without_a_container;
    [Containers, Image("busybox")] => upgrades_to_nowhere, upgrades_of_one_session;
}

/// The default limit of a process.
const LIMIT: &str = "1024:1024";
/// More than that limit leaves, but few enough to be connected: the kernel queues what is not
/// accepted.
const FLOOD: usize = 1010;
/// A build that waits for a file, and then needs pipes, files and processes.
const COMMANDS: [&str; 5] = [
    "codebuild-breakpoint",
    "read word < /signal/go",
    "echo $word one | cat",
    "for i in 1 2 3; do (echo $i > /tmp/$i) & done; wait; echo d''one",
    "read word < /signal/go",
];

/// A paused build whose runner has this limit on descriptors.
fn limited(bed: &Bed, limit: &str, options: &[&str]) -> Running {
    fs::create_dir(bed.path("signal")).unwrap();
    let fifo = bed.path("signal/go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    let mount = format!("{}:/signal", bed.path("signal").display());
    let options = [&["--enable-session", "--mount", &mount], options].concat();
    let command = bed.build_command(&build(&COMMANDS), &options);
    let mut limited = bed.other("prlimit");
    limited.arg(format!("--nofile={limit}")).arg(command.get_program()).args(command.get_args());
    // For the credentials' endpoint.
    limited
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "x".repeat(40));
    let running = Running::spawn(limited);
    running.stderr.wait_for("is paused at a breakpoint");
    running.stderr.wait_for("stop ");
    running
}

/// Resumes it, until it waits for the file.
fn waits(bed: &Bed, running: &Running) {
    bed.runner(["resume"]).code(0);
    running.stdout.wait_for("Running command read word");
}

/// It does its work, so it is alive.
fn works(bed: &Bed, running: &Running) {
    fs::write(bed.path("signal/go"), "go\n").unwrap();
    running.stdout.wait_for("done\n");
}

/// It succeeds and leaves nothing behind.
fn ends(bed: &Bed, running: Running) {
    fs::write(bed.path("signal/go"), "go\n").unwrap();
    running.ends(0);
    assert!(!list(&bed.only()).contains(&"layer".to_owned()));
}

/// Waits until the runner has accepted all connections, or as many as it can; these then use most
/// of its descriptors.
fn has_taken_them(running: &Running, address: &str) {
    let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let listens = format!("0100007F:{port:04X} 00000000:0000 0A ");
    let open = || list(Path::new(&format!("/proc/{}/fd", running.pid()))).len();
    until("all connections are accepted", || {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let line = table.lines().find_map(|line| line.split_once(&listens)).unwrap().1;
        // For a listening socket, the number of connections waiting to be accepted.
        line.split([':', ' ']).nth(1) == Some("00000000") || open() >= 1000
    });
    assert!(open() < 600, "{}", open());
}

/// Another user with many open connections.
struct Stranger(std::process::Child);

impl Stranger {
    fn floods(address: &str) -> Self {
        let (host, port) = address.split_once(':').unwrap();
        let script = format!(
            "n=0; while ((n++ < {FLOOD})); do exec {{fd}}<>/dev/tcp/{host}/{port} || exit; done; echo held; \
             read -r end; exit 0"
        );
        let mut command = Command::new("setpriv");
        command.args(["--reuid=54321", "--regid=54321", "--clear-groups", "bash", "-c", &script]);
        command.current_dir("/");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"held\n");
        Stranger(child)
    }

    fn goes(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

fn flood(address: &str) -> Vec<TcpStream> {
    (0..FLOOD).map(|_| TcpStream::connect(address).unwrap()).collect()
}

/// The URL of the build's credentials.
fn credentials(bed: &Bed) -> String {
    let script = "echo $AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let url = bed.runner(["exec", "--", "sh", "-c", script]).code(0).stdout;
    url.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned()
}

/// The owner gets an answer.
fn answers(endpoint: &Endpoint) {
    let list = ("X-Amz-Target", "CodeBuild_20161006.ListBuilds");
    let (status, text) = endpoint.post(&[list], "{}");
    assert!(status == 400 && text.contains("not signed"), "{status} {text}");
}

fn connections_of_another_user() {
    let bed = Bed::new();
    let running = limited(&bed, LIMIT, &[]);
    let endpoint = Endpoint::of_notice(&running);
    waits(&bed, &running);
    let stranger = Stranger::floods(&endpoint.address);
    has_taken_them(&running, &endpoint.address);
    works(&bed, &running);
    answers(&endpoint);
    ends(&bed, running);
    stranger.goes();
}

fn connections_of_another_user_for_credentials() {
    let bed = Bed::new();
    let running = limited(&bed, LIMIT, &["--aws-profile", "env"]);
    let address = credentials(&bed);
    waits(&bed, &running);
    let stranger = Stranger::floods(&address);
    has_taken_them(&running, &address);
    works(&bed, &running);
    bed.runner(["exec", "--", "true"]).code(0);
    ends(&bed, running);
    stranger.goes();
}

/// A build on the host's network looks like its owner.
fn connections_of_our_own() {
    let bed = Bed::new();
    let running = limited(&bed, LIMIT, &[]);
    let endpoint = Endpoint::of_notice(&running);
    waits(&bed, &running);
    let held = flood(&endpoint.address);
    has_taken_them(&running, &endpoint.address);
    works(&bed, &running);
    answers(&endpoint);
    ends(&bed, running);
    drop(held);
}

fn connections_for_credentials() {
    let bed = Bed::new();
    let running = limited(&bed, LIMIT, &["--aws-profile", "env"]);
    let address = credentials(&bed);
    waits(&bed, &running);
    let held = flood(&address);
    has_taken_them(&running, &address);
    works(&bed, &running);
    let mut asks = TcpStream::connect(&address).unwrap();
    asks.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    asks.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    ends(&bed, running);
    drop(held);
}

/// The runner raises its own limit to the maximum; a build gets the limit of the runner's caller.
fn limits_are_the_callers_own() {
    let bed = Bed::new();
    let running = limited(&bed, "512:4096", &[]);
    assert_eq!(limit_of(running.pid()), ["4096", "4096"]);
    let inside = bed.runner(["exec", "--", "sh", "-c", "ulimit -Sn; ulimit -Hn"]).code(0);
    assert_eq!(inside.stdout, "512\n4096\n");
    waits(&bed, &running);
    works(&bed, &running);
    ends(&bed, running);
    let spec = bed.write("limits.yml", build(&["ulimit -Sn; ulimit -Hn"]));
    let (image, program) =
        (format!("rootfs:{}", crate::common::image("busybox").display()), runner());
    let mut command = bed.other("prlimit");
    command.arg("--nofile=512:4096").arg(program).args(["run", "--image", &image]).arg(spec);
    assert_eq!(crate::common::outcome(&mut command).code(0).output(), "512\n4096\n");
}

fn limits_without_a_container() {
    let bed = Bed::host();
    let spec = bed.write("limits.yml", build(&["ulimit -Sn; ulimit -Hn"]));
    let mut command = bed.other("prlimit");
    command.arg("--nofile=512:4096").arg(runner()).args(["run", "--engine", "process"]).arg(spec);
    assert_eq!(crate::common::outcome(&mut command).code(0).output(), "512\n4096\n");
}

/// Soft and hard limit.
fn limit_of(pid: u32) -> [String; 2] {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    [words.next().unwrap(), words.next().unwrap()]
}

/// Requests a session's channel, and then sends nothing.
fn ask(endpoint: &Endpoint, session: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&endpoint.address).unwrap();
    let request = format!(
        "GET /v1/data-channel/{session} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: \
         Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        endpoint.address
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// All are accepted, since a client refused by HTTP hangs.
fn are_let_in(asking: &mut [TcpStream]) {
    for stream in asking {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer[9..], b"101");
    }
}

fn is_a_shell(place: &Place, started: &Started) {
    let mut channel = Channel::open(started);
    typed(&mut channel, "echo a-$((1+1))\n");
    channel.wait_for("a-2");
    let _ = place;
}

/// Channels of nonexistent sessions: they block nobody, and the oldest is closed first.
fn upgrades_to_nowhere() {
    let place = Place::new();
    let mut asking: Vec<TcpStream> =
        (0..400).map(|n| ask(&place.endpoint, &format!("nobody-{n}"))).collect();
    are_let_in(&mut asking);
    is_a_shell(&place, &place.start("", &json!({})));
    // The first were closed long before their ten seconds were over.
    let mut first = asking.remove(0);
    let mut rest = Vec::new();
    let _ = first.read_to_end(&mut rest);
    is_a_shell(&place, &place.start("", &json!({})));
    assert!(place.memory() < 100);
    drop(asking);
    place.ends();
}

/// An id is no secret: it appears in the arguments of its client.
fn upgrades_of_one_session() {
    let place = Place::new();
    let (mine, other) = (place.start("", &json!({})), place.start("", &json!({})));
    let mut asking: Vec<TcpStream> = (0..400).map(|_| ask(&place.endpoint, &mine.id)).collect();
    are_let_in(&mut asking);
    is_a_shell(&place, &other);
    is_a_shell(&place, &mine);
    drop(asking);
    place.ends();
}
