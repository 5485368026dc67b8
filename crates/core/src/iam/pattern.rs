//! Texts with `*` and `?`.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicyToken {
    Exact(char),
    /// `?`
    One,
    /// `*`
    Many,
}

/// A text with `*` (any characters) and `?` (one character).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PolicyPattern(pub(super) Vec<PolicyToken>);

impl PolicyPattern {
    /// A text whose `*` and `?` mean what they mean in patterns.
    pub(super) fn of(text: &str) -> Self {
        let token = |c| match c {
            '*' => PolicyToken::Many,
            '?' => PolicyToken::One,
            c => PolicyToken::Exact(c),
        };
        PolicyPattern(text.chars().map(token).collect())
    }

    /// A text that means itself.
    pub(super) fn literal(text: &str) -> Self {
        PolicyPattern(text.chars().map(PolicyToken::Exact).collect())
    }

    /// The text that it is, where it has no `*` and no `?` that mean more.
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

    /// Matches part by part, as ARNs are compared: a `*` does not reach past a colon before the sixth part.
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

    /// Whether it can match an ARN at all.
    pub(super) fn is_arn(&self) -> bool {
        let colons = self.0.iter().filter(|token| **token == PolicyToken::Exact(':')).count();
        self.0 == [PolicyToken::Many] || colons >= 5
    }
}

/// Goes back to the last `*` only, so that the time is the product of both lengths at most.
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
