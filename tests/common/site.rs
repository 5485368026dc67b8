//! A web server that answers as a test specifies and records its requests.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Including the query.
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    /// The start of the requested range.
    pub(crate) from: usize,
}

/// A response.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
}

enum Body {
    Whole(Vec<u8>),
    /// Only this many bytes of it, although more are announced.
    Broken(Vec<u8>, usize),
    /// These bytes, repeated for ever.
    Endless(Vec<u8>),
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply { status, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    /// A reply whose body continues until the client disconnects.
    pub(crate) fn endless(status: u16, body: &[u8]) -> Self {
        let body = body.iter().copied().cycle().take(64 << 10).collect();
        Reply { status, headers: Vec::new(), body: Body::Endless(body) }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Reply::new(307, "").with("Location", to)
    }

    /// The same, broken off after this many bytes.
    pub(crate) fn broken_after(mut self, count: usize) -> Self {
        if let Body::Whole(body) = self.body {
            self.body = Body::Broken(body, count);
        }
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The server; it listens until the tests end.
pub(crate) struct Site {
    /// `HOST:PORT`.
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    sent: Arc<AtomicU64>,
}

impl Site {
    pub(crate) fn new(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1", answer)
    }

    /// At one of this machine's addresses.
    pub(crate) fn at(host: &str, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let site = Site { address, asked: Arc::default(), sent: Arc::default() };
        let (asked, sent, answer) = (site.asked.clone(), site.sent.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (asked, sent, answer) = (asked.clone(), sent.clone(), answer.clone());
                // A client may disconnect.
                let serve = move || serve(&stream.unwrap(), &asked, &sent, &*answer).ok();
                std::thread::spawn(serve);
            }
        });
        site
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Maximum number of bytes of endless bodies that it has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

fn serve(
    stream: &TcpStream,
    all: &Mutex<Vec<Asked>>,
    sent: &AtomicU64,
    answer: &(dyn Fn(&Asked) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut asked = Asked { path, authorization: None, from: 0 };
        line.clear();
        while reader.read_line(&mut line)? > 2 {
            let (name, value) = line.trim_end().split_once(": ").unwrap();
            match name.to_ascii_lowercase().as_str() {
                "authorization" => asked.authorization = Some(value.to_owned()),
                "range" => {
                    let from =
                        value.strip_prefix("bytes=").and_then(|range| range.split('-').next());
                    asked.from = from.and_then(|from| from.parse().ok()).unwrap();
                }
                _ => {}
            }
            line.clear();
        }
        line.clear();
        all.lock().unwrap().push(asked.clone());
        let reply = answer(&asked);
        let length = match &reply.body {
            Body::Whole(body) | Body::Broken(body, _) => Some(body.len()),
            Body::Endless(_) => None,
        };
        let mut head = format!("HTTP/1.1 {} Said\r\n", reply.status);
        if let Some(length) = length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut stream = stream;
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        match &reply.body {
            Body::Whole(body) => stream.write_all(body)?,
            Body::Broken(body, count) => return stream.write_all(&body[..*count]),
            Body::Endless(body) => loop {
                stream.write_all(body)?;
                sent.fetch_add(body.len() as u64, Ordering::Relaxed);
            },
        }
    }
    Ok(())
}
