//! ListCommands and ListCommandInvocations: the newest first, page by page.
//!
//! Ids sort in the order of commands, so records are read only until a page is full.

use super::nodes::shown;
use super::{find, invalid, is_named, may_see, read, shape};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use jiff::Timestamp;
use runner_core::run_command::{Standing, StatusDetails, standing};
use runner_folder::state::{CommandNode, FoundCommand, SentCommand};
use serde::Deserialize;
use serde_json::{Value, json};

/// Most items on a page; also the default.
const MOST: usize = 50;
/// Records read at once.
const AT_ONCE: usize = 32;

/// A filter.
#[derive(Clone, Debug, Deserialize)]
struct CommandFilter {
    key: String,
    value: String,
}

/// The members that both calls share.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListRequest {
    command_id: Option<String>,
    instance_id: Option<String>,
    max_results: Option<usize>,
    next_token: Option<String>,
    #[serde(default)]
    filters: Vec<CommandFilter>,
}

#[derive(Deserialize)]
pub(crate) struct ListCommands {
    #[serde(flatten)]
    asked: ListRequest,
}

#[derive(Deserialize)]
pub(crate) struct ListCommandInvocations {
    #[serde(flatten)]
    asked: ListRequest,
    #[serde(default, rename = "Details")]
    details: bool,
}

/// A parsed filter.
enum FilterTest {
    After(i64),
    Before(i64),
    Status(String),
    Document(String),
    /// Whether the command has ended.
    Complete(bool),
}

const COMMAND_STATUSES: &[&str] = &[
    "Pending",
    "InProgress",
    "Success",
    "Cancelled",
    "Failed",
    "TimedOut",
    "AccessDenied",
    "DeliveryTimedOut",
    "ExecutionTimedOut",
    "Incomplete",
    "NoInstancesInTag",
    "LimitExceeded",
];
const INVOCATION_STATUSES: &[&str] = &[
    "Pending",
    "InProgress",
    "Delayed",
    "Success",
    "Cancelled",
    "Failed",
    "TimedOut",
    "AccessDenied",
    "DeliveryTimedOut",
    "ExecutionTimedOut",
    "Undeliverable",
    "InvalidPlatform",
    "Terminated",
];

/// Parses filters of commands or of invocations.
fn tests(
    filters: &[CommandFilter],
    statuses: &[&str],
    has_stage: bool,
) -> Result<Vec<FilterTest>, RefusedCall> {
    let wrong = |text: String| RefusedCall::new("InvalidFilterKey", text);
    if filters.len() > 5 {
        return Err(invalid("Filters has at most 5 members"));
    }
    let test = |CommandFilter { key, value }: &CommandFilter| {
        let moment = || {
            let time = value.parse::<Timestamp>();
            let text = || invalid(format!("Filters: {} is not a time in ISO 8601", shown(value)));
            time.map(Timestamp::as_microsecond).map_err(|_| text())
        };
        match key.as_str() {
            "InvokedAfter" => moment().map(FilterTest::After),
            "InvokedBefore" => moment().map(FilterTest::Before),
            "Status" if statuses.contains(&value.as_str()) => Ok(FilterTest::Status(value.clone())),
            "Status" => Err(wrong(format!(
                "Filters: Status is one of {}, not {}",
                statuses.join(", "),
                shown(value)
            ))),
            "DocumentName" => Ok(FilterTest::Document(value.clone())),
            "ExecutionStage" if has_stage => match value.as_str() {
                "Complete" => Ok(FilterTest::Complete(true)),
                "Executing" => Ok(FilterTest::Complete(false)),
                _ => Err(wrong("Filters: ExecutionStage is Executing or Complete".to_owned())),
            },
            _ => Err(wrong(format!("Filters: there is no key {}", shown(key)))),
        }
    };
    filters.iter().map(test).collect()
}

/// Whether a command, or an invocation with this status, passes the filters.
fn fits(
    tests: &[FilterTest],
    command: &SentCommand,
    status: &str,
    details: &str,
    is_over: bool,
) -> bool {
    tests.iter().all(|test| match test {
        FilterTest::After(time) => command.requested.0 >= *time,
        FilterTest::Before(time) => command.requested.0 <= *time,
        FilterTest::Status(wanted) => wanted == status || wanted == details,
        FilterTest::Document(name) => *name == command.document,
        FilterTest::Complete(wanted) => *wanted == is_over,
    })
}

impl ListRequest {
    fn most(&self) -> Result<usize, RefusedCall> {
        match self.max_results.unwrap_or(MOST) {
            most @ 1..=MOST => Ok(most),
            _ => Err(invalid(format!("MaxResults is a number from 1 to {MOST}"))),
        }
    }

