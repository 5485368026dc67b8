//! `MaxConcurrency` and `MaxErrors`: a number, or a percentage of the targets.

/// One of the two limits of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandBound {
    /// At least one; a percentage is rounded up.
    Concurrency,
    /// May be zero; a percentage is rounded down.
    Errors,
}

impl CommandBound {
    /// Its name in requests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CommandBound::Concurrency => "MaxConcurrency",
            CommandBound::Errors => "MaxErrors",
        }
    }

    /// The limit for this number of targets.
    ///
    /// # Errors
    /// The text is neither a number nor a percentage.
    pub fn of(self, text: &str, targets: usize) -> Result<usize, String> {
        let least = match self {
            CommandBound::Concurrency => 1,
            CommandBound::Errors => 0,
        };
        let number = |text: &str| -> Option<usize> {
            let is_plain =
                (1..=7).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| is_plain && *number >= least)
        };
        let allowed = match text.strip_suffix('%') {
            Some(part) => number(part).filter(|part| *part <= 100).map(|part| match self {
                CommandBound::Concurrency => (targets * part).div_ceil(100).max(1),
                CommandBound::Errors => targets * part / 100,
            }),
            None => number(text),
        };
        allowed.ok_or_else(|| {
            format!("{} is a number from {least} on or {least}% to 100%, not {text}", self.name())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_parts() {
        for (text, targets, wanted) in
            [("50", 3, 50), ("1", 3, 1), ("10%", 3, 1), ("50%", 3, 2), ("100%", 7, 7), ("1%", 0, 1)]
        {
            assert_eq!(CommandBound::Concurrency.of(text, targets), Ok(wanted), "{text}");
        }
        for (text, targets, wanted) in [("0", 3, 0), ("10%", 50, 5), ("50%", 3, 1), ("0%", 9, 0)] {
            assert_eq!(CommandBound::Errors.of(text, targets), Ok(wanted), "{text}");
        }
        for bad in ["", "%", "0", "0%", "101%", "-1", "+1", "1.5", "x", "12345678", "1 "] {
            assert!(CommandBound::Concurrency.of(bad, 10).is_err(), "{bad}");
        }
        for bad in ["", "%", "101%", "-1", "x"] {
            assert!(CommandBound::Errors.of(bad, 10).is_err(), "{bad}");
        }
    }
}
