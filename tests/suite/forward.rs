//! `runner port-forward`: real servers in the build, real sockets outside.

use crate::common::{Bed, Running, build, cases};
use nix::sys::signal::Signal;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

cases! {
    [Containers, Program("python3")] => http_through_a_free_port, each_direction_ends_by_itself,
        many_connections_at_once, unix_sockets, several_ports_and_hosts, nothing_listens,
        a_reset_is_a_reset, it_ends_with_the_build, a_signal_ends_it, mistakes,
        a_loopback_of_the_containers_own;
    [Program("python3")] => in_engine_process;
}

/// Listens at a free port, at a path and at an abstract name, and prints the port. The first line
/// of a connection selects what the server does.
const SERVER: &str = r#"
import hashlib, os, socket, struct, threading

def serve(s):
    what = s.recv(1)
    if what == b"e":
        while data := s.recv(65536):
            s.sendall(data)
    elif what == b"d":
        digest, length = hashlib.sha256(), 0
        while data := s.recv(65536):
            digest.update(data)
            length += len(data)
        s.sendall(f"{length} {digest.hexdigest()}".encode())
    elif what == b"r":
        s.sendall(b"some of it")
        s.recv(1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()

def listen(s, address):
    s.bind(address)
    s.listen(64)
    def loop():
        while True:
            threading.Thread(target=serve, args=[s.accept()[0]], daemon=True).start()
    threading.Thread(target=loop).start()
    return s

tcp = listen(socket.socket(), ("127.0.0.1", 0))
os.makedirs("deep/" * 30)
os.chdir("deep/" * 30)
listen(socket.socket(socket.AF_UNIX), "s.sock")
listen(socket.socket(socket.AF_UNIX), b"\0forward-%d" % tcp.getsockname()[1])
print(f"listens at {tcp.getsockname()[1]} and {os.getcwd()}/s.sock .", flush=True)
"#;

/// A build paused with its server running, and the server's port.
fn serving(bed: &Bed, options: &[&str]) -> (Running, u16) {
    bed.write("server.py", SERVER);
    let running = bed.paused(&build(&["python3 server.py & codebuild-breakpoint"]), options);
    let port = running.stdout.number_after("listens at ");
    running.stdout.wait_for("/s.sock .\n");
    (running, port)
}

/// A running port-forward, and its addresses.
pub(super) fn forwarding(bed: &Bed, ports: &[&str]) -> (Running, Vec<String>) {
    let running = Running::spawn(bed.command(["port-forward"].iter().chain(ports)));
    running.stdout.wait_until("its ports", |bytes| {
        bytes.iter().filter(|&&byte| byte == b'\n').count() == ports.len()
    });
    let text = running.stdout.text();
    let at = text.lines().map(|line| line.split(" -> ").next().unwrap().to_owned()).collect();
    (running, at)
}

fn connect(at: &str) -> TcpStream {
    TcpStream::connect(at).unwrap()
}

/// Sends everything, closes that direction, and reads the rest.
fn ask(mut stream: TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut sender = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = sender.write_all(bytes);
            let _ = sender.shutdown(Shutdown::Write);
        });
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer)
    })
}

fn http_through_a_free_port() {
    let bed = Bed::host();
    bed.write("page.txt", "what the build serves");
    let command = "python3 -u -m http.server --bind 127.0.0.1 0 & codebuild-breakpoint";
    let running = bed.paused(&build(&[command]), &[]);
    let port: u16 = running.stdout.number_after("port ");
    let (forward, at) = forwarding(&bed, &[&format!(":{port}")]);
    for _ in 0..3 {
        let answer = ask(connect(&at[0]), b"GET /page.txt HTTP/1.0\r\n\r\n").unwrap();
        let text = String::from_utf8(answer).unwrap();
        assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nwhat the build serves"), "{text}");
    }
    // It counts as a session, like any connection to the build.
    let state = bed.runner(["ps", "--format", "json"]).code(0).stdout;
    assert!(state.contains("\"sessions\": 1"), "{state}");
    bed.resume(running);
    forward.ends(0);
}

