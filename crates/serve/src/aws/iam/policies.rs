//! Inline policies of users and groups.

use super::administer::{About, Administer, IamCall, invalid};
use super::document::{IamDocument, names, no_such, part};
use crate::aws::call::RefusedCall;
use runner_core::iam::IamPolicy;
use serde_json::{Map, Value, json};

type PolicyMembers = Map<String, Value>;

fn put(asked: &IamCall, holder: &mut PolicyMembers) -> Result<Value, RefusedCall> {
    let name = asked.need("PolicyName")?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    if name.len() > 128 || !name.chars().all(is_part) {
        return Err(invalid("PolicyName has 1 to 128 letters, digits and the characters _+=,.@-"));
    }
    let text = asked.need("PolicyDocument")?;
    // Reports all errors, including duplicate names, which `Value` would hide.
    IamPolicy::parse(name, text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        RefusedCall::new("MalformedPolicyDocument", lines.join("; "))
    })?;
    let document: Value = serde_json::from_str(text)
        .map_err(|error| RefusedCall::new("MalformedPolicyDocument", error.to_string()))?;
    part(holder, "policies", json!({}))[name] = document;
    Ok(json!({}))
}

fn get(asked: &IamCall, holder: &PolicyMembers, of: (&str, &str)) -> Result<Value, RefusedCall> {
    let name = asked.need("PolicyName")?;
    let document = holder.get("policies").and_then(|policies| policies.get(name));
    let document = document.ok_or_else(|| no_such(&format!("policy with the name {name}")))?;
    let encoded = encoded(&document.to_string());
    Ok(json!({of.0: of.1, "PolicyName": name, "PolicyDocument": encoded}))
}

fn list(asked: &IamCall, holder: &PolicyMembers) -> Result<Value, RefusedCall> {
    let names = names(holder, "policies").into_iter().map(|name| (name.clone(), json!(name)));
    asked.page("PolicyNames", names.collect())
}

fn delete(asked: &IamCall, holder: &mut PolicyMembers) -> Result<Value, RefusedCall> {
    let name = asked.need("PolicyName")?;
    let policies = holder.get_mut("policies").and_then(Value::as_object_mut);
    match policies.and_then(|policies| policies.remove(name)) {
        Some(_) => Ok(json!({})),
        None => Err(no_such(&format!("policy with the name {name}"))),
    }
}

/// Percent-encodes a document as IAM does.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

macro_rules! operation {
    ($name:ident, $changes:literal, $about:ident, $holder:ident,
     |$asked:ident, $members:ident, $owner:ident| $does:expr) => {
        pub(in crate::aws) struct $name;

        impl Administer for $name {
            const CHANGES: bool = $changes;

            fn about(asked: &IamCall) -> Result<About, RefusedCall> {
                Ok(About::$about(asked.$holder()?.to_owned()))
            }

            fn perform($asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
                let $owner = $asked.$holder()?;
                let $members = document.$holder($owner)?;
                $does
            }
        }
    };
}

operation!(PutUserPolicy, true, User, user, |asked, members, _name| put(asked, members));
operation!(PutGroupPolicy, true, Group, group, |asked, members, _name| put(asked, members));
operation!(GetUserPolicy, false, User, user, |asked, members, name| {
    get(asked, members, ("UserName", name))
});
operation!(GetGroupPolicy, false, Group, group, |asked, members, name| {
    get(asked, members, ("GroupName", name))
});
operation!(ListUserPolicies, false, User, user, |asked, members, _name| list(asked, members));
operation!(ListGroupPolicies, false, Group, group, |asked, members, _name| list(asked, members));
operation!(DeleteUserPolicy, true, User, user, |asked, members, _name| delete(asked, members));
operation!(DeleteGroupPolicy, true, Group, group, |asked, members, _name| delete(asked, members));
