//! The conditions of a statement.

use super::context::{Context, Key};
use super::pattern::Pattern;
use super::statement::Effect;
use super::template::{Template, Version};
use super::typed::{Type, Typed, lies_in};
use std::borrow::Cow;

/// How a value that is given is compared with one that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Text,
    /// Without regard to case.
    Folded,
    /// With `*` and `?`.
    Like,
    Arn,
    Typed(Type, Order),
    /// Whether the key has no value.
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How several values of a key count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    All,
    Any,
}

/// An operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    test: Test,
    is_negated: bool,
    /// Holds where the key has no value.
    if_exists: bool,
    set: Option<Set>,
}

/// The operators there are, each with its negation.
const OPERATORS: &[(&str, Test, bool)] = &[
    ("StringEquals", Test::Text, false),
    ("StringNotEquals", Test::Text, true),
    ("StringEqualsIgnoreCase", Test::Folded, false),
    ("StringNotEqualsIgnoreCase", Test::Folded, true),
    ("StringLike", Test::Like, false),
    ("StringNotLike", Test::Like, true),
    ("ArnEquals", Test::Arn, false),
    ("ArnLike", Test::Arn, false),
    ("ArnNotEquals", Test::Arn, true),
    ("ArnNotLike", Test::Arn, true),
    ("Bool", Test::Typed(Type::Bool, Order::Equal), false),
    ("NumericEquals", Test::Typed(Type::Number, Order::Equal), false),
    ("NumericNotEquals", Test::Typed(Type::Number, Order::Equal), true),
    ("NumericLessThan", Test::Typed(Type::Number, Order::Less), false),
    ("NumericLessThanEquals", Test::Typed(Type::Number, Order::LessOrEqual), false),
    ("NumericGreaterThan", Test::Typed(Type::Number, Order::Greater), false),
    ("NumericGreaterThanEquals", Test::Typed(Type::Number, Order::GreaterOrEqual), false),
    ("DateEquals", Test::Typed(Type::Date, Order::Equal), false),
    ("DateNotEquals", Test::Typed(Type::Date, Order::Equal), true),
    ("DateLessThan", Test::Typed(Type::Date, Order::Less), false),
    ("DateLessThanEquals", Test::Typed(Type::Date, Order::LessOrEqual), false),
    ("DateGreaterThan", Test::Typed(Type::Date, Order::Greater), false),
    ("DateGreaterThanEquals", Test::Typed(Type::Date, Order::GreaterOrEqual), false),
    ("IpAddress", Test::Typed(Type::Address, Order::Equal), false),
    ("NotIpAddress", Test::Typed(Type::Address, Order::Equal), true),
    ("BinaryEquals", Test::Typed(Type::Binary, Order::Equal), false),
    ("Null", Test::Null, false),
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
        if *test == Test::Null && (if_exists || set.is_some()) {
            return None;
        }
        Some(Operator { test: *test, is_negated: *is_negated, if_exists, set })
    }

    /// What the values of this operator are, where they are no texts.
    fn kind(self) -> Option<Type> {
        match self.test {
            Test::Typed(kind, _) => Some(kind),
            Test::Null => Some(Type::Bool),
            Test::Text | Test::Folded | Test::Like | Test::Arn => None,
        }
    }
}

/// What is wanted of a key.
#[derive(Clone, Debug)]
enum Wanted {
    Text(Template),
    Typed(Typed),
    /// None of the operator's values: the statement does not match.
    Unreadable,
}

/// One key under one operator.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    operator: Operator,
    pub(super) name: String,
    key: Key,
    wanted: Vec<Wanted>,
}