    /// Ids of commands from the page's start on, and the node of the first command after which to
    /// continue.
    async fn ids(&self, endpoint: &Endpoint) -> Result<(Vec<String>, Option<String>), RefusedCall> {
        let store = endpoint.commands.store.clone();
        let mut ids = match &self.command_id {
            Some(id) => find(id, endpoint).await?.into_iter().map(|it| it.command.id).collect(),
            None => read(move || store.ids()).await?,
        };
        let Some(token) = &self.next_token else { return Ok((ids, None)) };
        let (id, node) = match token.split_once('/') {
            Some((id, node)) => (id, Some(node.to_owned())),
            None => (token.as_str(), None),
        };
        let unknown = || RefusedCall::new("InvalidNextToken", "NextToken is none of this list");
        if uuid::Uuid::try_parse(id).is_err() {
            return Err(unknown());
        }
        // The token works even if its command was removed meanwhile.
        ids.retain(|one| if node.is_some() { one.as_str() <= id } else { one.as_str() < id });
        let node = node.filter(|_| ids.first().is_some_and(|first| first == id));
        Ok((ids, node))
    }

    fn is_at(&self, node: &CommandNode) -> bool {
        self.instance_id.as_ref().is_none_or(|wanted| is_named(node, wanted))
    }
}

/// Reads some records. Leaves out unreadable ones and logs them.
async fn load(
    ids: &[String],
    endpoint: &Endpoint,
) -> Result<Vec<(FoundCommand, Vec<StatusDetails>)>, RefusedCall> {
    let (store, ids) = (endpoint.commands.store.clone(), ids.to_vec());
    read(move || {
        let one = |id: &String| {
            let found = store.find(id).and_then(|found| match found {
                Some(found) => found.details().map(|details| Some((found, details))),
                None => Ok(None),
            });
            found.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot read a command");
                None
            })
        };
        Ok(ids.iter().filter_map(one).collect())
    })
    .await
}

impl OperationInput for ListCommands {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::all(), ()))
    }

    async fn answer(
        self,
        (): (),
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let asked = &self.asked;
        let (most, tests) = (asked.most()?, tests(&asked.filters, COMMAND_STATUSES, true)?);
        let (ids, _) = asked.ids(endpoint).await?;
        let (mut items, mut last) = (Vec::new(), String::new());
        for some in ids.chunks(AT_ONCE) {
            for (found, details) in load(some, endpoint).await? {
                let command = &found.command;
                let Standing { status, details, counts } =
                    standing(&details, command.errors_allowed);
                let is_over = counts.completed == counts.targets;
                let is_wanted = fits(&tests, command, status, details, is_over)
                    && (asked.instance_id.is_none()
                        || command.nodes.iter().any(|node| asked.is_at(node)))
                    && may_see(command, "ssm:ListCommands", origin, endpoint);
                if !is_wanted {
                    continue;
                }
                if items.len() == most {
                    return Ok(json!({"Commands": items, "NextToken": last}));
                }
                items.push(shape::command(command, &Standing { status, details, counts }));
                last.clone_from(&command.id);
            }
        }
        Ok(json!({"Commands": items}))
    }
}

impl OperationInput for ListCommandInvocations {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::all(), ()))
    }

    async fn answer(
        self,
        (): (),
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let asked = &self.asked;
        let (most, tests) = (asked.most()?, tests(&asked.filters, INVOCATION_STATUSES, false)?);
        let (ids, mut behind) = asked.ids(endpoint).await?;
        let (mut items, mut last) = (Vec::new(), String::new());
        for some in ids.chunks(AT_ONCE) {
            for (found, details) in load(some, endpoint).await? {
                let command = &found.command;
                if !may_see(command, "ssm:ListCommandInvocations", origin, endpoint) {
                    continue;
                }
                let skipped = match behind.take() {
                    Some(node) => {
                        command.nodes.iter().position(|one| one.id == node).map_or(0, |at| at + 1)
                    }
                    None => 0,
                };
                let nodes = command.nodes.iter().zip(&details).skip(skipped);
                for (node, details) in nodes {
                    let (status, name) = (details.status(), details.name());
                    if !asked.is_at(node) || !fits(&tests, command, status, name, details.is_end())
                    {
                        continue;
                    }
                    if items.len() == most {
                        return Ok(json!({"CommandInvocations": items, "NextToken": last}));
                    }
                    last = format!("{}/{}", command.id, node.id);
                    let (found, node, whole) = (found.clone(), node.clone(), self.details);
                    items.push(read(move || row(&found, &node, whole)).await?);
                }
            }
        }
        Ok(json!({"CommandInvocations": items}))
    }
}

/// An invocation, with its steps if `whole`.
fn row(found: &FoundCommand, node: &CommandNode, whole: bool) -> std::io::Result<Value> {
    let invocation = found.invocation(node)?;
    let mut plugins = Vec::new();
    let steps = if whole { found.command.steps.as_slice() } else { &[] };
    for (at, step) in steps.iter().enumerate() {
        let state = invocation.steps.get(at).cloned();
        let state = state.unwrap_or_else(|| shape::unbegun(&invocation));
        let output = found.step(node, step).kept()?.map(|cut| cut.both).unwrap_or_default();
        plugins.push(shape::plugin(&found.command, node, step, &state, &output));
    }
    Ok(shape::invocation(&found.command, node, &invocation, &plugins))
}
