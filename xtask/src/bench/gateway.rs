//! Sessions of AWS's clients: the latency of a key, the speed of a download, the cost of an idle
//! session.
//!
//! The client is our own, in this process; AWS's plugin is measured too if it is on PATH.

use super::bed::{Bed, OwnedProcess};
use super::outputs::Moto;
use super::{Contender, measure, quiet};
use crate::{ChoreResult, packages, root};
use pty_process::blocking::{Command as PtyCommand, Pty};
use runner_wire::smux;
use runner_wire::ssm::message::{Id, MessageHeader, encode, parse};
use runner_wire::ssm::{MessageKind, Payload};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tungstenite::{Message, WebSocket};

/// Size of a download in bytes.
const DOWNLOAD: usize = 256 << 20;
/// Number of idle sessions.
const IDLE: usize = 100;
/// A program that sends every byte back, on a terminal without echo.
pub(super) const ECHO: &str = "stty raw -echo; echo up; exec cat";

/// From a key press to its echo, through attach and through the gateway, compared with a program
/// that only relays a terminal.
pub(super) fn echo(bed: &Bed) -> ChoreResult {
    let paused = bed.paused()?;
    let place = PausedEndpoint::new(bed)?;
    let mut attach = bed.runner();
    attach.arg("attach");
    let attached = OnTerminal::new(&attach, &format!("exec sh -c '{ECHO}'\r"));
    let mut script = Command::new("script");
    script.args(["-qfc", &format!("sh -c '{ECHO}'"), "/dev/null"]);
    let (mut attached, mut relayed) = (attached?, OnTerminal::new(&script, "")?);
    let command = json!({"command": [format!("sh -c '{ECHO}'")]});
    let mut channel = place.session("AWS-StartInteractiveCommand", &command)?;
    while !channel.shown.ends_with(b"up\n") {
        channel.hear()?;
    }
    let mut contenders = [
        Contender::timed("`runner attach`", || attached.round_trip()),
        Contender::timed("`script`, which only relays", || relayed.round_trip()),
    ];
    measure("One key and its echo, through attach", 300, &mut contenders)?;
    drop(contenders);
    let mut contenders = [
        Contender::timed("through the gateway", || channel.round_trip()),
        Contender::timed("`script`, which only relays", || relayed.round_trip()),
    ];
    measure("One key and its echo, through the gateway", 300, &mut contenders)?;
    drop(contenders);
    drop((channel, place, paused));
    Ok(())
}

/// The same in recorded sessions: with `--session-log`, and with streaming to CloudWatch Logs in
/// addition.
pub(super) fn logged(bed: &Bed) -> ChoreResult {
    let moto = Moto::start()?;
    let kept = bed.dir.join("kept").display().to_string();
    let (paused, _) = bed.paused_in(&["--image", &bed.image, "--session-log", &kept], &[])?;
    let place = PausedEndpoint::with(bed, &moto.variables())?;
    let mut aws = Command::new(root().join("target/python/bin/aws"));
    aws.args(["logs", "create-log-group", "--log-group-name", "bench"]).envs(moto.variables());
    quiet(&mut aws)?;
    let up = |mut channel: BenchChannel| -> ChoreResult<BenchChannel> {
        while !channel.shown.ends_with(b"up\n") {
            channel.hear()?;
        }
        Ok(channel)
    };
    let command = json!({"command": [format!("sh -c '{ECHO}'")]});
    let mut here = up(place.session("AWS-StartInteractiveCommand", &command)?)?;
    let document = json!({"schemaVersion": "1.0", "sessionType": "Standard_Stream", "inputs": {
        "cloudWatchLogGroupName": "bench", "cloudWatchStreamingEnabled": true,
        "cloudWatchEncryptionEnabled": false}});
    let document = json!({"Name": "SSM-SessionManagerRunShell", "DocumentType": "Session",
        "Content": document.to_string()});
    place.call("AmazonSSM.CreateDocument", &document)?;
    let mut streamed = up(place.session("AWS-StartInteractiveCommand", &command)?)?;
    let mut contenders = [
        Contender::timed("stored here, and streamed to CloudWatch Logs", || streamed.round_trip()),
        Contender::timed("kept here", || here.round_trip()),
    ];
    measure("One key and its echo, in sessions that are kept", 300, &mut contenders)?;
    drop(contenders);
    drop((here, streamed, place, paused, moto));
    Ok(())
}

