//! Handles a request: authenticates the caller, runs the call and records it.
//!
//! The server decides which connections get this far (`crate::http`).

use super::audit::AuditedRequest;
use super::call::{self, Protocol, RefusedCall};
use super::endpoint::{Endpoint, MAX_BODY, Origin};
use super::iam;
use super::others;
use super::sigv4::{self, AuthError};
use crate::http::{Answering, HttpResponse, Site, Visit, plain, read_body};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use std::sync::Arc;

/// AWS's calls, and every other request: clients of other services get a refusal.
pub(super) struct Calls(pub(super) Arc<Endpoint>);

impl Site for Calls {
    fn takes(&self, _: &Request<Incoming>) -> bool {
        true
    }

    fn answer<'a>(&'a self, request: Request<Incoming>, visit: &'a Visit) -> Answering<'a> {
        Box::pin(answer(request, visit, &self.0))
    }
}

async fn answer(
    request: Request<Incoming>,
    visit: &Visit,
    endpoint: &Arc<Endpoint>,
) -> HttpResponse {
    let (parts, body) = request.into_parts();
    if !call::is_one(&parts) {
        return match others::service(&parts) {
            Some(service) => others::refuse(&service, &parts.method),
            None if parts.method == Method::POST => not_a_call(),
            None => plain(StatusCode::METHOD_NOT_ALLOWED, "calls are POST requests"),
        };
    }
    let protocol = call::protocol(&parts);
    let asked = AuditedRequest::of(&parts, visit.ends);
    let body = match read_body(body, MAX_BODY).await {
        Ok(body) => body,
        Err(unread) => return unread.answer(),
    };
    let caller = match endpoint.authenticate(&parts, &body, visit).await {
        Ok(caller) => caller,
        Err(error) => {
            let refusal = refusal(error, protocol);
            endpoint.record_refused(&call::named(&parts, protocol, &body), &asked, &refusal).await;
            return call::write(protocol, None, Err(refusal), &asked.request_id);
        }
    };
    let _kept = visit.guest.keep();
    let facts = endpoint.facts(&caller, &parts, visit.ends);
    let region = sigv4::claimed(&parts).map(|(_, region)| region);
    let origin = Origin::new(caller, visit.host.clone(), region, facts);
    let mut call = match call::read(&parts, protocol, &body) {
        Ok(call) => call,
        Err(refusal) => {
            let named = call::named(&parts, protocol, &body);
            endpoint.record_unread(&named, &origin, &asked, &refusal).await;
            return call::write(protocol, None, Err(refusal), &asked.request_id);
        }
    };
    iam::named(&mut call, &origin);
    let endpoint = Arc::clone(endpoint);
    let performing = tokio::spawn(async move {
        let answer = match endpoint.accountable(&call, &origin).await {
            Ok(()) => (call.operation.perform)(&call, &origin, &endpoint).await,
            Err(refusal) => Err(refusal),
        };
        endpoint.look_after(&origin.caller);
        endpoint.record(&call, &origin, &asked, &answer).await;
        call::write(protocol, Some(call.operation), answer, &asked.request_id)
    });
    // A client that leaves before the response still causes a record.
    performing.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a call was not answered");
        plain(StatusCode::INTERNAL_SERVER_ERROR, "this is a fault of the runner itself")
    })
}

/// The response to a POST request that names no operation.
fn not_a_call() -> HttpResponse {
    let refusal = call::unknown(None, "(no X-Amz-Target)");
    call::write(Protocol::Json, None, Err(refusal), &uuid::Uuid::new_v4().to_string())
}

/// An authentication error with the code that AWS's clients know.
fn refusal(error: AuthError, protocol: Protocol) -> RefusedCall {
    let (code, message) = match error {
        AuthError::Missing => (
            "MissingAuthenticationTokenException",
            "the call is not signed; the credentials of this endpoint are in the file that the \
             runner names"
                .to_owned(),
        ),
        AuthError::Incomplete(why) => ("IncompleteSignatureException", why),
        AuthError::UnknownKey => (
            "UnrecognizedClientException",
            "the access key is none that this endpoint knows".to_owned(),
        ),
        AuthError::Mismatch(why) => ("InvalidSignatureException", why),
    };
    let query_code = match code {
        "MissingAuthenticationTokenException" => "MissingAuthenticationToken",
        "IncompleteSignatureException" => "IncompleteSignature",
        "UnrecognizedClientException" => "InvalidClientTokenId",
        _ => "SignatureDoesNotMatch",
    };
    match protocol {
        Protocol::Query | Protocol::Ec2 => RefusedCall::new(query_code, message).with_status(403),
        Protocol::Json | Protocol::Cbor => RefusedCall::new(code, message),
    }
}
