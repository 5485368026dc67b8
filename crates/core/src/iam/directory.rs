//! Reads the file of users, access keys, policies and groups.

use super::node::{self, JsonMember, JsonNode, JsonValue, member, only};
use super::policy::IamPolicy;
use super::{DocumentProblem, DocumentProblems};
use crate::spec::LineColumn;
use std::collections::HashMap;
use std::fmt;

/// Maximum length of a user or group name, and minimum length of a secret.
const MAX_NAME: usize = 64;
const MIN_SECRET: usize = 16;

/// Users and groups.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    users: Vec<IamUser>,
    groups: Vec<IamGroup>,
    /// Index of the user and of the user's key, by key ID.
    keys: HashMap<String, (usize, usize)>,
}

/// A user of the directory file.
#[derive(Clone, Debug)]
pub struct IamUser {
    /// The name, used in ARNs and session IDs.
    pub name: String,
    /// A permanent ID: a new user with the same name gets another one. Users written by hand may
    /// have none.
    pub id: Option<String>,
    /// Tag keys and values.
    pub tags: Vec<(String, String)>,
    /// Their access keys.
    pub keys: Vec<AccessKey>,
    /// Profiles in the host's AWS files whose keys they also use.
    pub profiles: Vec<KeyProfile>,
    /// Their own policies.
    pub policies: Vec<IamPolicy>,
    /// Names of their groups.
    pub groups: Vec<String>,
}

/// An access key.
#[derive(Clone)]
pub struct AccessKey {
    /// The access key ID.
    pub id: String,
    /// The secret key.
    pub secret: String,
    /// Whether the key is active.
    pub is_active: bool,
}

/// An access key in the host's AWS files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProfile {
    /// The profile's name.
    pub name: String,
    /// Whether the profile is active.
    pub is_active: bool,
}

/// A user's key: in the directory file, or in the host's AWS files.
enum UserKey {
    Own(AccessKey),
    Profile(LineColumn, KeyProfile),
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, is_active) = (&self.id, self.is_active);
        formatter.debug_struct("AccessKey").field("id", id).field("is_active", &is_active).finish()
    }
}

/// A group of users, with the policies they share.
#[derive(Clone, Debug)]
pub struct IamGroup {
    /// Its name.
    pub name: String,
    /// The policies of its users.
    pub policies: Vec<IamPolicy>,
}

impl Directory {
    /// Parses a file. `reserved` are prefixes of session IDs that others use.
    ///
    /// # Errors
    /// Every problem with the file.
    pub fn parse(text: &str, reserved: &[&str]) -> Result<Self, Vec<DocumentProblem>> {
        let mut problems = DocumentProblems::default();
        let node = node::read(text, &mut problems);
        let directory =
            node.map(|node| DirectoryReader { problems: &mut problems }.read(&node, reserved));
        problems.or(directory)
    }

    /// Returns the user with this name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&IamUser> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The secrets of all access keys.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.users.iter().flat_map(|user| &user.keys).map(|key| key.secret.as_str())
    }

    /// Returns the group with this name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&IamGroup> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The names of all users.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.users.iter().map(|user| user.name.as_str())
    }

    /// Returns the owner of an active access key.
    #[must_use]
    pub fn of_key(&self, id: &str) -> Option<(&IamUser, &AccessKey)> {
        let (user, key) = self.keys.get(id)?;
        let user = self.users.get(*user)?;
        user.keys.get(*key).filter(|key| key.is_active).map(|key| (user, key))
    }

    /// The active profiles in the host's AWS files, with their users.
    pub fn profiles(&self) -> impl Iterator<Item = (&IamUser, &str)> {
        self.users.iter().flat_map(|user| {
            let active = user.profiles.iter().filter(|profile| profile.is_active);
            active.map(move |profile| (user, profile.name.as_str()))
        })
    }

    /// The policies that apply to a user: the user's own and those of the groups.
    pub fn policies<'d>(&'d self, user: &'d IamUser) -> impl Iterator<Item = &'d IamPolicy> {
        let groups = self.groups.iter().filter(|group| user.groups.contains(&group.name));
        user.policies.iter().chain(groups.flat_map(|group| &group.policies))
    }
}

struct DirectoryReader<'p> {
    problems: &'p mut DocumentProblems,
}

