//! The effect of reports on the phase that reads them.
//!
//! Filled while groups are read. AWS's messages come from what its users have published
//! (docs/adr/0066).

use crate::phase::{PhaseContext, StatusCode};

/// AWS's message for a group without files.
const MISSING: &str = "no matching report paths found";
/// Maximum number of problems per group that the phase names.
const MAX_NAMED: usize = 5;
/// Maximum length of such a problem, in characters.
const MAX_LENGTH: usize = 500;

/// The results of the report groups in the buildspec.
#[derive(Clone, Debug, Default)]
pub struct ReportVerdict {
    /// Groups without files, by their names in the buildspec.
    pub missing: Vec<String>,
    refused: Vec<RefusedGroup>,
}

#[derive(Clone, Debug)]
struct RefusedGroup {
    group: String,
    /// The first problems, and their number.
    problems: Vec<String>,
    count: usize,
}

impl ReportVerdict {
    /// Records why files of a group were rejected: the first reasons, and their number.
    pub fn refuse(&mut self, group: &str, (problems, count): (&[String], usize)) {
        if count > 0 {
            let problems = problems.iter().take(MAX_NAMED).map(|text| plain(text)).collect();
            self.refused.push(RefusedGroup { group: group.to_owned(), problems, count });
        }
    }

    /// Why the phase failed, if it did.
    #[must_use]
    pub fn context(&self) -> Option<PhaseContext> {
        if self.refused.is_empty() {
            let is_missing = !self.missing.is_empty();
            return is_missing.then(|| PhaseContext::new(StatusCode::ClientError, MISSING));
        }
        let refused = self.refused.iter().map(|RefusedGroup { group, problems, count }| {
            let more = match count.saturating_sub(problems.len()) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let problems = problems.join(" ");
            format!("{}: [error processing report: [{problems}{more}]]", plain(group))
        });
        let missing = self.missing.iter().map(|group| format!("{}: [{MISSING}]", plain(group)));
        let groups: Vec<String> = refused.chain(missing).collect();
        let message = format!("Error in UPLOAD_ARTIFACTS phase: [{}]", groups.join(" "));
        Some(PhaseContext::new(StatusCode::ClientError, message))
    }
}

/// Cleans a text. File and group names come from the build.
fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(MAX_LENGTH).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(verdict: &ReportVerdict) -> Option<String> {
        verdict.context().map(|context| context.message)
    }

    #[test]
    fn the_phase_fails_in_the_words_of_aws() {
        let mut verdict = ReportVerdict::default();
        verdict.refuse("unit", (&[], 0));
        assert_eq!(message(&verdict), None);
        verdict.missing.push("other".to_owned());
        assert_eq!(message(&verdict).as_deref(), Some("no matching report paths found"));
        verdict.refuse("cov", (&["/w/c.xml: no\u{1b}".to_owned()], 1));
        assert_eq!(
            message(&verdict).as_deref(),
            Some(
                "Error in UPLOAD_ARTIFACTS phase: [cov: [error processing report: [/w/c.xml: no\u{fffd}]] \
                 other: [no matching report paths found]]"
            )
        );
        let mut many = ReportVerdict::default();
        let problems: Vec<String> = (0..9).map(|number| number.to_string()).collect();
        many.refuse("g", (&problems, 100));
        assert!(message(&many).is_some_and(|text| text.contains("[0 1 2 3 4 and 95 more]")));
    }
}
