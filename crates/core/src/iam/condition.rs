//! The conditions of a statement.

use super::context::{ConditionKey, RequestContext};
use super::pattern::PolicyPattern;
use super::statement::StatementEffect;
use super::template::{PolicyTemplate, PolicyVersion};
use super::typed::{ConditionType, TypedValue, lies_in};
use std::borrow::Cow;

/// How a request's value is compared with the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConditionTest {
    Text,
    /// Ignoring case.
    Folded,
    /// With `*` and `?` as wildcards.
    Like,
    Arn,
    Typed(ConditionType, ValueOrder),
    /// Whether the key is absent.
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueOrder {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How several values of a key are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    All,
    Any,
}

/// An operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    test: ConditionTest,
    is_negated: bool,
    /// Whether the condition holds if the key is absent.
    if_exists: bool,
    set: Option<Set>,
}

/// All operators; the flag marks negated ones.
const OPERATORS: &[(&str, ConditionTest, bool)] = &[
    ("StringEquals", ConditionTest::Text, false),
    ("StringNotEquals", ConditionTest::Text, true),
    ("StringEqualsIgnoreCase", ConditionTest::Folded, false),
    ("StringNotEqualsIgnoreCase", ConditionTest::Folded, true),
    ("StringLike", ConditionTest::Like, false),
    ("StringNotLike", ConditionTest::Like, true),
    ("ArnEquals", ConditionTest::Arn, false),
    ("ArnLike", ConditionTest::Arn, false),
    ("ArnNotEquals", ConditionTest::Arn, true),
    ("ArnNotLike", ConditionTest::Arn, true),
    ("Bool", ConditionTest::Typed(ConditionType::Bool, ValueOrder::Equal), false),
    ("NumericEquals", ConditionTest::Typed(ConditionType::Number, ValueOrder::Equal), false),
    ("NumericNotEquals", ConditionTest::Typed(ConditionType::Number, ValueOrder::Equal), true),
    ("NumericLessThan", ConditionTest::Typed(ConditionType::Number, ValueOrder::Less), false),
    (
        "NumericLessThanEquals",
        ConditionTest::Typed(ConditionType::Number, ValueOrder::LessOrEqual),
        false,
    ),
    ("NumericGreaterThan", ConditionTest::Typed(ConditionType::Number, ValueOrder::Greater), false),
    (
        "NumericGreaterThanEquals",
        ConditionTest::Typed(ConditionType::Number, ValueOrder::GreaterOrEqual),
        false,
    ),
    ("DateEquals", ConditionTest::Typed(ConditionType::Date, ValueOrder::Equal), false),
    ("DateNotEquals", ConditionTest::Typed(ConditionType::Date, ValueOrder::Equal), true),
    ("DateLessThan", ConditionTest::Typed(ConditionType::Date, ValueOrder::Less), false),
    (
        "DateLessThanEquals",
        ConditionTest::Typed(ConditionType::Date, ValueOrder::LessOrEqual),
        false,
    ),
    ("DateGreaterThan", ConditionTest::Typed(ConditionType::Date, ValueOrder::Greater), false),
    (
        "DateGreaterThanEquals",
        ConditionTest::Typed(ConditionType::Date, ValueOrder::GreaterOrEqual),
        false,
    ),
    ("IpAddress", ConditionTest::Typed(ConditionType::Address, ValueOrder::Equal), false),
    ("NotIpAddress", ConditionTest::Typed(ConditionType::Address, ValueOrder::Equal), true),
    ("BinaryEquals", ConditionTest::Typed(ConditionType::Binary, ValueOrder::Equal), false),
    ("Null", ConditionTest::Null, false),
];

