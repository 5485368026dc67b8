//! Who can open the page, and what a browser may do with it: each rule, and the attack that it
//! prevents.

use crate::common::endpoint::Endpoint;
use crate::common::visitor::{Link, Visitor, ask};
use crate::common::{Bed, Running, build, cases, list, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

cases! {
    [] => a_link_is_good_once, a_ci_system_gets_no_link, cookie_and_key_belong_together,
        other_pages_are_refused, sockets_are_of_the_page, what_a_browser_may_do, the_page_is_no_way_to_calls;
    [Containers, Image("busybox")] => a_reader_looks_at_one_build, what_is_done_is_recorded,
        one_visitor_leaves_room;
}

struct Place {
    bed: Bed,
    server: Running,
}

impl Place {
    fn new() -> Self {
        let bed = Bed::new();
        let (_, server) = Endpoint::serve(&bed, &[]);
        Place { bed, server }
    }

    fn enter(&self) -> Visitor {
        Link::of(&self.bed, &[]).open()
    }

    fn ends(self) {
        self.server.signal(Signal::SIGTERM);
        self.server.ends(0);
    }
}

/// Attack: looking over a shoulder, reading the history, or guessing.
fn a_link_is_good_once() {
    let place = Place::new();
    // The link printed by `serve` at its start, and the verb's.
    let said = Link::read(&Link::said(&place.server.stderr));
    let asked = Link::of(&place.bed, &[]);
    assert_eq!(said.address, asked.address);
    for link in [said, asked] {
        let visitor = link.open();
        assert_eq!(visitor.get("/ui/session").json(), json!({"owner": true, "build": null}));
        assert_eq!(link.show().status, 401);
        // The token is not accepted in a request line, which a log could show.
        assert_eq!(ask(&link.address, "GET", &format!("/?t={}", link.token), &[], "").status, 405);
    }
    let guessed = Link { token: "0".repeat(64), ..Link::of(&place.bed, &[]) };
    assert_eq!(guessed.show().status, 401);
    for token in ["", "..", "../aws-credentials", &"x".repeat(5000)] {
        assert_eq!(
            Link { token: token.to_owned(), ..guessed.clone() }.show().status,
            401,
            "{token}"
        );
    }
    // The token is not stored anywhere: file names are digests.
    let left = Link::of(&place.bed, &[]);
    let folder = place.bed.home().join("page-links");
    assert!(list(&folder).iter().all(|name| !name.contains(&left.token)));
    place.ends();
}

/// Attack: a log that many people read.
fn a_ci_system_gets_no_link() {
    let bed = Bed::new().with_variables(vec![("CI".to_owned(), "true".to_owned())]);
    let (_, server) = Endpoint::serve(&bed, &[]);
    bed.runner(["page"]).code(2).says("CI=true");
    assert!(!server.stderr.text().contains("#t="), "{}", server.stderr.text());
    Place { bed, server }.ends();
}

/// Attack: a build's server on another port of this machine, to which the browser sends the cookie
/// as well; and a script that has got the key.
fn cookie_and_key_belong_together() {
    let place = Place::new();
    let (one, other) = (place.enter(), place.enter());
    assert_eq!(one.get("/ui/builds").status, 200);
    let with =
        |headers: &[(&str, &str)]| ask(&one.address, "GET", "/ui/builds", headers, "").status;
    let (cookie, key) = (("Cookie", one.cookie.as_str()), ("X-Runner-Key", one.key.as_str()));
    assert_eq!(with(&[]), 401);
    assert_eq!(with(&[cookie]), 401);
    assert_eq!(with(&[key]), 401);
    assert_eq!(with(&[cookie, ("X-Runner-Key", &other.key)]), 401);
    // A cookie set by another port of this machine.
    let two = format!("{}; {}", one.cookie, one.cookie.replace('=', "=0"));
    assert_eq!(with(&[("Cookie", &two), key]), 401);
    let elsewhere = one.cookie.replace("runner_", "runner_1");
    assert_eq!(with(&[("Cookie", &elsewhere), key]), 401);
    assert_eq!(with(&[cookie, key]), 200);
    let shown = Link::of(&place.bed, &[]).show();
    let set = shown.header("set-cookie").unwrap();
    assert!(set.ends_with("; HttpOnly; SameSite=Strict; Path=/ui"), "{set}");
    // After logging out, a visitor is no longer recognized.
    let origin = format!("http://{}", one.address);
    let left = ask(&one.address, "DELETE", "/ui/session", &[cookie, key, ("Origin", &origin)], "");
    assert_eq!((left.status, with(&[cookie, key])), (204, 401));
    place.ends();
}

/// Attack: someone else's page in the same browser, with or without a name that leads here.
fn other_pages_are_refused() {
    let place = Place::new();
    let visitor = place.enter();
    let (cookie, key) =
        (("Cookie", visitor.cookie.as_str()), ("X-Runner-Key", visitor.key.as_str()));
    let with = |method: &str, path: &str, header: (&str, &str)| {
        ask(&visitor.address, method, path, &[cookie, key, header], "{}").status
    };
    for path in ["/", "/ui/session", "/ui/builds"] {
        // A name whose owner makes it point to this machine.
        assert_eq!(with("GET", path, ("Host", "evil.example:4599")), 403, "{path}");
        for origin in ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"] {
            assert_eq!(with("GET", path, ("Origin", origin)), 403, "{path} {origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert_eq!(with("GET", path, ("Sec-Fetch-Site", site)), 403, "{path} {site}");
        }
    }
    // A modifying request must show that the page has sent it.
    let own = format!("http://{}", visitor.address);
    let any = "/ui/builds/00000000-0000-0000-0000-000000000000/stop";
    assert_eq!(ask(&visitor.address, "POST", any, &[cookie, key], "{}").status, 403);
    assert_eq!(with("POST", any, ("Origin", &own)), 404);
    let token = json!({"token": Link::of(&place.bed, &[]).token}).to_string();
    assert_eq!(ask(&visitor.address, "POST", "/ui/session", &[], &token).status, 403);
    place.ends();
}

/// The same with a websocket, which every page may open, with the cookie.
fn sockets_are_of_the_page() {
    let place = Place::new();
    let visitor = place.enter();
    let own = format!("http://{}", visitor.address);
    let key = format!("runner, key.{}", visitor.key);
    let (cookie, origin) = (("Cookie", visitor.cookie.as_str()), ("Origin", own.as_str()));
    let protocol = ("Sec-WebSocket-Protocol", key.as_str());
    let open = |headers: &[(&str, &str)]| {
        let mut all = vec![
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        all.extend(headers);
        let path = "/ui/builds/00000000-0000-0000-0000-000000000000/terminals/x?seat=a";
        ask(&visitor.address, "GET", path, &all, "").status
    };
    assert_eq!(open(&[cookie, protocol]), 403, "no page has asked");
    assert_eq!(open(&[cookie, protocol, ("Origin", "http://127.0.0.1:1")]), 403);
    assert_eq!(open(&[origin, protocol]), 401, "no cookie");
    assert_eq!(open(&[cookie, origin]), 401, "no key");
    let other = ("Sec-WebSocket-Protocol", "runner, key.0");
    assert_eq!(open(&[cookie, origin, other]), 401);
    assert_eq!(open(&[cookie, origin, protocol]), 404, "no such build");
    place.ends();
}

/// Attack: a build's output, if it were ever interpreted as more than text; and pages in frames.
fn what_a_browser_may_do() {
    let place = Place::new();
    let visitor = place.enter();
    let index = ask(&visitor.address, "GET", "/", &[], "");
    assert_eq!(index.status, 200);
    let policy = index.header("content-security-policy").unwrap();
    let (before, nonce) = policy.split_once("'nonce-").unwrap();
    let nonce = nonce.split('\'').next().unwrap();
    assert_eq!(before, "default-src 'none'; script-src 'self'; style-src 'self' ");
    for rule in ["connect-src 'self';", "frame-ancestors 'none';", "base-uri 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let again = ask(&visitor.address, "GET", "/", &[], "");
    assert!(!again.head.contains(nonce), "the same value twice");
    let script = index.body.split("src=\"").nth(1).unwrap().split('"').next().unwrap();
    let script = ask(&visitor.address, "GET", script, &[], "");
    assert_eq!(script.header("cache-control"), Some("private, max-age=31536000, immutable"));
    let list = visitor.get("/ui/builds");
    for reply in [&index, &script, &list, &ask(&visitor.address, "GET", "/ui/x", &[], "")] {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{reply:?}");
        }
        assert!(reply.header("access-control-allow-origin").is_none());
    }
    assert_eq!(list.header("cache-control"), Some("no-store"));
    assert!(list.header("content-security-policy").unwrap().contains("sandbox"));
    let gone = ask(&visitor.address, "GET", "/assets/0000000000000000/page.js", &[], "");
    assert_eq!(gone.status, 404);
    place.ends();
}

/// Attack: a script in the page. The page's key gives no access to AWS calls, and vice versa.
fn the_page_is_no_way_to_calls() {
    let place = Place::new();
    let visitor = place.enter();
    let call = [
        ("Cookie", visitor.cookie.as_str()),
        ("X-Runner-Key", visitor.key.as_str()),
        ("X-Amz-Target", "CodeBuild_20161006.ListBuilds"),
    ];
    let refused = ask(&visitor.address, "POST", "/", &call, "{}");
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.body.contains("MissingAuthenticationToken"), "{refused:?}");
    let own = format!("http://{}", visitor.address);
    let from_page = [call[0], call[1], call[2], ("Origin", own.as_str())];
    assert_eq!(ask(&visitor.address, "POST", "/", &from_page, "{}").status, 403);
    // A signed request for the root is a call to some service, not a visit.
    let signed =
        ("Authorization", "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request");
    let s3 = ask(&visitor.address, "GET", "/", &[signed], "");
    assert_eq!(s3.status, 501, "{s3:?}");
    place.ends();
}

/// Attack: someone who was given a read-only link.
fn a_reader_looks_at_one_build() {
    let place = Place::new();
    place.bed.build(&build(&["echo other"]), &[]).code(0);
    let other = place.bed.only().file_name().unwrap().to_str().unwrap().to_owned();
    let running = place.bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let uuid = place.bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let reader = Link::of(&place.bed, &["--read-only", &uuid]).open();
    assert_eq!(reader.get("/ui/session").json(), json!({"owner": false, "build": uuid}));
    assert_eq!(reader.log(&uuid)["pauses"].as_array().map(Vec::len), Some(1));
    let own = |part: &str| format!("/ui/builds/{uuid}/{part}");
    let secrets = [own("variables"), own("recordings"), own("recordings/x")];
    let others = [format!("/ui/builds/{other}/log"), "/ui/builds".to_owned()];
    for path in others.into_iter().chain(secrets) {
        assert_eq!(reader.get(&path).status, 403, "{path}");
    }
    for verb in ["resume", "stop", "retry-build", "pause", "decide", "terminals"] {
        let path = format!("/ui/builds/{uuid}/{verb}");
        assert_eq!(reader.post(&path, &json!({})).status, 403, "{verb}");
    }
    // Downloads that the browser makes itself use a ticket, which is valid once.
    let ticket = reader.post(&format!("/ui/builds/{uuid}/ticket"), &json!({})).json();
    let ticket = ticket["ticket"].as_str().unwrap();
    let raw = |uuid: &str| {
        let path = format!("/ui/builds/{uuid}/raw?ticket={ticket}");
        ask(&reader.address, "GET", &path, &[("Cookie", &reader.cookie)], "")
    };
    assert_eq!(raw(&other).status, 401);
    let text = raw(&uuid);
    assert!(text.body.contains("Running command codebuild-breakpoint"), "{text:?}");
    assert_eq!(raw(&uuid).status, 401);
    let owner = place.enter();
    let resumed = owner.post(&format!("/ui/builds/{uuid}/resume"), &json!({}));
    assert_eq!(resumed.status, 204, "{resumed:?}");
    running.ends(0);
    place.ends();
}

/// Attack: acting in secret.
fn what_is_done_is_recorded() {
    let place = Place::new();
    let running = place.bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let uuid = place.bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let visitor = place.enter();
    visitor.log(&uuid);
    visitor.log(&uuid);
    assert_eq!(visitor.post(&format!("/ui/builds/{uuid}/stop"), &json!({})).status, 204);
    running.ends(5);
    let refused = visitor.post(&format!("/ui/builds/{uuid}/resume"), &json!({}));
    assert_eq!(refused.status, 409, "{refused:?}");
    let text = std::fs::read_to_string(place.bed.home().join("audit.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let names: Vec<(String, bool)> = lines
        .map(|line| {
            let name = line["eventName"].as_str().unwrap().to_owned();
            assert_eq!(line["userIdentity"]["type"], "IAMUser", "{line}");
            (name, line["errorCode"].is_string())
        })
        .collect();
    let wanted = [("GetLog", false), ("StopBuild", false), ("ResumeBuild", true)];
    assert_eq!(names, wanted.map(|(name, failed)| (name.to_owned(), failed)));
    place.ends();
}

/// Attack: a visitor who uses up a resource: many downloads that are never read.
fn one_visitor_leaves_room() {
    let place = Place::new();
    let long = "head -c 50000000 /dev/zero | tr '\\0' x";
    place.bed.build(&build(&[long]), &[]).code(0);
    let uuid = place.bed.only().file_name().unwrap().to_str().unwrap().to_owned();
    let (greedy, other) = (place.enter(), place.enter());
    let path = format!("/ui/builds/{uuid}/raw");
    let open = |visitor: &Visitor| {
        let mut stream = TcpStream::connect(&visitor.address).unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\nX-Runner-Key: {}\r\n\r\n",
            visitor.address, visitor.cookie, visitor.key
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (String::from_utf8_lossy(&status[9..]).into_owned(), stream)
    };
    let held: Vec<_> = (0..40).map(|_| open(&greedy)).collect();
    assert!(held.iter().any(|(status, _)| status == "429"), "there is an end to it");
    assert_eq!(open(&other).0, "200", "it is the visitor's own end");
    // A released place is free again.
    drop(held);
    until("a place is free", || open(&greedy).0 == "200");
    place.ends();
}
