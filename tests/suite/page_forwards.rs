//! Ports of this machine that lead into a build, on the page.

use super::forward::forwarding;
use super::guards::Talk;
use super::page::{address, ends};
use crate::common::browser::Browser;
use crate::common::endpoint::Endpoint;
use crate::common::visitor::Link;
use crate::common::{Bed, build, cases};
use nix::sys::signal::Signal;
use runner_wire::control::{ControlRequest, ControlResponse};
use serde_json::{Value, json};
use std::net::TcpListener;

cases! {
    [Containers, Program("python3"), Browser] => ports_come_and_go;
    [Containers] => ports_that_are_only_named;
}

/// A link if HTTP is served, a name if nothing answers, and nothing once nobody forwards.
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
    a_silent_build(&bed, &browser);
    // A read-only visitor learns nothing about this machine.
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

/// An answer in which a build, too busy for that, says nothing of itself takes no port away.
fn a_silent_build(bed: &Bed, browser: &Browser) {
    browser.run(
        "const [own, ports] = [fetch, document.querySelector('.ports')];
         globalThis.asked = 0;
         globalThis.wasHidden = false;
         new MutationObserver(() => (wasHidden ||= ports.hidden)).observe(ports, { attributes: true });
         globalThis.fetch = async (path, how) => {
             const isFirst = String(path).includes('/log?') && ++asked === 1;
             const answer = await own(path, how);
             if (!isFirst) return answer;
             const { left, pauseLeft, hasContainer, sessionsEnabled, forwards, ...rest } = await answer.json();
             globalThis.leftOut = forwards.length;
             return new Response(JSON.stringify(rest));
         }",
    );
    // Sessions that come and go are news.
    for _ in 0..2 {
        bed.runner(["exec", "--", "true"]).code(0);
    }
    browser.wait("return asked > 1");
    assert_eq!(browser.run("return [leftOut, wasHidden]"), json!([2, false]));
    browser.wait("return document.querySelectorAll('.ports a').length === 1");
}

/// By a client of the build's that says it listens where others do: nobody is sent there.
fn ports_that_are_only_named() {
    let bed = Bed::host();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().to_string();
    let (mut talk, ports) = (Talk::new(&bed), ["localhost:1", "localhost:2"].map(str::to_owned));
    talk.say(&ControlRequest::hello("test"));
    let ControlResponse::Hello { .. } = talk.hear() else { panic!("no hello") };
    let locals = vec![endpoint.address.clone(), own.clone()];
    talk.say(&ControlRequest::Forward { ports: ports.to_vec(), name: None, denied: None, locals });
    let ControlResponse::Opened { .. } = talk.hear() else { panic!("not opened") };
    let shown = Link::of(&bed, &[]).open().log(&uuid)["forwards"].clone();
    assert_eq!(shown, json!([{"local": own, "remote": "localhost:2", "address": own}]));
    drop((talk, listener));
    bed.resume(running);
    ends(server);
}
