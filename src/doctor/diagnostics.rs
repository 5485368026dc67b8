//! A build's checks in the form of AWS's `ssm-cli get-diagnostics`, for programs that parse it.

use super::{CheckRow, CheckState};
use serde::Serialize;

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Diagnosis {
    check: String,
    /// `Success`, `Failed` or `Skipped`.
    status: &'static str,
    note: String,
}

/// Checks of AWS's tool that do not apply here, with the reason.
const SKIPPED: [(&str, &str); 5] = [
    ("EC2 IMDS", "a build is not an EC2 machine"),
    ("Connectivity to ssm endpoint", "agent and service are one program"),
    ("Connectivity to ec2messages endpoint", "agent and service are one program"),
    ("Connectivity to ssmmessages endpoint", "agent and service are one program"),
    ("Connectivity to monitoring endpoint", "there is no telemetry"),
];

/// Converts rows.
pub(super) fn of(rows: &[CheckRow]) -> Vec<Diagnosis> {
    let found = rows.iter().map(|row| {
        let status = match row.state {
            CheckState::Ok => "Success",
            CheckState::Limited | CheckState::Missing => "Failed",
        };
        let parts = [Some(row.found.clone()), row.consequence.clone(), row.mend.clone()];
        let parts: Vec<String> =
            parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        Diagnosis { check: row.name.to_owned(), status, note: parts.join("; ") }
    });
    let skipped = SKIPPED.map(|(check, why)| Diagnosis {
        check: check.to_owned(),
        status: "Skipped",
        note: why.to_owned(),
    });
    found.chain(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_as_awss_tool_has_them() {
        let rows = [
            CheckRow::ok("node", "mi-1"),
            CheckRow::new("shell", CheckState::Limited, "none", "no shell", "install one"),
        ];
        let all = of(&rows);
        let text = serde_json::to_value(&all[..2]).expect("JSON");
        let wanted = serde_json::json!([
            {"Check": "node", "Status": "Success", "Note": "mi-1"},
            {"Check": "shell", "Status": "Failed", "Note": "none; no shell; install one"},
        ]);
        assert_eq!(text, wanted);
        assert!(all[2..].iter().all(|one| one.status == "Skipped"));
    }
}
