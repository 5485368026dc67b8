//! A real browser, Debian's chromium, driven over WebDriver.

use super::{Bed, PATIENCE, Running, until};
use base64::Engine as _;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;

/// Debian's name for it; the driver looks for another browser first.
const PROGRAM: &str = "chromium";
/// The key of an element in WebDriver's responses.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Starts a driver at a free port. It takes one of IPv6 and ends if another program has the same one
/// of IPv4: then it is started again.
fn start_driver(bed: &Bed) -> (Running, u16) {
    const READY: &str = "started successfully on port ";
    loop {
        let mut command = bed.other("chromedriver");
        command.args(["--port=0", "--log-level=SEVERE"]).env("TMPDIR", bed.path("home"));
        let driver = Running::spawn(command);
        driver.stdout.wait_until("a driver's port", |said| {
            let said = String::from_utf8_lossy(said);
            said.contains(READY) || said.contains("port not available")
        });
        if driver.stdout.text().contains(READY) {
            let port = driver.stdout.number_after(READY);
            return (driver, port);
        }
    }
}

/// A browser with one window. It ends when it goes out of scope.
pub(crate) struct Browser {
    port: u16,
    session: String,
    _driver: Running,
}

impl Browser {
    /// A window of this size in pixels.
    pub(crate) fn new(bed: &Bed, width: u32, height: u32) -> Self {
        Self::with(bed, width, height, &[])
    }

    /// With additional options.
    pub(crate) fn with(bed: &Bed, width: u32, height: u32, more: &[&str]) -> Self {
        let (driver, port) = start_driver(bed);
        let profile = tempfile::tempdir_in(bed.path("home")).unwrap().keep();
        let mut arguments = vec![
            "--headless=new".to_owned(),
            // Its sandbox needs rights that root lacks in some places; it visits only our own
            // pages.
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-background-networking".to_owned(),
            "--no-first-run".to_owned(),
            format!("--user-data-dir={}", profile.display()),
            format!("--window-size={width},{height}"),
        ];
        arguments.extend(more.iter().map(|&option| option.to_owned()));
        let longest = PATIENCE.as_millis() as u64;
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "unhandledPromptBehavior": "ignore",
            "timeouts": {"script": longest, "pageLoad": longest},
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": arguments, "binary": super::program(PROGRAM)},
        }}});
        let begun = ask(port, "POST", "/session", &wanted);
        let session = begun["sessionId"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned();
        let browser = Browser { port, session, _driver: driver };
        // Browsers have a minimum window width; anything narrower is simulated as a phone.
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        browser.devtools("Emulation.setDeviceMetricsOverride", &size);
        browser
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.try_call(method, path, body);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        try_ask(self.port, method, &format!("/session/{}{path}", self.session), body)
    }

    /// A command of the browser's own protocol.
    pub(crate) fn devtools(&self, name: &str, parameters: &Value) -> Value {
        self.call("POST", "/goog/cdp/execute", &json!({"cmd": name, "params": parameters}))
    }

    pub(crate) fn open(&self, address: &str) {
        self.call("POST", "/url", &json!({"url": address}));
    }

    pub(crate) fn reload(&self) {
        self.call("POST", "/refresh", &json!({}));
    }

    /// What a script returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// What a script's promise resolves to.
    pub(crate) fn run_async(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; (async () => {{ {script} }})().then(done, (e) => done('error: ' + e));"
        );
        self.call("POST", "/execute/async", &json!({"script": script, "args": []}))
    }

    /// Waits until a script returns something true. One that looks at what is not there yet fails,
    /// and is run again.
    #[track_caller]
    pub(crate) fn wait(&self, script: &str) {
        let mut shown = String::new();
        let begin = std::time::Instant::now();
        let body = json!({"script": script, "args": []});
        until(script, || {
            let found = self.try_call("POST", "/execute/sync", &body);
            let is_so = match &found {
                Ok(found) => *found == true,
                Err(error) if error["error"] == "javascript error" => false,
                Err(error) => panic!("{script}: {error}"),
            };
            if !is_so && begin.elapsed() > PATIENCE / 10 && shown.is_empty() {
                shown = self.text();
                let messages = self.messages();
                eprintln!("waits for {script}: {found:?}; the page says:\n{shown}\n{messages}");
            }
            is_so
        });
    }

    /// Waits until the page contains a text.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        self.wait(&format!("return document.body.innerText.includes({})", json!(text)));
    }

    /// The text of the page.
    pub(crate) fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Clicks the first element that matches.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let find = json!({"using": "css selector", "value": selector});
        self.wait(&format!("return !!document.querySelector({})", json!(selector)));
        until(selector, || {
            let clicked = self.try_call("POST", "/element", &find).and_then(|found| {
                let element = found[ELEMENT].as_str().unwrap_or_default();
                self.try_call("POST", &format!("/element/{element}/click"), &json!({}))
            });
            match clicked {
                Ok(_) => true,
                // The page has redrawn it in between.
                Err(error) if FLEETING.iter().any(|it| error["error"] == *it) => false,
                Err(error) => panic!("{selector}: {error}"),
            }
        });
    }

    /// Clicks the button with this text.
    #[track_caller]
    pub(crate) fn press(&self, text: &str) {
        let text = json!(text);
        let script = format!(
            "const found = [...document.querySelectorAll('button')].find((it) => it.textContent === {text} && it.offsetParent);
             found?.click(); return !!found"
        );
        self.wait(&script);
    }

    /// Waits until a shell shows what it has shown before, and takes what is typed.
    #[track_caller]
    pub(crate) fn wait_for_shell(&self) {
        self.wait("return document.querySelector('.screen[aria-busy=false]')?.contains(document.activeElement) === true");
    }

    /// Types into the focused element.
    pub(crate) fn type_keys(&self, text: &str) {
        let keys = text.chars().flat_map(|c| {
            [json!({"type": "keyDown", "value": c}), json!({"type": "keyUp", "value": c})]
        });
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": keys.collect::<Vec<_>>()}]});
        self.call("POST", "/actions", &actions);
    }

    /// Grants pages a permission without asking.
    pub(crate) fn allow(&self, name: &str) {
        let permission = json!({"descriptor": {"name": name}, "state": "granted"});
        self.call("POST", "/permissions", &permission);
    }

    /// Accessibility problems of the current page, found by axe-core.
    pub(crate) fn barriers(&self) -> Value {
        let axe = super::project().join("target/web/node_modules/axe-core/axe.min.js");
        self.run(&std::fs::read_to_string(axe).unwrap());
        self.run_async(
            "const found = await axe.run(document, {resultTypes: ['violations']});
             return found.violations.filter((it) => ['serious', 'critical'].includes(it.impact))
                 .map((it) => `${it.id}: ${it.nodes.map((node) => node.html).join(' ')}`);",
        )
    }

    /// The browser's complaints: policy violations, exceptions, missing files. Unreachable servers
    /// are left out.
    pub(crate) fn messages(&self) -> String {
        let log = self.call("POST", "/se/log", &json!({"type": "browser"}));
        let lines = log.as_array().into_iter().flatten();
        let texts = lines.filter_map(|line| line["message"].as_str());
        texts
            .filter(|text| !GONE.iter().any(|gone| text.contains(gone)))
            .map(|text| format!("{text}\n"))
            .collect()
    }

    /// Saves a screenshot if `RUNNER_TEST_PICTURES` names a folder.
    pub(crate) fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("RUNNER_TEST_PICTURES") else { return };
        let picture = self.call("GET", "/screenshot", &Value::Null);
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture.as_str().unwrap());
        std::fs::write(std::path::Path::new(&folder).join(name), bytes.unwrap()).unwrap();
    }

    pub(crate) fn scheme(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &features);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its processes end with the session; stopping only the driver would leave them.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.call("DELETE", "", &Value::Null);
        }));
    }
}

