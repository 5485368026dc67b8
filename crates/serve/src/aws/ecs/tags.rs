//! Tags of clusters and tasks. Tags of a task apply to its build in policies, under every name.

use super::clusters::{name_of, not_found, table};
use super::{changed, invalid};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::resources::{ResourceNames, last};
use runner_folder::state::{ClusterTable, Task};
use runner_host::clock;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most tags on one resource, as in AWS.
const MOST: usize = 50;

/// A tag in a request.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct EcsTag {
    key: String,
    #[serde(default)]
    value: String,
}

/// Validates tags.
pub(super) fn checked(tags: &[EcsTag]) -> Result<BTreeMap<String, String>, RefusedCall> {
    for EcsTag { key, value } in tags {
        let length = key.chars().count();
        if !(1..=128).contains(&length) || value.chars().count() > 256 {
            return Err(invalid(
                "a tag has a key of 1 to 128 characters and a value of at most 256.",
            ));
        }
        let lower = key.to_ascii_lowercase();
        if lower.starts_with("aws:") || lower.starts_with("codebuild:") {
            return Err(invalid("tags whose keys begin with aws: and codebuild: cannot be set."));
        }
    }
    if tags.len() > MOST {
        return Err(invalid(format!("a thing has at most {MOST} tags.")));
    }
    Ok(tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect())
}

/// The condition keys for tags in a request.
pub(super) fn in_request(tags: &[EcsTag]) -> Vec<(String, String)> {
    tags.iter().map(|tag| (format!("aws:RequestTag/{}", tag.key), tag.value.clone())).collect()
}

/// Tags in the form of responses.
pub(super) fn shape(tags: &BTreeMap<String, String>) -> Value {
    tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

/// The target of an ARN.
pub(in crate::aws) enum TagTarget {
    Cluster(String),
    /// A build's uuid.
    Task(String),
}

/// A resource with tags, which may not exist.
async fn named(
    arn: &str,
    endpoint: &Endpoint,
) -> Result<(RequestScope, Option<TagTarget>), RefusedCall> {
    if !arn.starts_with("arn:aws:ecs:") {
        return Err(invalid("resourceArn is the ARN of a cluster or of a task."));
    }
    let kind = arn.splitn(6, ':').nth(5).and_then(|thing| thing.split_once('/'));
    match kind {
        Some(("cluster", _)) => {
            let found = name_of(Some(arn))
                .filter(|name| table(endpoint).is_ok_and(|table| table.cluster(name).is_some()));
            let scope = RequestScope::of([super::clusters::resource(arn, endpoint)]);
            Ok((scope, found.map(|name| TagTarget::Cluster(name.to_owned()))))
        }
        Some(("task", _)) => {
            let known = endpoint.builds.get(last(arn)).await;
            let cluster = arn.rsplit('/').nth(1).unwrap_or_default();
            let scope = RequestScope::of([ResourceNames::task(cluster, arn, known.as_ref())]);
            let known = known.filter(|known| known.task.cluster == cluster);
            Ok((scope, known.map(|known| TagTarget::Task(known.uuid))))
        }
        _ => Err(invalid("clusters and tasks have tags, and nothing else.")),
    }
}

fn tags_of<'t>(
    named: &TagTarget,
    table: &'t mut ClusterTable,
) -> Result<&'t mut BTreeMap<String, String>, RefusedCall> {
    match named {
        TagTarget::Cluster(name) => Ok(&mut table.cluster_mut(name).ok_or_else(not_found)?.tags),
        TagTarget::Task(uuid) => {
            let cluster = table.cluster_of(uuid).to_owned();
            let new = || Task::new(&cluster, clock::wall());
            Ok(&mut table.tasks.entry(uuid.clone()).or_insert_with(new).tags)
        }
    }
}

fn missing() -> RefusedCall {
    invalid("The specified resource was not found.")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TagResource {
    resource_arn: String,
    tags: Vec<EcsTag>,
}

impl OperationInput for TagResource {
    type Subject = Option<TagTarget>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        let (scope, named) = named(&self.resource_arn, endpoint).await?;
        Ok((scope.when_also(in_request(&self.tags)), named))
    }

    async fn answer(
        self,
        named: Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let (named, new) = (named.ok_or_else(missing)?, checked(&self.tags)?);
        changed(endpoint, move |table| {
            let tags = tags_of(&named, table)?;
            tags.extend(new);
            match tags.len() > MOST {
                true => Err(invalid(format!("a thing has at most {MOST} tags."))),
                false => Ok(json!({})),
            }
        })
        .await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UntagResource {
    resource_arn: String,
    tag_keys: Vec<String>,
}

impl OperationInput for UntagResource {
    type Subject = Option<TagTarget>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        named(&self.resource_arn, endpoint).await
    }

    async fn answer(
        self,
        named: Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let named = named.ok_or_else(missing)?;
        changed(endpoint, move |table| {
            let tags = tags_of(&named, table)?;
            self.tag_keys.iter().for_each(|key| drop(tags.remove(key)));
            Ok(json!({}))
        })
        .await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListTagsForResource {
    resource_arn: String,
}

impl OperationInput for ListTagsForResource {
    type Subject = Option<TagTarget>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        named(&self.resource_arn, endpoint).await
    }

    async fn answer(
        self,
        named: Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let named = named.ok_or_else(missing)?;
        let mut table = (*table(endpoint)?).clone();
        Ok(json!({"tags": shape(tags_of(&named, &mut table)?)}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_are_not_to_be_given() {
        let tag = |key: &str| EcsTag { key: key.to_owned(), value: "x".to_owned() };
        assert!(checked(&[tag("team")]).is_ok());
        for bad in ["", "aws:x", "AWS:x", "codebuild:project", &"k".repeat(129)] {
            assert!(checked(&[tag(bad)]).is_err(), "{bad}");
        }
        assert!(checked(&vec![tag("k"); 51]).is_err());
    }
}
