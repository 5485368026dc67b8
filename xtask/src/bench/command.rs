//! Run Command: from a call on an open connection to the first byte of the script's output,
//! compared with `runner exec`.

use super::bed::Bed;
use super::gateway::PausedEndpoint;
use super::{Contender, measure as compare};
use crate::ChoreResult;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Time limit for the first output.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn measure(bed: &Bed) -> ChoreResult {
    let paused = bed.paused()?;
    let place = PausedEndpoint::new(bed)?;
    let mut kept = KeptConnection::new(&place, bed.dir.join("state/commands"))?;
    let mut contenders = [
        Contender::timed("`SendCommand`, kept connection", || kept.first_byte()),
        Contender::timed("`runner exec -- sh -c 'echo up'`", || first_byte(bed)),
    ];
    let result = compare("A script and its first byte of output", 50, &mut contenders);
    drop(contenders);
    drop((kept, place, paused));
    result
}

/// From the start of a client to its first output.
fn first_byte(bed: &Bed) -> ChoreResult<Duration> {
    let failed = |error: std::io::Error| error.to_string();
    let begin = Instant::now();
    let mut command = bed.runner();
    command.args(["exec", "--", "sh", "-c", "echo up"]).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let mut shown = child.stdout.take().ok_or("no standard output")?;
    shown.read_exact(&mut [0]).map_err(failed)?;
    let took = begin.elapsed();
    child.wait().map_err(failed)?;
    Ok(took)
}

/// A connection reused for all calls.
struct KeptConnection {
    stream: BufReader<TcpStream>,
    host: String,
    target: String,
    /// Folder of the commands' output.
    commands: PathBuf,
}

impl KeptConnection {
    fn new(place: &PausedEndpoint, commands: PathBuf) -> ChoreResult<Self> {
        let stream = TcpStream::connect(&place.address).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (host, target) = (place.address.clone(), place.target.clone());
        Ok(KeptConnection { stream: BufReader::new(stream), host, target, commands })
    }

    fn call(&mut self, operation: &str, body: &Value) -> std::io::Result<Value> {
        let body = body.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nX-Amz-Target: AmazonSSM.{operation}\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// From the call to the first byte in the output file.
    fn first_byte(&mut self) -> ChoreResult<Duration> {
        let asked = json!({
            "DocumentName": "AWS-RunShellScript",
            "InstanceIds": [self.target],
            "Parameters": {"commands": ["echo up"]},
        });
        let begin = Instant::now();
        let answer = self.call("SendCommand", &asked).map_err(|error| error.to_string())?;
        let id = answer["Command"]["CommandId"].as_str().ok_or_else(|| answer.to_string())?;
        let uuid = self.target.rsplit(':').next().unwrap_or_default().replace('-', "");
        let node = format!("mi-{}", uuid.get(..17).unwrap_or_default());
        let step = "awsrunShellScript/0.awsrunShellScript/stdout";
        let file = self.commands.join(id).join(node).join(step);
        while fs::metadata(&file).map_or(0, |metadata| metadata.len()) == 0 {
            if begin.elapsed() > PATIENCE {
                return Err(format!("{} stays empty", file.display()));
            }
            std::thread::yield_now();
        }
        let took = begin.elapsed();
        let asked = json!({"CommandId": id, "InstanceId": self.target});
        // The next one begins when this one has ended.
        while !self.has_ended(&asked)? {
            std::thread::yield_now();
        }
        Ok(took)
    }

    fn has_ended(&mut self, asked: &Value) -> ChoreResult<bool> {
        let answer = self.call("GetCommandInvocation", asked).map_err(|error| error.to_string())?;
        match answer["Status"].as_str() {
            Some("Success") => Ok(true),
            Some("Pending" | "InProgress") => Ok(false),
            _ => Err(answer.to_string()),
        }
    }
}
