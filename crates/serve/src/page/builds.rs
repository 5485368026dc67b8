//! Builds: lists them, shows them and acts on them.

use super::WebPage;
use super::reply::{Refused, done, json};
use super::routes::VisitorRequest;
use crate::aws::{Deed, RefusedCall, VisibleBuild};
use crate::http::HttpResponse;
use runner_client::{ClientError, SharedClient};
use runner_core::changes::{FileChange, Op};
use runner_core::debug::{Decision, DecisionClient};
use runner_folder::ledger::Ledger;
use runner_wire::control::{ControlRequest, ControlResponse as Said};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;

/// Builds on one page of the list.
pub(super) const PAGE: usize = 50;
/// The members of a record shown in a list.
const SHOWN: [&str; 9] = [
    "id",
    "buildNumber",
    "startTime",
    "endTime",
    "buildStatus",
    "currentPhase",
    "projectName",
    "initiator",
    "buildBatchArn",
];
const RESUME: Deed =
    Deed { name: "ResumeBuild", action: "runner:ResumeBuild", is_read_only: false };

const PAUSE: Deed = Deed { name: "PauseBuild", action: "runner:PauseBuild", is_read_only: false };
const DECIDE: Deed = Deed { name: "Decide", action: "runner:Decide", is_read_only: false };
const GET_VARIABLES: Deed =
    Deed { name: "GetVariables", action: "runner:GetVariables", is_read_only: true };
/// Most changed files named for a run, and most bytes of all names.
const MOST_CHANGES: usize = 1000;
const MOST_BYTES: usize = 1 << 20;
/// Most runs whose changes are shown.
const MOST_RUNS: usize = 10_000;

impl WebPage {
    /// A page of builds, the newest first.
    pub(super) async fn list(&self, asked: &VisitorRequest) -> Result<HttpResponse, Refused> {
        asked.may_act()?;
        let is_first = asked.visitor.looks_first("builds".to_owned());
        let ask = |name, body| self.endpoint.codebuild(&asked.owner, name, body, is_first);
        let (list, mut body) = match asked.text("project") {
            Some(project) => ("ListBuildsForProject", json!({"projectName": project})),
            None => ("ListBuilds", json!({})),
        };
        if let Some(after) = asked.text("after") {
            body["nextToken"] = json!(after);
        }
        let mut listed = ask(list, body).await?;
        let ids: Vec<Value> = match listed["ids"].take() {
            Value::Array(ids) => ids,
            _ => Vec::new(),
        };
        let mut builds = Vec::new();
        for some in ids.chunks(PAGE) {
            let got = ask("BatchGetBuilds", json!({"ids": some})).await?;
            builds.extend(got["builds"].as_array().into_iter().flatten().map(brief));
        }
        json(&json!({"builds": builds, "next": listed["nextToken"]}))
    }

    /// The details of a build.
    pub(super) async fn build(&self, known: &VisibleBuild) -> Result<HttpResponse, Refused> {
        json(&json!({
            "record": known.record,
            "isLive": known.is_live,
            "folder": known.dir.path(),
        }))
    }

    /// Acts on a build.
    pub(super) async fn act(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
        verb: &str,
        body: Value,
    ) -> Result<HttpResponse, Refused> {
        match verb {
            "stop" => {
                self.perform(asked, "StopBuild", json!({"id": known.record.id})).await?;
                Ok(done())
            }
            "stop-batch" | "retry-batch" => self.of_batch(asked, known, verb, &body).await,
            "retry-build" => {
                let input = json!({"id": known.record.id});
                let begun = self.perform(asked, "RetryBuild", input).await?;
                json(&json!({"id": begun["build"]["id"]}))
            }
            "resume" => self.tell(asked, known, RESUME, ControlRequest::Resume, Value::Null).await,
            "pause" => self.tell(asked, known, PAUSE, ControlRequest::Pause, Value::Null).await,
            "decide" => {
                let decision = serde_json::from_value::<Decision>(body);
                let decision = decision.map_err(|error| Refused::bad(error.to_string()))?;
                // Leaves out the text, which may contain a secret.
                let with = json!({"decision": decision.kind().verb()});
                self.tell(asked, known, DECIDE, ControlRequest::Decide(decision), with).await
            }
            _ => Err(Refused::not_found("there is nothing here")),
        }
    }

