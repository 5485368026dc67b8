//! A client that sends a browser's requests to the page, so that a test can vary them.

use super::{Bed, Stream, outcome};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}:");
        let lines = self.head.lines();
        let mut found = lines.filter(|line| line.to_ascii_lowercase().starts_with(&prefix));
        found.next().map(|line| line[prefix.len()..].trim())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

/// Sends a request exactly as given, adding `Host` if it is missing.
pub(crate) fn ask(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("Connection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Reply { status: status.unwrap(), head: head.to_owned(), body: unchunked(head, body) }
}

/// Decodes a chunked body, if no chunk splits a character.
fn unchunked(head: &str, body: &str) -> String {
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let (mut text, mut rest) = (String::new(), body);
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            break;
        }
        text.push_str(&after[..length]);
        rest = &after[length + 2..];
    }
    text
}

/// A parsed link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) address: String,
    pub(crate) token: String,
}

impl Link {
    /// The link that `runner page` prints.
    #[track_caller]
    pub(crate) fn of(bed: &Bed, arguments: &[&str]) -> Self {
        let mut command = bed.command(["page"]);
        Self::read(&outcome(command.args(arguments)).code(0).stdout)
    }

    /// The whole of the first that a program says.
    #[track_caller]
    pub(crate) fn said(stream: &Stream) -> String {
        let mut found = None;
        stream.wait_until("a link", |bytes| {
            let text = String::from_utf8_lossy(bytes);
            // What ends it has come as well.
            let ended = text.rsplit_once(char::is_whitespace).map_or("", |(ended, _)| ended);
            let link = ended.split_whitespace().find(|word| word.contains("/#t="));
            found = link.map(str::to_owned);
            found.is_some()
        });
        found.unwrap()
    }

    /// The first link in a text.
    #[track_caller]
    pub(crate) fn read(text: &str) -> Self {
        let (before, token) = text.split_once("/#t=").unwrap_or_else(|| panic!("no link: {text}"));
        let (_, address) = before.rsplit_once("http://").unwrap();
        let token = token.split(['&', ' ', '\n', '\r']).next().unwrap();
        assert_eq!(token.len(), 64, "{text}");
        Link { address: address.to_owned(), token: token.to_owned() }
    }

    /// Sends it to the page.
    pub(crate) fn show(&self) -> Reply {
        let origin = format!("http://{}", self.address);
        let body = json!({"token": self.token}).to_string();
        ask(&self.address, "POST", "/ui/session", &[("Origin", &origin)], &body)
    }

    /// Opens the page with it.
    #[track_caller]
    pub(crate) fn open(&self) -> Visitor {
        let shown = self.show();
        assert_eq!(shown.status, 200, "{shown:?}");
        let cookie = shown.header("set-cookie").unwrap();
        let key = shown.json()["key"].as_str().unwrap().to_owned();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Visitor { address: self.address.clone(), cookie, key }
    }
}

/// A visitor with a valid cookie.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) address: String,
    /// `NAME=VALUE`
    pub(crate) cookie: String,
    pub(crate) key: String,
}

impl Visitor {
    pub(crate) fn get(&self, path: &str) -> Reply {
        let headers = [("Cookie", self.cookie.as_str()), ("X-Runner-Key", &self.key)];
        ask(&self.address, "GET", path, &headers, "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        let origin = format!("http://{}", self.address);
        let headers =
            [("Cookie", self.cookie.as_str()), ("X-Runner-Key", &self.key), ("Origin", &origin)];
        ask(&self.address, "POST", path, &headers, &body.to_string())
    }

    /// Parts of a build's log.
    #[track_caller]
    pub(crate) fn log(&self, uuid: &str) -> Value {
        let reply = self.get(&format!("/ui/builds/{uuid}/log"));
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }
}
