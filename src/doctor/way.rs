//! Checks how AWS's clients reach a build: the key pair, and the endpoint that verifies its
//! signatures.
//!
//! Used by `build`. It makes a real client call: CodeBuild's BatchGetBuilds for this build, signed
//! with the key pair of the state folder.

use super::{CheckRow, CheckState};
use runner_client::goes_on;
use runner_cloud::{CODEBUILD, CallError, call_here};
use runner_folder::events::Follower;
use runner_folder::state::{Home, KnownBuild, live_serve};
use runner_serve::aws::{KeyPair, PROFILE};
use serde_json::{Value, json};

const ENDPOINT: &str = "endpoint";
const CREDENTIALS: &str = "credentials";
/// The consequence if AWS's clients cannot connect.
const CONSEQUENCE: &str = "AWS's clients find no way in; runner attach and runner exec do";

/// The known address of the build for AWS's clients.
pub(super) fn address(home: &Home, known: &KnownBuild) -> Option<String> {
    own(known).or_else(|| live_serve(home).map(|serve| serve.address))
}

/// Calls the endpoint that serves the build.
pub(super) fn look(home: &Home, known: &KnownBuild) -> [CheckRow; 2] {
    // The build's notice names an endpoint opened for it. Do not wait for an answer of a stopped
    // process.
    let (serving, stopped) = match (own(known), live_serve(home)) {
        // If a `runner serve` is live, the build names it.
        (Some(address), Some(serve)) if serve.address == address => {
            (Some(address), serve.is_stopped().then_some(serve.pid))
        }
        (Some(address), _) => (Some(address), known.dir.stopped_owner()),
        (None, Some(serve)) => {
            let stopped = serve.is_stopped().then_some(serve.pid);
            (Some(serve.address), stopped)
        }
        (None, None) => (None, None),
    };
    match KeyPair::existing(home) {
        Ok(Some(keys)) => {
            let found = format!("{} (profile {PROFILE})", keys.path().display());
            let Some(address) = serving else {
                return [not_offered(), CheckRow::ok(CREDENTIALS, found)];
            };
            if let Some(pid) = stopped {
                return [is_stopped(&address, pid), CheckRow::ok(CREDENTIALS, found)];
            }
            judge(&address, known, call(&address, known, &keys), found)
        }
        Ok(None) => {
            let mend =
                "they are made with the first endpoint: runner serve, or run --enable-session";
            let row =
                CheckRow::new(CREDENTIALS, CheckState::Missing, "none yet", CONSEQUENCE, mend);
            [serving.map_or_else(not_offered, |address| not_called(&address)), row]
        }
        Err(error) => {
            let mend =
                "make it this user's alone (chmod 600), or remove it and start the build again";
            let row = CheckRow::new(
                CREDENTIALS,
                CheckState::Missing,
                error.to_string(),
                CONSEQUENCE,
                mend,
            );
            [serving.map_or_else(not_offered, |address| not_called(&address)), row]
        }
    }
}

/// The address that the build announces to AWS's clients.
fn own(known: &KnownBuild) -> Option<String> {
    let mut log = Follower::open(&known.dir).ok()?;
    log.catch_up().ok()??.endpoint.clone()
}

/// Requests the build, as a client does.
fn call(address: &str, known: &KnownBuild, keys: &KeyPair) -> Result<Value, CallError> {
    let unreachable = |error: std::io::Error| CallError::Unreachable {
        endpoint: address.to_owned(),
        problem: error.to_string(),
    };
    let runtime =
        runner_host::runtime::start().map_err(|error| unreachable(std::io::Error::other(error)))?;
    let (url, body) = (format!("http://{address}"), json!({"ids": [known.id]}));
    let credentials = keys.credentials();
    runtime.block_on(call_here(&url, CODEBUILD, "BatchGetBuilds", &body, &credentials))
}

/// What the response says about the endpoint and the keys.
fn judge(
    address: &str,
    known: &KnownBuild,
    answer: Result<Value, CallError>,
    keys: String,
) -> [CheckRow; 2] {
    let answers = || CheckRow::ok(ENDPOINT, format!("http://{address} answers signed calls"));
    match answer {
        Ok(body) if body["builds"][0]["id"] == known.id.as_str() => {
            [answers(), CheckRow::ok(CREDENTIALS, keys)]
        }
        Ok(_) => {
            let found = format!("http://{address} answers, and does not know this build");
            let mend = "serve the state folder of the build: RUNNER_HOME=... runner serve";
            let row = CheckRow::new(ENDPOINT, CheckState::Missing, found, CONSEQUENCE, mend);
            [row, CheckRow::ok(CREDENTIALS, keys)]
        }
        Err(CallError::Unreachable { problem, .. }) => {
            let found = format!("http://{address} does not answer: {problem}");
            let mend = "is a firewall in between, or its process stopped? else: runner serve";
            let row = CheckRow::new(ENDPOINT, CheckState::Missing, found, CONSEQUENCE, mend);
            [row, CheckRow::ok(CREDENTIALS, keys)]
        }
        Err(error) => {
            let found = format!("{keys}: refused: {error}");
            let mend = "the file was changed while the endpoint was running: restart runner serve";
            let row = CheckRow::new(CREDENTIALS, CheckState::Missing, found, CONSEQUENCE, mend);
            [CheckRow::ok(ENDPOINT, format!("http://{address} answers")), row]
        }
    }
}

fn is_stopped(address: &str, pid: u32) -> CheckRow {
    let found = format!("http://{address} does not answer: its process {pid} is stopped");
    CheckRow::new(ENDPOINT, CheckState::Missing, found, CONSEQUENCE, goes_on(pid))
}

fn not_offered() -> CheckRow {
    let found = "none is open for this build";
    let mend = "runner serve; a build with --enable-session has one from its start";
    CheckRow::new(ENDPOINT, CheckState::Missing, found, CONSEQUENCE, mend)
}

/// Without keys, only a connection can be tried.
fn not_called(address: &str) -> CheckRow {
    let tried = address.parse().map_err(std::io::Error::other).and_then(|address| {
        std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(5))
    });
    match tried {
        Ok(_) => {
            let found = format!("http://{address} accepts connections, but no call can be signed");
            CheckRow::new(ENDPOINT, CheckState::Limited, found, CONSEQUENCE, "see the row below")
        }
        Err(error) => {
            let found = format!("http://{address} does not answer: {error}");
            CheckRow::new(ENDPOINT, CheckState::Missing, found, CONSEQUENCE, "runner serve")
        }
    }
}
