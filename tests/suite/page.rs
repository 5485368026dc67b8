//! The page in a real browser.

use crate::common::browser::Browser;
use crate::common::endpoint::Endpoint;
use crate::common::relay::Relay;
use crate::common::visitor::Link;
use crate::common::{Bed, Running, build, cases};
use nix::sys::signal::Signal;

/// The list shows a failed build: the word alone also appears in its filter.
const FAILED: &str = "return !!document.querySelector('td .state.failed')";

cases! {
    [Containers, Image("busybox"), Browser] => a_pause_and_its_end, a_failure_and_a_hostile_log, a_stop_and_what_follows,
        two_browsers_at_one_shell;
    [Containers, Image("busybox"), Browser, Web] => for_everybody;
    [Containers, Image("busybox"), Browser, Extended] => on_a_phone, a_log_of_100_megabytes;
}

pub(super) fn ends(server: Running) {
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// As a link that is pasted.
pub(super) fn address(link: &Link) -> String {
    format!("http://{}/#t={}", link.address, link.token)
}

/// From the notice of a pause to the build's end, with the build's own endpoint.
fn a_pause_and_its_end() {
    let bed = Bed::new();
    let commands = ["printf 'one\\n\\033[31mred\\033[0m\\n'", "codebuild-breakpoint", "echo last"];
    let running = bed.paused(&build(&commands), &[]);
    let browser = Browser::new(&bed, 1200, 800);
    browser.open(&Link::said(&running.stderr));
    browser.wait_for("Paused codebuild-breakpoint");
    browser.picture("paused.png");
    // Neither the address nor the history contains the token any more.
    let place = browser.run("return location.href");
    assert!(!place.as_str().unwrap().contains("t="), "{place}");
    // Successful commands are folded; opened, they have their colours.
    browser.wait("return !!document.querySelector('.head.command.succeeded[aria-expanded=false]')");
    browser.press("Open all");
    browser.wait(
        "return [...document.querySelectorAll('.row .fc1')].some((it) => it.textContent === 'red')",
    );
    browser.picture("paused-open.png");
    browser.scheme("dark");
    browser.picture("paused-dark.png");
    // The browser is recognized again.
    browser.reload();
    browser.wait_for("Paused codebuild-breakpoint");
    browser.press("Resume");
    browser.wait("return document.title.includes('succeeded')");
    running.ends(0);
    assert_eq!(browser.messages(), "");
}

/// A build's output is displayed as text, whatever it contains.
fn a_failure_and_a_hostile_log() {
    let bed = Bed::new();
    let hostile = r#"printf '<img src=x onerror=alert(1)><script>window.pwned=1</script>\n\033]8;;javascript:alert(2)\033\\bad link\033]8;;\033\\ \033]8;;https://example.invalid/x\033\\good link\033]8;;\033\\\n\033]52;c;cHduZWQ=\007\033]0;pwned\007after\n\342\200\256turned\n'"#;
    let spec = build(&[hostile, "echo fine", "echo Needle; echo why; exit 3", "echo never"]);
    bed.build(&spec, &[]).code(1);
    let (_, server) = Endpoint::serve(&bed, &[]);
    let browser = Browser::new(&bed, 1000, 700);
    browser.open(&address(&Link::of(&bed, &[])));
    browser.wait(FAILED);
    browser.picture("list.png");
    browser.click("td a");
    // The first failure is open and in view.
    browser.wait("return [...document.querySelectorAll('.row')].some((it) => it.textContent.includes('why'))");
    browser.wait("return !!document.querySelector('.head.command.failed[aria-expanded=true]')");
    assert!(browser.text().contains("exit status 3"));
    browser.picture("failed.png");
    browser.press("Open all");
    browser.wait_for("<img src=x onerror=alert(1)><script>window.pwned=1</script>");
    let links = browser.run(
        "return [...document.querySelectorAll('.row .text a')].map((it) => it.href + ' ' + it.rel)",
    );
    assert_eq!(
        links,
        serde_json::json!(["https://example.invalid/x noopener noreferrer nofollow"])
    );
    let text = browser.text();
    assert!(
        text.contains("good link <https://example.invalid/x>") && text.contains("bad link"),
        "{text}"
    );
    assert!(text.contains("\u{fffd}turned"), "{text}");
    assert_eq!(
        browser.run("return [window.pwned ?? null, document.querySelectorAll('img').length]"),
        serde_json::json!([null, 0])
    );
    assert!(!browser.run("return document.title").as_str().unwrap().contains("pwned"));
    // Search finds folded text and scrolls to it.
    browser.press("Fold all");
    browser.click("input[type=search]");
    browser.type_keys("needle\u{e007}");
    browser.wait_for("1 of 2");
    browser.type_keys("\u{e007}");
    browser.wait("return !!document.querySelector('.row.hit mark')");
    // A selected line has an address.
    browser.click(".row.hit .number");
    let place = browser.run("return location.hash");
    assert!(place.as_str().unwrap().ends_with("/L6"), "{place}");
    browser.reload();
    browser.wait(
        "return document.querySelector('.row.marked')?.textContent.includes('Needle') === true",
    );
    assert_eq!(browser.messages(), "");
    ends(server);
}

/// A failure that a person fixes: run again with another text, then resumed.
fn a_stop_and_what_follows() {
    let bed = Bed::new();
    let commands = ["echo first > made", "echo second; exit 3", "echo third"];
    let options = ["--break-on", "failure", "--break-timeout", "10m"];
    let running = bed.start(&build(&commands), &options);
    let browser = Browser::new(&bed, 1200, 800);
    browser.open(&Link::said(&running.stderr));
    browser.wait_for("Paused echo second; exit 3");
    browser.wait_for("exit status 3");
    browser.picture("stopped.png");
    browser.click("#tab-history");
    browser.wait_for("Rewind to before");
    browser.wait_for("1 file");
    browser.picture("history.png");
    browser.click("#tab-environment");
    browser.wait_for("CODEBUILD_BUILD_ID");
    browser.picture("environment.png");
    browser.click("#tab-log");
    browser.press("Edit…");
    browser.run("document.querySelector('dialog textarea').value = 'echo mended'");
    browser.press("Run");
    browser.wait("return document.title.includes('succeeded')");
    running.ends(0);
    let record = bed.record();
    assert_eq!(record["interventions"][0]["client"], "page", "{record}");
    assert_eq!(record["interventions"][0]["what"], "edit");
    for tab in ["phases", "reports", "artifacts", "details"] {
        browser.click(&format!("#tab-{tab}"));
        browser.wait(&format!(
            "return !!document.querySelector('#tab-{tab}[aria-selected=true]') && document.querySelector('#panel').textContent !== '…'"
        ));
        browser.picture(&format!("{tab}.png"));
    }
    // Its endpoint has ended with it, but its record can still be read.
    for (tab, text) in [("phases", "FINALIZING"), ("details", "\"buildComplete\": true")] {
        browser.click(&format!("#tab-{tab}"));
        browser.wait_for(text);
    }
    assert_eq!(browser.messages(), "");
}

/// A shell that outlives a reload and a lost connection; a second browser watches, and drives once
/// it is allowed to.
fn two_browsers_at_one_shell() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let relay = Relay::to(&endpoint.address);
    let enter = |browser: &Browser, address: &str| {
        let token = Link::of(&bed, &[]).token;
        browser.open(&format!("http://{address}/#t={token}&b={uuid}"));
        browser.wait_for("Paused");
        browser.click("#tab-terminal");
    };
    let shows = |browser: &Browser, text: &str| {
        browser.wait(&format!(
            "return [...document.querySelectorAll('.xterm-rows > div')].some((it) => it.textContent.trimEnd().endsWith({}))",
            serde_json::json!(text)
        ));
    };
    let one = Browser::new(&bed, 1100, 700);
    enter(&one, &endpoint.address);
    one.wait_for("you drive");
    one.wait_for_shell();
    one.type_keys("printf 'co''lour \\033[38;2;255;0;0mred\\033[0m'; echo; export KEPT=ke''pt\n");
    shows(&one, "colour red");
    // The page's content policy permits its colours.
    one.wait("return [...document.querySelectorAll('.xterm-rows span')].some((it) => it.textContent === 'red' && getComputedStyle(it).color === 'rgb(255, 0, 0)')");
    one.picture("terminal.png");
    one.reload();
    one.click("#tab-terminal");
    shows(&one, "colour red");
    one.wait_for("you drive");
    one.wait_for_shell();
    let two = Browser::new(&bed, 800, 600);
    enter(&two, &relay.address);
    two.press("Join shell 1 (1 viewer)");
    two.wait_for("somebody else drives");
    shows(&two, "colour red");
    two.picture("watching.png");
    two.press("Ask for control");
    one.wait_for("Somebody asks to drive");
    one.picture("asked.png");
    one.press("Let them");
    two.wait_for("you drive");
    one.wait_for("somebody else drives");
    two.click(".screen");
    two.wait_for_shell();
    two.type_keys("echo $KEPT-$((40 + 2))\n");
    shows(&two, "kept-42");
    shows(&one, "kept-42");
    // A lost network connection does not end the shell.
    relay.cut();
    two.wait_for("No connection. The shell goes on");
    two.wait_for("No connection to the runner");
    two.picture("lost.png");
    relay.mend();
    two.wait("return !document.body.innerText.includes('No connection')");
    two.wait_for("you drive");
    shows(&two, "kept-42");
    two.click(".screen");
    two.wait_for_shell();
    two.type_keys("exit\n");
    two.wait_for("the shell has ended with 0");
    bed.resume(running);
    ends(server);
}

