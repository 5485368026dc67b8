//! AWS's CLI without its start, which takes longer than a call: a process that has imported it
//! forks for each (`tests/clients/aws.py`).

use super::bed::Outcome;
use super::daemon::Daemon;
use super::{PATIENCE, project, python};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::LazyLock;

static FORKS: LazyLock<Daemon> = LazyLock::new(|| {
    let forks = Daemon::start(|dir| {
        let mut command = Command::new(python("python"));
        command.arg(project().join("tests/clients/aws.py")).arg(dir.join("socket"));
        command.env("HOME", dir).env("PYTHONUTF8", "1");
        command
    });
    forks.answers(|| UnixStream::connect(forks.path("socket")).is_ok());
    forks
});

/// Runs a command of the CLI, which must name its whole environment and its directory.
pub(crate) fn call(command: &Command) -> Outcome {
    let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
    let environment: serde_json::Map<String, Value> = command
        .get_envs()
        .filter_map(|(name, value)| Some((text(name), json!(text(value?)))))
        .collect();
    let arguments: Vec<String> = command.get_args().map(text).collect();
    let request =
        json!({"args": arguments, "env": environment, "dir": command.get_current_dir().unwrap()});
    let mut stream = UnixStream::connect(FORKS.path("socket")).unwrap();
    stream.write_all(request.to_string().as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let answer: Value =
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{}", FORKS.log.text()));
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    let code = answer["code"].as_i64().unwrap();
    Outcome { code: code.try_into().unwrap(), stdout: text("stdout"), stderr: text("stderr") }
}
