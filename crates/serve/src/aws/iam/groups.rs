//! Groups and their members.

use super::administer::{About, Administer, IamCall, group_arn, invalid};
use super::document::{IamDocument, conflict, names, part, texts};
use super::users;
use crate::aws::call::RefusedCall;
use crate::aws::policy::group_id;
use serde_json::{Value, json};

fn shape(name: &str) -> Value {
    json!({"Path": "/", "GroupName": name, "GroupId": group_id(name), "Arn": group_arn(name)})
}

fn this(asked: &IamCall) -> Result<About, RefusedCall> {
    Ok(About::Group(asked.group()?.to_owned()))
}

/// The users in a group.
fn within(document: &IamDocument, group: &str) -> Vec<String> {
    let users = document.users().filter(|user| texts(user, "groups").contains(&group));
    users.filter_map(|user| user["name"].as_str()).map(str::to_owned).collect()
}

pub(in crate::aws) struct CreateGroup;

impl Administer for CreateGroup {
    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        asked.without(&[])?;
        let name = asked.group()?;
        document.add("groups", name)?;
        Ok(json!({"Group": shape(name)}))
    }
}

pub(in crate::aws) struct GetGroup;

impl Administer for GetGroup {
    const CHANGES: bool = false;

    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let name = asked.group()?;
        document.group(name)?;
        let mut shaped = Vec::new();
        for user in within(document, name) {
            let shape = users::shape(&user, document.user(&user).ok().as_deref());
            shaped.push((user, shape));
        }
        let mut answer = asked.page("Users", shaped)?;
        answer["Group"] = shape(name);
        Ok(answer)
    }
}

pub(in crate::aws) struct ListGroups;

impl Administer for ListGroups {
    const CHANGES: bool = false;

    fn about(_: &IamCall) -> Result<About, RefusedCall> {
        Ok(About::All)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let groups = document.groups().filter_map(|group| group["name"].as_str());
        asked.page("Groups", groups.map(|name| (name.to_owned(), shape(name))).collect())
    }
}

pub(in crate::aws) struct DeleteGroup;

impl Administer for DeleteGroup {
    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let name = asked.group()?;
        let has_policies = !names(document.group(name)?, "policies").is_empty();
        let rest = match () {
            () if !within(document, name).is_empty() => "users",
            () if has_policies => "policies",
            () => {
                document.remove("groups", name);
                return Ok(json!({}));
            }
        };
        let text = format!("{name} has {rest} still: remove those first");
        Err(conflict("DeleteConflict", text))
    }
}

pub(in crate::aws) struct AddUserToGroup;

impl Administer for AddUserToGroup {
    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let group = asked.group()?;
        document.group(group)?;
        let user = document.user(asked.user()?)?;
        if !texts(user, "groups").contains(&group) {
            let list = part(user, "groups", json!([])).as_array_mut();
            list.ok_or_else(|| invalid("groups are not a list"))?.push(json!(group));
        }
        Ok(json!({}))
    }
}

pub(in crate::aws) struct RemoveUserFromGroup;

impl Administer for RemoveUserFromGroup {
    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        this(asked)
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let group = asked.group()?;
        document.group(group)?;
        let user = document.user(asked.user()?)?;
        if let Some(list) = user.get_mut("groups").and_then(Value::as_array_mut) {
            list.retain(|name| *name != *group);
        }
        Ok(json!({}))
    }
}

pub(in crate::aws) struct ListGroupsForUser;

impl Administer for ListGroupsForUser {
    const CHANGES: bool = false;

    fn about(asked: &IamCall) -> Result<About, RefusedCall> {
        Ok(About::User(asked.user()?.to_owned()))
    }

    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall> {
        let user = document.user(asked.user()?)?;
        let groups = texts(user, "groups").into_iter().map(|name| (name.to_owned(), shape(name)));
        let groups = groups.collect();
        asked.page("Groups", groups)
    }
}