impl Operator {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (set, rest) = match name.split_once(':') {
            Some(("ForAllValues", rest)) => (Some(Set::All), rest),
            Some(("ForAnyValue", rest)) => (Some(Set::Any), rest),
            Some(_) => return None,
            None => (None, name),
        };
        let (plain, if_exists) = match rest.strip_suffix("IfExists") {
            Some(plain) => (plain, true),
            None => (rest, false),
        };
        let (_, test, is_negated) = OPERATORS.iter().find(|(known, ..)| *known == plain)?;
        if *test == ConditionTest::Null && (if_exists || set.is_some()) {
            return None;
        }
        Some(Operator { test: *test, is_negated: *is_negated, if_exists, set })
    }

    /// The type of this operator's values; `None` for text.
    fn kind(self) -> Option<ConditionType> {
        match self.test {
            ConditionTest::Typed(kind, _) => Some(kind),
            ConditionTest::Null => Some(ConditionType::Bool),
            ConditionTest::Text
            | ConditionTest::Folded
            | ConditionTest::Like
            | ConditionTest::Arn => None,
        }
    }
}

/// The policy's side of a comparison.
#[derive(Clone, Debug)]
enum WantedValue {
    Text(PolicyTemplate),
    Typed(TypedValue),
    /// Not a valid value for the operator: the statement does not match.
    Unreadable,
}

/// One condition key under one operator.
#[derive(Clone, Debug)]
pub(super) struct PolicyCondition {
    operator: Operator,
    pub(super) name: String,
    key: ConditionKey,
    wanted: Vec<WantedValue>,
}

