//! The cost of another program in a running container, without the start of a client: within the
//! runner, from the call that starts it to the report of its exit, and over the build's control
//! socket.

use super::bed::{Bed, Docker, IMAGE};
use super::{Contender, measure, quiet};
use crate::ChoreResult;
use runner_wire::control::{ControlRequest, ControlResponse, OpenProgram, encode};
use runner_wire::frame::FrameDecoder;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Compared with posix_spawn of the same program.
pub(super) fn measure_exec(bed: &Bed) -> ChoreResult {
    let (paused, lines) = bed.paused_with(&[("RUNNER_LOG", "trace")])?;
    let socket = control_socket(&bed.dir.join("state/live"))?;
    let mut contenders = vec![
        Contender::timed("`/bin/true`, within the runner", || {
            exec(&socket)?;
            inside(&lines)
        }),
        Contender::timed("`/bin/true` over the control socket", || {
            let begin = Instant::now();
            exec(&socket)?;
            let took = begin.elapsed();
            inside(&lines)?;
            Ok(took)
        }),
        Contender::new("posix_spawn of /bin/true on the host", || {
            quiet(&mut Command::new("/bin/true"))
        }),
        // The same program: /bin/true of the image is busybox.
        Contender::new("posix_spawn of the image's /bin/true on the host", || {
            quiet(&mut Command::new(
                bed.image.trim_start_matches("rootfs:").to_owned() + "/bin/true",
            ))
        }),
    ];
    let result = measure("One more program, no client process", 200, &mut contenders);
    drop(contenders);
    drop(paused);
    result
}

/// The same in a Docker container and in one of our own, side by side.
pub(super) fn measure_engines(bed: &Bed, docker: Option<&Docker>) -> ChoreResult {
    let docker = docker.ok_or("this table needs docker")?;
    let trace = ("RUNNER_LOG", "trace");
    let own = bed.dir.join("state-docker");
    let home = own.to_str().ok_or("a path that is no text")?;
    let (ours, ours_lines) = bed.paused_with(&[trace])?;
    let options = ["--engine", "docker", "--image", IMAGE];
    let variables = [trace, ("DOCKER_HOST", docker.socket.as_str()), ("RUNNER_HOME", home)];
    let (theirs, theirs_lines) = bed.paused_in(&options, &variables)?;
    let (in_ours, in_theirs) =
        (control_socket(&bed.dir.join("state/live"))?, control_socket(&own.join("live"))?);
    let mut contenders = vec![
        Contender::timed("`/bin/true`, `--engine docker`", || {
            exec(&in_theirs)?;
            inside(&theirs_lines)
        }),
        Contender::timed("`/bin/true`, `--engine namespaces`", || {
            exec(&in_ours)?;
            inside(&ours_lines)
        }),
    ];
    let result = measure("One more program, by engine", 200, &mut contenders);
    drop(contenders);
    drop((ours, theirs));
    result
}

/// The next measurement in the runner's trace.
fn inside(lines: &Receiver<String>) -> ChoreResult<Duration> {
    let wait = Duration::from_secs(10);
    loop {
        let line = lines.recv_timeout(wait).map_err(|error| format!("no trace: {error}"))?;
        let figure = line.rsplit_once("micros=").filter(|_| line.contains("a program has exited"));
        if let Some((_, micros)) = figure {
            let micros = micros.trim().parse().map_err(|_| format!("no number in: {line}"))?;
            return Ok(Duration::from_micros(micros));
        }
    }
}

pub(super) fn control_socket(live: &Path) -> ChoreResult<PathBuf> {
    let mut entries = fs::read_dir(live).map_err(|error| error.to_string())?;
    let entry = entries.next().ok_or("no build is live")?.map_err(|error| error.to_string())?;
    let builds = live.parent().unwrap_or(live).join("builds");
    Ok(builds.join(entry.file_name()).join("control.sock"))
}

fn exec(socket: &Path) -> ChoreResult {
    let talk = || -> std::io::Result<ControlResponse> {
        let mut stream = UnixStream::connect(socket)?;
        let mut send = |request: &ControlRequest| stream.write_all(&encode(request)?);
        send(&ControlRequest::hello("bench"))?;
        let argv = vec!["/bin/true".to_owned()];
        send(&ControlRequest::Open(OpenProgram { argv, ..OpenProgram::default() }))?;
        let mut decoder = FrameDecoder::default();
        let mut buffer = [0; 4096];
        loop {
            while let Some(body) = decoder.next_frame().map_err(std::io::Error::other)? {
                match serde_json::from_slice(&body)? {
                    ControlResponse::Hello { .. } | ControlResponse::Opened { .. } => {}
                    last => return Ok(last),
                }
            }
            let got = stream.read(&mut buffer)?;
            if got == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            decoder.feed(&buffer[..got]);
        }
    };
    match talk().map_err(|error| error.to_string())? {
        ControlResponse::Exited { code: 0 } => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
