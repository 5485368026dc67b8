//! Routes of the page's requests, by path.

use super::WebPage;
use super::forwards::shown;
use super::guard;
use super::log::{Query, Raw, raw, wait};
use super::reply::{Refused, done, json};
use super::terminals::is_websocket;
use super::visitors::Visitor;
use crate::aws::{Deed, Owner, VisibleBuild, form};
use crate::http::{Body, HttpResponse, Visit, read_body};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use runner_folder::state::LinkFor;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most bytes of a request's body.
const MAX_BODY: usize = 256 << 10;
/// The header with a visitor's key.
const KEY: &str = "x-runner-key";
/// Reads a log.
const GET_LOG: Deed = Deed { name: "GetLog", action: "logs:GetLogEvents", is_read_only: true };

/// A permit of the visitor and one of all visitors, returned when dropped.
pub(super) type VisitorPermits = [OwnedSemaphorePermit; 2];

/// A request of a visitor.
pub(super) struct VisitorRequest {
    pub(super) visitor: Arc<Visitor>,
    pub(super) owner: Owner,
    pub(super) query: Value,
}

impl VisitorRequest {
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.query[name].as_str().filter(|text| !text.is_empty())
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Refused> {
        let number = self.text(name).map(str::parse).transpose();
        number.map_err(|_| Refused::bad(format!("{name} is to be a number")))
    }

    fn is_set(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// Refuses visitors who may only look.
    pub(super) fn may_act(&self) -> Result<(), Refused> {
        match self.visitor.is_owner() {
            true => Ok(()),
            false => Err(Refused::forbidden("this link is for looking only")),
        }
    }
}

impl WebPage {
    pub(super) async fn route(
        &self,
        request: Request<Incoming>,
        visit: &Visit,
    ) -> Result<HttpResponse, Refused> {
        if is_websocket(request.headers()) {
            return self.join(request, visit).await;
        }
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let path: Vec<&str> = path.split('/').skip(2).collect();
        let changes = parts.method != Method::GET;
        if changes && !guard::is_of_page(&parts.headers, &visit.host) {
            return Err(Refused::forbidden("this is for the page itself to ask for"));
        }
        if let (&Method::POST, ["session"]) = (&parts.method, &path[..]) {
            let body = read_body(body, MAX_BODY).await;
            return self.enter(&body.map_err(Refused::from)?, visit).await;
        }
        let query = form(parts.uri.query().unwrap_or_default().as_bytes());
        let visitor = self.visitor(&parts.headers, &query, &path, visit)?;
        let _kept = visit.guest.keep();
        let owner = self.endpoint.at_page(&parts, visit);
        let asked = VisitorRequest { visitor, owner, query };
        let body = match changes {
            true => {
                let body = read_body(body, MAX_BODY).await.map_err(Refused::from)?;
                if body.is_empty() {
                    Value::Null
                } else {
                    serde_json::from_slice(&body)
                        .map_err(|error| Refused::bad(error.to_string()))?
                }
            }
            false => Value::Null,
        };
        match (parts.method.as_str(), &path[..]) {
            ("GET", ["session"]) => self.who(&asked),
            ("DELETE", ["session"]) => {
                let (cookie, key) = self.shown(&parts.headers, visit).unwrap_or_default();
                self.visitors.leave(&cookie, &key);
                Ok(done())
            }
            ("GET", ["builds"]) => self.list(&asked).await,
            (method, ["builds", uuid, rest @ ..]) => {
                let known = self.known(&asked, uuid).await?;
                self.of_build(&asked, method, &known, rest, body).await
            }
            _ => Err(Refused::not_found("there is nothing here")),
        }
    }

    /// Redeems a link. The response carries the browser's cookie and key.
    async fn enter(&self, body: &[u8], visit: &Visit) -> Result<HttpResponse, Refused> {
        #[derive(Deserialize)]
        struct Shown {
            token: String,
        }
        let Shown { token } =
            serde_json::from_slice(body).map_err(|error| Refused::bad(error.to_string()))?;
        let links = self.links.clone();
        let taken = tokio::task::spawn_blocking(move || links.take(&token)).await;
        let taken = taken.map_err(std::io::Error::other)??;
        let may = taken.ok_or_else(|| {
            let text = "the link was used already, or is older than ten minutes; runner page prints a new one";
            Refused::new(StatusCode::UNAUTHORIZED, text)
        })?;
        let mut told = told(&may);
        let shown = self.visitors.enter(may)?;
        told["key"] = json!(shown.key);
        let mut answer = json(&told)?;
        let cookie = format!(
            "{}={}; HttpOnly; SameSite=Strict; Path=/ui",
            cookie_name(&visit.host),
            shown.cookie
        );
        let cookie = HeaderValue::from_str(&cookie).map_err(std::io::Error::other)?;
        answer.headers_mut().insert(http::header::SET_COOKIE, cookie);
        Ok(answer)
    }

