//! Ports of this machine that lead into a build, in the page.

use super::forward::forwarding;
use super::page::{address, ends};
use crate::common::browser::Browser;
use crate::common::endpoint::Endpoint;
use crate::common::visitor::Link;
use crate::common::{Bed, build, cases};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

cases! {
    [Containers, Program("python3"), Browser] => ports_come_and_go;
}

/// A link where HTTP is served, a name where nothing answers, and nothing once nobody forwards.
fn ports_come_and_go() {
    let bed = Bed::host();
    let command = "python3 -u -m http.server --bind 127.0.0.1 0 & codebuild-breakpoint";
    let running = bed.paused(&build(&[command]), &[]);
    let port: u16 = running.stdout.number_after("port ");
    let (_, server) = Endpoint::serve(&bed, &[]);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let browser = Browser::new(&bed, 1100, 700);
    browser.open(&format!("{}&b={uuid}", address(&Link::of(&bed, &[]))));
    browser.wait_for("Paused");
    let (forward, at) = forwarding(&bed, &[&format!(":{port}"), ":1"]);
    browser.wait_for(&format!("http://{}/", at[0]));
    let links =
        "return [...document.querySelectorAll('.ports a')].map((it) => `${it.href} ${it.rel}`)";
    assert_eq!(browser.run(links), json!([format!("http://{}/ noopener noreferrer", at[0])]));
    let shown = browser.text();
    for line in [format!("→ localhost:{port}"), format!("{} → localhost:1", at[1])] {
        assert!(shown.contains(&line), "{line}: {shown}");
    }
    browser.picture("forwards.png");
    // Who may only look learns nothing of this machine.
    let reader = Link::of(&bed, &["--read-only", &uuid]).open();
    assert_eq!(reader.log(&uuid)["forwards"], Value::Null);
    assert_eq!(reader.get(&format!("/ui/builds/{uuid}/forwards")).status, 403);
    forward.signal(Signal::SIGTERM);
    forward.ends(143);
    browser.wait("return document.querySelector('.ports').hidden");
    assert_eq!(browser.messages(), "");
    bed.resume(running);
    ends(server);
}
