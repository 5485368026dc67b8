//! Runs operations on users and groups, which read or change the file of users.

use super::document::IamDocument;
use crate::aws::call::{AwsCall, RefusedCall};
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{AwsService, OperationInput, RequestScope};
use crate::aws::resources::ResourceNames;
use crate::aws::simulate::user_arn;
use runner_core::arn::ACCOUNT;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

/// The fields of a call, with flattened names for list items.
pub(super) type IamFields = BTreeMap<String, String>;

/// The items of a list.
pub(super) fn members<'f>(fields: &'f IamFields, name: &str) -> Vec<&'f str> {
    let item = |number: usize| fields.get(&format!("{name}.member.{number}")).map(String::as_str);
    (1..).map_while(item).collect()
}

/// Fills in the caller's name if a call leaves out the user.
pub(in crate::aws) fn named(call: &mut AwsCall, origin: &Origin) {
    const OWN: [&str; 5] =
        ["GetUser", "CreateAccessKey", "ListAccessKeys", "UpdateAccessKey", "DeleteAccessKey"];
    let operation = call.operation;
    let is_own = operation.service == AwsService::Iam && OWN.contains(&operation.name);
    if is_own && let Value::Object(fields) = &mut call.body {
        let name = origin.caller.arn.rsplit('/').next().unwrap_or_default();
        fields.entry("UserName").or_insert_with(|| json!(name));
    }
}

/// The resource of an operation.
pub(in crate::aws) enum About {
    All,
    /// A user; may be the owner.
    User(String),
    Group(String),
}

/// An operation on users or groups.
pub(in crate::aws) trait Administer: Send + Sync {
    /// Whether it changes the file.
    const CHANGES: bool = true;

    /// The operation's resource.
    fn about(asked: &IamCall) -> Result<About, RefusedCall>;

    /// Runs the operation. Returns the response.
    fn perform(asked: &IamCall, document: &mut IamDocument) -> Result<Value, RefusedCall>;
}

/// The fields of a call.
pub(in crate::aws) struct IamCall(IamFields);

impl IamCall {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    pub(super) fn need(&self, name: &str) -> Result<&str, RefusedCall> {
        self.get(name).ok_or_else(|| invalid(format!("{name} is missing")))
    }

    pub(super) fn user(&self) -> Result<&str, RefusedCall> {
        self.need("UserName")
    }

    pub(super) fn group(&self) -> Result<&str, RefusedCall> {
        self.need("GroupName")
    }

    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        members(&self.0, name)
    }

    /// The tags as keys and values.
    pub(super) fn tags(&self) -> Vec<(&str, &str)> {
        let get = |name: &str| self.0.get(name).map(String::as_str);
        let tag = |number: usize| {
            let key = get(&format!("Tags.member.{number}.Key"))?;
            Some((key, get(&format!("Tags.member.{number}.Value")).unwrap_or_default()))
        };
        (1..).map_while(tag).collect()
    }

    /// Refuses members that the file does not store.
    pub(super) fn without(&self, names: &[&str]) -> Result<(), RefusedCall> {
        if self.get("Path").is_some_and(|path| path != "/") {
            return Err(invalid("Path: only `/` is supported"));
        }
        match names.iter().find(|name| self.get(name).is_some()) {
            Some(name) => Err(invalid(format!("{name} is not supported"))),
            None => Ok(()),
        }
    }

    /// A page of a list, under a name.
    pub(super) fn page(&self, name: &str, all: Vec<(String, Value)>) -> Result<Value, RefusedCall> {
        let most = match self.get("MaxItems").map(str::parse::<usize>) {
            None => 100,
            Some(Ok(most @ 1..=1000)) => most,
            Some(_) => return Err(invalid("MaxItems is a number from 1 to 1000")),
        };
        let start = match self.get("Marker") {
            None => 0,
            Some(marker) => {
                let at = all.iter().position(|(name, _)| name == marker);
                at.ok_or_else(|| invalid("Marker is none of this list"))? + 1
            }
        };
        let is_last = all.len() - start <= most;
        let page: Vec<(String, Value)> = all.into_iter().skip(start).take(most).collect();
        let marker = page.last().map(|(name, _)| name.clone()).filter(|_| !is_last);
        let values: Vec<Value> = page.into_iter().map(|(_, value)| value).collect();
        let mut answer = json!({name: values, "IsTruncated": (!is_last).to_string()});
        if let Some(marker) = marker {
            answer["Marker"] = json!(marker);
        }
        Ok(answer)
    }
}

pub(super) fn invalid(text: impl Into<String>) -> RefusedCall {
    RefusedCall::new("InvalidInput", text)
}

pub(super) fn group_arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:group/{name}")
}

/// The input of an operation on users or groups.
#[derive(Deserialize)]
#[serde(transparent)]
pub(in crate::aws) struct Of<A> {
    fields: IamFields,
    #[serde(skip)]
    operation: PhantomData<A>,
}

impl<A: Administer> OperationInput for Of<A> {
    type Subject = IamCall;

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, IamCall), RefusedCall> {
        let asked = IamCall(self.fields.clone());
        let scope = match A::about(&asked)? {
            About::All => RequestScope::all(),
            About::User(name) => RequestScope::of([ResourceNames::named(user_arn(&name))]),
            About::Group(name) => RequestScope::of([ResourceNames::named(group_arn(&name))]),
        };
        Ok((scope, asked))
    }

    async fn answer(
        self,
        asked: IamCall,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let users = Arc::clone(&endpoint.users);
        // Files are locked and written, so this blocks.
        let done = tokio::task::spawn_blocking(move || match A::CHANGES {
            true => users.change(|document| A::perform(&asked, document)),
            false => A::perform(&asked, &mut users.document()?),
        });
        done.await.unwrap_or_else(|error| {
            Err(RefusedCall::new("ServiceFailure", error.to_string()).with_status(500))
        })
    }
}
