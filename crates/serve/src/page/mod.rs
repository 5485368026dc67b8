//! The page: builds, their logs and terminals in the caller's browser.
//!
//! A site beside AWS's calls (`crate::http`). A link, made by a program of the caller, opens the
//! page once (`links` in `runner_folder`); from then on a cookie and a key identify the browser
//! (`visitors`). `guard` has the rules for requests and responses, `assets` the files of the page,
//! `log` a build's log by rows. Visitors' actions go through `aws`, which checks and records them.
//! docs/trust-zones.md explains what each rule protects against.

mod assets;
mod batches;
mod builds;
mod farewell;
mod forwards;
mod guard;
mod log;
mod recordings;
mod reply;
mod routes;
mod secret;
mod shells;
mod terminals;
mod ticket;
mod visitors;

pub use farewell::Followers;

use crate::aws::Endpoint;
use crate::http::{Answering, HttpResponse, Site, Visit, plain};
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use log::Logs;
use runner_folder::state::PageLinks;
use std::sync::Arc;
use terminals::Terminals;
use tokio::sync::Semaphore;
use visitors::Visitors;

/// Most scans of whole logs at once.
const SCANS: usize = 2;
/// Most downloads at once.
const DOWNLOADS: usize = 32;

/// The page of an endpoint.
pub struct WebPage {
    endpoint: Arc<Endpoint>,
    links: PageLinks,
    visitors: Visitors,
    logs: Logs,
    terminals: Terminals,
    followers: Followers,
    scans: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
}

impl WebPage {
    pub fn of(endpoint: &Arc<Endpoint>) -> Self {
        WebPage {
            endpoint: Arc::clone(endpoint),
            links: PageLinks::of(endpoint.home()),
            visitors: Visitors::default(),
            logs: Logs::default(),
            terminals: Terminals::default(),
            followers: Followers::default(),
            scans: Arc::new(Semaphore::new(SCANS)),
            downloads: Arc::new(Semaphore::new(DOWNLOADS)),
        }
    }
}

impl WebPage {
    /// The visitors who follow builds.
    pub fn followers(&self) -> Followers {
        self.followers.clone()
    }
}

impl Site for WebPage {
    fn takes(&self, request: &Request<Incoming>) -> bool {
        let path = request.uri().path();
        if path == "/" {
            // A signed request is a call of one of AWS's services.
            let is_signed = request.headers().contains_key(http::header::AUTHORIZATION);
            return request.method() == Method::GET
                && !is_signed
                && request.uri().query().is_none();
        }
        path.starts_with("/ui/") || path.starts_with("/assets/")
    }

    fn allows(&self, origin: &HeaderValue, host: &str) -> bool {
        origin.as_bytes().strip_prefix(b"http://") == Some(host.as_bytes())
    }

    fn answer<'a>(&'a self, request: Request<Incoming>, visit: &'a Visit) -> Answering<'a> {
        Box::pin(async move {
            if let Err(why) = guard::is_from_here(visit.ends, request.headers()) {
                return guard::close(plain(StatusCode::FORBIDDEN, why));
            }
            if visit.host.split(':').next().is_some_and(|it| it.eq_ignore_ascii_case("localhost")) {
                // Another program may listen at the same port of `::1`, which browsers try first.
                let why = "open the page at 127.0.0.1, not at localhost";
                return guard::close(plain(StatusCode::FORBIDDEN, why));
            }
            self.answer_one(request, visit).await
        })
    }
}

impl WebPage {
    async fn answer_one(&self, request: Request<Incoming>, visit: &Visit) -> HttpResponse {
        let path = request.uri().path();
        if path == "/" {
            return assets::index();
        }
        if let Some(name) = path.strip_prefix("/assets/") {
            return assets::asset(name, request.headers());
        }
        guard::close(self.route(request, visit).await.unwrap_or_else(|refusal| refusal.answer()))
    }
}
