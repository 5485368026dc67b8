//! Properties of all policies, checked on generated ones.

use super::*;

/// Deterministic pseudo-random numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }

    fn one<'l>(&mut self, list: &[&'l str]) -> &'l str {
        list[self.roll(list.len())]
    }

    fn statement(&mut self, effect: Option<&str>) -> String {
        let effect = effect.unwrap_or_else(|| ["Allow", "Deny"][self.roll(2)]);
        let action = self.one(&["*", "ssm:*", "ssm:Start*", "ecs:ExecuteCommand", "ssm:StopX"]);
        let actions = self.one(&["Action", "Action", "NotAction"]);
        let resource = self.one(&[
            "*",
            "arn:aws:ecs:*:task/c/*",
            "arn:aws:ecs:r:0:task/c/x",
            "arn:aws:ssm:r:0:session/${aws:username}-*",
            "arn:aws:codebuild:*",
        ]);
        let resources = self.one(&["Resource", "Resource", "NotResource"]);
        let condition = self.one(&[
            "",
            "",
            r#""StringLike": {"aws:username": "a*"}"#,
            r#""StringNotEquals": {"ecs:cluster": ["c", "${aws:username}"]}"#,
            r#""ForAllValues:StringEquals": {"k:list": ["x", "y"]}"#,
            r#""NumericLessThan": {"k:n": "5"}"#,
            r#""Null": {"aws:username": "true"}"#,
        ]);
        format!(
            r#"{{"Effect": "{effect}", "{actions}": "{action}", "{resources}": "{resource}",
                "Condition": {{{condition}}}}}"#
        )
    }

    fn statements(&mut self) -> Vec<String> {
        (0..self.roll(5)).map(|_| self.statement(None)).collect()
    }

    fn context(&mut self) -> RequestContext {
        let mut context = RequestContext::default();
        for (key, values) in [
            ("aws:username", ["ann", "*", "bob"]),
            ("ecs:cluster", ["c", "d", "ann"]),
            ("k:list", ["x", "z", "y"]),
            ("k:n", ["1", "9", "many"]),
        ] {
            for _ in 0..self.roll(3) {
                context.add(key, self.one(&values));
            }
        }
        context
    }

    /// Picks the names of a resource used in a request, and its other names.
    fn names(&mut self) -> (Vec<String>, Vec<String>) {
        let all = [
            "arn:aws:ecs:r:0:task/c/x",
            "arn:aws:codebuild:r:0:build/p:x",
            "arn:aws:ssm:r:0:session/ann-1",
            "*",
        ];
        let used = self.roll(all.len());
        let also = self.roll(all.len());
        (vec![all[used].to_owned()], all[also..].iter().map(|name| (*name).to_owned()).collect())
    }
}

fn decided(
    statements: &[String],
    action: &str,
    names: &(Vec<String>, Vec<String>),
    context: &RequestContext,
) -> &'static str {
    let policies: Vec<IamPolicy> = statements
        .iter()
        .map(|one| read(&format!(r#"{{"Version": "2012-10-17", "Statement": [{one}]}}"#)))
        .collect();
    evaluate(&policies, &IamRequest::new(action, &names.0, &names.1, context)).name()
}

#[test]
fn more_denials_deny_more_and_order_does_not_matter() {
    let mut dice = Dice(1);
    let mut seen = std::collections::BTreeMap::<_, usize>::new();
    for _ in 0..1200 {
        let (mut statements, names, context) = (dice.statements(), dice.names(), dice.context());
        let action = dice.one(&["ssm:StartSession", "ecs:ExecuteCommand", "SSM:stopx", "x:Y"]);
        let decide = |statements: &[String]| decided(statements, action, &names, &context);
        let before = decide(&statements);
        *seen.entry(before).or_default() += 1;
        let mut turned = statements.clone();
        turned.reverse();
        assert_eq!(decide(&turned), before, "{statements:#?}");
        let at = dice.roll(statements.len() + 1);
        let mut denied = statements.clone();
        denied.insert(at, dice.statement(Some("Deny")));
        let after = decide(&denied);
        assert!(after == before || after == "explicitDeny", "{before} {after} {denied:#?}");
        statements.insert(at, dice.statement(Some("Allow")));
        let after = decide(&statements);
        assert!(
            after == before || (before, after) == ("implicitDeny", "allowed"),
            "{statements:#?}"
        );
        if before == "allowed" {
            assert_eq!(after, "allowed");
        }
    }
    assert!(seen.len() == 3 && seen.values().all(|count| *count > 60), "{seen:?}");
}

/// A variable's value is plain text: it matches only itself.
#[test]
fn what_is_substituted_is_never_a_pattern() {
    let policy = statement("Allow", "*", "arn:aws:ssm:r:0:session/${aws:username}-*", "");
    let liked = statement("Allow", "*", "*", r#""StringLike": {"k:given": "${aws:username}"}"#);
    let mut dice = Dice(2);
    let word = |dice: &mut Dice| -> String {
        (0..=dice.roll(4))
            .map(|_| dice.one(&["a", "*", "?", "$", "{", "}", ":", "${k:given}"]))
            .collect()
    };
    for _ in 0..1200 {
        let (user, other) = (word(&mut dice), word(&mut dice));
        let context = context(&[("aws:username", &user), ("k:given", &other)]);
        let name = format!("arn:aws:ssm:r:0:session/{other}-1");
        let is_own = user == other;
        for policy in [&policy, &liked] {
            let is_allowed = judged(policy, "x:Y", &name, &context) == "allowed";
            assert_eq!(is_allowed, is_own, "{user} {other}");
        }
    }
}

/// Parsing any damaged document ends with a result.
#[test]
fn spoilt_documents_are_read_to_an_end() {
    let whole =
        statement("Deny", "ssm:*", "arn:aws:s3:::${aws:username}*", r#""Bool": {"a:b": "true"}"#);
    let mut dice = Dice(3);
    for _ in 0..1200 {
        let mut text: Vec<char> = whole.chars().collect();
        for _ in 0..=dice.roll(3) {
            let at = dice.roll(text.len());
            match dice.roll(3) {
                0 => drop(text.remove(at)),
                1 => text.insert(at, ['"', '{', '}', '[', '\\', 'ä', '0', ','][dice.roll(8)]),
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(problems) = IamPolicy::parse("p", &text) {
            let lines = u32::try_from(text.lines().count()).expect("few") + 1;
            assert!(
                !problems.is_empty() && problems.iter().all(|one| one.place.line <= lines),
                "{text}"
            );
        }
    }
}