/// A value to compare with.
enum Value<'v> {
    Text(Cow<'v, Pattern>),
    Typed(Cow<'v, Typed>),
}

impl Condition {
    pub(super) fn new(operator: Operator, name: &str) -> Result<Self, String> {
        let key = Key::parse(name)?;
        Ok(Condition { operator, name: name.to_owned(), key, wanted: Vec::new() })
    }

    /// Adds a value.
    ///
    /// # Errors
    /// It can never match; a rule that denies would never deny.
    pub(super) fn want(
        &mut self,
        text: &str,
        version: Version,
        effect: Effect,
    ) -> Result<(), String> {
        let is_pattern = matches!(self.operator.test, Test::Like | Test::Arn);
        let template = Template::parse(text, version, is_pattern)?;
        let wanted = match (self.operator.kind(), &template) {
            (Some(kind), Template::Fixed(pattern)) => {
                let typed = pattern.text().and_then(|text| kind.parse(&text));
                typed.map(Wanted::Typed).ok_or_else(|| format!("`{text}` is not {}", kind.name()))
            }
            (None, Template::Fixed(pattern))
                if self.operator.test == Test::Arn && !pattern.is_arn() =>
            {
                Err(format!("`{text}` is no ARN"))
            }
            _ => Ok(Wanted::Text(template)),
        };
        self.wanted.push(match (wanted, effect) {
            (Ok(wanted), _) => wanted,
            (Err(_), Effect::Allow) => Wanted::Unreadable,
            (Err(why), Effect::Deny) => {
                return Err(format!("{why}, so this statement would never deny"));
            }
        });
        Ok(())
    }

    /// The names of the variables in its values.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        let templates = self.wanted.iter().filter_map(|wanted| match wanted {
            Wanted::Text(template) => Some(template),
            Wanted::Typed(_) | Wanted::Unreadable => None,
        });
        templates.flat_map(Template::variables)
    }

    /// Whether it holds.
    pub(super) fn holds(&self, context: &Context, effect: Effect) -> bool {
        let operator = self.operator;
        let given = context.get(&self.key);
        if operator.test == Test::Null {
            let is_wanted = |wanted: &Wanted| match wanted {
                Wanted::Typed(Typed::Bool(is_null)) => *is_null == given.is_none(),
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

    /// The values to compare with; nothing where the condition cannot hold. A variable without a value matches nothing.
    /// Under a negated operator that would let a rule that allows hold for everybody, so it does not hold then.
    fn values(&self, context: &Context, effect: Effect) -> Option<Vec<Value<'_>>> {
        let mut values = Vec::with_capacity(self.wanted.len());
        for wanted in &self.wanted {
            match wanted {
                Wanted::Unreadable => return None,
                Wanted::Typed(typed) => values.push(Value::Typed(Cow::Borrowed(typed))),
                Wanted::Text(template) => {
                    match (template.resolved(context), self.operator.kind()) {
                        (Some(pattern), None) => values.push(Value::Text(pattern)),
                        (Some(pattern), Some(kind)) => {
                            let typed = pattern.text().and_then(|text| kind.parse(&text));
                            match typed {
                                Some(typed) => values.push(Value::Typed(Cow::Owned(typed))),
                                None if effect == Effect::Allow => return None,
                                None => {}
                            }
                        }
                        (None, _) if self.operator.is_negated && effect == Effect::Allow => {
                            return None;
                        }
                        (None, _) => {}
                    }
                }
            }
        }
        Some(values)
    }

    /// Whether one value that is given is what is wanted. One that cannot be read is nothing that is wanted.
    fn agrees(&self, given: &str, wanted: &[Value<'_>]) -> bool {
        let typed = match self.operator.test {
            Test::Typed(kind, _) => match kind.parse(given) {
                Some(typed) => Some(typed),
                None => return false,
            },
            _ => None,
        };
        let is_one = wanted.iter().any(|value| match (value, self.operator.test, &typed) {
            (Value::Text(pattern), Test::Arn, _) => pattern.matches_arn(given),
            (Value::Text(pattern), Test::Folded, _) => {
                pattern.text().is_some_and(|text| text.to_lowercase() == given.to_lowercase())
            }
            (Value::Text(pattern), _, _) => pattern.matches(given),
            (Value::Typed(wanted), Test::Typed(_, order), Some(given)) => {
                compare(given, wanted, order)
            }
            (Value::Typed(_), _, _) => false,
        });
        is_one != self.operator.is_negated
    }
}

fn compare(given: &Typed, wanted: &Typed, order: Order) -> bool {
    let ordering = match (given, wanted) {
        (Typed::Net(inner, inner_bits), Typed::Net(outer, bits)) => {
            return lies_in((*inner, *inner_bits), (*outer, *bits));
        }
        (Typed::Number(given), Typed::Number(wanted)) => given.partial_cmp(wanted),
        (Typed::Date(given), Typed::Date(wanted)) => Some(given.cmp(wanted)),
        (Typed::Bool(given), Typed::Bool(wanted)) => Some(given.cmp(wanted)),
        (Typed::Binary(given), Typed::Binary(wanted)) => Some(given.cmp(wanted)),
        _ => None,
    };
    ordering.is_some_and(|ordering| match order {
        Order::Equal => ordering.is_eq(),
        Order::Less => ordering.is_lt(),
        Order::LessOrEqual => ordering.is_le(),
        Order::Greater => ordering.is_gt(),
        Order::GreaterOrEqual => ordering.is_ge(),
    })
}
