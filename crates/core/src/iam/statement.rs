//! One statement of a policy.

use super::DocumentProblems;
use super::condition::{Operator, PolicyCondition};
use super::context::RequestContext;
use super::evaluate::IamRequest;
use super::node::{JsonMember, JsonNode, JsonValue, member};
use super::pattern::PolicyPattern;
use super::template::{PolicyTemplate, PolicyVersion};
use std::fmt;

/// The effect of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementEffect {
    /// The action is allowed, unless another statement denies it.
    Allow,
    /// The action is denied.
    Deny,
}

/// A policy statement.
#[derive(Clone, Debug)]
pub struct Statement {
    pub(super) effect: StatementEffect,
    /// Its origin: the policy, its number there from 0, and its Sid.
    policy: String,
    number: usize,
    sid: Option<String>,
    actions: StatementList<PolicyPattern>,
    resources: StatementList<PolicyTemplate>,
    conditions: Vec<PolicyCondition>,
}

/// The listed items, or everything else (`NotAction`, `NotResource`).
#[derive(Clone, Debug)]
struct StatementList<T> {
    is_rest: bool,
    items: Vec<T>,
}

impl fmt::Display for Statement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, statement {}", self.policy, self.number)?;
        self.sid.as_ref().map_or(Ok(()), |sid| write!(formatter, " ({sid})"))
    }
}

impl Statement {
    /// The policy that contains it.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Whether it applies to a request.
    pub(super) fn applies(&self, request: &IamRequest<'_>) -> bool {
        let is_listed = self.actions.items.iter().any(|action| action.matches(&request.folded));
        is_listed != self.actions.is_rest
            && self.is_about(request)
            && self.conditions.iter().all(|one| one.holds(request.context, self.effect))
    }

    /// Whether the statement covers the resource, which may have several names. A rule that allows
    /// counts only for the names used in the request. What a rule denies, or excludes from an
    /// allow, is denied under every name.
    fn is_about(&self, request: &IamRequest<'_>) -> bool {
        let (used, also) = (request.names, request.also);
        match (self.effect, self.resources.is_rest) {
            (StatementEffect::Allow, false) => self.lists(used, request.context) == Some(true),
            (StatementEffect::Deny, false) => {
                self.lists(used, request.context) == Some(true)
                    || self.lists(also, request.context) == Some(true)
            }
            (StatementEffect::Allow, true) => {
                self.lists(used, request.context) == Some(false)
                    && self.lists(also, request.context) == Some(false)
            }
            (StatementEffect::Deny, true) => self.lists(used, request.context) != Some(true),
        }
    }

    /// Whether one of these names is listed; `None` if none is but an item has an unset variable.
    fn lists(&self, names: &[String], context: &RequestContext) -> Option<bool> {
        let mut is_known = true;
        for item in &self.resources.items {
            match item.resolved(context) {
                Some(pattern) if names.iter().any(|name| pattern.matches(name)) => {
                    return Some(true);
                }
                Some(_) => {}
                None => is_known = false,
            }
        }
        is_known.then_some(false)
    }

    /// The condition keys it uses, as written.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let conditions = self.conditions.iter();
        let asked = conditions.clone().map(|condition| condition.name.as_str());
        let variables = conditions.flat_map(PolicyCondition::variables);
        let resources = self.resources.items.iter().flat_map(PolicyTemplate::variables);
        asked.chain(variables).chain(resources)
    }

    /// Reads a statement of the policy `name`.
    pub(super) fn read(
        node: &JsonNode,
        (name, number): (&str, usize),
        version: PolicyVersion,
        problems: &mut DocumentProblems,
    ) -> Option<Self> {
        let members = node.map("a statement", problems);
        known(members, problems);
        let effect = effect(node, members, problems)?;
        let sid = sid(members, problems);
        let actions = either(node, members, ["Action", "NotAction"], problems, action);
        let resources = either(node, members, ["Resource", "NotResource"], problems, |text| {
            resource(text, version)
        });
        let conditions = match member(members, "Condition") {
            Some(node) => conditions(node, version, effect, problems),
            None => Vec::new(),
        };
        let (actions, resources) = (actions?, resources?);
        let policy = name.to_owned();
        Some(Statement { effect, policy, number, sid, actions, resources, conditions })
    }

    pub(super) fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }
}

fn known(members: &[JsonMember], problems: &mut DocumentProblems) {
    const KNOWN: [&str; 7] =
        ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];
    let (principals, others): (Vec<_>, Vec<_>) = members
        .iter()
        .map(|member| (member, member.name.as_str()))
        .partition(|(_, name)| matches!(*name, "Principal" | "NotPrincipal"));
    for (member, name) in principals {
        let text = format!("`{name}`: the policy of a user or a group is about them already");
        problems.add(member.place, text);
    }
    for (member, name) in others {
        if !KNOWN.contains(&name) {
            let text = format!("a statement has no `{name}`, only {}", KNOWN.join(", "));
            problems.add(member.place, text);
        }
    }
}

