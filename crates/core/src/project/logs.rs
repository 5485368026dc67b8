//! `[logs]` of `runner.toml`.

use super::codebuild::{CloudWatchLogs, Written};
use crate::spec::language::{Key, Shape, key};
use crate::spec::read::At;
use crate::spec::yaml::Node;
use crate::spec::{Diagnostic, shape};

/// Where copies of the log go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// CloudWatch Logs.
    pub cloudwatch: Option<Written<CloudWatchLogs>>,
    /// Bucket and prefix.
    pub s3: Option<Written<String>>,
}

/// Reads the table.
pub fn logs(node: &Node, problems: &mut Vec<Diagnostic>) -> Logs {
    shape::check_strictly(node, &Shape::Map(KEYS), "logs", problems);
    let map = At::root(node);
    let cloudwatch = map.get("cloudwatch");
    let text = |name: &str| cloudwatch.get(name).string().filter(|text| !text.is_empty());
    Logs {
        cloudwatch: cloudwatch.is_there().then(|| Written {
            value: CloudWatchLogs { group: text("group"), stream: text("stream") },
            span: cloudwatch.span(),
        }),
        s3: map.get("s3").text().map(|text| Written { value: text.text, span: text.span }),
    }
}

const KEYS: &[Key] = &[
    key(
        "cloudwatch",
        Shape::Map(&[
            key("group", Shape::Text, "The log group; /aws/codebuild/PROJECT if absent."),
            key("stream", Shape::Text, "What stands before the build's uuid in the stream's name."),
        ]),
        "CloudWatch Logs.",
    ),
    key("s3", Shape::Text, "Bucket and prefix."),
];
