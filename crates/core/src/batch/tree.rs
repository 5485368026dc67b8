//! Prints a plan as a tree: each build once, below the dependency that comes last.

use super::plan::{BatchPlan, PlannedBuild};

impl BatchPlan {
    /// Returns the tree, one line per build.
    #[must_use]
    pub fn tree(&self) -> String {
        let parents = self.parents();
        let mut below: Vec<Vec<usize>> = vec![Vec::new(); self.builds.len()];
        let mut tops = Vec::new();
        for (at, parent) in parents.iter().enumerate() {
            match parent {
                Some(parent) => below[*parent].push(at),
                None => tops.push(at),
            }
        }
        let mut text = String::new();
        // Builds still to print, the next one last, each with its own prefix and the prefix of its
        // children.
        let mut pending: Vec<(usize, String, String)> =
            tops.into_iter().rev().map(|at| (at, String::new(), String::new())).collect();
        while let Some((at, before, indent)) = pending.pop() {
            text.push_str(&format!("{before}{}\n", self.line(at, parents[at])));
            let count = below[at].len();
            for (number, child) in below[at].iter().enumerate().rev() {
                let (branch, rest) =
                    if number + 1 == count { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                let (before, indent) = (format!("{indent}{branch}"), format!("{indent}{rest}"));
                pending.push((*child, before, indent));
            }
        }
        text
    }

    /// Parent of each build: among its dependencies, the one with the longest path.
    fn parents(&self) -> Vec<Option<usize>> {
        let mut depths: Vec<Option<usize>> = vec![None; self.builds.len()];
        // The graph has no cycles, so every round makes progress. File order usually needs one
        // round.
        let mut left = self.builds.len();
        while left > 0 {
            let before = left;
            for (at, build) in self.builds.iter().enumerate() {
                let known: Option<Vec<usize>> =
                    build.depends_on.iter().map(|on| depths[*on]).collect();
                if let (None, Some(known)) = (depths[at], known) {
                    depths[at] = Some(known.into_iter().max().map_or(0, |deepest| deepest + 1));
                    left -= 1;
                }
            }
            if left == before {
                break;
            }
        }
        let deepest = |build: &PlannedBuild| {
            // If several are equal, take the first.
            let on = build.depends_on.iter().copied().rev();
            on.max_by_key(|at| depths[*at])
        };
        self.builds.iter().map(deepest).collect()
    }

    fn line(&self, at: usize, parent: Option<usize>) -> String {
        let build = &self.builds[at];
        let own = &build.settings;
        let mut notes: Vec<String> = Vec::new();
        let others = build.depends_on.iter().filter(|on| Some(**on) != parent);
        let others: Vec<&str> = others.map(|on| self.builds[*on].identifier.as_str()).collect();
        if !others.is_empty() {
            notes.push(format!("also after {}", others.join(", ")));
        }
        notes.extend(own.buildspec.as_ref().map(|text| match text.contains('\n') {
            true => "its own buildspec".to_owned(),
            false => text.clone(),
        }));
        notes.extend(own.image.clone());
        notes.extend(own.compute_type.clone());
        notes.extend(own.variables.iter().map(|(name, value)| format!("{name}={value}")));
        notes.extend(
            build.shard.map(|shard| format!("part {} of {}", shard.index + 1, shard.count)),
        );
        if own.privileged == Some(true) {
            notes.push("privileged".to_owned());
        }
        if build.ignore_failure {
            notes.push("may fail".to_owned());
        }
        match notes.is_empty() {
            true => build.identifier.clone(),
            false => format!("{}  ({})", build.identifier, notes.join("; ")),
        }
    }
}