/// A download from a port of the build.
pub(super) fn download(bed: &Bed) -> ChoreResult {
    let paused = bed.paused()?;
    let place = PausedEndpoint::new(bed)?;
    let port = source()?;
    let parameters = json!({"portNumber": [port.to_string()]});
    let mut channel = place.session("AWS-StartPortForwardingSession", &parameters)?;
    let mut id = 1;
    let mut contenders = vec![
        Contender::timed("a client of our own, multiplexed", || {
            id += 2;
            channel.download(id)
        }),
        Contender::timed("a plain connection", || fetch(port)),
    ];
    let plugin = packages::has("session-manager-plugin").then(|| place.plugin(&parameters));
    let plugin = plugin.transpose()?;
    if let Some((_, local)) = &plugin {
        let local = *local;
        contenders.push(Contender::timed("AWS's plugin", move || fetch(local)));
    } else {
        println!("session-manager-plugin is left out: not on PATH");
    }
    measure(&format!("{} MiB from a port of the build", DOWNLOAD >> 20), 1, &mut contenders)?;
    drop(contenders);
    drop((channel, plugin, place, paused));
    Ok(())
}

/// The cost of a hundred idle sessions, at the endpoint and in the build's runner.
pub(super) fn idle(bed: &Bed) -> ChoreResult {
    let paused = bed.paused()?;
    let place = PausedEndpoint::new(bed)?;
    let memory = || (resident(&place.server.0), resident(&paused.0));
    let first = place.shell()?;
    let before = memory();
    let sessions: Vec<BenchChannel> =
        (0..IDLE).map(|_| place.shell()).collect::<ChoreResult<_>>()?;
    let after = memory();
    let mib = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1024.0;
    println!("### {IDLE} idle sessions\n\n| process | MiB |\n|---|---|");
    println!("| `runner serve` | {:.1} |", mib(before.0, after.0));
    println!("| `runner run` | {:.1} |\n", mib(before.1, after.1));
    drop((first, sessions, place, paused));
    Ok(())
}

/// Resident memory of a process, in KiB.
pub(super) fn resident(process: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// A server that sends the download's bytes to every client.
fn source() -> ChoreResult<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    std::thread::spawn(move || {
        let block = vec![0x5a; 1 << 20];
        for mut stream in listener.incoming().flatten() {
            // A client may disconnect early.
            let _ = (0..DOWNLOAD / block.len()).try_for_each(|_| stream.write_all(&block));
        }
    });
    Ok(port)
}

fn fetch(port: u16) -> ChoreResult<Duration> {
    let begin = Instant::now();
    let fetch = || -> std::io::Result<u64> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        std::io::copy(&mut stream.take(DOWNLOAD as u64), &mut std::io::sink())
    };
    match fetch() {
        Ok(got) if got == DOWNLOAD as u64 => Ok(begin.elapsed()),
        other => Err(format!("a download of {other:?}")),
    }
}

/// A program on a terminal that sends back what it receives.
pub(super) struct OnTerminal {
    pty: Pty,
    child: Child,
}

