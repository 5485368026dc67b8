//! The inputs that AWS accepts, and its error messages for all others. Pure.

mod codebuild;
mod logs;
pub mod shape;

use serde_json::Value;
use shape::{InputProblems, MemberShape, check};

/// A service whose inputs are described here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescribedService {
    CodeBuild,
    Logs,
}

/// Inputs of a service, by operation.
#[must_use]
pub fn inputs(service: DescribedService) -> &'static [(&'static str, &'static MemberShape)] {
    match service {
        DescribedService::CodeBuild => codebuild::INPUTS,
        DescribedService::Logs => logs::INPUTS,
    }
}

/// Checks an input against its description. Undescribed members pass.
///
/// # Errors
/// Everything that is wrong with it.
pub fn validate(
    service: DescribedService,
    operation: &str,
    input: &Value,
) -> Result<(), InputProblems> {
    let shape = inputs(service).iter().find(|(name, _)| *name == operation);
    shape.map_or(Ok(()), |(_, shape)| check(shape, input))
}

/// Removes undescribed and null members from an input, as if they had not been sent.
#[must_use]
pub fn known(service: DescribedService, operation: &str, input: &Value) -> Value {
    let shape = inputs(service).iter().find(|(name, _)| *name == operation);
    shape.map_or_else(|| input.clone(), |(_, shape)| shape::known(shape, input))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(operation: &str, input: &Value) -> InputProblems {
        validate(DescribedService::CodeBuild, operation, input).expect_err("refused")
    }

    #[test]
    fn all_problems_are_said_at_once_in_the_words_of_aws() {
        let input = json!({"name": "a", "description": "x".repeat(256), "timeoutInMinutes": 4,
            "source": {"type": "SVN"}, "artifacts": {}, "environment": {"environmentVariables": [{"name": ""}]}});
        let InputProblems::Constraints(problems) = refused("CreateProject", &input) else {
            panic!("constraints")
        };
        let has = |text: &str| problems.iter().any(|problem| problem.contains(text));
        assert!(has(
            "Value 'a' at 'name' failed to satisfy constraint: Member must have length greater than or equal to 2"
        ));
        assert!(has(
            "at 'description' failed to satisfy constraint: Member must have length less than or equal to 255"
        ));
        assert!(has(
            "Value '4' at 'timeoutInMinutes' failed to satisfy constraint: Member must have value greater than or equal to 5"
        ));
        assert!(has(
            "Value 'SVN' at 'source.type' failed to satisfy constraint: Member must satisfy enum value set: [CODECOMMIT"
        ));
        assert!(has(
            "Value null at 'artifacts.type' failed to satisfy constraint: Member must not be null"
        ));
        assert!(has("Value null at 'environment.environmentVariables.1.member.value' failed"));
        let text = InputProblems::Constraints(problems.clone()).to_string();
        assert!(text.starts_with(&format!("{} validation errors detected: ", problems.len())));
    }

    #[test]
    fn what_is_not_described_is_not_kept_however_deep() {
        let input = json!({"name": "demo", "color": 1, "source": {"type": "GITHUB", "depth": {}, "location": null},
            "environment": {"environmentVariables": [{"name": "A", "value": "", "secret": true}]}});
        assert_eq!(
            known(DescribedService::CodeBuild, "CreateProject", &input),
            json!({"name": "demo", "source": {"type": "GITHUB"},
                "environment": {"environmentVariables": [{"name": "A", "value": ""}]}})
        );
    }

    #[test]
    fn another_type_is_no_constraint() {
        for (input, told) in [
            (json!({"names": "demo"}), "names"),
            (json!({"names": [1]}), "names"),
            (json!([]), "object"),
        ] {
            let problems = refused("BatchGetProjects", &input);
            assert!(
                matches!(&problems, InputProblems::Type(text) if text.contains(told)),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn what_is_absent_null_or_unknown_is_no_problem() {
        let input = json!({"names": ["demo"], "color": 1});
        assert!(validate(DescribedService::CodeBuild, "BatchGetProjects", &input).is_ok());
        assert!(
            validate(DescribedService::CodeBuild, "ListBuilds", &json!({"sortOrder": null}))
                .is_ok()
        );
        assert!(
            validate(DescribedService::Logs, "GetLogEvents", &json!({"logStreamName": "a"}))
                .is_ok()
        );
    }
}
