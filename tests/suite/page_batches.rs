//! Batches on the page, and queued builds.

use super::batch;
use super::page::{address, ends, in_row};
use super::service::{call, has_ended, served as with_project, start as start_build, until};
use super::service_batches::{GRAPH, ends as batch_ends, id_of, served, start};
use crate::common::browser::Browser;
use crate::common::endpoint::Endpoint;
use crate::common::visitor::Link;
use crate::common::{Bed, build, cases, list};
use serde_json::{Value, json};
use std::fs;

cases! {
    [Containers, Image("busybox"), Browser] => a_batch_of_the_command_line;
    [Containers, Browser] => a_batch_of_the_service, a_build_that_waits;
    [Containers, Image("busybox"), Browser, Web] => by_keys_on_a_phone;
    [Containers, Image("busybox")] => what_is_no_batch;
}

/// Each row of the table: the build, its status, its phase, its dependencies, and its depth.
const ROWS: &str = "return [...document.querySelectorAll('[aria-label=\"Builds of the batch\"] tbody tr')].map((row) => {
    const cells = [...row.cells].map((cell) => cell.innerText.trim());
    return [cells[0], cells[1], cells[2], cells[4], row.querySelector('.member').style.paddingLeft].join('|');
})";

fn opened(bed: &Bed, uuid: &str) -> Browser {
    let browser = Browser::new(bed, 1100, 700);
    browser.open(&format!("{}&b={uuid}", address(&Link::of(bed, &[]))));
    browser
}