    fn shown(&self, headers: &HeaderMap, visit: &Visit) -> Option<(String, String)> {
        let key = headers.get(KEY).and_then(|key| key.to_str().ok()).unwrap_or_default();
        Some((cookie(headers, &cookie_name(&visit.host))?.to_owned(), key.to_owned()))
    }

    fn visitor(
        &self,
        headers: &HeaderMap,
        query: &Value,
        path: &[&str],
        visit: &Visit,
    ) -> Result<Arc<Visitor>, Refused> {
        let (cookie, key) = self.shown(headers, visit).ok_or_else(unknown)?;
        let found = match (query["ticket"].as_str(), path) {
            (Some(ticket), ["builds", uuid, "raw"]) => {
                self.visitors.with_ticket(&cookie, ticket, uuid)
            }
            _ => self.visitors.find(&cookie, &key),
        };
        found.ok_or_else(unknown)
    }

    fn who(&self, asked: &VisitorRequest) -> Result<HttpResponse, Refused> {
        json(&told(&asked.visitor.may))
    }

    /// The requested build, if the visitor may see it.
    async fn known(&self, asked: &VisitorRequest, uuid: &str) -> Result<VisibleBuild, Refused> {
        let gone = || Refused::not_found("there is no such build");
        if !asked.visitor.sees(uuid) {
            return Err(Refused::forbidden("this link is for another build"));
        }
        let Some(known) = self.endpoint.known(uuid).await else {
            let waits = asked.visitor.is_owner() && self.endpoint.waits(uuid).await;
            return Err(if waits { Refused::waits() } else { gone() });
        };
        self.endpoint.permit(&asked.owner, GET_LOG, &known).await?;
        if asked.visitor.looks_first(format!("log {uuid}")) {
            self.endpoint.note(&asked.owner, GET_LOG, &known, Value::Null, None).await;
        }
        Ok(known)
    }

    async fn of_build(
        &self,
        asked: &VisitorRequest,
        method: &str,
        known: &VisibleBuild,
        path: &[&str],
        body: Value,
    ) -> Result<HttpResponse, Refused> {
        match (method, path) {
            ("GET", []) => self.build(known).await,
            ("GET", ["log"]) => self.log(asked, known).await,
            ("GET", ["rows"]) => {
                let from = asked.number("from")?.unwrap_or(0);
                let count = asked.number("n")?.unwrap_or(200);
                json(&self.logs.of(&known.uuid).rows(&known.dir, from, count).await?)
            }
            ("GET", ["search"]) => self.search(asked, known).await,
            ("GET", ["raw"]) => self.raw(asked, known).await,
            ("GET", ["variables"]) => self.variables(asked, known).await,
            ("GET", ["reports"]) => json(&self.logs.of(&known.uuid).reports(&known.dir).await?),
            ("GET", ["recordings"]) => self.recordings(asked, known).await,
            ("GET", ["recordings", name]) => self.recording(asked, known, name).await,
            ("GET", ["changes"]) => self.changes(asked, known).await,
            ("GET", ["batch"]) => self.batch(asked, known).await,
            ("GET", ["forwards"]) => self.forwards(asked, known).await,
            ("GET", ["terminals"]) => json(&self.terminals.of(&known.uuid)),
            ("POST", ["terminals"]) => {
                asked.may_act()?;
                self.open_shell(asked, known, body).await
            }
            ("POST", ["ticket"]) => {
                json(&json!({"ticket": asked.visitor.tickets.make(&known.uuid)?}))
            }
            ("POST", [verb]) => {
                asked.may_act()?;
                self.act(asked, known, verb, body).await
            }
            _ => Err(Refused::not_found("there is nothing here")),
        }
    }

