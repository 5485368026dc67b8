//! Checks whether and how someone can connect to a build.

use super::{AgentLine, CheckRow, CheckState, Report, diagnostics, node, way};
use runner_client::{Client, ClientError, goes_on};
use runner_core::agent::{PROPERTIES, PropertyEffect, PropertyOrigin};
use runner_core::event::EventBody;
use runner_folder::events::LogReader;
use runner_folder::state::{Home, KnownBuild};
use runner_wire::control::{ControlRequest, ControlResponse};
use std::process::{Command, Stdio};

/// Runs all checks.
pub(crate) fn look(home: &Home, known: &KnownBuild) -> Report {
    let mut rows = Vec::new();
    let ended = known.dir.record().ok().flatten();
    if let Some(record) = &ended {
        let found = format!("it has ended: {}", record.build_status.name());
        let consequence = "sessions are no longer possible";
        let mend = "run it again; its log: runner logs";
        rows.push(CheckRow::new("build", CheckState::Missing, found, consequence, mend));
    }
    let works = ended.is_none() && {
        let (live, answers) = owner(known);
        let agent = if answers { agent(known) } else { not_asked("agent") };
        let works = agent.state == CheckState::Ok;
        rows.extend([live, node::names(home, known), sessions(known), agent]);
        if works {
            rows.push(node::shell(known));
        }
        rows.extend(way::look(home, known));
        rows.push(node::users(home));
        rows.extend(node::amazon(home, known, way::address(home, known).as_deref()));
        works
    };
    rows.push(program(
        "AWS CLI",
        "aws",
        "runner attach and runner exec need no AWS CLI",
        "install it: pip install awscli, or AWS's own installer",
    ));
    rows.push(node::dated(program(
        "session-manager-plugin",
        "session-manager-plugin",
        "aws ssm start-session does not work; runner attach does",
        "install AWS's package session-manager-plugin",
    )));
    let verdict = if works {
        format!("sessions to {} work: runner attach {}", known.id, short(&known.uuid))
    } else {
        format!("no session to {} is possible", known.id)
    };
    let agent = if ended.is_none() { agent_config(known) } else { Vec::new() };
    let given: Vec<String> = agent
        .iter()
        .filter(|line| line.from != PropertyOrigin::Default.name())
        .map(|line| {
            let effect = line.no_effect.map(|why| format!(": no effect, {why}"));
            format!("{} {} ({}{})", line.name, line.value, line.from, effect.unwrap_or_default())
        })
        .collect();
    if !given.is_empty() {
        rows.push(CheckRow::ok("AWS's agent", given.join("; ")));
    }
    let diagnostics = diagnostics::of(&rows);
    Report { works, verdict, rows, agent, diagnostics }
}

fn short(uuid: &str) -> &str {
    uuid.get(..8).unwrap_or(uuid)
}

fn not_asked(name: &'static str) -> CheckRow {
    let consequence = "no sessions";
    CheckRow::new(name, CheckState::Missing, "nothing answers", consequence, "see the row above")
}

/// Asks the build's owner for its state.
fn owner(known: &KnownBuild) -> (CheckRow, bool) {
    match Client::connect(&known.dir).and_then(|mut client| client.ask(&ControlRequest::Status)) {
        Ok(ControlResponse::Status(status)) => {
            let found =
                format!("{}, in {}, {} sessions", status.state, status.phase, status.sessions);
            (CheckRow::ok("build", found), true)
        }
        Ok(_) => (unreachable("its owner gives an unexpected answer", NOT_OURS), false),
        Err(error @ ClientError::Stopped { pid }) => {
            (unreachable(&error.to_string(), &goes_on(pid)), false)
        }
        Err(error) => (unreachable(&error.to_string(), NOT_OURS), false),
    }
}

const NOT_OURS: &str =
    "ask as the user who started it, or as root, with the same version and RUNNER_HOME";

fn unreachable(why: &str, mend: &str) -> CheckRow {
    CheckRow::new("build", CheckState::Missing, why, "sessions are not possible", mend)
}

/// The options the build was started with.
fn sessions(known: &KnownBuild) -> CheckRow {
    const NAME: &str = "sessions";
    let first = LogReader::open(&known.dir).and_then(|mut reader| reader.next_event());
    let enabled = first.ok().flatten().and_then(|event| match event.body {
        EventBody::BuildStarted(facts) => Some(facts.session_enabled),
        _ => None,
    });
    if enabled == Some(true) {
        return CheckRow::ok(NAME, "--enable-session: codebuild-breakpoint pauses the build");
    }
    CheckRow::new(
        NAME,
        CheckState::Limited,
        "the build was started without --enable-session",
        "codebuild-breakpoint does nothing, and AWS's clients are refused; attach and exec work",
        "start it again with --enable-session",
    )
}

/// The configuration of AWS's agent for its sessions, property by property.
fn agent_config(known: &KnownBuild) -> Vec<AgentLine> {
    let asked =
        Client::connect(&known.dir).and_then(|mut client| client.ask(&ControlRequest::Agent));
    // Another row reports that nobody answers.
    let Ok(ControlResponse::Agent { host, image }) = asked else { return Vec::new() };
    let config = image.map_or_else(|| host.clone(), |layer| host.tightened(&layer).0);
    let lines = PROPERTIES.iter().map(|property| {
        let (value, origin) = config.value(property);
        let no_effect = match property.effect {
            PropertyEffect::Works => None,
            PropertyEffect::None(why) => Some(why),
        };
        AgentLine { name: property.name, value, from: origin.name(), no_effect }
    });
    lines.collect()
}

/// Starts a program in the container, as a session does.
fn agent(known: &KnownBuild) -> CheckRow {
    let asked =
        Client::connect(&known.dir).and_then(|mut client| client.ask(&ControlRequest::Files));
    match asked {
        Ok(_) => CheckRow::ok("agent", "RUNNING: it starts programs in the container"),
        Err(error) => {
            let mend = match &error {
                ClientError::Refused { .. } => "wait until the container is up: runner ps",
                _ => "see the row above",
            };
            CheckRow::new("agent", CheckState::Missing, error.to_string(), "no sessions", mend)
        }
    }
}

/// Runs a program to get its version.
fn program(name: &'static str, program: &str, consequence: &str, mend: &str) -> CheckRow {
    let run = runner_sandbox::with_inherited_descriptors(&mut Command::new(program))
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    match run {
        Ok(output) if output.status.success() => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            CheckRow::ok(name, said.lines().next().unwrap_or("it is there").to_owned())
        }
        Ok(output) => {
            let found = format!("`{program} --version` fails: {}", output.status);
            CheckRow::new(name, CheckState::Limited, found, consequence, mend)
        }
        Err(error) => {
            let found = format!("`{program}` cannot be run: {error}");
            CheckRow::new(name, CheckState::Missing, found, consequence, mend)
        }
    }
}