impl OnTerminal {
    pub(super) fn new(command: &Command, typed: &str) -> ChoreResult<Self> {
        let text = |error: pty_process::Error| error.to_string();
        let (pty, pts) = pty_process::blocking::open().map_err(text)?;
        pty.resize(pty_process::Size::new(24, 80)).map_err(text)?;
        let mut plain = PtyCommand::new(command.get_program());
        plain = plain.args(command.get_args()).env("TERM", "xterm");
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                plain = plain.env(name, value);
            }
        }
        if let Some(dir) = command.get_current_dir() {
            plain = plain.current_dir(dir);
        }
        let child = plain.spawn(pts).map_err(text)?;
        let mut terminal = OnTerminal { pty, child };
        terminal.pty.write_all(typed.as_bytes()).map_err(|error| error.to_string())?;
        let mut shown = Vec::new();
        while !shown.ends_with(b"up\n") && !shown.ends_with(b"up\r\n") {
            let mut byte = [0];
            terminal.pty.read_exact(&mut byte).map_err(|error| error.to_string())?;
            shown.push(byte[0]);
        }
        Ok(terminal)
    }

    pub(super) fn round_trip(&mut self) -> ChoreResult<Duration> {
        let begin = Instant::now();
        let mut byte = [0];
        let talk = self.pty.write_all(b"x").and_then(|()| self.pty.read_exact(&mut byte));
        talk.map_err(|error| error.to_string())?;
        Ok(begin.elapsed())
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An endpoint, and a build paused at a breakpoint.
pub(super) struct PausedEndpoint {
    pub(super) address: String,
    pub(super) target: String,
    server: OwnedProcess,
}

impl PausedEndpoint {
    pub(super) fn new(bed: &Bed) -> ChoreResult<Self> {
        Self::with(bed, &[])
    }

    /// With additional variables.
    fn with(bed: &Bed, variables: &[(&'static str, String)]) -> ChoreResult<Self> {
        let failed = |error: std::io::Error| error.to_string();
        let mut server = bed
            .runner()
            .args(["serve", "--listen", "127.0.0.1:0", "--no-auth"])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stderr = server.stderr.take().ok_or("no standard error")?;
        let server = OwnedProcess(server);
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| Some(line.split_once("listening on http://")?.1.to_owned()))
            .ok_or("the endpoint does not listen")?;
        std::thread::spawn(move || lines.for_each(drop));
        let mut live = fs::read_dir(bed.dir.join("state/live")).map_err(failed)?;
        let build = live.next().ok_or("no build is live")?.map_err(failed)?.file_name();
        let target = format!("codebuild:{}", build.to_string_lossy());
        Ok(PausedEndpoint { address, target, server })
    }

    fn start(&self, document: &str, parameters: &Value) -> ChoreResult<Value> {
        let mut body = json!({"Target": self.target, "Parameters": parameters});
        if !document.is_empty() {
            body["DocumentName"] = json!(document);
        }
        let session = self.call("AmazonSSM.StartSession", &body)?;
        session["TokenValue"].as_str().ok_or_else(|| session.to_string())?;
        Ok(session)
    }

    fn call(&self, target: &str, body: &Value) -> ChoreResult<Value> {
        let body = body.to_string();
        let talk = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(&self.address)?;
            let request = format!(
                "POST / HTTP/1.1\r\nHost: {}\r\nX-Amz-Target: {target}\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                self.address,
                body.len()
            );
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = talk().map_err(|error| error.to_string())?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        match answer.starts_with("HTTP/1.1 200") {
            true => serde_json::from_str(body).map_err(|error| error.to_string()),
            false => Err(answer),
        }
    }

    fn session(&self, document: &str, parameters: &Value) -> ChoreResult<BenchChannel> {
        BenchChannel::open(&self.address, &self.start(document, parameters)?)
    }

    fn shell(&self) -> ChoreResult<BenchChannel> {
        let mut channel = self.session("", &json!({}))?;
        channel.input(Payload::Size, br#"{"cols":80,"rows":24}"#)?;
        while channel.shown.is_empty() {
            channel.hear()?;
        }
        Ok(channel)
    }

    /// AWS's plugin with a separate port.
    fn plugin(&self, parameters: &Value) -> ChoreResult<(OwnedProcess, u16)> {
        let session = self.start("AWS-StartPortForwardingSession", parameters)?;
        let mut child = Command::new("session-manager-plugin")
            .args([&session.to_string(), "us-east-1", "StartSession", ""])
            .arg(json!({"Target": self.target}).to_string())
            .arg(format!("http://{}", self.address))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let ended = OwnedProcess(child);
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let port = lines
            .find_map(|line| line.strip_prefix("Port ")?.split(' ').next()?.parse().ok())
            .ok_or("the plugin opens no port")?;
        lines.find(|line| line.contains("Waiting for connections")).ok_or("the plugin is gone")?;
        std::thread::spawn(move || lines.for_each(drop));
        Ok((ended, port))
    }
}

/// The client's end of a data channel.
struct BenchChannel {
    socket: WebSocket<TcpStream>,
    next: i64,
    shown: Vec<u8>,
}

impl BenchChannel {
    fn open(address: &str, session: &Value) -> ChoreResult<Self> {
        let text = |name: &str| session[name].as_str().unwrap_or_default();
        let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (socket, _) =
            tungstenite::client(text("StreamUrl"), stream).map_err(|error| error.to_string())?;
        let mut channel = BenchChannel { socket, next: 0, shown: Vec::new() };
        let token = json!({"TokenValue": text("TokenValue")}).to_string();
        channel.socket.send(Message::text(token)).map_err(|error| error.to_string())?;
        let response = json!({
            "ClientVersion": "1.2.764.0",
            "ProcessedClientActions": [{"ActionType": "SessionType", "ActionStatus": 1}],
        });
        while channel.hear()? != Payload::HandshakeRequest {}
        channel.input(Payload::HandshakeResponse, response.to_string().as_bytes())?;
        while channel.hear()? != Payload::HandshakeComplete {}
        Ok(channel)
    }

    fn send(
        &mut self,
        kind: MessageKind,
        sequence: i64,
        payload: Payload,
        body: &[u8],
    ) -> ChoreResult {
        let id = Id([7; 16]);
        let head = MessageHeader { kind, sequence, flags: 0, id, payload, created_ms: 1 };
        let message = Message::binary(encode(&head, body));
        self.socket.send(message).map_err(|error| error.to_string())
    }

    fn input(&mut self, payload: Payload, body: &[u8]) -> ChoreResult {
        self.next += 1;
        self.send(MessageKind::Input, self.next - 1, payload, body)
    }

    /// The payload type of the server's next message; output is acknowledged and kept.
    fn hear(&mut self) -> ChoreResult<Payload> {
        loop {
            let bytes = match self.socket.read() {
                Ok(Message::Binary(bytes)) => bytes,
                Ok(_) => continue,
                Err(error) => return Err(error.to_string()),
            };
            let message = parse(&bytes).map_err(|error| error.to_string())?;
            match message.kind {
                MessageKind::Output => {
                    let (sequence, payload) = (message.sequence, message.payload);
                    if payload == Payload::Bytes {
                        self.shown.extend_from_slice(message.body);
                    }
                    let body = json!({
                        "AcknowledgedMessageType": "output_stream_data",
                        "AcknowledgedMessageId": message.id.to_string(),
                        "AcknowledgedMessageSequenceNumber": sequence,
                        "IsSequentialMessage": true,
                    });
                    let body = body.to_string();
                    self.send(MessageKind::Acknowledge, 0, Payload::None, body.as_bytes())?;
                    return Ok(payload);
                }
                MessageKind::ChannelClosed => return Err("the session was closed".to_owned()),
                MessageKind::Input | MessageKind::Acknowledge | MessageKind::Other => {}
            }
        }
    }

    fn round_trip(&mut self) -> ChoreResult<Duration> {
        self.shown.clear();
        let begin = Instant::now();
        self.input(Payload::Bytes, b"x")?;
        while self.shown.is_empty() {
            self.hear()?;
        }
        Ok(begin.elapsed())
    }

    /// Over a separate connection.
    fn download(&mut self, id: u32) -> ChoreResult<Duration> {
        let begin = Instant::now();
        let mut open = smux::close(id);
        open[1] = 0;
        self.input(Payload::Bytes, &open)?;
        let mut got = 0;
        while got < DOWNLOAD {
            self.shown.clear();
            self.hear()?;
            // Each message is one frame here.
            got += self.shown.len().saturating_sub(smux::HEAD_LEN);
        }
        let took = begin.elapsed();
        self.input(Payload::Bytes, &smux::close(id))?;
        Ok(took)
    }
}