    /// The changes since a version of the log. May wait until there are some.
    async fn log(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
    ) -> Result<HttpResponse, Refused> {
        let since = asked.number("since")?.unwrap_or(0);
        let asking = self.followers.asks(asked.visitor.id, &known.uuid);
        let log = self.logs.of(&known.uuid);
        let first = match asked.text("first") {
            Some("end") => Some(None),
            Some(_) => Some(asked.number("first")?),
            None => None,
        };
        let mut news = log.news(&known.dir, since, first).await?;
        if asked.is_set("wait") && !news.is_new(since) && !news.is_over() {
            let waits = Arc::clone(&asked.visitor.waits);
            let _place = waits.try_acquire_owned().map_err(|_| Refused::busy())?;
            wait(&known.dir, news.position).await;
            news = log.news(&known.dir, since, None).await?;
        }
        asking.told(news.is_over());
        let mut answer = serde_json::to_value(&news).map_err(std::io::Error::other)?;
        if !news.is_over()
            && let Ok(status) = known.status().await
        {
            answer["left"] = json!(status.time_left_s);
            answer["pauseLeft"] = json!(status.pause_left_s);
            answer["hasContainer"] = json!(status.has_container);
            answer["sessionsEnabled"] = json!(status.sessions_enabled);
            if asked.visitor.is_owner() {
                answer["forwards"] = json!(shown(&status));
            }
        }
        // A page that begins asks for nothing else before it can be read.
        if since == 0 {
            answer["record"] = json!(known.record);
            answer["folder"] = json!(known.dir.path());
        }
        // An endpoint that ends with its build cannot serve another request for this.
        if news.is_over()
            && let Some(ended) = self.endpoint.known(&known.uuid).await
        {
            answer["record"] = json!(ended.record);
        }
        json(&answer)
    }

    async fn search(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
    ) -> Result<HttpResponse, Refused> {
        let text = asked.text("q").unwrap_or_default();
        let (query, _waiting) = Query::new(text, asked.is_set("regex")).map_err(Refused::bad)?;
        let _turn = self.turn(asked).await?;
        json(&self.logs.of(&known.uuid).search(&known.dir, query).await?)
    }

    async fn raw(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
    ) -> Result<HttpResponse, Refused> {
        let range = match asked.number("section")? {
            None => None,
            Some(at) => {
                let at = usize::try_from(at).map_err(std::io::Error::other)?;
                Some(self.logs.of(&known.uuid).range(&known.dir, at).await?)
            }
        };
        let places = self.download(asked)?;
        let wanted = Raw { dir: known.dir.clone(), range, is_plain: asked.is_set("plain") };
        let mut answer = Response::new(Body::Parts(raw(wanted, places)));
        let headers = answer.headers_mut();
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(http::header::CONTENT_TYPE, kind);
        if asked.is_set("save") {
            let name = format!("attachment; filename=\"{}.log\"", known.uuid);
            let name = HeaderValue::from_str(&name).map_err(std::io::Error::other)?;
            headers.insert(http::header::CONTENT_DISPOSITION, name);
        }
        Ok(answer)
    }
}

impl WebPage {
    /// Permits for a download: one of the visitor's own, one of all.
    pub(super) fn download(&self, asked: &VisitorRequest) -> Result<VisitorPermits, Refused> {
        let place = |places: &Arc<Semaphore>| {
            Arc::clone(places).try_acquire_owned().map_err(|_| Refused::busy())
        };
        Ok([place(&asked.visitor.downloads)?, place(&self.downloads)?])
    }

    /// Waits for permits to scan something whole. A visitor waits for their own last scan first, so
    /// that many requests of one visitor hold up nobody else.
    pub(super) async fn turn(&self, asked: &VisitorRequest) -> Result<VisitorPermits, Refused> {
        let place = async |places: &Arc<Semaphore>| {
            Arc::clone(places).acquire_owned().await.map_err(|_| Refused::busy())
        };
        Ok([place(&asked.visitor.scan).await?, place(&self.scans).await?])
    }
}

/// Tells a page which rights its visitor has.
fn told(may: &LinkFor) -> Value {
    let build = match may {
        LinkFor::Owner => None,
        LinkFor::Reader(build) => Some(build),
    };
    json!({"owner": build.is_none(), "build": build})
}

pub(super) fn unknown() -> Refused {
    let text = "this browser is not known here, or not any more; runner page prints a link";
    Refused::new(StatusCode::UNAUTHORIZED, text)
}

/// The cookie's name. It contains the port, since browsers send cookies to every port of a host.
pub(super) fn cookie_name(host: &str) -> String {
    let port = host.rsplit_once(':').map_or("80", |(_, port)| port);
    format!("runner_{port}")
}

/// The value of a cookie. `None` if two have the same name.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(http::header::COOKIE).iter();
    let pairs = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='));
    let value = values.next()?;
    values.next().is_none().then_some(value)
}
