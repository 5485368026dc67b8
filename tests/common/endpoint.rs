//! AWS's own clients, and the endpoint that a bed's builds or `serve` offer.

use super::aws_cli;
use super::bed::{Bed, Outcome};
use super::process::Running;
use super::{clients, project, python};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

/// An endpoint as clients see it.
pub(crate) struct Endpoint {
    /// `HOST:PORT`.
    pub(crate) address: String,
    credentials: String,
}

impl Endpoint {
    /// The endpoint named in a paused build's notice.
    pub(crate) fn of_notice(running: &Running) -> Self {
        let text = running.stderr.text();
        let word_after = |name: &str| {
            let (_, rest) = text.split_once(name).unwrap_or_else(|| panic!("no {name} in {text}"));
            rest.split_whitespace().next().unwrap().to_owned()
        };
        Endpoint {
            address: word_after("--endpoint-url http://"),
            credentials: word_after("AWS_SHARED_CREDENTIALS_FILE="),
        }
    }

    /// The endpoint of a `runner serve` in this bed.
    pub(crate) fn serve(bed: &Bed, options: &[&str]) -> (Self, Running) {
        Self::serve_at(bed, "127.0.0.1:0", options)
    }

    /// The same at a given address.
    pub(crate) fn serve_at(bed: &Bed, address: &str, options: &[&str]) -> (Self, Running) {
        let mut arguments = vec!["serve", "--listen", address];
        arguments.extend(options);
        let running = Running::spawn(bed.command(arguments));
        running.stderr.wait_for("credentials: ");
        let text = running.stderr.text();
        let (_, rest) = text.split_once("listening on http://").unwrap();
        let address = rest.split_whitespace().next().unwrap().to_owned();
        let credentials = bed.home().join("aws-credentials").to_str().unwrap().to_owned();
        (Endpoint { address, credentials }, running)
    }

    /// AWS's CLI with this endpoint's address.
    pub(crate) fn aws(&self, bed: &Bed, arguments: &[&str]) -> Command {
        let mut command = bed.other(python("aws").to_str().unwrap());
        self.surround(&mut command);
        command.args(arguments);
        command
    }

    /// AWS's CLI with a stand-in for its plugin (`tests/clients`), which gets `typed` as input.
    pub(crate) fn aws_with_clients(&self, bed: &Bed, arguments: &[&str], typed: &str) -> Command {
        let mut command = self.aws(bed, arguments);
        let programs = project().join("tests/clients");
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display()));
        command.env("NODE_PATH", clients());
        command.env("TYPED", typed);
        command
    }

    /// Passes its address and keys to a program.
    pub(crate) fn surround(&self, command: &mut Command) {
        command
            .env("AWS_SHARED_CREDENTIALS_FILE", &self.credentials)
            .env("AWS_PROFILE", "runner")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.address))
            .env("AWS_EC2_METADATA_DISABLED", "true");
    }

    /// Runs AWS's CLI, which must succeed. Returns its output.
    #[track_caller]
    pub(crate) fn ask(&self, bed: &Bed, arguments: &[&str]) -> serde_json::Value {
        let answer = aws_cli::call(&self.aws(bed, arguments)).code(0);
        if answer.stdout.is_empty() {
            return serde_json::Value::Null;
        }
        serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{answer:?}"))
    }

    /// Runs AWS's CLI, which must be refused.
    #[track_caller]
    pub(crate) fn refuses(&self, bed: &Bed, arguments: &[&str]) -> Outcome {
        let answer = aws_cli::call(&self.aws(bed, arguments));
        assert_eq!(answer.code, 255, "{answer:?}");
        answer
    }

    /// Calls without a signature, as a program of this user may if that is allowed.
    pub(crate) fn call(&self, target: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
        let (status, text) = self.post(&[("X-Amz-Target", target)], &body.to_string());
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}")))
    }

    /// Sends a request exactly as given.
    pub(crate) fn post(&self, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let mut head = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("Connection: close\r\n\r\n");
        // A refusing server may disconnect before reading everything; its response can still be
        // read.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.unwrap_or_else(|| panic!("no answer: {text:?}")), body.to_owned())
    }
}