/// From a paused build to its batch, to another build, and to the end.
fn a_batch_of_the_command_line() {
    let bed = Bed::new();
    let text = "if [ $CODEBUILD_BATCH_BUILD_IDENTIFIER = second ]; then codebuild-breakpoint; fi";
    let spec = batch::graph(
        text,
        &[("first", &[]), ("second", &["first"]), ("third", &["second", "first"]), ("alone", &[])],
    );
    let (_, server) = Endpoint::serve(&bed, &[]);
    let running = batch::start(&bed, &spec, &["--enable-session"]);
    running.stderr.wait_for("is paused at a breakpoint");
    running.stderr.wait_until("alone has run", |said| {
        let said = String::from_utf8_lossy(said);
        said.lines().any(|line| line.contains("alone: build") && line.contains("SUCCEEDED"))
    });
    // It ends a little later than its phase.
    let live = bed.home().join("live");
    crate::common::until("the second alone is live", || list(&live).len() == 1);
    let second = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let browser = opened(&bed, &second);
    browser.wait_for("Paused");
    browser.click("#tab-batch");
    browser.wait_for("2 of 4 builds ended");
    browser.picture("batch.png");
    let rows = [
        "first|✓ succeeded|||0px",
        "second|● in progress|BUILD|first|20px",
        "third|○ pending||first, second|40px",
        "alone|✓ succeeded|||0px",
    ];
    assert_eq!(browser.run(ROWS), json!(rows));
    // Builds that have not begun are no links, and neither is the build itself.
    let links = "return [...document.querySelectorAll('.member a')].map((it) => it.textContent)";
    assert_eq!(browser.run(links), json!(["first", "alone"]));
    let text = browser.text();
    assert!(!text.contains("Stop batch"), "its own process stops it: {text}");
    let [one] = list(&bed.home().join("batches")).try_into().expect("one batch");
    let record = fs::read(bed.home().join("batches").join(one).join("record.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let first = batch::uuid(&record, "first");
    browser.click(&format!(".member a[href='#/b/{first}']"));
    browser.wait("return document.title.includes('succeeded')");
    browser.click("#tab-batch");
    browser.click(&format!(".member a[href='#/b/{second}']"));
    browser.wait_for("Paused");
    browser.click("#tab-batch");
    browser.press("Resume");
    browser.wait_for("4 of 4 builds ended");
    running.ends(0);
    browser.click("a.up");
    browser.wait("return document.querySelectorAll('.of-batch').length === 4");
    browser.click(".of-batch");
    browser.wait_for("4 of 4 builds ended");
    assert_eq!(browser.messages(), "");
    ends(server);
}

/// A failed batch is rerun from the page; earlier runs are shown.
fn a_batch_of_the_service() {
    let bed = Bed::host();
    let more = json!({"environment": {
        "type": "LINUX_CONTAINER", "image": "host", "computeType": "BUILD_GENERAL1_SMALL",
        "environmentVariables": [{"name": "WHO", "value": "nobody"}],
    }});
    let (endpoint, server) = served(&bed, GRAPH, &more, &["--max-builds", "2"]);
    fs::write(bed.source().join("name"), "world\n").unwrap();
    let id = start(&endpoint, json!({}))["id"].as_str().unwrap().to_owned();
    let failed = batch_ends(&endpoint, &id);
    let uuid =
        |batch: &Value, name: &str| id_of(batch, name).rsplit_once(':').unwrap().1.to_owned();
    let browser = opened(&bed, &uuid(&failed, "fails"));
    browser.wait("return document.title.includes('failed')");
    browser.click("#tab-batch");
    browser.wait_for("5 of 5 builds ended");
    let rows = [
        "DOWNLOAD_SOURCE|✓ succeeded|||0px",
        "first|✓ succeeded|||0px",
        "may_fail|✗ failed|||0px",
        "fails|✗ failed||first, may_fail|20px",
        "last|■ stopped||fails|40px",
    ];
    let mut shown: Vec<String> = serde_json::from_value(browser.run(ROWS)).unwrap();
    shown.sort();
    let mut wanted = rows.map(str::to_owned).to_vec();
    wanted.sort();
    assert_eq!(shown, wanted);
    browser.picture("batch-failed.png");
    browser.press("Retry failed");
    browser.wait("return [...document.querySelectorAll('header .state')].some((it) => it.textContent.includes('succeeded'))");
    browser.wait_for("run 1");
    let whole = batch_ends(&endpoint, &id);
    assert_eq!(whole["buildBatchStatus"], "SUCCEEDED");
    browser.click(&format!(".member a[href='#/b/{}']", uuid(&whole, "last")));
    browser.wait("return document.title.includes('succeeded')");
    assert_eq!(browser.messages(), "");
    ends(server);
}

/// It has no log yet; its page says so, and updates by itself.
fn a_build_that_waits() {
    let bed = Bed::host();
    let (endpoint, server) = with_project(&bed, "exec sleep 600", &["--max-builds", "1"]);
    let first = start_build(&endpoint, json!({}));
    let second = start_build(&endpoint, json!({}));
    let browser = opened(&bed, second.rsplit_once(':').unwrap().1);
    browser.wait_for("the build waits in the queue");
    call(&endpoint, "StopBuild", &json!({"id": first}));
    browser.wait("return document.title.includes('in progress')");
    // The waiting time is updated, and the keyboard focus stays where it is.
    browser.run("document.querySelector('header .stop').focus()");
    let took = browser.run("return document.querySelector('header .facts').textContent");
    browser.wait(&format!("return document.querySelector('header .facts').textContent !== {took}"));
    let focus = "return document.activeElement?.textContent ?? ''";
    assert_eq!(browser.run(focus), "Stop");
    browser.type_keys("\u{e007}");
    browser.wait("return document.title.includes('stopped')");
    for id in [&first, &second] {
        until(&endpoint, id, has_ended);
    }
    ends(server);
}

/// From the list to a build of a batch, to the batch, to another build, and back.
fn by_keys_on_a_phone() {
    let bed = Bed::new();
    let builds: [(&str, &[&str]); 3] =
        [("one", &[]), ("two_with_a_long_name", &["one"]), ("three", &["two_with_a_long_name"])];
    let spec = batch::graph("test $CODEBUILD_BATCH_BUILD_IDENTIFIER = one", &builds);
    batch::start(&bed, &spec, &[]).ends(1);
    let (_, server) = Endpoint::serve(&bed, &[]);
    let browser = Browser::new(&bed, 360, 740);
    browser.open(&address(&Link::of(&bed, &[])));
    browser.wait("return document.querySelectorAll('td .state').length === 2");
    let key = |selector: &str| {
        browser.wait(&format!("return !!document.querySelector({})", json!(selector)));
        browser.run(&format!("document.querySelector({}).focus()", json!(selector)));
        browser.type_keys("\u{e007}");
    };
    // The tab appears once the page knows that its build is part of a batch.
    let batch_tab = "return !!document.querySelector('#tab-batch[aria-selected=false]')";
    key("td a");
    browser.wait(batch_tab);
    browser.type_keys("0");
    browser.wait_for("3 of 3 builds ended");
    let fits = "return document.documentElement.scrollWidth <= innerWidth";
    assert_eq!(browser.run(fits), true, "{}", browser.text());
    for scheme in ["light", "dark"] {
        browser.scheme(scheme);
        assert_eq!(browser.barriers(), json!([]), "{scheme}");
        browser.picture(&format!("batch-phone-{scheme}.png"));
    }
    key(".member a");
    browser.wait(batch_tab);
    browser.type_keys("0");
    browser.wait_for("3 of 3 builds ended");
    key("a.up");
    browser.wait("return document.querySelectorAll('.of-batch').length === 2");
    key(".of-batch");
    browser.wait_for("3 of 3 builds ended");
    browser.wait(&in_row("batch"));
    // A tab that is not there yet opens once the page knows its build.
    let late = "const own = fetch;
        globalThis.fetch = async (path, how) => {
            if (String(path).includes('/log?') && !globalThis.answer) await new Promise((go) => (globalThis.answer = go));
            return own(path, how);
        }";
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({"source": late}));
    browser.run("history.replaceState(null, '', location.hash.replace('/batch', ''))");
    browser.reload();
    browser.wait(
        "return !!globalThis.answer && !!document.querySelector('#tab-log[aria-selected=true]')",
    );
    browser.type_keys("0");
    browser.run("answer()");
    browser.wait_for("3 of 3 builds ended");
    browser.wait(&in_row("batch"));
    assert_eq!(browser.messages(), "");
    ends(server);
}

/// A single build, an unknown one, and a visitor who may only view one build.
fn what_is_no_batch() {
    let bed = Bed::new();
    bed.build(&build(&["true"]), &[]).code(0);
    let uuid = bed.only().file_name().unwrap().to_str().unwrap().to_owned();
    let (_, server) = Endpoint::serve(&bed, &[]);
    let path = format!("/ui/builds/{uuid}/batch");
    let owner = Link::of(&bed, &[]).open();
    let answer = owner.get(&path);
    assert_eq!(answer.status, 404, "{answer:?}");
    assert!(answer.body.contains("part of no batch"), "{answer:?}");
    assert_eq!(owner.post(&format!("/ui/builds/{uuid}/stop-batch"), &json!({})).status, 404);
    let reader = Link::of(&bed, &["--read-only", &uuid]).open();
    assert_eq!(reader.get(&path).status, 403);
    assert_eq!(reader.post(&format!("/ui/builds/{uuid}/retry-batch"), &json!({})).status, 403);
    ends(server);
}
