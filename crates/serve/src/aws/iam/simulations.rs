//! What policies would say.

use super::administer::{Fields, members};
use crate::aws::call::Refusal;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{Input, Scope};
use crate::aws::resources::Resource;
use crate::aws::simulate::{Simulated, Simulation, Subject, ask};
use runner_core::iam::{Directory, DocumentProblem, IamPolicy};
use serde::Deserialize;
use serde_json::{Value, json};

/// Most answers of one call.
const MAX_ANSWERS: usize = 1000;

fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::new("InvalidInput", text)
}

fn asked(fields: &Fields) -> Result<Simulation, Refusal> {
    let owned =
        |name: &str| members(fields, name).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let actions = owned("ActionNames");
    let mut resources = owned("ResourceArns");
    if resources.is_empty() {
        resources.push("*".to_owned());
    }
    if actions.is_empty() {
        return Err(invalid("ActionNames names no action"));
    }
    if actions.len() * resources.len() > MAX_ANSWERS {
        return Err(invalid(format!("one call has at most {MAX_ANSWERS} answers")));
    }
    let entry = |number: usize| {
        let entry = format!("ContextEntries.member.{number}");
        let key = fields.get(&format!("{entry}.ContextKeyName"))?.clone();
        Some((key, owned(&format!("{entry}.ContextKeyValues"))))
    };
    Ok(Simulation { actions, resources, context: (1..).map_while(entry).collect() })
}

fn answer(simulated: Vec<Simulated>) -> Value {
    let results = simulated.into_iter().map(|one| {
        let matched: Vec<Value> = one
            .by
            .map(|by| json!({"SourcePolicyId": by, "SourcePolicyType": "IAM Policy"}))
            .into_iter()
            .collect();
        json!({
            "EvalActionName": one.action,
            "EvalResourceName": one.resource,
            "EvalDecision": one.decision,
            "MatchedStatements": matched,
            "MissingContextValues": one.missing,
        })
    });
    json!({"EvaluationResults": results.collect::<Vec<_>>(), "IsTruncated": "false"})
}

#[derive(Deserialize)]
#[serde(transparent)]
pub(in crate::aws) struct SimulatePrincipalPolicy(Fields);

impl Input for SimulatePrincipalPolicy {
    type Subject = Simulation;

    async fn subject(&self, _: &Endpoint) -> Result<(Scope, Simulation), Refusal> {
        let asked = asked(&self.0)?;
        let source = self.0.get("PolicySourceArn");
        let source = source.ok_or_else(|| invalid("PolicySourceArn names nobody"))?;
        Ok((Scope::of([Resource::named(source.clone())]), asked))
    }

    async fn answer(
        self,
        asked: Simulation,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, Refusal> {
        let directory = endpoint.users.current();
        let source = self.0.get("PolicySourceArn").map_or("", String::as_str);
        let subject = Subject::named(source, &directory).ok_or_else(|| {
            let text = format!("{source} is no user and no group of this endpoint");
            Refusal::new("NoSuchEntity", text).with_status(404)
        })?;
        let identity = endpoint.deliveries.identity();
        Ok(answer(ask(&endpoint.builds, identity, &directory, &subject, &asked).await))
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
pub(in crate::aws) struct SimulateCustomPolicy(Fields);

impl Input for SimulateCustomPolicy {
    type Subject = Simulation;

    async fn subject(&self, _: &Endpoint) -> Result<(Scope, Simulation), Refusal> {
        Ok((Scope::all(), asked(&self.0)?))
    }

    async fn answer(
        self,
        asked: Simulation,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, Refusal> {
        let texts = members(&self.0, "PolicyInputList");
        let read =
            |(at, text): (usize, &&str)| IamPolicy::parse(&format!("policy {}", at + 1), text);
        let policies: Vec<IamPolicy> =
            texts.iter().enumerate().map(read).collect::<Result<_, _>>().map_err(malformed)?;
        let directory = Directory::default();
        let subject = Subject::Policies(&policies);
        let identity = endpoint.deliveries.identity();
        Ok(answer(ask(&endpoint.builds, identity, &directory, &subject, &asked).await))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn malformed(problems: Vec<DocumentProblem>) -> Refusal {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Refusal::new("MalformedPolicyDocument", lines.join("; "))
}
