//! Hints for failed commands, and for those a breakpoint would have paused. Each hint is given once
//! in a build.

use super::world::World;
use runner_core::event::CommandOutcome;
use runner_core::hints::{self, HintSubject};
use runner_core::machine::CommandRun;
use runner_core::phase::Phase;
use runner_core::spec::SpecCommand;
use runner_engine::image::Image;
use runner_engine::{Container, NetworkAccess};
use runner_folder::events::LogWriter;
use runner_host::users;
use std::sync::PoisonError;

/// Hints for a finished command whose output begins at this position in the log.
pub(super) fn of(
    world: &World,
    log: &LogWriter,
    container: &dyn Container,
    run: &CommandRun,
    (outcome, begin): (&CommandOutcome, u64),
) -> Option<String> {
    if !world.advises {
        return None;
    }
    let hint = match *outcome {
        CommandOutcome::Exited(0) => passed(world, &run.text),
        CommandOutcome::Exited(status) => for_failure(world, log, container, run, (status, begin)),
        CommandOutcome::NotStarted(ref reason) => {
            let user = run.user.as_deref().filter(|name| *reason == no_user(name));
            user.map(hints::missing_user)
        }
        CommandOutcome::Signaled(_) | CommandOutcome::Cut => None,
    }?;
    let mut advised = world.advised.lock().unwrap_or_else(PoisonError::into_inner);
    advised.insert(hint.clone()).then_some(hint)
}

/// Why a command does not run as a user that the image does not have.
pub(super) fn no_user(name: &str) -> String {
    format!("the image has no user `{name}` (run-as)")
}

/// A hint that a breakpoint did not pause.
fn passed(world: &World, text: &str) -> Option<String> {
    let is_passed = !world.plan.facts.session_enabled && hints::passes_breakpoint(text);
    is_passed.then(|| hints::PASSED.to_owned())
}

fn for_failure(
    world: &World,
    log: &LogWriter,
    container: &dyn Container,
    run: &CommandRun,
    (status, begin): (i32, u64),
) -> Option<String> {
    let output = log.last_output(begin, hints::TAIL).unwrap_or_default();
    let known = match status {
        127 => (world.missing_program_hint)(&run.text),
        _ => hints::missing_program(&output).and_then(|name| (world.missing_program_hint)(name)),
    };
    let known = known.or_else(|| match container.has_one_user() {
        true if status != 127 => users::advice_for(&run.text),
        _ => None,
    });
    let spec = &world.container_spec;
    let earlier = earlier(world, run);
    let failure = HintSubject {
        text: &run.text,
        output: &output,
        status,
        earlier: &earlier,
        version: world.work().map(|work| work.version),
        is_host: spec.image == Image::Host,
        is_codebuild: spec.image.to_string().contains("codebuild/"),
        is_privileged: spec.privileged,
        is_closed: spec.network == NetworkAccess::None,
        lacks_proxy: lacks_proxy(world),
        has_credentials: world.gives_credentials,
        keeps_names: container
            .layer()
            .is_ok_and(|layer| layer.users.is_some() && layer.stack.newest() > 0),
    };
    let lost = hints::lost_definition(&failure);
    let known = lost.or(known).or_else(|| hints::hint(&failure).map(Into::into));
    known.or_else(|| hints::lost_environment(&failure))
}

/// The commands of the buildspec that come before this run. Of the phase of a run that is not in
/// the buildspec, because its text was edited or typed, it is not known which they are.
fn earlier<'w>(world: &'w World, run: &CommandRun) -> Vec<&'w SpecCommand> {
    let phases = world.work().into_iter().flat_map(|work| &work.phases);
    let commands = phases.flat_map(|work| {
        let all = work.commands.iter().chain(&work.finally);
        all.map(|command| (Phase::from(work.phase), command))
    });
    let mut earlier = Vec::new();
    let mut of_phase = Vec::new();
    for (phase, command) in commands.take_while(|(phase, _)| *phase <= run.phase) {
        if phase < run.phase {
            earlier.push(command);
        } else if command.text == run.text {
            earlier.append(&mut of_phase);
            break;
        } else {
            of_phase.push(command);
        }
    }
    earlier
}

/// Whether the caller uses a proxy that the build does not know of.
fn lacks_proxy(world: &World) -> bool {
    const NAMES: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];
    let is_proxy = |name: &str| NAMES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy));
    let mut own = world.plan.layers.overrides.iter();
    std::env::vars_os().any(|(name, _)| name.to_str().is_some_and(is_proxy))
        && !own.any(|(name, _)| is_proxy(name))
}
