//! A paused build behind an endpoint, for tests of the gateway; and a client of multiplexed
//! connections.

use super::channel::{Channel, Heard, Started};
use super::endpoint::Endpoint;
use super::{Bed, Running, build};
use nix::sys::signal::Signal;
use runner_wire::smux;
use runner_wire::ssm::Payload;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::thread;

/// A paused build and an endpoint that needs no signature.
pub(crate) struct Place {
    pub(crate) bed: Bed,
    pub(crate) build: Running,
    pub(crate) endpoint: Endpoint,
    pub(crate) server: Running,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(options: &[&str]) -> Self {
        Self::in_bed(Bed::new(), &["cd /tmp; codebuild-breakpoint"], options)
    }

    /// With a new build.
    pub(crate) fn in_bed(bed: Bed, commands: &[&str], options: &[&str]) -> Self {
        let build = bed.paused(&build(commands), options);
        let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
        Place { bed, build, endpoint, server }
    }

    pub(crate) fn start(&self, document: &str, parameters: &Value) -> Started {
        Started::new(&self.bed, &self.endpoint, document, parameters)
    }

    pub(crate) fn shell(&self) -> (Started, Channel) {
        let started = self.start("", &json!({}));
        let mut channel = Channel::open(&started);
        channel.input(Payload::Size, br#"{"cols":80,"rows":24}"#);
        typed(&mut channel, "PS1='rea''dy> '\n");
        channel.wait_for("ready> ");
        (started, channel)
    }

    pub(crate) fn port(&self, document: &str, port: u16) -> Started {
        self.start(document, &json!({"portNumber": [port.to_string()]}))
    }

    /// Memory used by the endpoint, in MiB.
    pub(crate) fn memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.server.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
    }

    pub(crate) fn ends(self) {
        self.server.signal(Signal::SIGTERM);
        self.server.ends(0);
        self.bed.resume(self.build);
    }
}

pub(crate) fn typed(channel: &mut Channel, text: &str) {
    channel.input(Payload::Bytes, text.as_bytes());
}

/// Resizes a shell's terminal and waits until that has happened: sizes take another path than
/// input.
pub(crate) fn resize(channel: &mut Channel) {
    channel.input(Payload::Size, br#"{"cols":50,"rows":20}"#);
    typed(channel, "until test \"$(stty size)\" = '20 50'; do :; done; echo resi''zed\n");
    channel.wait_for("resized");
}

/// Starts cat and waits until it receives keys: a shell that has not yet started it would take them
/// instead.
pub(crate) fn in_the_foreground(channel: &mut Channel) {
    typed(channel, "cat -n\nis anybody there\n");
    channel.wait_for("1\tis anybody there");
}

pub(crate) fn open_frame(id: u32) -> Vec<u8> {
    let mut frame = smux::close(id).to_vec();
    frame[1] = 0;
    frame
}

pub(crate) fn data_frame(id: u32, data: &[u8]) -> Vec<u8> {
    [&smux::data_head(id, data.len())[..], data].concat()
}

/// Reads frames of a multiplexed channel until this many bytes of data, or the end, have arrived
/// for each of these ids.
pub(crate) struct Mux {
    decoder: smux::SmuxDecoder,
    frames: Vec<smux::Frame>,
    /// Flags received so far.
    pub(crate) flags: Vec<Vec<u8>>,
}

impl Mux {
    pub(crate) fn new() -> Self {
        Mux { decoder: smux::SmuxDecoder::default(), frames: Vec::new(), flags: Vec::new() }
    }

    pub(crate) fn hear(&mut self, channel: &mut Channel) {
        match channel.hear() {
            Heard::Output { payload: Payload::Bytes, body, .. } => self.feed(&body),
            Heard::Output { payload: Payload::Flag, body, .. } => self.flags.push(body),
            Heard::Acknowledged(_) => {}
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn feed(&mut self, body: &[u8]) {
        self.decoder.feed(body);
        while let Some(frame) = self.decoder.next_frame().unwrap() {
            self.frames.push(frame);
        }
    }

    pub(crate) fn data(&self, wanted: u32) -> Vec<u8> {
        let mut all = Vec::new();
        for frame in &self.frames {
            if let smux::Frame::Data(id, data) = frame
                && *id == wanted
            {
                all.extend_from_slice(data);
            }
        }
        all
    }

    pub(crate) fn is_closed(&self, id: u32) -> bool {
        self.frames.contains(&smux::Frame::Close(id))
    }
}

/// A reserved port on which nobody listens yet.
pub(crate) struct Silent {
    socket: OwnedFd,
    pub(crate) port: u16,
}

impl Silent {
    pub(crate) fn new() -> Self {
        let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
        let socket = net::socket_with(family, SocketType::STREAM, flags, None).unwrap();
        net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = SocketAddr::try_from(net::getsockname(&socket).unwrap()).unwrap();
        Silent { socket, port: address.port() }
    }

    /// Starts listening.
    pub(crate) fn listen(self) -> TcpListener {
        net::listen(&self.socket, 8).unwrap();
        self.socket.into()
    }
}

/// Sends back everything it receives.
pub(crate) fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut from = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut from, &mut stream);
            });
        }
    });
    port
}
