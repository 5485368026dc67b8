//! Builds that wait for others: names that nobody has, and circles.

use super::super::diagnostic::{Diagnostic, DiagnosticCode};
use super::super::read::Text;
use std::collections::{HashMap, HashSet};

/// Most names of a circle in a message.
const MOST_NAMED: usize = 8;

/// How far the search has got with a build.
#[derive(Clone, Copy, PartialEq, Eq)]
enum VisitMark {
    /// On the path, at this place.
    On(usize),
    Done,
}

/// `waits`: each build that waits, with the name of what it waits for.
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

/// Goes into the depth from a build, without recursion: a chain may be as long as the file.
fn search<'t>(
    start: &'t str,
    behind: &HashMap<&'t str, Vec<&'t Text>>,
    marks: &mut HashMap<&'t str, VisitMark>,
    problems: &mut Vec<Diagnostic>,
) {
    let none = Vec::new();
    let next = |name: &str| behind.get(name).unwrap_or(&none).iter();
    let mut path = vec![(start, next(start))];
    // What the build on the path at this place waits for.
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
                // Told where it begins, at the first build of it that was met.
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