/// Every page by keyboard alone, and without accessibility problems.
fn for_everybody() {
    let bed = Bed::new();
    bed.build(&build(&["echo fine", "printf '\\033[31mred\\033[0m\\n'; exit 1"]), &[]).code(1);
    let (_, server) = Endpoint::serve(&bed, &[]);
    let browser = Browser::new(&bed, 1000, 700);
    browser.open(&address(&Link::of(&bed, &[])));
    browser.wait(FAILED);
    let check = |place: &str| {
        for scheme in ["light", "dark"] {
            browser.scheme(scheme);
            assert_eq!(browser.barriers(), serde_json::json!([]), "{place}, {scheme}");
            browser.picture(&format!("everybody-{place}-{scheme}.png"));
        }
    };
    check("list");
    browser.run("document.querySelector('td a').focus()");
    browser.type_keys("\u{e007}");
    browser.wait_for("exit status 1");
    check("log");
    browser.type_keys("O");
    browser.wait("return !document.querySelector('.row')");
    browser.type_keys("f");
    browser.wait("return document.querySelector('.row .fc1')?.textContent === 'red'");
    browser.type_keys("?");
    browser.wait("return document.querySelector('dialog.help')?.open === true");
    check("help");
    browser.type_keys("\u{e00c}");
    browser.wait("return !document.querySelector('dialog')");
    for (key, tab) in [
        ("3", "phases"),
        ("4", "history"),
        ("5", "environment"),
        ("8", "recordings"),
        ("9", "details"),
    ] {
        browser.type_keys(key);
        browser.wait(&format!(
            "return !!document.querySelector('#tab-{tab}[aria-selected=true]') && document.querySelector('#panel').textContent !== '…'"
        ));
        check(tab);
    }
    ends(server);
}

