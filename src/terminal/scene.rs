//! Describes a stop: why the build is paused, where, and what the run has printed.

use runner_core::event::{ChangedVariable, StopFacts, StopKind};

/// Maximum lines of output shown.
const LINES: usize = 5;
/// Maximum variables shown.
const VARIABLES: usize = 8;
/// Maximum characters of a value.
const VALUE: usize = 40;

/// The lines that describe a stop. `buildspec`: its name.
pub(crate) fn stop_lines(stop: &StopFacts, buildspec: &str) -> Vec<String> {
    let place = stop.place.map_or_else(|| "the command".to_owned(), |place| place.to_string());
    let what = match stop.kind {
        StopKind::Entry => format!("before its first command, {place}"),
        StopKind::Before | StopKind::Step => format!("before {place}"),
        StopKind::After => "after the phase".to_owned(),
        StopKind::Failed => format!("because {place} has failed"),
        StopKind::Pause => format!("in the middle of {place}"),
    };
    let mut lines = vec![format!("paused {what}")];
    let at = stop.line.map_or_else(String::new, |line| format!("  ({buildspec}:{line})"));
    let mut text = stop.text.lines();
    lines.extend(text.next().map(|first| {
        let more = if text.next().is_some() { " ..." } else { "" };
        format!("  command      {first}{more}{at}")
    }));
    let scene = &stop.scene;
    lines.extend(scene.failure.iter().map(|why| format!("  failure      {why}")));
    let mut written: Vec<_> = scene.output.lines().rev().take(LINES).collect();
    written.reverse();
    for (at, line) in written.into_iter().enumerate() {
        let head = if at == 0 { "output" } else { "" };
        lines.push(format!("  {head:<8}   | {line}"));
    }
    for (at, changed) in scene.changed.iter().take(VARIABLES).enumerate() {
        let head = if at == 0 { "changed" } else { "" };
        lines.push(format!("  {head:<8}     {}", shown(changed)));
    }
    let more = scene.changed.len().saturating_sub(VARIABLES) + scene.more_changed;
    if more > 0 {
        lines.push(format!("               and {more} more: runner env --changed"));
    }
    lines
}

fn shown(changed: &ChangedVariable) -> String {
    let cut = |value: &str| match value.char_indices().nth(VALUE) {
        Some((at, _)) => format!("{}...", &value[..at]),
        None => value.to_owned(),
    };
    let ChangedVariable { name, before, now } = changed;
    match (before, now) {
        (Some(before), Some(now)) => format!("{name}={} (was {})", cut(now), cut(before)),
        (None, Some(now)) => format!("{name}={} (new)", cut(now)),
        (before, None) => {
            format!("{name} (unset, was {})", cut(before.as_deref().unwrap_or_default()))
        }
    }
    .replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_core::event::Scene;

    #[test]
    fn a_stop_is_shown_with_what_its_run_has_left() {
        let changed = |name: &str, before: Option<&str>, now: Option<&str>| ChangedVariable {
            name: name.to_owned(),
            before: before.map(str::to_owned),
            now: now.map(str::to_owned),
        };
        let stop = StopFacts {
            kind: StopKind::Failed,
            place: "build:2".parse().ok(),
            run: 2,
            text: "make\nmake test".to_owned(),
            breakpoints: Vec::new(),
            decisions: Vec::new(),
            line: Some(7),
            scene: Scene {
                failure: Some("why".to_owned()),
                output: (1..9).map(|n| format!("line {n}\n")).collect(),
                changed: vec![
                    changed("A", None, Some("1")),
                    changed("B", Some("x"), Some(&"y".repeat(50))),
                    changed("C", Some("z\nz"), None),
                ],
                more_changed: 2,
            },
        };
        let long = "y".repeat(40);
        assert_eq!(
            stop_lines(&stop, "b.yml"),
            [
                "paused because build:2 has failed",
                "  command      make ...  (b.yml:7)",
                "  failure      why",
                "  output     | line 4",
                "             | line 5",
                "             | line 6",
                "             | line 7",
                "             | line 8",
                "  changed      A=1 (new)",
                &format!("               B={long}... (was x)"),
                "               C (unset, was z z)",
                "               and 2 more: runner env --changed",
            ]
        );
    }
}
