//! The cost of a stop: until a client is told of it, and from a client's decision to the next
//! command; and the cost of a breakpoint that is never hit.

use super::bed::Bed;
use super::session::control_socket;
use super::{Contender, measure as compare, median};
use crate::ChoreResult;
use runner_wire::control::{ControlRequest, ControlResponse, encode};
use runner_wire::frame::FrameDecoder;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Number of commands in the build that is stepped through.
const STEPS: usize = 100;
const MANY: usize = 200;
/// The message that continues: `Request::Decide(Decision::Step)`.
const STEP: &str = r#"{"decide":{"decision":"step"}}"#;

/// Without a copy of the build's files before each command.
const OFF: [&str; 2] = ["--checkpoint", "off"];

pub(super) fn measure(bed: &Bed) -> ChoreResult {
    let shell = shell_by_lines().map(median).map_err(|error| format!("a shell: {error}"))?;
    println!("### Stops\n\n| | median, ms | it / the shell |\n|---|---|---|");
    for (what, options) in [("", &OFF[..]), (", with checkpoints", &[])] {
        let times = step_by_step(bed, options).map_err(|error| format!("step by step: {error}"))?;
        for (row, times) in [
            "from a command's end to a client that hears of the stop",
            "from a decision on the socket to the next command",
        ]
        .iter()
        .zip(times)
        {
            let time = median(times);
            println!("| {row}{what} | {time:.2} | {:.2} |", time / shell);
        }
    }
    println!("| from a line sent to `sh` to the end of its `/bin/true` | {shell:.2} | 1.00 |\n");
    let many = bed.buildspec("many", &[":"; MANY])?;
    let never = ["--break-on", "failure if status == 77", "--break-on", "command:/never/"];
    let without = [&never[..], &OFF].concat();
    let mut contenders = vec![
        Contender::new(format!("{MANY} commands `:`, two breakpoints, never hit"), || {
            bed.runner_run(&many, &without)
        }),
        Contender::new("the same with checkpoints", || bed.runner_run(&many, &never)),
        Contender::new(format!("{MANY} commands `:`"), || bed.runner_run(&many, &[])),
    ];
    compare("Breakpoints that are never hit", 5, &mut contenders)
}

/// Times until a stop is reported, and from decisions to the next commands.
fn step_by_step(bed: &Bed, options: &[&str]) -> std::io::Result<[Vec<f64>; 2]> {
    let failed = std::io::Error::other::<String>;
    let spec = bed.buildspec("steps", &[":"; STEPS]).map_err(failed)?;
    let mut command = bed.run_command(&spec, &[&["--step"], options].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let live = bed.dir.join("state/live");
    let socket = loop {
        match control_socket(&live) {
            Ok(socket) if socket.exists() => break socket,
            _ if child.try_wait()?.is_some() => return Err(failed("it has ended".to_owned())),
            _ => std::thread::yield_now(),
        }
    };
    let dir = socket.parent().unwrap_or(&live).to_owned();
    let (mut watching, mut deciding) = (Talk::new(&socket)?, Talk::new(&socket)?);
    watching.say(&ControlRequest::WatchPauses)?;
    let (mut heard, mut decided) = (Vec::new(), Vec::new());
    while decided.len() < STEPS {
        match watching.hear()? {
            Some(ControlResponse::Status(status)) if status.state == "paused" => {}
            Some(ControlResponse::Status(status)) if status.state == "running" => continue,
            _ => break,
        }
        heard.push(now());
        decided.push(now());
        deciding.stream.write_all(&encode(&serde_json::from_str::<serde_json::Value>(STEP)?)?)?;
        deciding.hear()?;
    }
    child.wait()?;
    let (ended, started) = (times(&dir, "command_ended")?, times(&dir, "command_started")?);
    // The first stop comes before the first run.
    let told = heard.iter().skip(1).zip(&ended).map(|(heard, ended)| heard - ended).collect();
    let gone_on = started.iter().zip(&decided).map(|(started, decided)| started - decided);
    Ok([told, gone_on.collect()])
}

/// A comparison that also waits for input and then runs a program: a shell that reads lines.
fn shell_by_lines() -> std::io::Result<Vec<f64>> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "while read line; do /bin/true; echo; done"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(mut lines), Some(mut said)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(std::io::Error::other("the shell has no pipes"));
    };
    let mut times = Vec::new();
    for _ in 0..STEPS {
        let begin = Instant::now();
        lines.write_all(b"\n")?;
        said.read_exact(&mut [0])?;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    drop(lines);
    child.wait()?;
    Ok(times)
}

/// Current time of day in milliseconds, as in events.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64() % 86_400.0 * 1000.0
}

/// Events of one type.
pub(super) fn events(dir: &Path, kind: &str) -> std::io::Result<Vec<serde_json::Value>> {
    let text = fs::read_to_string(dir.join("events.jsonl"))?;
    let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(lines.filter(|event: &serde_json::Value| event["type"] == kind).collect())
}

/// The times at which events of one type were logged.
pub(super) fn times(dir: &Path, kind: &str) -> std::io::Result<Vec<f64>> {
    Ok(events(dir, kind)?.iter().filter_map(moment).collect())
}

/// When an event was logged, in milliseconds of its day.
pub(super) fn moment(event: &serde_json::Value) -> Option<f64> {
    let text = event["time"].as_str()?.split_once('T')?.1.trim_end_matches('Z').to_owned();
    let seconds = text
        .split(':')
        .try_fold(0.0, |sum, part| part.parse::<f64>().ok().map(|part| sum * 60.0 + part));
    seconds.map(|seconds| seconds * 1000.0)
}

/// A connection to the control socket.
struct Talk {
    stream: UnixStream,
    decoder: FrameDecoder,
}

impl Talk {
    fn new(socket: &Path) -> std::io::Result<Self> {
        let mut talk =
            Talk { stream: UnixStream::connect(socket)?, decoder: FrameDecoder::default() };
        talk.say(&ControlRequest::hello("bench"))?;
        talk.hear()?;
        Ok(talk)
    }

    fn say(&mut self, request: &ControlRequest) -> std::io::Result<()> {
        self.stream.write_all(&encode(request)?)
    }

    fn hear(&mut self) -> std::io::Result<Option<ControlResponse>> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(body) = self.decoder.next_frame().map_err(std::io::Error::other)? {
                return Ok(Some(serde_json::from_slice(&body)?));
            }
            match self.stream.read(&mut buffer)? {
                0 => return Ok(None),
                got => self.decoder.feed(&buffer[..got]),
            }
        }
    }
}
