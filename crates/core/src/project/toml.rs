//! Parses TOML into a tree with places. Sole user of the crate toml.

use crate::spec::places::LineIndex;
use crate::spec::yaml::{YamlNode, YamlValue};
use crate::spec::{Diagnostic, DiagnosticCode};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Parses a document.
///
/// # Errors
/// Every syntax error.
pub fn toml(text: &str) -> Result<YamlNode, Vec<Diagnostic>> {
    let places = LineIndex::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problems = errors.iter().map(|error| {
            let span = error.span().map(|range| places.span(range)).unwrap_or_default();
            Diagnostic::new(
                DiagnosticCode::Syntax,
                span,
                format!("this is not TOML: {}", error.message()),
            )
        });
        let mut problems: Vec<Diagnostic> = problems.collect();
        problems.sort_by_key(|problem| (problem.span.line, problem.span.column));
        return Err(problems);
    }
    let range = table.span();
    let value = YamlValue::Mapping(entries(&places, table.into_inner()));
    Ok(YamlNode::new(places.span(range), value))
}

fn entries(places: &LineIndex<'_>, table: DeTable<'_>) -> Vec<(YamlNode, YamlNode)> {
    let mut entries: Vec<(YamlNode, YamlNode)> = table
        .into_iter()
        .map(|(key, value)| {
            let span = places.span(key.span());
            let key = YamlNode::new(span, YamlValue::Scalar(key.into_inner().into_owned()));
            (key, node(places, value))
        })
        .collect();
    // The table is sorted by key; restore file order.
    entries.sort_by_key(|(key, _)| (key.span.line, key.span.column));
    entries
}

fn node(places: &LineIndex<'_>, value: Spanned<DeValue<'_>>) -> YamlNode {
    let span = places.span(value.span());
    let value = match value.into_inner() {
        DeValue::String(text) => YamlValue::Scalar(text.into_owned()),
        DeValue::Integer(number) => YamlValue::Scalar(number.as_str().to_owned()),
        DeValue::Float(number) => YamlValue::Scalar(number.as_str().to_owned()),
        DeValue::Boolean(flag) => YamlValue::Scalar(flag.to_string()),
        DeValue::Datetime(time) => YamlValue::Scalar(time.to_string()),
        DeValue::Array(items) => {
            YamlValue::Sequence(items.into_iter().map(|item| node(places, item)).collect())
        }
        DeValue::Table(table) => YamlValue::Mapping(entries(places, table)),
    };
    YamlNode::new(span, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_places() {
        let node =
            toml("# x\ntimeout = \"30m\"\nmount = [\"a\", 'b']\n[env]\nN = 5\n").expect("is TOML");
        let YamlValue::Mapping(entries) = &node.value else { panic!("a table") };
        let told: Vec<_> = entries
            .iter()
            .map(|(key, value)| {
                let YamlValue::Scalar(name) = &key.value else { panic!("a key") };
                (name.as_str(), key.span.line, value.span.line, value.span.column)
            })
            .collect();
        assert_eq!(told, [("timeout", 2, 2, 11), ("mount", 3, 3, 9), ("env", 4, 4, 1)]);
    }

    #[test]
    fn all_that_is_no_toml_is_told() {
        let problems = toml("a = \nb = 1\nc = [\n").expect_err("is none");
        let lines: Vec<u32> = problems.iter().map(|problem| problem.span.line).collect();
        assert!(lines.len() > 1 && lines[0] == 1, "{problems:?}");
        assert_eq!(toml("a = 1\na = 2\n").expect_err("twice")[0].span.line, 2);
    }
}
