//! Sessions that forward ports, through the gateway: every document, and how connections end.

use crate::common::cases;
use crate::common::channel::{Channel, Heard};
use crate::common::gateway::{Mux, Place, Silent, data_frame, echo_server, open_frame, typed};
use runner_wire::smux;
use runner_wire::ssm::Payload;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};

cases! {
    [Containers, Image("busybox")] => connections, a_port_where_nobody_listens,
        one_connection_at_a_time, the_raw_connection, another_host, a_local_unix_socket,
        the_destination_ends_first, nothing_before_the_clients_first_frame;
}

fn connections() {
    let place = Place::new();
    let port = echo_server();
    let mut channel = Channel::open(&place.port("AWS-StartPortForwardingSession", port));
    let mut mux = Mux::new();
    // Three at once, in frames that do not match messages.
    let payload: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    let mut stream = Vec::new();
    for id in [3, 5, 7] {
        stream.extend(open_frame(id));
    }
    for part in payload.chunks(30_000) {
        for id in [3, 5, 7] {
            stream.extend(data_frame(id, part));
        }
    }
    let mut parts = stream.chunks(1000);
    let (mut in_flight, mut sent, mut heard) = (0, 0, 0);
    while [3, 5, 7].iter().any(|id| mux.data(*id).len() < payload.len()) {
        // Like a client that processes acknowledgements: never far ahead, also of what comes back.
        // A server that cannot send does not read, and nothing is sent again here.
        while in_flight < 100
            && sent < heard + (100 << 10)
            && let Some(part) = parts.next()
        {
            channel.input(Payload::Bytes, part);
            in_flight += 1;
            sent += part.len();
        }
        match channel.hear() {
            Heard::Acknowledged(_) => in_flight -= 1,
            Heard::Output { body, .. } => {
                heard += body.len();
                mux.feed(&body);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!([3, 5, 7].iter().all(|id| mux.data(*id) == payload));
    // One is closed; the others continue.
    channel.input(Payload::Bytes, &smux::close(5));
    channel.input(Payload::Bytes, &data_frame(7, b"still"));
    while !mux.data(7).ends_with(b"still") {
        mux.hear(&mut channel);
    }
    assert!(!mux.is_closed(3) && mux.flags.is_empty());
    // Another version of the multiplexing ends the session.
    channel.input(Payload::Bytes, b"\x02\0\0\0\x03\0\0\0");
    assert!(channel.wait_for_close().contains("version 2"));
    place.ends();
}

fn a_port_where_nobody_listens() {
    let place = Place::new();
    let silent = Silent::new();
    let mut channel = Channel::open(&place.port("AWS-StartPortForwardingSession", silent.port));
    let mut mux = Mux::new();
    channel.input(Payload::Bytes, &open_frame(3));
    while !mux.is_closed(3) {
        mux.hear(&mut channel);
    }
    assert_eq!(mux.flags, [vec![0, 0, 0, 3]]);
    // The session continues: someone may be listening by now.
    let listener = silent.listen();
    channel.input(Payload::Bytes, &open_frame(5));
    channel.input(Payload::Bytes, &data_frame(5, b"hello"));
    let (mut stream, _) = listener.accept().unwrap();
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    stream.write_all(b"bye").unwrap();
    drop(stream);
    while !mux.is_closed(5) {
        mux.hear(&mut channel);
    }
    assert_eq!(mux.data(5), b"bye");
    // Addresses at which AWS's machines, tasks, builds and pods find credentials.
    for host in [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "[::ffff:169.254.170.2]",
        "fd00:ec2::23",
    ] {
        let parameters = json!({"portNumber": ["80"], "host": [host]});
        let uuid = place.bed.live().file_name().unwrap().to_str().unwrap().to_owned();
        let body = json!({
            "Target": format!("codebuild:{uuid}"), "Parameters": parameters,
            "DocumentName": "AWS-StartPortForwardingSessionToRemoteHost",
        });
        let (status, refused) = place.endpoint.call("AmazonSSM.StartSession", &body);
        let is_refused =
            status == 400 && refused["message"].as_str().unwrap().contains("forbidden");
        assert!(is_refused, "{host}: {refused}");
    }
    place.ends();
}

/// As plugins did before multiplexing.
fn one_connection_at_a_time() {
    let place = Place::new();
    let port = echo_server();
    let mut channel = Channel::with_token(&place.port("AWS-StartPortForwardingSession", port));
    channel.hear();
    let response = json!({
        "ClientVersion": "1.1.54.0",
        "ProcessedClientActions": [{"ActionType": "SessionType", "ActionStatus": 1}],
    });
    channel.input(Payload::HandshakeResponse, response.to_string().as_bytes());
    typed(&mut channel, "first");
    channel.wait_for("first");
    channel.input(Payload::Flag, &[0, 0, 0, 1]);
    typed(&mut channel, "second");
    channel.wait_for("second");
    place.ends();
}

/// The document for SSH: the server speaks first, and the session is its connection.
fn the_raw_connection() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut channel = Channel::open(&place.port("AWS-StartSSHSession", port));
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"SSH-2.0-test\r\n").unwrap();
    channel.wait_for("SSH-2.0-test");
    typed(&mut channel, "SSH-2.0-client\r\n");
    let mut heard = [0; 16];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"SSH-2.0-client\r\n");
    drop(stream);
    assert_eq!(channel.wait_for_close(), "");
    let silent = Silent::new();
    let mut channel = Channel::open(&place.port("AWS-StartSSHSession", silent.port));
    assert!(channel.wait_for_close().starts_with("Unable to connect to specified port"));
    place.ends();
}

