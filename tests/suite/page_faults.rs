//! The page when something goes wrong around it, and output that could break it.

use super::page::{address, ends};
use crate::common::browser::Browser;
use crate::common::endpoint::Endpoint;
use crate::common::relay::Relay;
use crate::common::visitor::Link;
use crate::common::{Bed, build, cases};
use serde_json::json;

cases! {
    [Containers, Image("busybox"), Browser] => serve_begins_anew, a_machine_that_sleeps, a_line_of_10_megabytes,
        rows_that_go_back, a_hostile_program_in_a_shell;
    [Browser] => addresses_that_are_none;
}

/// The text of each row in view.
const TEXTS: &str = "[...document.querySelectorAll('.row .text')].map((it) => it.textContent)";

fn opened(bed: &Bed, uuid: &str, at: &str) -> Browser {
    let link = Link { address: at.to_owned(), ..Link::of(bed, &[]) };
    let browser = Browser::new(bed, 1100, 700);
    browser.open(&format!("{}&b={uuid}", address(&link)));
    browser
}

fn only(bed: &Bed) -> String {
    bed.only().file_name().unwrap().to_str().unwrap().to_owned()
}

/// A restarted endpoint recognizes no visitors. The page keeps its content, and asks for a fresh
/// link.
fn serve_begins_anew() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["echo before", "codebuild-breakpoint"]), &[]);
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let browser = opened(&bed, &only(&bed), &endpoint.address);
    browser.wait_for("Paused");
    browser.click("#tab-terminal");
    browser.wait_for("you drive");
    ends(server);
    browser.wait_for("No connection to the runner");
    let (_, server) = Endpoint::serve_at(&bed, &endpoint.address, &[]);
    browser.wait_for("The runner does not know this browser any more. A fresh link: runner page");
    browser.wait_for("this browser is not known here");
    browser.picture("anew.png");
    browser.click("#tab-log");
    browser.wait("return !!document.querySelector('.head.command')");
    // In the same tab, without loading anything again.
    browser.open(&format!("{}&b={}", address(&Link::of(&bed, &[])), only(&bed)));
    browser.wait("return !document.body.innerText.includes('does not know')");
    browser.press("Resume");
    browser.wait("return document.title.includes('succeeded')");
    running.ends(0);
    // The list has nothing to keep: the message replaces everything.
    browser.click("a.up");
    browser.wait("return !!document.querySelector('td .state.succeeded')");
    ends(server);
    let (_, server) = Endpoint::serve_at(&bed, &endpoint.address, &[]);
    browser.wait_for("A fresh link, good once and for ten minutes: runner page");
    ends(server);
}

/// Its connections are gone when it wakes, and much has happened. None of that is missing.
fn a_machine_that_sleeps() {
    let bed = Bed::new();
    let commands =
        ["echo before; codebuild-breakpoint; seq 1 3000", "codebuild-breakpoint; echo last"];
    let running = bed.paused(&build(&commands), &[]);
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let relay = Relay::to(&endpoint.address);
    let browser = opened(&bed, &only(&bed), &relay.address);
    browser.wait_for("Paused echo before; codebuild-breakpoint");
    relay.cut();
    bed.runner(["resume"]).code(0);
    running.stdout.wait_for("\n3000\n");
    browser.wait_for("No connection to the runner");
    bed.runner(["wait", "--for", "paused"]).code(0);
    // The content stays as it was.
    assert!(browser.text().contains("Paused echo before"), "{}", browser.text());
    relay.mend();
    browser.wait_for("Paused codebuild-breakpoint; echo last");
    browser.wait("return !document.body.innerText.includes('No connection')");
    relay.cut();
    bed.resume(running);
    relay.mend();
    browser.wait("return document.title.includes('succeeded')");
    browser.press("Open all");
    browser.type_keys("G");
    browser.wait(&format!("return {TEXTS}.at(-1) === 'last'"));
    assert_eq!(
        browser.run("return [...document.querySelectorAll('.number')].at(-1).textContent"),
        "3002"
    );
    for row in ["before", "1", "1500", "2999"] {
        browser.run("document.querySelector('input[type=search]').value = ''");
        browser.click("input[type=search]");
        browser.type_keys(&format!("/^{row}$/\u{e007}"));
        browser.wait(&format!(
            "return document.querySelector('.row.hit .text')?.textContent === {}",
            json!(row)
        ));
    }
    assert_eq!(browser.messages(), "");
    ends(server);
}