/// The server answers only after it has seen the end of input.
fn each_direction_ends_by_itself() {
    let bed = Bed::host();
    let (running, port) = serving(&bed, &[]);
    let (forward, at) = forwarding(&bed, &[&format!(":{port}")]);
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let answer = ask(connect(&at[0]), &[b"d", sent.as_slice()].concat()).unwrap();
    let text = String::from_utf8(answer).unwrap();
    assert!(text.starts_with("3000000 "), "{text}");
    let same = ask(connect(&at[0]), &[b"e", sent.as_slice()].concat()).unwrap();
    assert!(same == sent, "{} bytes", same.len());
    bed.resume(running);
    forward.ends(0);
}

fn many_connections_at_once() {
    let bed = Bed::host();
    let (running, port) = serving(&bed, &[]);
    let (forward, at) = forwarding(&bed, &[&format!(":{port}")]);
    // All are open before the first is used.
    let streams: Vec<TcpStream> = (0..60).map(|_| connect(&at[0])).collect();
    std::thread::scope(|scope| {
        for (number, stream) in streams.into_iter().enumerate() {
            scope.spawn(move || {
                let sent = vec![u8::try_from(number).unwrap(); 200_000];
                let same = ask(stream, &[b"e", sent.as_slice()].concat()).unwrap();
                assert!(same == sent, "connection {number}: {} bytes", same.len());
            });
        }
    });
    bed.resume(running);
    forward.ends(0);
}

/// Also one whose path is longer than a socket address allows.
fn unix_sockets() {
    let bed = Bed::host();
    let (running, port) = serving(&bed, &[]);
    let text = running.stdout.text();
    let path = text.split(" and /").nth(1).unwrap().split_once(" .").unwrap().0;
    let (forward, at) = forwarding(&bed, &[&format!(":/{path}"), &format!(":@forward-{port}")]);
    for at in at {
        assert_eq!(ask(connect(&at), b"ehello").unwrap(), b"hello");
    }
    bed.resume(running);
    forward.ends(0);
}

fn several_ports_and_hosts() {
    let bed = Bed::host();
    let (running, port) = serving(&bed, &[]);
    let ports = [format!(":{port}"), format!(":127.0.0.1:{port}"), format!(":LocalHost:{port}")];
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    let (forward, at) = forwarding(&bed, &ports);
    assert!(forward.stdout.text().contains(&format!(" -> localhost:{port}\n")));
    for at in at {
        assert!(at.starts_with("127.0.0.1:"), "{at}");
        assert_eq!(ask(connect(&at), b"ehello").unwrap(), b"hello");
    }
    bed.resume(running);
    forward.ends(0);
}

/// A caller notices it at once, not as an empty answer; the user is told once.
fn nothing_listens() {
    let bed = Bed::host();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    // The port of a connection's own end: nobody else gets it, and nobody listens there.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = TcpStream::connect(other.local_addr().unwrap()).unwrap();
    let name = held.local_addr().unwrap();
    // No name may have such a long label, so no resolver is asked, whatever this machine has.
    let long = "x".repeat(64);
    let ports =
        [format!(":{}", name.port()), ":/nosuch.sock".to_owned(), format!(":{long}.invalid:1")];
    let (forward, at) = forwarding(&bed, &[&ports[0], &ports[1], &ports[2]]);
    for at in &at {
        for _ in 0..2 {
            let error = ask(connect(at), b"").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        }
    }
    bed.resume(running);
    let stderr = forward.stderr.clone();
    forward.ends(0);
    let text = stderr.text();
    let count = |what: &str| text.matches(what).count();
    let refused = format!("nothing listens at localhost:{} in the build", name.port());
    assert_eq!(count(&refused), 1, "{text}");
    assert_eq!(count("nothing listens at /nosuch.sock in the build"), 1, "{text}");
    assert_eq!(count(&format!("the name of {long}.invalid:1 is not known")), 1, "{text}");
}

