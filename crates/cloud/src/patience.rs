//! Patience with a server: any time for a request whose bytes move, little for a server that says nothing.
//!
//! Around the HTTP client of `s3`. That client's own timeout runs from the beginning of a request to its
//! answer, so that a part of a large object would never arrive over a slow line; here the clock begins
//! anew with every piece that the connection takes. Answers are watched over by the SDK itself.

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes that a connection is given at once: fewer cost time, and more are too many for a slow line to take
/// in the time that counts as silence.
const PIECE: usize = 256 << 10;

/// A client that gives up a request when nothing has moved for so long.
#[derive(Debug)]
pub(super) struct Patient {
    pub(super) client: SharedHttpClient,
    pub(super) silence: Duration,
}

#[derive(Debug)]
struct PatientConnector {
    connector: SharedHttpConnector,
    silence: Duration,
}

/// The server said nothing.
#[derive(Debug, thiserror::Error)]
#[error("the server has been silent for {} seconds", .0.as_secs())]
struct Silent(Duration);

impl HttpClient for Patient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let connector = self.client.http_connector(settings, components);
        SharedHttpConnector::new(PatientConnector { connector, silence: self.silence })
    }
}

impl HttpConnector for PatientConnector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let moved = Arc::new(Notify::new());
        let inner = std::mem::replace(request.body_mut(), SdkBody::taken());
        let body = Watched { inner, rest: Bytes::new(), moved: Arc::clone(&moved) };
        *request.body_mut() = SdkBody::from_body_1_x(body);
        let (call, silence) = (self.connector.call(request), self.silence);
        HttpConnectorFuture::new(async move {
            tokio::pin!(call);
            loop {
                tokio::select! {
                    biased;
                    answer = &mut call => return answer,
                    () = moved.notified() => {}
                    () = tokio::time::sleep(silence) => {
                        // Tried again, as other timeouts are.
                        return Err(ConnectorError::timeout(Silent(silence).into()));
                    }
                }
            }
        })
    }
}

/// A body that is taken in pieces, and says so each time.
struct Watched {
    inner: SdkBody,
    /// What was not taken yet of the last that `inner` gave.
    rest: Bytes,
    moved: Arc<Notify>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = <SdkBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.moved.notify_one();
        if self.rest.is_empty() {
            match Pin::new(&mut self.inner).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return other,
            }
        }
        let count = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(count)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && Body::is_end_stream(&self.inner)
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (Body::size_hint(&self.inner), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]
mod tests {
    use super::*;
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
    use aws_smithy_runtime_api::http::StatusCode;
    use http_body_util::BodyExt;

    const SILENCE: Duration = Duration::from_millis(100);
    const SHORTER: Duration = Duration::from_millis(20);
    const FOR_EVER: Duration = Duration::from_secs(3600);

    /// A server that takes a piece after each pause, and answers after the last pause.
    #[derive(Debug)]
    struct Slow {
        pieces: Duration,
        answer: Duration,
    }

    impl HttpConnector for Slow {
        fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
            let Slow { pieces, answer } = *self;
            HttpConnectorFuture::new(async move {
                let mut body = std::mem::replace(request.body_mut(), SdkBody::taken());
                assert_eq!(body.content_length(), Some(16 * PIECE as u64));
                let mut length = 0;
                while let Some(frame) = body.frame().await {
                    length += frame.unwrap().into_data().map_or(0, |data| data.len());
                    tokio::time::sleep(pieces).await;
                }
                tokio::time::sleep(answer).await;
                let status = StatusCode::try_from(200).unwrap();
                Ok(HttpResponse::new(status, SdkBody::from(length.to_string())))
            })
        }
    }

    /// The answer to sixteen pieces: how much of them has arrived.
    fn ask(pieces: Duration, answer: Duration) -> Result<Vec<u8>, ConnectorError> {
        let connector = SharedHttpConnector::new(Slow { pieces, answer });
        let connector = PatientConnector { connector, silence: SILENCE };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut request = HttpRequest::empty();
        *request.body_mut() = SdkBody::from(vec![0; 16 * PIECE]);
        let answer = runtime.block_on(connector.call(request))?;
        Ok(answer.body().bytes().unwrap().to_vec())
    }

    #[test]
    fn a_slow_line_has_its_time() {
        // Sixteen pieces: three times as long as a server may be silent. A clock that runs late finds a
        // piece before it finds silence.
        assert_eq!(ask(SHORTER, SHORTER).unwrap(), (16 * PIECE).to_string().as_bytes());
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        for (pieces, answer) in [(FOR_EVER, FOR_EVER), (Duration::ZERO, FOR_EVER)] {
            let error = ask(pieces, answer).unwrap_err();
            assert!(error.is_timeout(), "{error:?}");
        }
    }
}
