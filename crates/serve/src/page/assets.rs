//! The files of the page, from `web/dist`.
//!
//! Paths contain a digest of all files, so browsers may cache them. Files are compressed once, at
//! the first request.

use super::guard;
use crate::http::{Body, HttpResponse, plain};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use runner_folder::state::random;
use sha2::{Digest, Sha256};
use std::io::Write;
use std::sync::{LazyLock, OnceLock};

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    gzipped: OnceLock<Bytes>,
}

macro_rules! asset {
    ($name:literal, $kind:literal) => {
        Asset {
            name: $name,
            kind: $kind,
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../web/dist/", $name)),
            gzipped: OnceLock::new(),
        }
    };
}

static ASSETS: [Asset; 5] = [
    asset!("page.js", "text/javascript; charset=utf-8"),
    asset!("page.css", "text/css; charset=utf-8"),
    asset!("terminal.js", "text/javascript; charset=utf-8"),
    asset!("terminal.css", "text/css; charset=utf-8"),
    asset!("licences.txt", "text/plain; charset=utf-8"),
];
const INDEX: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../web/dist/index.html"));

/// The digest in their paths.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    for asset in &ASSETS {
        digest.update(asset.bytes);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
});

/// The page. Styles made by its scripts must carry a nonce that is new each time.
pub(super) fn index() -> HttpResponse {
    let Ok(random) = random::<16>() else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "there is no randomness");
    };
    let nonce: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = INDEX.replace("@VERSION@", &VERSION).replace("@NONCE@", &nonce);
    let mut answer = of("text/html; charset=utf-8", Bytes::from(text));
    let no_store = HeaderValue::from_static("no-store");
    answer.headers_mut().insert(http::header::CACHE_CONTROL, no_store);
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; connect-src 'self'; \
         img-src 'self' data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    );
    guard::with_rules(answer, &policy)
}

/// A file of the page: `VERSION/NAME`.
pub(super) fn asset(path: &str, headers: &HeaderMap) -> HttpResponse {
    let name = path.split_once('/').filter(|(version, _)| *version == *VERSION);
    let found = name.and_then(|(_, name)| ASSETS.iter().find(|asset| asset.name == name));
    let Some(asset) = found else {
        // A page of another version asks for missing files; it must be reloaded.
        return guard::close(plain(StatusCode::NOT_FOUND, "this page is of another version"));
    };
    let accepted = headers.get(http::header::ACCEPT_ENCODING).and_then(|it| it.to_str().ok());
    let takes_gzip =
        accepted.is_some_and(|it| it.split(',').any(|one| one.trim().starts_with("gzip")));
    let mut answer = match takes_gzip {
        true => of(asset.kind, asset.gzipped.get_or_init(|| gzip(asset.bytes)).clone()),
        false => of(asset.kind, Bytes::from_static(asset.bytes)),
    };
    let headers = answer.headers_mut();
    if takes_gzip {
        headers.insert(http::header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(http::header::VARY, HeaderValue::from_static("accept-encoding"));
    let always = HeaderValue::from_static("private, max-age=31536000, immutable");
    headers.insert(http::header::CACHE_CONTROL, always);
    guard::with_rules(answer, "default-src 'none'")
}

fn of(kind: &'static str, bytes: Bytes) -> HttpResponse {
    let mut answer = Response::new(Body::from(bytes));
    answer.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(bytes);
    Bytes::from(encoder.finish().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(name: &str) -> usize {
        ASSETS.iter().find(|asset| asset.name == name).map_or(0, |asset| gzip(asset.bytes).len())
    }

    #[test]
    fn the_page_keeps_its_budget() {
        assert!(compressed("page.js") + compressed("page.css") + INDEX.len() <= 40 << 10);
        assert!(compressed("terminal.js") + compressed("terminal.css") <= 115 << 10);
        let all: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        assert!(all + INDEX.len() <= 600 << 10, "{all}");
    }

    /// The page runs nothing that is not in its files.
    #[test]
    fn nothing_stands_inline() {
        assert_eq!(INDEX.matches("<script").count(), 1);
        assert!(
            INDEX.contains("<script type=\"module\" src=\"/assets/@VERSION@/page.js\"></script>")
        );
        for inline in ["<style", " style=", " onclick", " onload", "javascript:"] {
            assert!(!INDEX.contains(inline), "{inline}");
        }
        // Text from builds is never read as HTML.
        let page = ASSETS.iter().find(|asset| asset.name == "page.js").expect("the page");
        let script = std::str::from_utf8(page.bytes).expect("text");
        for unsafe_sink in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
        {
            assert!(!script.contains(unsafe_sink), "{unsafe_sink}");
        }
    }
}
