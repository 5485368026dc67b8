//! Timeouts that count silence: a request may take any time while its bytes move.
//!
//! Used by `s3`. An HTTP client's timeout covers a request from its beginning to its response, so a
//! part of a large object would never arrive over a slow line. Here the clock restarts with every
//! piece that the connection takes.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes handed to a connection at once. Smaller pieces cost time; a slow line could not take
/// larger ones before the time for silence is over.
const PIECE: usize = 256 << 10;

/// The server was silent for too long.
#[derive(Debug, thiserror::Error)]
#[error("the server has been silent for {} seconds", .0.as_secs())]
pub(super) struct Silent(Duration);

/// Sends `body` by `call` and waits for the response. Fails if nothing moves for `silence`.
pub(super) async fn patiently<F: Future>(
    silence: Duration,
    body: Bytes,
    call: impl FnOnce(WatchedBody) -> F,
) -> Result<F::Output, Silent> {
    let moved = Arc::new(Notify::new());
    let mut answer = pin!(call(WatchedBody { rest: body, moved: Arc::clone(&moved) }));
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return Ok(answer),
            () = moved.notified() => {}
            () = tokio::time::sleep(silence) => return Err(Silent(silence)),
        }
    }
}

/// The next bytes of a response. Fails if the server is silent for that long.
pub(super) async fn next<F: Future>(silence: Duration, next: F) -> Result<F::Output, Silent> {
    tokio::time::timeout(silence, next).await.map_err(|_| Silent(silence))
}

/// A body that hands out pieces and notifies `moved` at each.
#[derive(Debug)]
pub(super) struct WatchedBody {
    rest: Bytes,
    moved: Arc<Notify>,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.moved.notify_one();
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let count = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(count)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    const SILENCE: Duration = Duration::from_millis(100);
    const SHORTER: Duration = Duration::from_millis(20);
    const FOR_EVER: Duration = Duration::from_secs(3600);

    /// Sends sixteen pieces to a server that pauses for `pieces` after each one and for `answer`
    /// before it responds. Returns how many bytes arrived.
    fn ask(pieces: Duration, answer: Duration) -> Result<usize, Silent> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let body = Bytes::from(vec![0; 16 * PIECE]);
        runtime.block_on(patiently(SILENCE, body, |mut body| async move {
            assert_eq!(body.size_hint().exact(), Some(16 * PIECE as u64));
            let mut length = 0;
            while let Some(frame) = body.frame().await {
                length += frame.unwrap().into_data().map_or(0, |data| data.len());
                tokio::time::sleep(pieces).await;
            }
            tokio::time::sleep(answer).await;
            length
        }))
    }

    #[test]
    fn a_slow_line_has_its_time() {
        // Sixteen pieces take three times as long as a server may be silent. If the clock runs
        // late, it finds a piece before it finds silence.
        assert_eq!(ask(SHORTER, SHORTER).unwrap(), 16 * PIECE);
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        for (pieces, answer) in [(FOR_EVER, FOR_EVER), (Duration::ZERO, FOR_EVER)] {
            assert!(ask(pieces, answer).is_err());
        }
    }
}
