//! Reports deliveries to AWS in the audit and in the records of commands.

use crate::deliveries::{DeliveryOutcome, Hears};
use crate::gateway::{Audit, AuditDetails, AuditRecord, CallerIdentity};
use runner_core::agent::AgentConfig;
use runner_folder::state::{Commands, Home, JobOf, SpoolJob};
use std::sync::Arc;

/// A callback that records the outcome of delivery jobs.
pub(super) fn hears(audit: &Arc<Audit>, home: &Home, agent: &AgentConfig) -> Hears {
    let (audit, commands) = (Arc::clone(audit), Commands::of(home));
    let agent = agent.clone();
    Arc::new(move |job, outcome| {
        let who = CallerIdentity::user(&job.context.owner, &job.user_id, &job.key_id);
        let details = match (&job.of, outcome) {
            (JobOf::Session, DeliveryOutcome::Arrived) => {
                AuditDetails::SessionLogged { to: job.to.words() }
            }
            (JobOf::Session, _) => AuditDetails::SessionNotLogged { why: why(outcome) },
            (JobOf::Command { id, node, step }, outcome) => {
                let told = why(outcome);
                if let Err(error) = commands.note_delivery(id, node, *step, &told) {
                    tracing::warn!(%error, command = id, "cannot record the state of output");
                }
                match outcome {
                    DeliveryOutcome::Arrived => {
                        clean(id, node, &commands, &agent);
                        return;
                    }
                    _ => AuditDetails::CommandOutputNotSent { why: told },
                }
            }
        };
        warn(job, outcome);
        audit.write(AuditRecord::session(who, &job.context.session, &job.context.target, &details));
    })
}

/// Removes the delivered outputs of a command that has ended at a node, unless they are to stay.
fn clean(id: &str, node: &str, commands: &Commands, agent: &AgentConfig) {
    let Ok(Some(found)) = commands.find(id) else { return };
    let Some(node) = found.command.nodes.iter().find(|known| known.id == *node) else { return };
    let details = found.invocation(node).map(|invocation| invocation.details);
    if !details.is_ok_and(|details| details.is_end() && agent.removes_outputs(details, true)) {
        return;
    }
    if let Err(error) = found.forget_arrived(node) {
        tracing::warn!(%error, command = id, "cannot remove what a command has written");
    }
}

/// Why output has not arrived; empty if it has.
fn why(outcome: &DeliveryOutcome) -> String {
    match outcome {
        DeliveryOutcome::Arrived => String::new(),
        DeliveryOutcome::Delayed(problem) => format!("not yet: {problem}"),
        DeliveryOutcome::GivenUp(problem) => format!("given up after seven days: {problem}"),
    }
}

fn warn(job: &SpoolJob, outcome: &DeliveryOutcome) {
    let (id, to) = (&job.id, job.to.words());
    match outcome {
        DeliveryOutcome::Arrived => {}
        DeliveryOutcome::Delayed(problem) => tracing::warn!(id, to, problem, "a log waits for AWS"),
        DeliveryOutcome::GivenUp(problem) => tracing::warn!(id, to, problem, "a log is given up"),
    }
}