/// The browser's messages about an unreachable server.
const GONE: [&str; 4] = [
    "net::ERR_CONNECTION",
    "net::ERR_EMPTY_RESPONSE",
    "net::ERR_INCOMPLETE_CHUNKED_ENCODING",
    "net::ERR_SOCKET_NOT_CONNECTED",
];

/// The driver's errors about an element that has just disappeared.
const FLEETING: [&str; 4] = [
    "stale element reference",
    "no such element",
    "element not interactable",
    "element click intercepted",
];

/// Sends a request to the driver. Returns its response.
#[track_caller]
fn ask(port: u16, method: &str, path: &str, body: &Value) -> Value {
    let answer = try_ask(port, method, path, body);
    answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

#[track_caller]
fn try_ask(port: u16, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // If the browser hangs, the test fails here.
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    // It keeps connections open, whatever the request says.
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let begin = head.len();
        assert!(stream.read_line(&mut head).unwrap() > 0, "{method} {path}: {head:?}");
        if let Some(value) = head[begin..].to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let mut answer: Value = serde_json::from_slice(&body).unwrap();
    let value = answer["value"].take();
    if head.contains(" 200 ") { Ok(value) } else { Err(value) }
}

/// Whether the browser is installed.
pub(crate) fn is_there() -> bool {
    let runs = |program: &str| {
        let found = Command::new(program).arg("--version").output();
        found.is_ok_and(|output| output.status.success())
    };
    runs(PROGRAM) && runs("chromedriver")
}
