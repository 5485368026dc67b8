//! Checks dependencies between builds: unknown names and cycles.

use super::super::diagnostic::{Diagnostic, DiagnosticCode};
use super::super::read::Text;
use std::collections::{HashMap, HashSet};

/// Maximum number of names of a cycle in a message.
const MOST_NAMED: usize = 8;

/// State of a build in the search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum VisitMark {
    /// On the current path, at this index.
    On(usize),
    Done,
}

/// `waits` lists each dependent build with the name of a dependency.
pub(super) fn check(
    names: &HashSet<String>,
    waits: &[(String, Text)],
    problems: &mut Vec<Diagnostic>,
) {
    let mut behind: HashMap<&str, Vec<&Text>> = HashMap::new();
    for (task, name) in waits {
        if names.contains(&name.text) {
            behind.entry(task).or_default().push(name);
        } else {
            let message = format!("there is no build `{}` in this batch", name.text);
            problems.push(Diagnostic::new(DiagnosticCode::BadValue, name.span, message));
        }
    }
    let mut marks: HashMap<&str, VisitMark> = HashMap::new();
    for (start, _) in waits {
        if !marks.contains_key(start.as_str()) {
            search(start, &behind, &mut marks, problems);
        }
    }
}

/// Depth-first search from a build, without recursion, because a chain may be as long as the file.
fn search<'t>(
    start: &'t str,
    behind: &HashMap<&'t str, Vec<&'t Text>>,
    marks: &mut HashMap<&'t str, VisitMark>,
    problems: &mut Vec<Diagnostic>,
) {
    let none = Vec::new();
    let next = |name: &str| behind.get(name).unwrap_or(&none).iter();
    let mut path = vec![(start, next(start))];
    // For each build on the path, the dependency that is being followed.
    let mut ways: Vec<&Text> = Vec::new();
    marks.insert(start, VisitMark::On(0));
    while let Some((name, rest)) = path.last_mut() {
        let Some(&way) = rest.next() else {
            marks.insert(*name, VisitMark::Done);
            path.pop();
            ways.pop();
            continue;
        };
        match marks.get(way.text.as_str()) {
            Some(VisitMark::Done) => {}
            None => {
                ways.push(way);
                marks.insert(&way.text, VisitMark::On(ways.len()));
                path.push((&way.text, next(&way.text)));
            }
            Some(&VisitMark::On(from)) => {
                let count = path.len() - from;
                let circle = path[from..].iter().map(|(name, _)| *name);
                // Reported at the first build of the cycle that was found.
                let span = ways.get(from).copied().unwrap_or(way).span;
                problems.push(Diagnostic::new(DiagnosticCode::BadValue, span, told(circle, count)));
            }
        }
    }
}

fn told<'t>(mut circle: impl Iterator<Item = &'t str>, count: usize) -> String {
    let first = circle.next().unwrap_or_default();
    if count == 1 {
        return format!("`{first}` waits for itself");
    }
    let mut named: Vec<String> = circle.take(MOST_NAMED).map(|name| format!("`{name}`")).collect();
    if count > MOST_NAMED + 1 {
        named.push(format!("{} more", count - MOST_NAMED - 1));
    }
    let named = named.join(", which waits for ");
    format!("`{first}` waits for {named}, which waits for `{first}`")
}