fn effect(
    node: &JsonNode,
    members: &[JsonMember],
    problems: &mut DocumentProblems,
) -> Option<StatementEffect> {
    let Some(effect) = member(members, "Effect") else {
        problems.add(node.place, "this statement has no Effect: Allow or Deny");
        return None;
    };
    match effect.text("Effect", problems)? {
        "Allow" => Some(StatementEffect::Allow),
        "Deny" => Some(StatementEffect::Deny),
        other => {
            problems.add(effect.place, format!("Effect is Allow or Deny, not `{other}`"));
            None
        }
    }
}

fn sid(members: &[JsonMember], problems: &mut DocumentProblems) -> Option<String> {
    let node = member(members, "Sid")?;
    let sid = node.text("Sid", problems)?;
    if !sid.chars().all(|c| c.is_ascii_alphanumeric()) {
        problems.add(node.place, "a Sid has letters and digits only");
    }
    (!sid.is_empty()).then(|| sid.to_owned())
}

/// Reads the list that has one of two names.
fn either<T>(
    node: &JsonNode,
    members: &[JsonMember],
    [name, rest]: [&str; 2],
    problems: &mut DocumentProblems,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<StatementList<T>> {
    let (list, is_rest, name) = match (member(members, name), member(members, rest)) {
        (Some(list), None) => (list, false, name),
        (None, Some(list)) => (list, true, rest),
        (Some(_), Some(list)) => {
            problems.add(list.place, format!("{name} and {rest} exclude each other"));
            return None;
        }
        (None, None) => {
            problems.add(node.place, format!("this statement has neither {name} nor {rest}"));
            return None;
        }
    };
    let nodes = list.one_or_more();
    if nodes.is_empty() {
        problems.add(list.place, format!("{name} lists nothing"));
    }
    let mut items = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node.text(name, problems).map(&read) {
            Some(Ok(item)) => items.push(item),
            Some(Err(why)) => problems.add(node.place, why),
            None => {}
        }
    }
    Some(StatementList { is_rest, items })
}

fn action(text: &str) -> Result<PolicyPattern, String> {
    let is_named = text.split_once(':').is_some_and(|(service, name)| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let is_service = service == "*" || (!service.is_empty() && service.chars().all(is_plain));
        let is_name = |c: char| c.is_ascii_alphanumeric() || "*?".contains(c);
        is_service && !name.is_empty() && name.chars().all(is_name)
    });
    if text == "*" || is_named {
        return Ok(PolicyPattern::of(&text.to_ascii_lowercase()));
    }
    Err(format!("`{text}` is no action: actions are named service:Name"))
}

fn resource(text: &str, version: PolicyVersion) -> Result<PolicyTemplate, String> {
    if text == "*" {
        return PolicyTemplate::parse(text, version, true);
    }
    // The part before the first variable.
    let fixed = text.split("${").next().unwrap_or_default();
    let parts: Vec<&str> = fixed.split(':').collect();
    let [first, _, service, _, ..] = parts[..] else {
        return Err(format!("`{text}` is neither an ARN nor `*`"));
    };
    if first != "arn" {
        return Err(format!("`{text}` is neither an ARN nor `*`"));
    }
    if service.is_empty() || service.contains(['*', '?']) {
        return Err(format!("`{text}` names no service: its third part has to be one"));
    }
    PolicyTemplate::parse(text, version, true)
}

fn conditions(
    node: &JsonNode,
    version: PolicyVersion,
    effect: StatementEffect,
    problems: &mut DocumentProblems,
) -> Vec<PolicyCondition> {
    let mut all = Vec::new();
    for operator in node.map("Condition", problems) {
        let Some(parsed) = Operator::parse(&operator.name) else {
            problems.add(operator.place, format!("there is no operator `{}`", operator.name));
            continue;
        };
        for key in operator.node.map(&operator.name, problems) {
            let mut condition = match PolicyCondition::new(parsed, &key.name) {
                Ok(condition) => condition,
                Err(why) => {
                    problems.add(key.place, why);
                    continue;
                }
            };
            let values = key.node.one_or_more();
            if values.is_empty() {
                problems.add(key.place, format!("`{}` lists no value", key.name));
            }
            for value in values {
                let text = match &value.json {
                    JsonValue::Text(text) | JsonValue::Number(text) => text.as_str(),
                    JsonValue::Bool(true) => "true",
                    JsonValue::Bool(false) => "false",
                    JsonValue::Null | JsonValue::List(_) | JsonValue::Map(_) => {
                        let text =
                            format!("a value of `{}` is a text, not {}", key.name, value.kind());
                        problems.add(value.place, text);
                        continue;
                    }
                };
                if let Err(why) = condition.want(text, version, effect) {
                    problems.add(value.place, why);
                }
            }
            all.push(condition);
        }
    }
    all
}