impl DirectoryReader<'_> {
    fn read(mut self, node: &JsonNode, reserved: &[&str]) -> Directory {
        let members = node.map("the file", self.problems);
        only(members, &["users", "groups"], "the file", self.problems);
        let groups: Vec<(LineColumn, IamGroup)> = match member(members, "groups") {
            Some(node) => {
                let nodes = node.list("groups", self.problems);
                nodes.iter().filter_map(|node| self.group(node)).collect()
            }
            None => Vec::new(),
        };
        let names: Vec<&str> = groups.iter().map(|(_, group)| group.name.as_str()).collect();
        let users: Vec<(LineColumn, IamUser)> = match member(members, "users") {
            Some(node) => {
                let nodes = node.list("users", self.problems);
                nodes.iter().filter_map(|node| self.user(node, &names)).collect()
            }
            None => Vec::new(),
        };
        self.unique("group", groups.iter().map(|(place, group)| (*place, group.name.as_str())));
        self.unique("user", users.iter().map(|(place, user)| (*place, user.name.as_str())));
        self.apart(&users, reserved);
        let keys = self.keys_of_all(&users);
        self.unique_profiles_and_ids(&users);
        let groups = groups.into_iter().map(|(_, group)| group).collect();
        Directory { users: users.into_iter().map(|(_, user)| user).collect(), groups, keys }
    }

    fn group(&mut self, node: &JsonNode) -> Option<(LineColumn, IamGroup)> {
        let members = node.map("a group", self.problems);
        only(members, &["name", "policies"], "a group", self.problems);
        let (place, name) = self.name(node, members, "a group")?;
        let policies = self.policies(members, &format!("group {name}"));
        Some((place, IamGroup { name, policies }))
    }

    fn user(&mut self, node: &JsonNode, groups: &[&str]) -> Option<(LineColumn, IamUser)> {
        const KNOWN: [&str; 6] = ["name", "id", "tags", "keys", "policies", "groups"];
        let members = node.map("a user", self.problems);
        only(members, &KNOWN, "a user", self.problems);
        let (place, name) = self.name(node, members, "a user")?;
        let mut tags = Vec::new();
        for tag in member(members, "tags").map_or(&[][..], |node| node.map("tags", self.problems)) {
            let value = tag.node.text("a tag", self.problems);
            tags.extend(value.map(|value| (tag.name.clone(), value.to_owned())));
        }
        let keys = member(members, "keys").map_or(&[][..], |node| node.list("keys", self.problems));
        let (mut own, mut profiles) = (Vec::new(), Vec::new());
        for node in keys {
            match self.key(node) {
                None => {}
                Some(UserKey::Own(key)) => own.push(key),
                Some(UserKey::Profile(place, profile)) => {
                    if profiles.iter().any(|one: &KeyProfile| one.name == profile.name) {
                        let text = format!("the profile {} is there twice", profile.name);
                        self.problems.add(place, text);
                    }
                    profiles.push(profile);
                }
            }
        }
        let id = member(members, "id").and_then(|node| self.id(node));
        let policies = self.policies(members, &format!("user {name}"));
        let mut in_groups = Vec::new();
        let list = member(members, "groups");
        for node in list.map_or(&[][..], |node| node.list("groups", self.problems)) {
            let Some(group) = node.text("a group's name", self.problems) else { continue };
            if !groups.contains(&group) {
                self.problems.add(node.place, format!("there is no group {group}"));
            }
            in_groups.push(group.to_owned());
        }
        let groups = in_groups;
        Some((place, IamUser { name, id, tags, keys: own, profiles, policies, groups }))
    }

    fn id(&mut self, node: &JsonNode) -> Option<String> {
        let id = node.text("an id", self.problems)?;
        let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
        if !(16..=128).contains(&id.len()) || !id.chars().all(is_part) {
            let text = "a user's id has 16 to 128 capital letters and digits, AIDA and others";
            self.problems.add(node.place, text);
        }
        Some(id.to_owned())
    }

    fn name(
        &mut self,
        node: &JsonNode,
        members: &[JsonMember],
        what: &str,
    ) -> Option<(LineColumn, String)> {
        let Some(name) = member(members, "name") else {
            self.problems.add(node.place, format!("{what} has a name"));
            return None;
        };
        let text = name.text("a name", self.problems)?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_.@=,+-".contains(c);
        if text.is_empty() || text.len() > MAX_NAME || !text.chars().all(is_part) {
            let shown: String = text.chars().take(MAX_NAME + 1).collect();
            let text = format!(
                "`{shown}` is not a valid name: 1 to {MAX_NAME} letters, digits and the characters \
                 _.@=,+-"
            );
            self.problems.add(name.place, text);
            return None;
        }
        Some((name.place, text.to_owned()))
    }

    fn policies(&mut self, members: &[JsonMember], owner: &str) -> Vec<IamPolicy> {
        let policies = member(members, "policies");
        let policies = policies.map_or(&[][..], |node| node.map("policies", self.problems));
        let read = |policy: &JsonMember| {
            let name = format!("{owner}, policy {}", policy.name);
            IamPolicy::read(&policy.node, &name, self.problems)
        };
        policies.iter().map(read).collect()
    }

    fn key(&mut self, node: &JsonNode) -> Option<UserKey> {
        let members = node.map("a key", self.problems);
        only(members, &["id", "secret", "aws-profile", "active"], "a key", self.problems);
        let is_active = match member(members, "active").map(|node| (node.place, &node.json)) {
            None => true,
            Some((_, JsonValue::Bool(is_active))) => *is_active,
            Some((place, _)) => {
                self.problems.add(place, "active is true or false");
                false
            }
        };
        if let Some(profile) = member(members, "aws-profile") {
            if member(members, "id").is_some() || member(members, "secret").is_some() {
                let text = "a key has an id and a secret, or an aws-profile that has them";
                self.problems.add(profile.place, text);
            }
            let name = profile.text("aws-profile", self.problems)?.to_owned();
            if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
                self.problems.add(profile.place, "aws-profile is the name of a profile");
            }
            return Some(UserKey::Profile(profile.place, KeyProfile { name, is_active }));
        }
        let mut text = |name: &str| match member(members, name) {
            Some(node) => node.text(name, self.problems).map(|text| (node.place, text.to_owned())),
            None => {
                self.problems.add(node.place, format!("a key has its {name}"));
                None
            }
        };
        let (id, secret) = (text("id"), text("secret"));
        let ((id_place, id), (secret_place, secret)) = (id?, secret?);
        if !(16..=128).contains(&id.len()) || !id.chars().all(|c| c.is_ascii_alphanumeric()) {
            let text = "a key's id has 16 to 128 letters and digits, AKIA and others";
            self.problems.add(id_place, text);
        }
        if secret.len() < MIN_SECRET || !secret.chars().all(|c| c.is_ascii_graphic()) {
            let text = format!("a secret has at least {MIN_SECRET} characters and no blanks");
            self.problems.add(secret_place, text);
        }
        Some(UserKey::Own(AccessKey { id, secret, is_active }))
    }

    /// Reports names that are used twice, ignoring case.
    fn unique<'n>(&mut self, what: &str, names: impl Iterator<Item = (LineColumn, &'n str)>) {
        let mut seen = HashMap::new();
        for (place, name) in names {
            if let Some(first) = seen.insert(name.to_ascii_lowercase(), name) {
                self.problems.add(place, format!("there is a {what} {first} already"));
            }
        }
    }

    /// Reports users whose session IDs could be mistaken for another user's: IDs begin with a name
    /// and a dash, and rules match `session/${aws:username}-*`.
    fn apart(&mut self, users: &[(LineColumn, IamUser)], reserved: &[&str]) {
        let fold = |name: &str| name.to_ascii_lowercase();
        let mut names: Vec<String> = users.iter().map(|(_, user)| fold(&user.name)).collect();
        let own = names.len();
        names.extend(reserved.iter().map(|name| fold(name)));
        let begins = |long: &str, short: &str| {
            long.strip_prefix(short).is_some_and(|rest| rest.starts_with('-'))
        };
        for (at, (place, user)) in users.iter().enumerate() {
            for (other_at, other) in names.iter().enumerate() {
                let Some(name) = names.get(at) else { continue };
                let is_reserved = other_at >= own;
                if is_reserved && name == other {
                    self.problems.add(*place, format!("the name {other} is taken"));
                } else if begins(name, other) || (is_reserved && begins(other, name)) {
                    let text = format!(
                        "{} and {other} cannot both be: a rule for the sessions of one, \
                         `NAME-*`, would be about the other's",
                        user.name
                    );
                    self.problems.add(*place, text);
                }
            }
        }
    }

    /// Reports profiles and IDs that several users share.
    fn unique_profiles_and_ids(&mut self, users: &[(LineColumn, IamUser)]) {
        let (mut profiles, mut ids) = (HashMap::new(), HashMap::new());
        for (at, (place, user)) in users.iter().enumerate() {
            for profile in &user.profiles {
                if profiles.insert(&profile.name, at).is_some_and(|other| other != at) {
                    let text = format!("the profile {} is another user's already", profile.name);
                    self.problems.add(*place, text);
                }
            }
            if let Some(id) = &user.id
                && ids.insert(id, at).is_some()
            {
                self.problems.add(*place, format!("the id {id} is there twice"));
            }
        }
    }

    fn keys_of_all(&mut self, users: &[(LineColumn, IamUser)]) -> HashMap<String, (usize, usize)> {
        let mut keys = HashMap::new();
        for (at, (place, user)) in users.iter().enumerate() {
            for (key_at, key) in user.keys.iter().enumerate() {
                if keys.insert(key.id.clone(), (at, key_at)).is_some() {
                    self.problems.add(*place, format!("the key {} is there twice", key.id));
                }
            }
        }
        keys
    }
}
