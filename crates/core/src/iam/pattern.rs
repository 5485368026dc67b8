//! Patterns with `*` and `?`.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicyToken {
    Exact(char),
    /// `?`
    One,
    /// `*`
    Many,
}

/// A pattern with `*` (any characters) and `?` (one character).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PolicyPattern(pub(super) Vec<PolicyToken>);

impl PolicyPattern {
    /// Parses a text as a pattern.
    pub(super) fn of(text: &str) -> Self {
        let token = |c| match c {
            '*' => PolicyToken::Many,
            '?' => PolicyToken::One,
            c => PolicyToken::Exact(c),
        };
        PolicyPattern(text.chars().map(token).collect())
    }

    /// Makes a pattern that matches exactly this text.
    pub(super) fn literal(text: &str) -> Self {
        PolicyPattern(text.chars().map(PolicyToken::Exact).collect())
    }

    /// The text, if the pattern has no wildcards.
    pub(super) fn text(&self) -> Option<String> {
        let exact = |token: &PolicyToken| match token {
            PolicyToken::Exact(c) => Some(*c),
            PolicyToken::One | PolicyToken::Many => None,
        };
        self.0.iter().map(exact).collect()
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        matches(&self.0, text)
    }

    /// Matches an ARN part by part: a `*` does not cross a colon before the sixth part.
    pub(super) fn matches_arn(&self, text: &str) -> bool {
        if self.0 == [PolicyToken::Many] {
            return true;
        }
        let mut wanted = self.0.splitn(6, |token| *token == PolicyToken::Exact(':'));
        let mut parts = text.splitn(6, ':');
        (0..6).all(|_| match (wanted.next(), parts.next()) {
            (Some(wanted), Some(part)) => matches(wanted, part),
            _ => false,
        })
    }

    /// Whether the pattern can match an ARN.
    pub(super) fn is_arn(&self) -> bool {
        let colons = self.0.iter().filter(|token| **token == PolicyToken::Exact(':')).count();
        self.0 == [PolicyToken::Many] || colons >= 5
    }
}

/// Backtracks only to the last `*`, so the time is at most the product of both lengths.
fn matches(tokens: &[PolicyToken], text: &str) -> bool {
    let (mut at, mut rest) = (0, text.chars());
    let mut back = None;
    loop {
        let mut next = rest.clone();
        match (tokens.get(at), next.next()) {
            (Some(PolicyToken::Many), _) => {
                at += 1;
                back = Some((at, rest.clone()));
                continue;
            }
            (Some(PolicyToken::One), Some(_)) => {
                (at, rest) = (at + 1, next);
                continue;
            }
            (Some(PolicyToken::Exact(wanted)), Some(c)) if *wanted == c => {
                (at, rest) = (at + 1, next);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        let Some((start, from)) = &mut back else { return false };
        if from.next().is_none() {
            return false;
        }
        (at, rest) = (*start, from.clone());
    }
}
