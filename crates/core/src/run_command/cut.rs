//! Shortens output for responses, with a mark at the cut.

/// Maximum length of `StandardOutputContent`, in characters.
pub const STDOUT: usize = 24_000;
/// Maximum length of `StandardErrorContent`, in characters.
pub const STDERR: usize = 8_000;
/// Maximum length of a plugin's `Output`, in characters.
pub const PLUGIN: usize = 2_500;

const TRUNCATED: &str = "--output truncated--";
const OUTPUT_TRUNCATED: &str = "\n---Output truncated---";
const ERROR_TRUNCATED: &str = "\n---Error truncated----";
const ERRORS: &str = "\n----------ERROR-------\n";

/// The beginning of an output. `has_more` says that the output goes on after `text`.
#[must_use]
pub fn content(text: &str, has_more: bool, most: usize) -> String {
    marked(text, has_more, most, TRUNCATED)
}

/// Output and errors combined, as in a plugin's `Output`. If both are too long, errors get at most
/// half of the space.
#[must_use]
pub fn both(output: &str, has_more: bool, errors: &str, has_more_errors: bool) -> String {
    if errors.is_empty() {
        return marked(output, has_more, PLUGIN, OUTPUT_TRUNCATED);
    }
    let room = PLUGIN - ERRORS.len();
    let half = room / 2;
    let (wanted, of_errors) = (length(output, has_more), length(errors, has_more_errors));
    let for_errors = if wanted < half { room - wanted } else { half };
    let for_output = if of_errors < half { room - of_errors } else { half };
    let output = marked(output, has_more, for_output, OUTPUT_TRUNCATED);
    let errors = marked(errors, has_more_errors, for_errors, ERROR_TRUNCATED);
    format!("{output}{ERRORS}{errors}")
}

/// Length in characters; `usize::MAX` if there is more than `text`.
fn length(text: &str, has_more: bool) -> usize {
    if has_more { usize::MAX } else { text.chars().count() }
}

fn marked(text: &str, has_more: bool, most: usize, mark: &str) -> String {
    // Most texts are short, and a text never has more characters than bytes.
    if !has_more && (text.len() <= most || text.chars().count() <= most) {
        return text.to_owned();
    }
    let kept = most.saturating_sub(mark.chars().count());
    text.chars().take(kept).chain(mark.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_whole() {
        assert_eq!(content("abc", false, 3), "abc");
        assert_eq!(content(&"ü".repeat(STDERR), false, STDERR), "ü".repeat(STDERR));
        assert_eq!(both("out", false, "", false), "out");
        assert_eq!(both("out", false, "err", false), "out\n----------ERROR-------\nerr");
    }

    #[test]
    fn what_does_not_is_cut_within_the_limit() {
        for text in ["a".repeat(STDOUT + 1), "ü".repeat(STDOUT * 2)] {
            let cut = content(&text, false, STDOUT);
            assert_eq!(cut.chars().count(), STDOUT);
            assert!(cut.ends_with("--output truncated--"));
        }
        assert!(content("abc", true, STDOUT).ends_with("abc--output truncated--"));
        let long = "x".repeat(9000);
        let cases = [
            (&*long, "", 1),
            (&*long, "err", 1),
            ("out", &*long, 1),
            (&*long, &*long, 2),
            ("", &*long, 1),
        ];
        for (output, errors, marks) in cases {
            let cut = both(output, false, errors, false);
            assert_eq!(cut.chars().count(), PLUGIN);
            assert_eq!(cut.matches("truncated---").count(), marks, "{cut}");
        }
        assert!(both(&long, false, "err", false).ends_with("\nerr"));
    }
}
