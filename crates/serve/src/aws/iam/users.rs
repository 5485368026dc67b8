//! Users and their tags.

use super::administer::{About, Administer, IamCall, invalid};
use super::document::{IamDocument, conflict, names, no_randomness, no_such, part, texts};
use crate::aws::call::RefusedCall;
use crate::aws::keys::new_user_id;
use crate::aws::policy::id_of_name;
use crate::aws::simulate::user_arn;
use crate::aws::users::owner;
use serde_json::{Map, Value, json};

/// Most tags of a user.
const MAX_TAGS: usize = 50;

/// A user's members in the file; `None` for the owner.
pub(super) fn shape(name: &str, user: Option<&Map<String, Value>>) -> Value {
    let id = user.and_then(|user| user.get("id")?.as_str().map(str::to_owned));
    let id = id.unwrap_or_else(|| id_of_name(name));
    json!({"Path": "/", "UserName": name, "UserId": id, "Arn": user_arn(name)})
}

fn tags(user: &Map<String, Value>) -> Vec<(String, Value)> {
    let map = user.get("tags").and_then(Value::as_object);
    let tag = |(key, value): (&String, &Value)| {
        (key.clone(), json!({"Key": key, "Value": value.as_str().unwrap_or_default()}))
    };
    map.into_iter().flatten().map(tag).collect()
}

fn shape_with_tags(name: &str, user: &Map<String, Value>) -> Value {
    let mut shape = shape(name, Some(user));
    let tags: Vec<Value> = tags(user).into_iter().map(|(_, tag)| tag).collect();
    if !tags.is_empty() {
        shape["Tags"] = Value::Array(tags);
    }
    shape
}

fn put_tags(asked: &IamCall, user: &mut Map<String, Value>) -> Result<(), RefusedCall> {
    let Value::Object(map) = part(user, "tags", json!({})) else { return Ok(()) };
    for (key, value) in asked.tags() {
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            return Err(invalid(
                "a tag has a key of 1 to 128 characters and a value of at most 256",
            ));
        }
        map.insert(key.to_owned(), json!(value));
    }
    if map.len() > MAX_TAGS {
        return Err(conflict("LimitExceeded", format!("a user has at most {MAX_TAGS} tags")));
    }
    Ok(())
}

fn this(asked: &IamCall) -> Result<About, RefusedCall> {
    Ok(About::User(asked.user()?.to_owned()))
}

pub(in crate::aws) struct CreateUser;

impl Administer for CreateUser {
    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        asked.without(&["PermissionsBoundary"])?;
        let name = asked.user()?;
        let user = document.add("users", name)?;
        // An earlier user of this name must not be confused with this one.
        let id = new_user_id().map_err(|error| no_randomness(&error))?;
        user.insert("id".to_owned(), json!(id));
        put_tags(asked, user)?;
        Ok(json!({"User": shape_with_tags(name, user)}))
    }
}

pub(in crate::aws) struct GetUser;

impl Administer for GetUser {
    const CHANGES: bool = false;

    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let name = asked.user()?;
        match document.user(name) {
            Ok(user) => Ok(json!({"User": shape_with_tags(name, user)})),
            // The owner is in no file.
            Err(_) if name == owner().0 => Ok(json!({"User": shape(name, None)})),
            Err(error) => Err(error),
        }
    }
}

pub(in crate::aws) struct ListUsers;

impl Administer for ListUsers {
    const CHANGES: bool = false;

    fn about(_: &IamCall) -> Result<About, RefusedCall> {
        Ok(About::All)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let named = document.users().filter_map(|user| Some((user["name"].as_str()?, user)));
        let shaped = named.map(|(name, user)| (name.to_owned(), shape(name, Some(user))));
        asked.page("Users", shaped.collect())
    }
}

pub(in crate::aws) struct DeleteUser;

impl Administer for DeleteUser {
    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let name = asked.user()?;
        let user = document.user(name)?;
        let has_keys =
            user.get("keys").and_then(Value::as_array).is_some_and(|keys| !keys.is_empty());
        let rest = match () {
            () if has_keys => "access keys (one with aws-profile is removed from the file itself)",
            () if !names(user, "policies").is_empty() => "policies",
            () if !texts(user, "groups").is_empty() => "groups",
            () => {
                document.remove("users", name);
                return Ok(json!({}));
            }
        };
        let text = format!("{name} has {rest} still: remove those first");
        Err(conflict("DeleteConflict", text))
    }
}

pub(in crate::aws) struct TagUser;

impl Administer for TagUser {
    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        put_tags(asked, document.user(asked.user()?)?)?;
        Ok(json!({}))
    }
}

pub(in crate::aws) struct UntagUser;

impl Administer for UntagUser {
    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let user = document.user(asked.user()?)?;
        if let Some(tags) = user.get_mut("tags").and_then(Value::as_object_mut) {
            for key in asked.list("TagKeys") {
                tags.remove(key);
            }
        }
        Ok(json!({}))
    }
}

pub(in crate::aws) struct ListUserTags;

impl Administer for ListUserTags {
    const CHANGES: bool = false;

    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let name = asked.user()?;
        let user =
            document.user(name).map_err(|_| no_such(&format!("user with the name {name}")))?;
        asked.page("Tags", tags(user))
    }
}
