//! The page: time to first paint, smoothness of scrolling, and latency of a key in its terminal.

use super::bed::Bed;
use super::browser::Browser;
use super::gateway::{ECHO, OnTerminal, PausedEndpoint};
use super::{Contender, measure as compare, quiet, text};
use crate::ChoreResult;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// Size of a long log in bytes.
const LONG: usize = 100_000_000;
/// Number of logs read in between, so that the endpoint drops the long one from memory: as many as
/// it keeps.
const OTHERS: usize = 16;
/// Steps of a scroll trace, and lines per step.
const STEPS: usize = 120;
const LINES: usize = 7;

/// Reports when the first row, or the text of a plain page, has been painted.
const PAINTED: &str = "
const seen = new MutationObserver(() => {
    const text = document.querySelector('.row .text, pre')?.textContent;
    if (!text || text === '…') return;
    seen.disconnect();
    requestAnimationFrame(() => setTimeout(() => (globalThis.painted = performance.now())));
});
seen.observe(document, { childList: true, subtree: true, characterData: true });
";

pub(super) fn measure(bed: &Bed) -> ChoreResult {
    let short = failing(bed, "page-short", "echo why; exit 3")?;
    let line = "a line that is as long as many lines of many logs are, and ends here";
    let command = format!("yes \"{line}\" | head -c {LONG}; echo; echo why; exit 3");
    let long = failing(bed, "page-long", &command)?;
    let others: Vec<String> = (0..OTHERS)
        .map(|number| failing(bed, &format!("page-{number}"), "echo hi; exit 3"))
        .collect::<ChoreResult<_>>()?;
    let paused = bed.paused()?;
    let place = PausedEndpoint::new(bed)?;
    let at = format!("http://{}", place.address);
    let browser = Browser::new(bed)?;
    browser.before_each(PAINTED)?;
    browser.open(&text(bed.runner().arg("page"))?)?;
    // The link is followed once the list is displayed.
    browser
        .run("while (!document.querySelector('td a')) await new Promise(requestAnimationFrame)")?;
    let version = browser.run("return document.querySelector('script').src.split('/').at(-2)")?;
    let version = version.as_str().ok_or("the page has no version")?;
    let plain = format!("{at}/assets/{version}/licences.txt");
    let forget: Vec<String> =
        others.iter().map(|uuid| format!("get('/ui/builds/{uuid}/log')")).collect();
    let forget = format!(
        "const get = (path) => fetch(path, {{headers: {{'X-Runner-Key': localStorage.getItem('runner-key')}}}}).then((it) => it.text());
         await Promise.all([{}])",
        forget.join(",")
    );
    let page = format!("{at}/#/b/{short}");
    let mut contenders = [
        Contender::timed("a build's page", || painted(&browser, &page, FIRST)),
        Contender::timed("the same, to the first row of its log", || {
            painted(&browser, &page, ROWS)
        }),
        Contender::timed("a text of the same server", || painted(&browser, &plain, FIRST)),
    ];
    compare("The first paint of a build's page", 10, &mut contenders)?;
    drop(contenders);
    let mut contenders = [
        Contender::timed(format!("a log of {} MB", LONG / 1_000_000), || {
            painted(&browser, &format!("{at}/#/b/{long}"), ROWS)
        }),
        Contender::timed("the same, which the endpoint has not read before", || {
            browser.run(&forget)?;
            painted(&browser, &format!("{at}/#/b/{long}"), ROWS)
        }),
        Contender::timed("a text of the same server", || {
            let took = painted(&browser, &plain, FIRST)?;
            // The page requests the other logs itself.
            browser.open(&page)?;
            Ok(took)
        }),
    ];
    compare("The first rows of a long log", 10, &mut contenders)?;
    drop(contenders);
    scroll(&browser, &format!("{at}/#/b/{long}"))?;
    drop(browser);
    echo(bed, &place)?;
    drop((place, paused));
    Ok(())
}

