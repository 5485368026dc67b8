//! `[logs]` of `runner.toml`.

use super::codebuild::{CloudWatchLogs, Located};
use crate::spec::language::{LanguageKey, ValueShape, key};
use crate::spec::read::NodeSlot;
use crate::spec::yaml::YamlNode;
use crate::spec::{Diagnostic, shape};

/// Destinations for copies of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogDestinations {
    /// CloudWatch Logs.
    pub cloudwatch: Option<Located<CloudWatchLogs>>,
    /// Bucket and prefix.
    pub s3: Option<Located<String>>,
}

/// Reads the table.
pub fn logs(node: &YamlNode, problems: &mut Vec<Diagnostic>) -> LogDestinations {
    shape::check_strictly(node, &ValueShape::Map(KEYS), "logs", problems);
    let map = NodeSlot::root(node);
    let cloudwatch = map.get("cloudwatch");
    let text = |name: &str| cloudwatch.get(name).string().filter(|text| !text.is_empty());
    LogDestinations {
        cloudwatch: cloudwatch.is_there().then(|| Located {
            value: CloudWatchLogs { group: text("group"), stream: text("stream") },
            span: cloudwatch.span(),
        }),
        s3: map.get("s3").text().map(|text| Located { value: text.text, span: text.span }),
    }
}

const KEYS: &[LanguageKey] = &[
    key(
        "cloudwatch",
        ValueShape::Map(&[
            key("group", ValueShape::Text, "The log group; /aws/codebuild/PROJECT if absent."),
            key(
                "stream",
                ValueShape::Text,
                "What stands before the build's uuid in the stream's name.",
            ),
        ]),
        "CloudWatch Logs.",
    ),
    key("s3", ValueShape::Text, "Bucket and prefix."),
];
