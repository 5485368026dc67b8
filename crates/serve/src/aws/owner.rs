//! Requests from the page. Its visitor has a link that only the owner can make, so requests run in
//! the owner's name. They are checked and recorded like signed calls.

use super::audit::AuditedRequest;
use super::builds::VisibleBuild;
use super::call::{AwsCall, RefusedCall};
use super::endpoint::{Endpoint, Origin};
use super::operations::{self, AwsService, RequestScope};
use super::resources::ResourceNames;
use crate::http::Visit;
use http::request::Parts;
use runner_folder::state::Home;
use runner_service::db::builds::BuildProgress;
use serde_json::{Value, json};
use std::sync::Arc;

/// The owner, making one request.
#[derive(Clone)]
pub(crate) struct Owner(Arc<OwnerCaller>);

struct OwnerCaller {
    origin: Origin,
    asked: AuditedRequest,
}

/// An action that is not an operation of AWS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deed {
    /// The name in the audit.
    pub(crate) name: &'static str,
    pub(crate) action: &'static str,
    pub(crate) is_read_only: bool,
}

impl Endpoint {
    /// The caller for a request from the page.
    pub(crate) fn at_page(&self, parts: &Parts, visit: &Visit) -> Owner {
        let caller = self.owner().clone();
        let facts = self.facts(&caller, parts, visit.ends);
        let origin = Origin::new(caller, visit.host.clone(), None, facts);
        Owner(Arc::new(OwnerCaller { origin, asked: AuditedRequest::of(parts, visit.ends) }))
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// The build with this uuid.
    pub(crate) async fn known(&self, uuid: &str) -> Option<VisibleBuild> {
        self.builds.get(uuid).await
    }

    /// Whether the build with this uuid waits in the queue, without a folder.
    pub(crate) async fn waits(&self, uuid: &str) -> bool {
        let Some(service) = &self.service else { return false };
        let found = service.build(uuid).await.ok().flatten();
        found
            .is_some_and(|row| matches!(row.state, BuildProgress::Queued | BuildProgress::Starting))
    }

    /// Performs an operation of CodeBuild.
    pub(crate) async fn codebuild(
        &self,
        owner: &Owner,
        name: &str,
        body: Value,
        is_recorded: bool,
    ) -> Result<Value, RefusedCall> {
        let operation = operations::find(AwsService::CodeBuild, name)
            .ok_or_else(|| RefusedCall::new("InternalFailure", format!("no operation {name}")))?;
        let call = AwsCall { operation, body };
        let answer = (operation.perform)(&call, &owner.0.origin, self).await;
        if is_recorded || answer.is_err() {
            self.record(&call, &owner.0.origin, &owner.0.asked, &answer).await;
        }
        answer?.into_members()
    }

    /// Checks an action on a build.
    ///
    /// # Errors
    /// If it is not allowed. The refusal is recorded.
    pub(crate) async fn permit(
        &self,
        owner: &Owner,
        deed: Deed,
        known: &VisibleBuild,
    ) -> Result<(), RefusedCall> {
        let scope = RequestScope::of([ResourceNames::build(&known.record.id, Some(known))]);
        let judged = self.judge(&owner.0.origin, deed.action, &scope);
        let judged = judged.map_err(|text| RefusedCall::new("AccessDeniedException", text));
        if let Err(refusal) = &judged {
            self.note(owner, deed, known, Value::Null, Some(refusal)).await;
        }
        judged
    }

    /// Checks an action on a batch that the service does not know. Records refusals, and also
    /// allowed actions if `is_recorded`.
    ///
    /// # Errors
    /// If it is not allowed.
    pub(crate) async fn permit_batch(
        &self,
        owner: &Owner,
        deed: Deed,
        id: &str,
        is_recorded: bool,
    ) -> Result<(), RefusedCall> {
        let scope = RequestScope::of([ResourceNames::batch(id, id.rsplit_once(':'))]);
        let judged = self.judge(&owner.0.origin, deed.action, &scope);
        let judged = judged.map_err(|text| RefusedCall::new("AccessDeniedException", text));
        if is_recorded || judged.is_err() {
            let (origin, asked) = (&owner.0.origin, &owner.0.asked);
            let refusal = judged.as_ref().err();
            self.record_deed(origin, asked, deed, json!({"id": id}), refusal).await;
        }
        judged
    }

    /// Records an action on a build, or its refusal.
    pub(crate) async fn note(
        &self,
        owner: &Owner,
        deed: Deed,
        known: &VisibleBuild,
        with: Value,
        refusal: Option<&RefusedCall>,
    ) {
        let mut parameters = json!({"id": known.record.id});
        if !with.is_null() {
            parameters["with"] = with;
        }
        self.record_deed(&owner.0.origin, &owner.0.asked, deed, parameters, refusal).await;
    }
}