/// Runs a build that fails, so that its rows are visible. Returns its uuid.
fn failing(bed: &Bed, name: &str, command: &str) -> ChoreResult<String> {
    let spec = bed.buildspec(name, &[command])?;
    let options = ["--project", name, "--image", &bed.image];
    // It fails, as intended.
    let _ = quiet(&mut bed.run_command(&spec, &options));
    let builds = fs::read_dir(bed.dir.join("state/builds")).map_err(|error| error.to_string())?;
    let is_meant = |path: &std::path::Path| {
        let record = fs::read(path.join("record.json")).unwrap_or_default();
        let record: Value = serde_json::from_slice(&record).unwrap_or_default();
        record["projectName"] == name
    };
    let mut uuids = builds.flatten().filter(|entry| is_meant(&entry.path()));
    let uuid = uuids.next().ok_or(format!("no build of {name}"))?;
    Ok(uuid.file_name().to_string_lossy().into_owned())
}

/// The event to wait for: any content, or rows of a log.
const FIRST: &str = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime";
const ROWS: &str = "globalThis.painted";

fn painted(browser: &Browser, address: &str, what: &str) -> ChoreResult<Duration> {
    // Another position on the same page would not be loaded.
    browser.open("about:blank")?;
    browser.open(address)?;
    let took = browser.run(&format!(
        "while (!({what})) await new Promise(requestAnimationFrame); return {what}"
    ))?;
    Ok(Duration::from_secs_f64(took.as_f64().ok_or("it was never painted")? / 1000.0))
}

/// Scrolls through a long log frame by frame, and through the same rows as plain text.
fn scroll(browser: &Browser, address: &str) -> ChoreResult {
    let trace = |selector: &str, line: &str| {
        format!(
            "const it = document.querySelector('{selector}');
             const frame = () => new Promise(requestAnimationFrame);
             {line}
             await frame();
             const begin = performance.now();
             for (let step = 1; step <= {STEPS}; step++) {{ move(step * {LINES}); await frame(); }}
             const took = performance.now() - begin;
             return [took, [...document.querySelectorAll('.row .text')].filter((it) => it.textContent === '…').length];"
        )
    };
    // With the wheel, as a person does: for a log this long the smallest step of the scroll bar is
    // more than a line.
    let wheel = trace(
        ".scroller",
        "let last = 0; const move = (to) => { const by = (to - last) * 20; last = to;
         if (it.dispatchEvent(new WheelEvent('wheel', { deltaY: by, cancelable: true, bubbles: true }))) it.scrollTop += by; };",
    );
    let plain = trace("pre", "const move = (to) => { it.scrollTop = to * 20; };");
    let page = || -> ChoreResult {
        browser.open("about:blank")?;
        browser.open(address)?;
        browser.run(
            "while (!globalThis.painted) await new Promise(requestAnimationFrame);
             [...document.querySelectorAll('button')].find((it) => it.textContent === 'Open all').click();
             document.querySelector('.scroller').dispatchEvent(new KeyboardEvent('keydown', { key: 'g', bubbles: true }));
             const is = () => document.querySelector('.number')?.textContent === '1';
             while (!is()) await new Promise(requestAnimationFrame);",
        )
        .map(drop)
    };
    let rows = || -> ChoreResult {
        browser.open("about:blank")?;
        browser.run(&format!(
            "const pre = document.createElement('pre');
             pre.style.cssText = 'height: 700px; overflow: auto; margin: 0; font: 13px/20px monospace';
             const line = 'a line that is as long as many lines of many logs are, and ends here';
             pre.textContent = (line + '\\n').repeat({} + 80); document.body.append(pre);",
            STEPS * LINES
        ))
        .map(drop)
    };
    let frames = |made: &dyn Fn() -> ChoreResult, script: &str| -> ChoreResult<Duration> {
        made()?;
        let shown = browser.run(script)?;
        if shown[1] != 0 {
            return Err(format!("rows were missing at the end of the trace: {shown}"));
        }
        let took = shown[0].as_f64().ok_or("no time")?;
        Ok(Duration::from_secs_f64(took / 1000.0))
    };
    let mut contenders = [
        Contender::timed("the log", || frames(&page, &wheel)),
        Contender::timed("the same rows in a `<pre>`", || frames(&rows, &plain)),
    ];
    let title = format!("{STEPS} frames of a scroll through a long log, {LINES} lines each");
    compare(&title, 3, &mut contenders)
}

