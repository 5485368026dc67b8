//! IAM: users, keys, policies and groups, and simulation of policies.
//!
//! Operations change the file of users in the state folder (`document`) as an editor would;
//! endpoints then read it again. There are no roles, managed policies or boundaries.

mod administer;
mod document;
mod groups;
mod keys;
mod policies;
mod roles;
mod simulations;
mod users;

pub(super) use administer::{Of, named};
pub(super) use document::IamDocument;
pub(super) use groups::{
    AddUserToGroup, CreateGroup, DeleteGroup, GetGroup, ListGroups, ListGroupsForUser,
    RemoveUserFromGroup,
};
pub(super) use keys::{CreateAccessKey, DeleteAccessKey, ListAccessKeys, UpdateAccessKey};
pub(super) use policies::{
    DeleteGroupPolicy, DeleteUserPolicy, GetGroupPolicy, GetUserPolicy, ListGroupPolicies,
    ListUserPolicies, PutGroupPolicy, PutUserPolicy,
};
pub(super) use roles::GetRole;
pub(super) use simulations::{SimulateCustomPolicy, SimulatePrincipalPolicy};
pub(super) use users::{
    CreateUser, DeleteUser, GetUser, ListUserTags, ListUsers, TagUser, UntagUser,
};
