//! Access keys of users.

use super::administer::{About, Administer, IamCall, invalid};
use super::document::{IamDocument, conflict, no_randomness, no_such, part};
use crate::aws::call::RefusedCall;
use crate::aws::keys::new_pair;
use serde_json::{Map, Value, json};

/// Most keys of a user, as in AWS.
const MAX_KEYS: usize = 2;

fn this(asked: &IamCall) -> Result<About, RefusedCall> {
    Ok(About::User(asked.user()?.to_owned()))
}

fn keys(user: &mut Map<String, Value>) -> Result<&mut Vec<Value>, RefusedCall> {
    part(user, "keys", json!([])).as_array_mut().ok_or_else(|| invalid("keys are not a list"))
}

fn status(key: &Value) -> &'static str {
    if key["active"] == false { "Inactive" } else { "Active" }
}

/// The key with this id, and its position.
fn find<'k>(keys: &'k mut [Value], id: &str) -> Result<(usize, &'k mut Value), RefusedCall> {
    let found = keys.iter_mut().enumerate().find(|(_, key)| key["id"] == *id);
    found.ok_or_else(|| no_such(&format!("access key with the id {id}")))
}

pub(in crate::aws) struct CreateAccessKey;

impl Administer for CreateAccessKey {
    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let name = asked.user()?;
        let keys = keys(document.user(name)?)?;
        if keys.len() >= MAX_KEYS {
            let text = format!("{name} has {MAX_KEYS} access keys, which is the most there are");
            return Err(conflict("LimitExceeded", text));
        }
        let (id, secret) = new_pair().map_err(|error| no_randomness(&error))?;
        keys.push(json!({"id": id, "secret": secret}));
        Ok(json!({"AccessKey": {
            "UserName": name, "AccessKeyId": id, "Status": "Active", "SecretAccessKey": secret,
        }}))
    }
}

pub(in crate::aws) struct ListAccessKeys;

impl Administer for ListAccessKeys {
    const CHANGES: bool = false;

    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let name = asked.user()?;
        let keys = keys(document.user(name)?)?;
        // A key from a profile has whatever id AWS's files hold today, so it is not listed.
        let shape = |key: &Value| {
            let id = key["id"].as_str()?;
            let shape = json!({"UserName": name, "AccessKeyId": id, "Status": status(key)});
            Some((id.to_owned(), shape))
        };
        asked.page("AccessKeyMetadata", keys.iter().filter_map(shape).collect())
    }
}

pub(in crate::aws) struct UpdateAccessKey;

impl Administer for UpdateAccessKey {
    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let is_active = match asked.need("Status")? {
            "Active" => true,
            "Inactive" => false,
            other => return Err(invalid(format!("Status is Active or Inactive, not {other}"))),
        };
        let id = asked.need("AccessKeyId")?;
        let (_, key) = find(keys(document.user(asked.user()?)?)?, id)?;
        key["active"] = json!(is_active);
        Ok(json!({}))
    }
}

pub(in crate::aws) struct DeleteAccessKey;

impl Administer for DeleteAccessKey {
    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let id = asked.need("AccessKeyId")?;
        let keys = keys(document.user(asked.user()?)?)?;
        let (at, _) = find(keys, id)?;
        keys.remove(at);
        Ok(json!({}))
    }
}