/// In pieces; only those in view are in the document, wrapped or not.
fn a_line_of_10_megabytes() {
    let bed = Bed::new();
    let long =
        "head -c 10000000 /dev/zero | tr '\\0' x; printf '\\033[31mred end\\033[0m\\nnext\\n'";
    bed.build(&build(&[long]), &[]).code(0);
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let browser = opened(&bed, &only(&bed), &endpoint.address);
    browser.wait("return document.title.includes('succeeded')");
    browser.press("Open all");
    browser.type_keys("G");
    browser
        .wait(&format!("return {TEXTS}.at(-1) === 'next' && {TEXTS}.at(-2).endsWith('xred end')"));
    // 10 million bytes and eleven, in pieces of 4096, and one more row.
    let last = "return [...document.querySelectorAll('.number')].at(-1).textContent";
    assert_eq!(browser.run(last), "2443");
    let is_small = || {
        let shown = browser.run("return [document.querySelectorAll('.line').length, document.querySelector('.lines').textContent.length]");
        assert!(shown[0].as_u64().unwrap() < 300, "{shown}");
        assert!(shown[1].as_u64().unwrap() < 300 * 4200, "{shown}");
    };
    is_small();
    browser.press("Wrap");
    browser.wait("return !!document.querySelector('.wrapped')");
    browser.type_keys("g");
    browser.wait(&format!("return {TEXTS}[0]?.length === 4096"));
    is_small();
    browser.click("input[type=search]");
    browser.type_keys("xred\u{e007}");
    browser.wait_for("1 of 1");
    assert_eq!(browser.messages(), "");
    ends(server);
}

/// Rows contain what a terminal would show: progress bars, and any number of backspaces.
fn rows_that_go_back() {
    let bed = Bed::new();
    let many = "i=0; while [ $i -lt 1000 ]; do printf 'y\\b\\bz'; i=$((i + 1)); done; echo";
    let commands = [
        "printf 'abcdef\\b\\b\\bXY\\n'",
        "printf '10 %%\\r20 %%\\r\\n'",
        "printf 'loading\\r\\033[Kdone\\n'",
        "printf 'ab\\033[2Kc\\n'",
        "printf '\\b\\b\\033[31mr\\033[0mg\\b\\033[1mG\\033[0m\\n'",
        "printf '\\360\\237\\230\\200x\\b\\by\\n'",
        many,
    ];
    bed.build(&build(&commands), &[]).code(0);
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let browser = opened(&bed, &only(&bed), &endpoint.address);
    browser.wait("return document.title.includes('succeeded')");
    browser.press("Open all");
    browser.type_keys("g");
    let rows = ["abcXYf", "20 %", "done", "  c", "rG", "yx", "zy"];
    browser.wait(&format!("return JSON.stringify({TEXTS}) === JSON.stringify({})", json!(rows)));
    let looks = "return [...document.querySelectorAll('.row .text span')].map((it) => `${it.textContent} ${it.className}`)";
    assert_eq!(browser.run(looks), json!(["r fc1", "G bold"]));
    assert_eq!(browser.messages(), "");
    ends(server);
}

/// A program in a shell tries to access the user's clipboard, the title, the window's size and
/// title, and links that are scripts.
fn a_hostile_program_in_a_shell() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let browser = opened(&bed, &only(&bed), &endpoint.address);
    browser.wait_for("Paused");
    browser.click("#tab-terminal");
    browser.wait_for("you drive");
    browser.wait_for_shell();
    browser.allow("clipboard-read");
    browser.allow("clipboard-write");
    let copied =
        "await navigator.clipboard.writeText('mine'); return navigator.clipboard.readText()";
    assert_eq!(browser.run_async(copied), "mine");
    let title = browser.run("return document.title");
    let hostile = concat!(
        "printf '\\033]52;c;cHduZWQ=\\007\\033]52;c;?\\007\\033]0;pwned\\007\\033]2;pwned\\007\\033[21t\\033[14t\\033]10;?\\007",
        "\\033]8;;javascript:window.pwned=1\\007bad link\\033]8;;\\007 \\033]8;;https://example.invalid/x\\007good link\\033]8;;\\007\\n'; echo sh''own\n"
    );
    browser.type_keys(hostile);
    let shows = |text: &str| {
        browser.wait(&format!(
            "return [...document.querySelectorAll('.xterm-rows > div')].some((it) => it.textContent.trimEnd() === {})",
            json!(text)
        ));
    };
    shows("shown");
    // A reply would have been typed before this.
    browser.type_keys("echo cle''an\n");
    shows("clean");
    let rows = browser.run("return document.querySelector('.xterm-rows').textContent");
    // Below a line it shows other spaces.
    let rows = rows.as_str().unwrap().replace('\u{a0}', " ");
    assert!(rows.contains("bad link good link"), "{rows}");
    assert!(!rows.contains("rgb:") && !rows.contains("[4;"), "{rows}");
    assert_eq!(browser.run_async("return navigator.clipboard.readText()"), "mine");
    assert_eq!(browser.run("return document.title"), title);
    let links = "return [...document.querySelectorAll('.screen a')].length";
    assert_eq!(browser.run(links), 0);
    browser.picture("hostile-shell.png");
    assert_eq!(browser.run("return window.pwned ?? null"), json!(null));
    assert_eq!(browser.messages(), "");
    bed.resume(running);
    ends(server);
}

/// Typed, or truncated by a program that passed them on.
fn addresses_that_are_none() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let browser = Browser::new(&bed, 1000, 700);
    browser.open(&address(&Link::of(&bed, &[])));
    browser.wait_for("There are no builds yet");
    browser.picture("empty.png");
    let at = format!("http://{}/", endpoint.address);
    browser.open(&format!("{at}#/b/%E0%A4%A"));
    browser.wait_for("No build");
    browser.open(&format!("{at}#%"));
    browser.wait_for("There are no builds yet");
    let thrown = browser.messages();
    assert!(!thrown.contains("URI"), "{thrown}");
    ends(server);
}