    /// Sends a request to a build's owner, like a verb of the command line.
    pub(super) async fn tell(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
        deed: Deed,
        request: ControlRequest,
        with: Value,
    ) -> Result<HttpResponse, Refused> {
        let (endpoint, owner) = (Arc::clone(&self.endpoint), asked.owner.clone());
        let known = known.clone();
        whole(async move {
            endpoint.permit(&owner, deed, &known).await?;
            let told = async {
                SharedClient::connect_as(&known.dir, DecisionClient::Page)
                    .await?
                    .ask(&request)
                    .await
            };
            let told: Result<Said, ClientError> = told.await;
            let refusal =
                told.as_ref().err().map(|error| RefusedCall::new("Refused", error.to_string()));
            endpoint.note(&owner, deed, &known, with, refusal.as_ref()).await;
            told?;
            Ok(done())
        })
        .await
    }

    /// Performs an operation of CodeBuild.
    pub(super) async fn perform(
        &self,
        asked: &VisitorRequest,
        name: &'static str,
        body: Value,
    ) -> Result<Value, Refused> {
        let (endpoint, owner) = (Arc::clone(&self.endpoint), asked.owner.clone());
        whole(async move { Ok(endpoint.codebuild(&owner, name, body, true).await?) }).await
    }

    /// The variables of a live build's next command, without secrets.
    pub(super) async fn variables(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
    ) -> Result<HttpResponse, Refused> {
        asked.may_act()?;
        self.endpoint.permit(&asked.owner, GET_VARIABLES, known).await?;
        let said = async {
            SharedClient::connect(&known.dir).await?.ask(&ControlRequest::Variables).await
        };
        let Said::Variables(all) = said.await? else { return json(&Value::Null) };
        if asked.visitor.looks_first(format!("variables {}", known.uuid)) {
            self.endpoint.note(&asked.owner, GET_VARIABLES, known, Value::Null, None).await;
        }
        let all = all.into_iter().map(|line| json!({"name": line.name, "value": line.value, "before": line.before, "isChanged": line.is_changed}));
        json(&all.collect::<Vec<_>>())
    }

    /// The files that runs have changed, as far as that was recorded; the number of files for each
    /// run and of runs is limited.
    pub(super) async fn changes(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
    ) -> Result<HttpResponse, Refused> {
        let _turn = self.turn(asked).await?;
        let dir = known.dir.clone();
        let read = tokio::task::spawn_blocking(move || changes(&Ledger::of(&dir)));
        json(&read.await.map_err(io::Error::other)??)
    }
}

fn changes(ledger: &Ledger) -> io::Result<Vec<Value>> {
    let mut left = MOST_BYTES;
    let mut shown = |change: &FileChange| {
        let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        let from = match &change.op {
            Op::Renamed(from) => Some(text(from)),
            _ => None,
        };
        let path = text(&change.path);
        left = left.checked_sub(path.len() + from.as_ref().map_or(0, String::len))?;
        let op = change.op.letter().to_string();
        Some(json!({"op": op, "path": path, "from": from, "size": change.size}))
    };
    let all = ledger.all()?.into_iter().take(MOST_RUNS).map(|at| {
        let (first, count) = ledger.first(at, MOST_CHANGES)?;
        let first: Vec<Value> = first.iter().map_while(&mut shown).collect();
        Ok(json!({"run": at.run, "isRun": at.is_run, "count": count, "changes": first}))
    });
    all.collect()
}

/// The members of a record for a list.
pub(super) fn brief(record: &Value) -> Value {
    SHOWN.iter().map(|name| ((*name).to_owned(), record[*name].clone())).collect()
}

/// Runs work to its end, so that it is recorded even if the client leaves before the response.
pub(super) async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refused>> + Send + 'static,
) -> Result<T, Refused> {
    tokio::spawn(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_folder::ledger::LedgerTime;
    use runner_folder::state::{BuildDir, Home};
    use std::fs;

    #[test]
    fn changes_are_named_within_bounds_and_all_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path().to_owned()).expect("a home");
        let dir = BuildDir::of(&home, "u");
        fs::create_dir_all(dir.path()).expect("a folder");
        let mut ledger = Ledger::of(&dir);
        let name = "x".repeat(1000);
        let many: String = (0..3000).map(|n| format!("Af 1 /{name}{n:04}\n")).collect();
        for run in 1..=4 {
            assert!(ledger.write(LedgerTime { run, is_run: true }, &many).expect("written"));
        }
        let shown = changes(&ledger).expect("read");
        let counts: Vec<_> = shown.iter().map(|run| run["count"].as_u64()).collect();
        assert_eq!(counts, [Some(3000); 4]);
        let named: Vec<_> =
            shown.iter().map(|run| run["changes"].as_array().map_or(0, Vec::len)).collect();
        assert_eq!((named[0], named[3]), (MOST_CHANGES, 0), "{named:?}");
        let length = serde_json::to_string(&shown).expect("JSON").len();
        assert!(length < 2 * MOST_BYTES, "{length}");
    }
}