/// What a multiplexing client is told first about a session.
fn properties(request: &Value) -> Value {
    request["RequestedClientActions"][0]["ActionParameters"]["Properties"].clone()
}

/// By a name that only the build knows.
fn another_host() {
    let command = "echo 127.0.0.3 db.internal >> /etc/hosts; codebuild-breakpoint";
    let place = Place::in_bed(crate::common::Bed::new(), &[command], &[]);
    let listener = TcpListener::bind("127.0.0.3:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let parameters =
        json!({"portNumber": [port], "host": ["db.internal"], "localPortNumber": ["5555"]});
    let document = "AWS-StartPortForwardingSessionToRemoteHost";
    let mut channel = Channel::with_token(&place.start(document, &parameters));
    let told = json!({
        "portNumber": port, "host": "db.internal", "localPortNumber": "5555",
        "type": "LocalPortForwarding",
    });
    assert_eq!(properties(&channel.handshake()), told);
    let mut mux = Mux::new();
    channel.input(Payload::Bytes, &open_frame(3));
    channel.input(Payload::Bytes, &data_frame(3, b"select"));
    let (mut stream, _) = listener.accept().unwrap();
    let mut heard = [0; 6];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"select");
    stream.write_all(b"rows").unwrap();
    drop(stream);
    while !mux.is_closed(3) {
        mux.hear(&mut channel);
    }
    assert_eq!(mux.data(3), b"rows");
    // The connection is refused, the session continues.
    drop(listener);
    channel.input(Payload::Bytes, &open_frame(5));
    while !mux.is_closed(5) {
        mux.hear(&mut channel);
    }
    assert_eq!(mux.flags, [vec![0, 0, 0, 3]]);
    place.ends();
}

/// The socket is on the client's side; it leads to a port.
fn a_local_unix_socket() {
    let place = Place::new();
    let port = echo_server().to_string();
    let parameters = json!({"portNumber": [port], "localUnixSocket": ["/tmp/local.sock"]});
    let document = "AWS-StartPortForwardingSessionToSocket";
    let mut channel = Channel::with_token(&place.start(document, &parameters));
    let told = json!({
        "portNumber": port, "localUnixSocket": "/tmp/local.sock", "localConnectionType": "unix",
        "type": "LocalPortForwarding",
    });
    assert_eq!(properties(&channel.handshake()), told);
    let mut mux = Mux::new();
    channel.input(Payload::Bytes, &open_frame(3));
    channel.input(Payload::Bytes, &data_frame(3, b"there and back"));
    while mux.data(3) != b"there and back" {
        mux.hear(&mut channel);
    }
    place.ends();
}

/// It sends no more, and still reads.
fn the_destination_ends_first() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut channel = Channel::open(&place.port("AWS-StartPortForwardingSession", port));
    let mut mux = Mux::new();
    channel.input(Payload::Bytes, &open_frame(3));
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"all I have to say").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    while !mux.is_closed(3) {
        mux.hear(&mut channel);
    }
    assert_eq!(mux.data(3), b"all I have to say");
    channel.input(Payload::Bytes, &data_frame(3, b"still talking"));
    channel.input(Payload::Bytes, &smux::close(3));
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"still talking");
    place.ends();
}

/// A client crashes after the handshake, before its own first frame: not even what it has left
/// unacknowledged is sent again.
fn nothing_before_the_clients_first_frame() {
    let place = Place::new();
    let port = echo_server();
    let mut channel = Channel::with_token(&place.port("AWS-StartPortForwardingSession", port));
    channel.acknowledges = false;
    channel.handshake();
    // Longer than the delay before an unacknowledged message is sent again.
    channel.hears_nothing_for(std::time::Duration::from_millis(1500));
    channel.acknowledges = true;
    channel.input(Payload::Bytes, &open_frame(3));
    channel.input(Payload::Bytes, &data_frame(3, b"now"));
    let mut mux = Mux::new();
    while mux.data(3) != b"now" {
        mux.hear(&mut channel);
    }
    place.ends();
}