/// It opens at its failure, and the size of the document does not grow with it.
fn a_log_of_100_megabytes() {
    let bed = Bed::new();
    let line = "a line that is as long as many lines of many logs are, and ends here";
    let flood = format!("yes '{line}' | head -c 100000000; echo");
    let long = "head -c 10000000 /dev/zero | tr '\\0' x; echo";
    bed.build(&build(&[&flood, long, "echo why; exit 3"]), &[]).code(1);
    let (_, server) = Endpoint::serve(&bed, &[]);
    let browser = Browser::new(&bed, 1200, 800);
    browser.open(&address(&Link::of(&bed, &[])));
    browser.click("td a");
    browser.wait("return [...document.querySelectorAll('.row')].some((it) => it.textContent.endsWith('why'))");
    browser.press("Open all");
    browser.type_keys("g");
    browser.wait("return document.querySelector('.number')?.textContent === '1' && document.querySelectorAll('.row').length > 10");
    let shown = "return document.querySelectorAll('.line').length";
    assert!(browser.run(shown).as_u64().unwrap() < 300);
    browser
        .run("const it = document.querySelector('.scroller'); it.scrollTop = it.scrollHeight / 2");
    browser.wait("return Number(document.querySelector('.number')?.textContent) > 500000");
    browser.wait(
        "const rows = [...document.querySelectorAll('.row .text')];
         return rows.length > 10 && rows.every((it) => it.textContent !== '…')",
    );
    assert!(browser.run(shown).as_u64().unwrap() < 300);
    browser.picture("100-megabytes.png");
    ends(server);
}

/// That a tab is chosen, and stands in the row where it is seen as a whole.
pub(super) fn in_row(tab: &str) -> String {
    format!(
        "const it = document.querySelector('#tab-{tab}[aria-selected=true]')?.getBoundingClientRect();
         return !!it && it.left >= 0 && it.right <= innerWidth"
    )
}

/// The layout on a phone, with screenshots for `RUNNER_TEST_PICTURES`.
fn on_a_phone() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["echo one; echo two", "codebuild-breakpoint"]), &[]);
    let (_, server) = Endpoint::serve(&bed, &[]);
    let browser = Browser::new(&bed, 360, 740);
    browser.open(&address(&Link::of(&bed, &[])));
    browser.wait("return !!document.querySelector('td .state')");
    browser.picture("phone-list.png");
    browser.click("td a");
    browser.wait_for("Paused");
    let fits = "return document.documentElement.scrollWidth <= innerWidth";
    assert_eq!(browser.run(fits), true, "{}", browser.text());
    browser.picture("phone-paused.png");
    for (key, tab) in [("9", "details"), ("4", "history"), ("1", "log")] {
        browser.type_keys(key);
        browser.wait(&in_row(tab));
        browser.picture(&format!("phone-{tab}.png"));
    }
    bed.resume(running);
    browser.wait("return document.title.includes('succeeded')");
    ends(server);
    // The endpoint has ended: the content stays.
    browser.open("about:blank");
}