enum ComparedValue<'v> {
    Text(Cow<'v, PolicyPattern>),
    Typed(Cow<'v, TypedValue>),
}

impl PolicyCondition {
    pub(super) fn new(operator: Operator, name: &str) -> Result<Self, String> {
        let key = ConditionKey::parse(name)?;
        Ok(PolicyCondition { operator, name: name.to_owned(), key, wanted: Vec::new() })
    }

    /// Adds a value.
    ///
    /// # Errors
    /// In a statement that denies, the value can never match, so it would never deny.
    pub(super) fn want(
        &mut self,
        text: &str,
        version: PolicyVersion,
        effect: StatementEffect,
    ) -> Result<(), String> {
        let is_pattern = matches!(self.operator.test, ConditionTest::Like | ConditionTest::Arn);
        let template = PolicyTemplate::parse(text, version, is_pattern)?;
        let wanted = match (self.operator.kind(), &template) {
            (Some(kind), PolicyTemplate::Fixed(pattern)) => {
                let typed = pattern.text().and_then(|text| kind.parse(&text));
                typed
                    .map(WantedValue::Typed)
                    .ok_or_else(|| format!("`{text}` is not {}", kind.name()))
            }
            (None, PolicyTemplate::Fixed(pattern))
                if self.operator.test == ConditionTest::Arn && !pattern.is_arn() =>
            {
                Err(format!("`{text}` is not an ARN"))
            }
            _ => Ok(WantedValue::Text(template)),
        };
        self.wanted.push(match (wanted, effect) {
            (Ok(wanted), _) => wanted,
            (Err(_), StatementEffect::Allow) => WantedValue::Unreadable,
            (Err(why), StatementEffect::Deny) => {
                return Err(format!("{why}, so this statement would never deny"));
            }
        });
        Ok(())
    }

    /// The names of the variables in its values.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        let templates = self.wanted.iter().filter_map(|wanted| match wanted {
            WantedValue::Text(template) => Some(template),
            WantedValue::Typed(_) | WantedValue::Unreadable => None,
        });
        templates.flat_map(PolicyTemplate::variables)
    }

    /// Whether the condition holds.
    pub(super) fn holds(&self, context: &RequestContext, effect: StatementEffect) -> bool {
        let operator = self.operator;
        let given = context.get(&self.key);
        if operator.test == ConditionTest::Null {
            let is_wanted = |wanted: &WantedValue| match wanted {
                WantedValue::Typed(TypedValue::Bool(is_null)) => *is_null == given.is_none(),
                _ => false,
            };
            return self.wanted.iter().any(is_wanted);
        }
        let Some(given) = given else {
            return match operator.set {
                _ if operator.if_exists => true,
                Some(Set::All) => true,
                Some(Set::Any) => false,
                None => operator.is_negated,
            };
        };
        let Some(wanted) = self.values(context, effect) else { return false };
        let mut given = given.iter();
        match operator.set {
            Some(Set::All) => given.all(|text| self.agrees(text, &wanted)),
            Some(Set::Any) => given.any(|text| self.agrees(text, &wanted)),
            None if operator.is_negated => given.all(|text| self.agrees(text, &wanted)),
            None => given.any(|text| self.agrees(text, &wanted)),
        }
    }

    /// Returns the values to compare with, or `None` if the condition cannot hold. An unset
    /// variable matches nothing. Under a negated operator, an allow rule would then match
    /// everybody, so it does not hold.
    fn values(
        &self,
        context: &RequestContext,
        effect: StatementEffect,
    ) -> Option<Vec<ComparedValue<'_>>> {
        let mut values = Vec::with_capacity(self.wanted.len());
        for wanted in &self.wanted {
            match wanted {
                WantedValue::Unreadable => return None,
                WantedValue::Typed(typed) => {
                    values.push(ComparedValue::Typed(Cow::Borrowed(typed)));
                }
                WantedValue::Text(template) => {
                    match (template.resolved(context), self.operator.kind()) {
                        (Some(pattern), None) => values.push(ComparedValue::Text(pattern)),
                        (Some(pattern), Some(kind)) => {
                            let typed = pattern.text().and_then(|text| kind.parse(&text));
                            match typed {
                                Some(typed) => values.push(ComparedValue::Typed(Cow::Owned(typed))),
                                None if effect == StatementEffect::Allow => return None,
                                None => {}
                            }
                        }
                        (None, _)
                            if self.operator.is_negated && effect == StatementEffect::Allow =>
                        {
                            return None;
                        }
                        (None, _) => {}
                    }
                }
            }
        }
        Some(values)
    }

    /// Whether a request's value matches. A value that cannot be parsed never does.
    fn agrees(&self, given: &str, wanted: &[ComparedValue<'_>]) -> bool {
        let typed = match self.operator.test {
            ConditionTest::Typed(kind, _) => match kind.parse(given) {
                Some(typed) => Some(typed),
                None => return false,
            },
            _ => None,
        };
        let is_one = wanted.iter().any(|value| match (value, self.operator.test, &typed) {
            (ComparedValue::Text(pattern), ConditionTest::Arn, _) => pattern.matches_arn(given),
            (ComparedValue::Text(pattern), ConditionTest::Folded, _) => {
                pattern.text().is_some_and(|text| text.to_lowercase() == given.to_lowercase())
            }
            (ComparedValue::Text(pattern), _, _) => pattern.matches(given),
            (ComparedValue::Typed(wanted), ConditionTest::Typed(_, order), Some(given)) => {
                compare(given, wanted, order)
            }
            (ComparedValue::Typed(_), _, _) => false,
        });
        is_one != self.operator.is_negated
    }
}

fn compare(given: &TypedValue, wanted: &TypedValue, order: ValueOrder) -> bool {
    let ordering = match (given, wanted) {
        (TypedValue::Net(inner, inner_bits), TypedValue::Net(outer, bits)) => {
            return lies_in((*inner, *inner_bits), (*outer, *bits));
        }
        (TypedValue::Number(given), TypedValue::Number(wanted)) => given.partial_cmp(wanted),
        (TypedValue::Date(given), TypedValue::Date(wanted)) => Some(given.cmp(wanted)),
        (TypedValue::Bool(given), TypedValue::Bool(wanted)) => Some(given.cmp(wanted)),
        (TypedValue::Binary(given), TypedValue::Binary(wanted)) => Some(given.cmp(wanted)),
        _ => None,
    };
    ordering.is_some_and(|ordering| match order {
        ValueOrder::Equal => ordering.is_eq(),
        ValueOrder::Less => ordering.is_lt(),
        ValueOrder::LessOrEqual => ordering.is_le(),
        ValueOrder::Greater => ordering.is_gt(),
        ValueOrder::GreaterOrEqual => ordering.is_ge(),
    })
}
