//! Shells opened on the page, and the browsers connected to them.

use super::WebPage;
use super::builds::whole;
use super::guard;
use super::reply::{Refused, json};
use super::routes::{VisitorRequest, cookie, cookie_name, unknown};
use super::terminals::{NoTerminal, Seat, accept};
use crate::aws::{Deed, RefusedCall, VisibleBuild};
use crate::http::{HttpResponse, Visit};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::header::SEC_WEBSOCKET_PROTOCOL;
use runner_wire::control::TerminalSize;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Opens a shell in a build.
const OPEN_SHELL: Deed =
    Deed { name: "OpenShell", action: "ssm:StartSession", is_read_only: false };
/// Watches a shell.
const WATCH_SHELL: Deed =
    Deed { name: "WatchShell", action: "ssm:ResumeSession", is_read_only: true };
/// Most bytes of a tab's name.
const MAX_TAB: usize = 64;

impl WebPage {
    /// Starts a shell in a build.
    pub(super) async fn open_shell(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
        body: Value,
    ) -> Result<HttpResponse, Refused> {
        #[derive(Deserialize)]
        struct Wanted {
            rows: u16,
            cols: u16,
        }
        let wanted = serde_json::from_value(body);
        let Wanted { rows, cols } = wanted.map_err(|error| Refused::bad(error.to_string()))?;
        let size = TerminalSize { rows: rows.clamp(1, 1000), cols: cols.clamp(1, 1000) };
        let (endpoint, owner) = (Arc::clone(&self.endpoint), asked.owner.clone());
        let (terminals, known) = (self.terminals.clone(), known.clone());
        whole(async move {
            endpoint.permit(&owner, OPEN_SHELL, &known).await?;
            let started = terminals.start(&known.dir, &known.uuid, size).await;
            let refusal =
                started.as_ref().err().map(|error| RefusedCall::new("Refused", error.to_string()));
            endpoint.note(&owner, OPEN_SHELL, &known, Value::Null, refusal.as_ref()).await;
            json(&json!({"id": started?}))
        })
        .await
    }

    /// Connects a browser to a shell by a websocket. Browsers cannot add headers to it, so the key
    /// comes as a protocol.
    pub(super) async fn join(
        &self,
        mut request: Request<Incoming>,
        visit: &Visit,
    ) -> Result<HttpResponse, Refused> {
        let path = request.uri().path().to_owned();
        let path: Vec<&str> = path.split('/').skip(2).collect();
        let (&Method::GET, ["builds", uuid, "terminals", id]) = (request.method(), &path[..])
        else {
            return Err(Refused::not_found("there is no such socket"));
        };
        if !guard::is_of_page(request.headers(), &visit.host) {
            return Err(Refused::forbidden("this is for the page itself to ask for"));
        }
        let cookie = cookie(request.headers(), &cookie_name(&visit.host)).ok_or_else(unknown)?;
        let protocols = request.headers().get(SEC_WEBSOCKET_PROTOCOL);
        let protocols = protocols.and_then(|it| it.to_str().ok()).unwrap_or_default();
        let key = protocols.split(',').find_map(|one| one.trim().strip_prefix("key."));
        let visitor = self.visitors.find(cookie, key.unwrap_or_default()).ok_or_else(unknown)?;
        if !visitor.sees(uuid) {
            return Err(Refused::forbidden("this link is for another build"));
        }
        let gone = || Refused::not_found("there is no such terminal");
        let known = self.endpoint.known(uuid).await.ok_or_else(gone)?;
        let way = self.terminals.find(uuid, id).ok_or_else(gone)?;
        let query = request.uri().query().unwrap_or_default();
        let tab = query.strip_prefix("seat=").unwrap_or_default();
        if tab.is_empty() || tab.len() > MAX_TAB {
            return Err(Refused::bad("a tab names its seat"));
        }
        let seat = Seat { visitor: visitor.id, tab: tab.to_owned(), may_drive: visitor.is_owner() };
        let place = Arc::clone(&visitor.sockets).try_acquire_owned();
        let place = place.map_err(|_| Refused::busy())?;
        let (parts, body) = request.into_parts();
        let owner = self.endpoint.at_page(&parts, visit);
        request = Request::from_parts(parts, body);
        self.endpoint.permit(&owner, WATCH_SHELL, &known).await?;
        if visitor.looks_first(format!("terminal {id}")) {
            self.endpoint.note(&owner, WATCH_SHELL, &known, json!({"terminal": id}), None).await;
        }
        accept(&mut request, way, seat, &visit.guest, place).map_err(Refused::bad)
    }
}

impl From<NoTerminal> for Refused {
    fn from(error: NoTerminal) -> Self {
        let status = match error {
            NoTerminal::TooMany => StatusCode::TOO_MANY_REQUESTS,
            NoTerminal::Client(_) => StatusCode::CONFLICT,
        };
        Refused::new(status, error.to_string())
    }
}
