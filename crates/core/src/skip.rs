//! Parts of a buildspec that the command line skips.
//!
//! Made by `src/cli/run.rs` and applied by [`crate::plan::work`], so the machine gets the result.

use crate::spec::{BuildSpec, SpecCommand, UserPhase};
use serde::{Deserialize, Serialize};

/// The parts to skip.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skips {
    /// Commands, by patterns that match their whole text.
    pub commands: Vec<Glob>,
    /// Phases.
    pub phases: Vec<UserPhase>,
}

impl Skips {
    /// Whether nothing is skipped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.phases.is_empty()
    }

    /// Whether a command is skipped.
    #[must_use]
    pub fn has(&self, phase: UserPhase, command: &SpecCommand) -> bool {
        self.phases.contains(&phase) || self.commands.iter().any(|glob| glob.is(&command.text))
    }

    /// Patterns that match no command of a buildspec.
    #[must_use]
    pub fn idle(&self, spec: &BuildSpec) -> Vec<&str> {
        let is_idle = |glob: &&Glob| {
            let mut commands =
                spec.phases.iter().flat_map(|phase| phase.commands.iter().chain(&phase.finally));
            !commands.any(|command| glob.is(&command.text))
        };
        self.commands.iter().filter(is_idle).map(|glob| glob.0.as_str()).collect()
    }
}

/// A pattern for a whole text without surrounding blanks; `*` matches any characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Glob(String);

impl Glob {
    /// Makes a pattern.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Glob(text.trim().to_owned())
    }

    fn is(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let mut rest = text.trim();
        let Some(after) = rest.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let has_stars = self.0.contains('*');
        rest = after;
        let mut parts = parts.peekable();
        // For the middle parts, the first match is as good as any. The last part must end the text.
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        has_stars || rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn a_pattern_is_of_the_whole_text() {
        for (glob, text, is_it) in [
            ("make", "make", true),
            ("make", "  make \n", true),
            ("make", "make x", false),
            ("docker *", "docker push x", true),
            ("docker *", "sudo docker push", false),
            ("*docker*push*", "if x; then\n  docker push a\nfi", true),
            ("*push", "docker push", true),
            ("*push", "docker push x", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*", "", true),
            ("**b*", "abc", true),
            ("é*", "é!", true),
        ] {
            assert_eq!(Glob::new(glob).is(text), is_it, "{glob} {text}");
        }
    }
}