/// A broken transfer does not look complete.
fn a_reset_is_a_reset() {
    let bed = Bed::host();
    let (running, port) = serving(&bed, &[]);
    let (forward, at) = forwarding(&bed, &[&format!(":{port}")]);
    let mut stream = connect(&at[0]);
    stream.write_all(b"r").unwrap();
    let mut some = [0; 10];
    stream.read_exact(&mut some).unwrap();
    stream.write_all(b"x").unwrap();
    let error = stream.read(&mut some).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    // And the other way round: the server's thread ends, otherwise the build would not.
    drop(connect(&at[0]));
    bed.resume(running);
    forward.ends(0);
}

fn it_ends_with_the_build() {
    let bed = Bed::host();
    let (running, port) = serving(&bed, &[]);
    let (forward, at) = forwarding(&bed, &[&format!(":{port}")]);
    let mut stream = connect(&at[0]);
    stream.write_all(b"ehello").unwrap();
    let mut same = [0; 5];
    stream.read_exact(&mut same).unwrap();
    let stderr = forward.stderr.clone();
    bed.resume(running);
    forward.ends(0);
    assert!(stderr.text().contains("the build has ended: SUCCEEDED"), "{}", stderr.text());
    assert!(!matches!(stream.read(&mut same), Ok(1..)));
    // The port is free again.
    drop(TcpListener::bind(&at[0]).unwrap());
}

fn a_signal_ends_it() {
    let bed = Bed::host();
    let (running, port) = serving(&bed, &[]);
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let (forward, at) = forwarding(&bed, &[&format!(":{port}")]);
        let _open = connect(&at[0]);
        forward.signal(signal);
        forward.ends(code);
    }
    bed.resume(running);
}

fn mistakes() {
    let bed = Bed::host();
    bed.runner(["port-forward", ":80"]).code(2).says("no build is live");
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    bed.runner(["port-forward"]).code(2);
    bed.runner(["port-forward", "demo"]).code(2).says("`demo` is not of the form LOCAL:REMOTE");
    bed.runner(["port-forward", "8080:x", "y"])
        .code(2)
        .says("`x` is not a PORT")
        .says("`y` is not");
    bed.runner(["port-forward", "nosuch", ":80"]).code(2).says("live builds: demo:");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = format!("{}:80", taken.local_addr().unwrap().port());
    bed.runner(["port-forward", &pair])
        .code(3)
        .says("Address already in use")
        .says("a port that is free");
    bed.runner(["port-forward", "99999"]).code(2).says("`99999` is not a port: 1 to 65535");
    // In this machine's network it would connect to itself without end.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    bed.runner(["port-forward", &free])
        .code(2)
        .says("would lead to itself")
        .says(&format!("localhost:{free} here already"));
    bed.resume(running);
}

/// Nothing else on this machine leads there.
fn a_loopback_of_the_containers_own() {
    let bed = Bed::host();
    let (running, port) = serving(&bed, &["--network", "none"]);
    let (forward, at) = forwarding(&bed, &[&format!(":{port}"), &format!(":@forward-{port}")]);
    for at in at {
        assert_eq!(ask(connect(&at), b"ehello").unwrap(), b"hello");
    }
    bed.resume(running);
    forward.ends(0);
}

fn in_engine_process() {
    let bed = Bed::new();
    bed.write("server.py", SERVER);
    bed.write("buildspec.yml", build(&["python3 server.py & codebuild-breakpoint"]));
    let mut command = bed.command(["run", "--project", "demo", "--engine", "process"]);
    let running = Running::spawn_from(command.arg("--enable-session"));
    running.stderr.wait_for("stop ");
    let port: u16 = running.stdout.number_after("listens at ");
    let (forward, at) = forwarding(&bed, &[&format!(":{port}")]);
    assert_eq!(ask(connect(&at[0]), b"ehello").unwrap(), b"hello");
    bed.resume(running);
    forward.ends(0);
}
