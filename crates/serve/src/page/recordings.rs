//! Kept sessions of a build (`--session-log`), for replay.

use super::WebPage;
use super::reply::{Refused, json};
use super::routes::VisitorRequest;
use crate::aws::{Deed, VisibleBuild};
use crate::http::{Body, HttpResponse};
use crate::recordings::{KeptSession, RecordingsFolder};
use bytes::Bytes;
use http::{HeaderValue, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::io::{self, Read};
use std::time::Duration;
use tokio::sync::mpsc;

const GET_RECORDING: Deed =
    Deed { name: "GetRecording", action: "runner:GetRecording", is_read_only: true };
/// Bytes sent at once, and how many such blocks may be queued.
const BLOCK: usize = 64 << 10;
const WAITING: usize = 4;

impl WebPage {
    /// The kept sessions of a build.
    pub(super) async fn recordings(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
    ) -> Result<HttpResponse, Refused> {
        let kept = self.kept(asked, known).await?;
        let shown = kept.iter().map(|one| {
            json!({
                "name": one.name,
                "program": one.program,
                "began": one.began.map(Timestamp::as_millisecond),
                "length": one.length.as_ref().map(Duration::as_millis),
                "how": one.how,
            })
        });
        json(&shown.collect::<Vec<Value>>())
    }

    /// The recording of one session, as stored.
    pub(super) async fn recording(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
        name: &str,
    ) -> Result<HttpResponse, Refused> {
        let kept = self.kept(asked, known).await?;
        let found = kept.into_iter().find(|one| one.name == name);
        let found = found.ok_or_else(|| Refused::not_found("there is no such recording"))?;
        let places = self.download(asked)?;
        self.endpoint
            .note(&asked.owner, GET_RECORDING, known, json!({"recording": name}), None)
            .await;
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::task::spawn_blocking(move || {
            let _places = places;
            if let Err(error) = send(&found, &sender) {
                // A client that is gone does not see the error.
                let _ = sender.blocking_send(Err(error));
            }
        });
        let mut answer = Response::new(Body::Parts(receiver));
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        Ok(answer)
    }

    /// A build's sessions with recorded times. Only the owner may see their content.
    async fn kept(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
    ) -> Result<Vec<KeptSession>, Refused> {
        asked.may_act()?;
        self.endpoint.permit(&asked.owner, GET_RECORDING, known).await?;
        let (home, uuid) = (self.endpoint.home().clone(), known.uuid.clone());
        let read = tokio::task::spawn_blocking(move || {
            let Some(path) = home.last_session_log() else { return Ok(Vec::new()) };
            let mut kept = match RecordingsFolder::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                read => read?.kept,
            };
            kept.retain(|one| one.has_cast && one.build.as_ref() == Some(&uuid));
            Ok::<_, io::Error>(kept)
        });
        Ok(read.await.map_err(io::Error::other)??)
    }
}

fn send(kept: &KeptSession, to: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let mut file = kept.recording()?;
    loop {
        let mut block = vec![0; BLOCK];
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(());
        }
        block.truncate(read);
        if to.blocking_send(Ok(Bytes::from(block))).is_err() {
            return Ok(());
        }
    }
}
