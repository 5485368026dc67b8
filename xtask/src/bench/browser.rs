//! Debian's chromium, driven over WebDriver, to measure pages.

use super::bed::{Bed, OwnedProcess};
use crate::ChoreResult;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Time limit for anything in a page.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one window.
pub(super) struct Browser {
    port: u16,
    session: String,
    _driver: OwnedProcess,
}

impl Browser {
    pub(super) fn new(bed: &Bed) -> ChoreResult<Self> {
        let failed = |error: std::io::Error| format!("chromedriver: {error}");
        let mut driver = Command::new("chromedriver")
            .args(["--port=0", "--log-level=SEVERE"])
            .env("TMPDIR", &bed.dir)
            .env("HOME", &bed.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let stdout = driver.stdout.take().ok_or("no standard output")?;
        let driver = OwnedProcess(driver);
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        std::thread::spawn(move || lines.for_each(drop));
        let port = port.ok_or("chromedriver does not listen")?;
        let profile = format!("--user-data-dir={}", bed.dir.join("browser").display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
            "--window-size=1200,800",
            &profile,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome",
            "goog:chromeOptions": {"args": arguments, "binary": "/usr/bin/chromium"}}}});
        let begun = ask(port, "POST", "/session", &wanted)?;
        let session = begun["sessionId"].as_str().ok_or("no session")?.to_owned();
        Ok(Browser { port, session, _driver: driver })
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> ChoreResult<Value> {
        ask(self.port, method, &format!("/session/{}{path}", self.session), body)
    }

    /// Makes a script run in each page from now on, before the page's own scripts.
    pub(super) fn before_each(&self, script: &str) -> ChoreResult {
        let command =
            json!({"cmd": "Page.addScriptToEvaluateOnNewDocument", "params": {"source": script}});
        self.call("POST", "/goog/cdp/execute", &command).map(drop)
    }

    pub(super) fn open(&self, address: &str) -> ChoreResult {
        self.call("POST", "/url", &json!({"url": address})).map(drop)
    }

    /// What a script's promise resolves to.
    pub(super) fn run(&self, script: &str) -> ChoreResult<Value> {
        let script = format!(
            "const done = arguments[arguments.length - 1]; (async () => {{ {script} }})().then(done, (e) => done('error: ' + e));"
        );
        let answer = self.call("POST", "/execute/async", &json!({"script": script, "args": []}))?;
        match answer.as_str().filter(|text| text.starts_with("error: ")) {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its processes end with the session; stopping only the driver would leave them.
        let _ = self.call("DELETE", "", &Value::Null);
    }
}

/// Sends a request to the driver. Returns its response.
fn ask(port: u16, method: &str, path: &str, body: &Value) -> ChoreResult<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let talk = || -> std::io::Result<(bool, Value)> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        // It keeps connections open, whatever the request says.
        let mut stream = BufReader::new(stream);
        let (mut is_ok, mut length, mut line) = (false, 0, String::new());
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            is_ok |= line.starts_with("HTTP/1.1 200");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok((is_ok, serde_json::from_slice(&body)?))
    };
    let (is_ok, mut answer) = talk().map_err(|error| format!("{method} {path}: {error}"))?;
    let value = answer["value"].take();
    if is_ok { Ok(value) } else { Err(format!("{method} {path}: {value}")) }
}