/// A key and its echo, from socket to socket.
fn echo(bed: &Bed, place: &PausedEndpoint) -> ChoreResult {
    let mut attach = bed.runner();
    attach.arg("attach");
    let mut attached = OnTerminal::new(&attach, &format!("exec sh -c '{ECHO}'\r"))?;
    let mut shell = PageTerminal::new(bed, &place.address)?;
    let mut contenders = [
        Contender::timed("through the page's socket", || shell.round_trip()),
        Contender::timed("`runner attach`", || attached.round_trip()),
    ];
    compare("One key and its echo, in the page", 300, &mut contenders)
}

/// A terminal on the page, as a browser uses it.
struct PageTerminal {
    socket: WebSocket<TcpStream>,
}

impl PageTerminal {
    fn new(bed: &Bed, address: &str) -> ChoreResult<Self> {
        let link = text(bed.runner().arg("page"))?;
        let token = link.split("#t=").nth(1).and_then(|rest| rest.split('&').next());
        let token = json!({"token": token.ok_or("no link")?});
        let origin = format!("Origin: http://{address}");
        let (head, entered) = post(address, "/ui/session", &[&origin], &token)?;
        let cookie = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("set-cookie").then(|| value.split(';').next())?
        });
        let cookie = cookie.ok_or("no cookie")?;
        let key = entered["key"].as_str().ok_or("no key")?;
        let live = fs::read_dir(bed.dir.join("state/live")).map_err(|error| error.to_string())?;
        let uuid = live.flatten().next().ok_or("no build is live")?.file_name();
        let path = format!("/ui/builds/{}/terminals", uuid.to_string_lossy());
        let (cookie_line, key_line) = (format!("Cookie: {cookie}"), format!("X-Runner-Key: {key}"));
        let size = json!({"rows": 24, "cols": 80});
        let (_, begun) = post(address, &path, &[&origin, &cookie_line, &key_line], &size)?;
        let id = begun["id"].as_str().ok_or(format!("no terminal: {begun}"))?;
        let failed = |error: tungstenite::Error| error.to_string();
        let mut request = format!("ws://{address}{path}/{id}?seat=bench")
            .into_client_request()
            .map_err(failed)?;
        let headers = request.headers_mut();
        let protocol = format!("runner, key.{key}");
        for (name, value) in [
            ("origin", format!("http://{address}")),
            ("cookie", cookie.to_owned()),
            ("sec-websocket-protocol", protocol),
        ] {
            headers.insert(name, value.parse().map_err(|_| format!("no header: {value}"))?);
        }
        let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (socket, _) =
            tungstenite::client(request, stream).map_err(|error| error.to_string())?;
        let mut shell = PageTerminal { socket };
        let typed = format!("exec sh -c '{ECHO}'\r");
        shell.send(typed.as_bytes())?;
        let mut shown = Vec::new();
        while !shown.ends_with(b"up\n") {
            shown.extend(shell.hear()?);
        }
        Ok(shell)
    }

    fn send(&mut self, bytes: &[u8]) -> ChoreResult {
        let message = Message::Binary(bytes.to_vec().into());
        self.socket.send(message).map_err(|error| error.to_string())
    }

    /// The next output.
    fn hear(&mut self) -> ChoreResult<Vec<u8>> {
        loop {
            match self.socket.read().map_err(|error| error.to_string())? {
                Message::Binary(bytes) => return Ok(bytes.to_vec()),
                Message::Close(_) => return Err("the terminal has ended".to_owned()),
                _ => {}
            }
        }
    }

    fn round_trip(&mut self) -> ChoreResult<Duration> {
        let begin = Instant::now();
        self.send(b"x")?;
        match self.hear()?.as_slice() {
            b"x" => Ok(begin.elapsed()),
            other => Err(format!("another echo: {other:?}")),
        }
    }
}

/// A request of the page. Returns the response's head and body.
fn post(address: &str, path: &str, headers: &[&str], body: &Value) -> ChoreResult<(String, Value)> {
    let body = body.to_string();
    let talk = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n\r\n{body}",
            body.len(),
            headers.join("\r\n")
        );
        stream.write_all(head.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = talk().map_err(|error| format!("{path}: {error}"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(format!("{path}: {text}"))?;
    let answer = serde_json::from_str(body).map_err(|_| format!("{path}: {text}"))?;
    Ok((head.to_owned(), answer))
}
