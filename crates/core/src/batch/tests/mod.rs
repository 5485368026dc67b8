//! Tests of expansion by table, and of the machine by table and by randomized order.

mod laws;
mod machine;
mod plans;

use super::*;
use crate::phase::{PhaseContext, Status, StatusCode};
use crate::spec::{self, Diagnostic};
use crate::time::WallTime;

/// Reads a buildspec's batch. The buildspec has phases, so its builds need none.
fn read(batch: &str) -> Result<spec::BatchSpec, Vec<Diagnostic>> {
    let text = format!("version: 0.2\nphases: {{build: {{commands: [make]}}}}\nbatch:\n{batch}");
    spec::parse_batch(&text).map(|(spec, _)| spec.batch.expect("a batch"))
}

fn planned(batch: &str) -> BatchPlan {
    let batch = read(batch).expect("sound");
    plan(&batch, &Restrictions::default()).expect("allowed")
}

/// Line and message of each error.
fn refused(text: &str) -> Vec<(u32, String)> {
    let problems = spec::parse_batch(text).expect_err(text);
    let errors = problems.into_iter().filter(Diagnostic::is_error);
    errors.map(|problem| (problem.span.line, problem.message)).collect()
}

/// Builds a graph from words: `name` or `name<on,on`, with `?` after a name that may fail.
fn graph(words: &str) -> BatchPlan {
    let tasks = words.split_whitespace().map(|word| {
        let (name, on) = word.split_once('<').unwrap_or((word, ""));
        let may_fail = name.ends_with('?');
        let name = name.trim_end_matches('?');
        format!(
            "    - identifier: {name}\n      ignore-failure: {may_fail}\n      depend-on: [{on}]\n"
        )
    });
    planned(&format!("  build-graph:\n{}", tasks.collect::<String>()))
}

const NOW: WallTime = WallTime(1_700_000_000_000_000);

fn machine(plan: BatchPlan, most: usize) -> BatchMachine {
    let arns = (0..plan.builds.len()).map(|at| format!("arn:{at}")).collect();
    BatchMachine::new(plan, arns, most, NOW)
}

#[test]
fn the_worst_code_is_the_batchs() {
    for (codes, wanted) in [
        (&[][..], 0),
        (&[0, 0], 0),
        (&[0, 1, 0], 1),
        (&[1, 5], 5),
        (&[1, 4, 5], 4),
        (&[1, 4, 2], 2),
        (&[2, 3], 3),
        (&[0, 137], 137),
    ] {
        assert_eq!(worst(codes.iter().copied()), wanted, "{codes:?}");
    }
}
