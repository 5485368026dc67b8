//! Simulation of policies.

use super::administer::{IamFields, members};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::resources::ResourceNames;
use crate::aws::simulate::{Simulated, SimulatedIdentity, Simulation, ask};
use runner_core::iam::{Directory, DocumentProblem, IamPolicy};
use serde::Deserialize;
use serde_json::{Value, json};

/// Most results of one call.
const MAX_ANSWERS: usize = 1000;

fn invalid(text: impl Into<String>) -> RefusedCall {
    RefusedCall::new("InvalidInput", text)
}

fn asked(fields: &IamFields) -> Result<Simulation, RefusedCall> {
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
pub(in crate::aws) struct SimulatePrincipalPolicy(IamFields);

impl OperationInput for SimulatePrincipalPolicy {
    type Subject = Simulation;

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, Simulation), RefusedCall> {
        let asked = asked(&self.0)?;
        let source = self.0.get("PolicySourceArn");
        let source = source.ok_or_else(|| invalid("PolicySourceArn names nobody"))?;
        Ok((RequestScope::of([ResourceNames::named(source.clone())]), asked))
    }

    async fn answer(
        self,
        asked: Simulation,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let directory = endpoint.users.current();
        let source = self.0.get("PolicySourceArn").map_or("", String::as_str);
        let subject = SimulatedIdentity::named(source, &directory).ok_or_else(|| {
            let text = format!("{source} is neither a user nor a group of this endpoint");
            RefusedCall::new("NoSuchEntity", text).with_status(404)
        })?;
        let identity = endpoint.deliveries.identity();
        Ok(answer(ask(&endpoint.builds, identity, &directory, &subject, &asked).await))
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
pub(in crate::aws) struct SimulateCustomPolicy(IamFields);

impl OperationInput for SimulateCustomPolicy {
    type Subject = Simulation;

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, Simulation), RefusedCall> {
        Ok((RequestScope::all(), asked(&self.0)?))
    }

    async fn answer(
        self,
        asked: Simulation,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let texts = members(&self.0, "PolicyInputList");
        let read =
            |(at, text): (usize, &&str)| IamPolicy::parse(&format!("policy {}", at + 1), text);
        let policies: Vec<IamPolicy> =
            texts.iter().enumerate().map(read).collect::<Result<_, _>>().map_err(malformed)?;
        let directory = Directory::default();
        let subject = SimulatedIdentity::Policies(&policies);
        let identity = endpoint.deliveries.identity();
        Ok(answer(ask(&endpoint.builds, identity, &directory, &subject, &asked).await))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn malformed(problems: Vec<DocumentProblem>) -> RefusedCall {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    RefusedCall::new("MalformedPolicyDocument", lines.join("; "))
}
