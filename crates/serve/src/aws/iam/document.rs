//! The editable file of users: JSON, whose members this version may not all know.

use super::administer::invalid;
use crate::aws::call::RefusedCall;
use serde_json::{Map, Value, json};

pub(in crate::aws) type DocumentMembers = Map<String, Value>;

/// The whole file.
#[derive(Debug)]
pub(in crate::aws) struct IamDocument(Value);

pub(super) fn no_such(what: &str) -> RefusedCall {
    RefusedCall::new("NoSuchEntity", format!("there is no {what}")).with_status(404)
}

pub(super) fn no_randomness(error: &std::io::Error) -> RefusedCall {
    let text = format!("no random bytes can be had: {error}");
    RefusedCall::new("ServiceFailure", text).with_status(500)
}

pub(super) fn conflict(code: &'static str, text: String) -> RefusedCall {
    RefusedCall::new(code, text).with_status(409)
}

impl IamDocument {
    /// Reads a validated text.
    ///
    /// # Errors
    /// If it is not JSON.
    pub(in crate::aws) fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(IamDocument)
    }

    pub(in crate::aws) fn text(&self) -> String {
        let mut text = format!("{:#}", self.0);
        text.push('\n');
        text
    }

    fn all(&self, list: &str) -> impl Iterator<Item = &DocumentMembers> {
        self.0[list].as_array().into_iter().flatten().filter_map(Value::as_object)
    }

    fn one_mut(&mut self, list: &str, name: &str) -> Option<&mut DocumentMembers> {
        let all = self.0.get_mut(list)?.as_array_mut()?;
        all.iter_mut().filter_map(Value::as_object_mut).find(|one| one["name"] == *name)
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &DocumentMembers> {
        self.all("users")
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &DocumentMembers> {
        self.all("groups")
    }

    pub(super) fn user(&mut self, name: &str) -> Result<&mut DocumentMembers, RefusedCall> {
        self.one_mut("users", name).ok_or_else(|| no_such(&format!("user with the name {name}")))
    }

    pub(super) fn group(&mut self, name: &str) -> Result<&mut DocumentMembers, RefusedCall> {
        self.one_mut("groups", name).ok_or_else(|| no_such(&format!("group with the name {name}")))
    }

    /// Adds an entry to a list. Readers of the file check whether the name is valid.
    pub(in crate::aws) fn add(
        &mut self,
        list: &str,
        name: &str,
    ) -> Result<&mut DocumentMembers, RefusedCall> {
        let fold = |one: &DocumentMembers| one["name"].as_str().map(str::to_ascii_lowercase);
        if self.all(list).any(|one| fold(one).as_deref() == Some(&name.to_ascii_lowercase())) {
            let text = format!("{name} is there already");
            return Err(conflict("EntityAlreadyExists", text));
        }
        let broken = || invalid("the file of users has another shape");
        let file = self.0.as_object_mut().ok_or_else(broken)?;
        let all =
            file.entry(list).or_insert_with(|| json!([])).as_array_mut().ok_or_else(broken)?;
        all.push(json!({"name": name}));
        all.last_mut().and_then(Value::as_object_mut).ok_or_else(broken)
    }

    pub(super) fn remove(&mut self, list: &str, name: &str) {
        if let Some(all) = self.0.get_mut(list).and_then(Value::as_array_mut) {
            all.retain(|one| one["name"] != *name);
        }
    }
}

/// The strings in a member that is a list.
pub(super) fn texts<'m>(members: &'m DocumentMembers, name: &str) -> Vec<&'m str> {
    let list = members.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The names in a member that is a map.
pub(super) fn names(members: &DocumentMembers, name: &str) -> Vec<String> {
    let map = members.get(name).and_then(Value::as_object);
    map.into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// A list or map member, created if missing.
pub(super) fn part<'m>(
    members: &'m mut DocumentMembers,
    name: &str,
    empty: Value,
) -> &'m mut Value {
    members.entry(name).or_insert(empty)
}
