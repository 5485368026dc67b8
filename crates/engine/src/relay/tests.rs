//! A lying relay can end the connection, and do nothing else to the runner.

use super::carrier::Carrier;
use crate::init::InitClient;
use crate::{ExecError, ExecSpec, Ids, OpenMode, Stdio};
use futures_util::{StreamExt, stream};
use runner_wire::abi::relay::{
    FILE, FIRST_SHIM, GIVEN, MAX_DATA, NOTHING, REPLY, SHIM, STREAM, WINDOW, channel,
};
use runner_wire::abi::{ABI_VERSION, Header, Pid1Reply, reply};
use runner_wire::init::Listener;
use runner_wire::relay::{credit, data, end, stop};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_secs(60);

/// Repeatable random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % below
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = usize::try_from(self.below(most as u64 + 1)).unwrap_or(0);
        vec![u8::try_from(self.below(256)).unwrap_or(0); length]
    }
}

fn word(kind: u32, id: u64, body: &[u8]) -> Vec<u8> {
    let body_len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&Header { body_len, kind, id }.to_bytes()[..], body].concat()
}

fn said(kind: u32, job: u64, a: u32, given: u32, rest: &[u8]) -> Vec<u8> {
    let reply = Pid1Reply { kind, a, id: job, b: 2 };
    let body = [&reply.to_bytes()[..], &given.to_le_bytes(), rest].concat();
    word(REPLY, channel(job, GIVEN), &body)
}

/// A random message that a relay could send about the jobs below, and now and then a mad one.
fn anything(random: &mut Random) -> Vec<u8> {
    let is_mad = random.below(20) == 0;
    let any = random.below(8);
    let one_of = |jobs: &[u64]| if is_mad { any } else { jobs[(any as usize) % jobs.len()] };
    let id = channel(one_of(&[1, 2, 3, 6]), random.below(4));
    let mut bytes = match random.below(if is_mad { 13 } else { 11 }) {
        0 => data(id, &random.bytes(MAX_DATA)),
        1..=3 => data(id, b"x"),
        4 => end(id),
        5 => stop(id),
        6 => said(reply::TERMINAL, one_of(&[3]), 0, STREAM, b""),
        7 => said(reply::OPENED, one_of(&[6]), 0, STREAM, b""),
        8 => {
            let contents = [&[0; 4][..], &random.bytes(3000)].concat();
            said(reply::OPENED, one_of(&[4, 5]), 0, FILE, &contents)
        }
        9 => said(reply::FAILED, one_of(&[1, 2, 4]), 1, NOTHING, b""),
        10 => said(reply::ALL_GONE, one_of(&[7]), 0, NOTHING, b""),
        11 => credit(id, 1 + usize::try_from(random.below(WINDOW as u64)).unwrap_or(0)),
        _ => word(SHIM, FIRST_SHIM + random.below(3), b""),
    };
    if random.below(8) == 0 {
        bytes = said(reply::EXITED, one_of(&[1, 2, 3]), 0, NOTHING, b"");
    }
    if is_mad && !bytes.is_empty() {
        let at = usize::try_from(random.below(bytes.len() as u64)).unwrap_or(0);
        bytes[at] ^= 1 << random.below(8);
    }
    bytes
}

fn program(stdio: Stdio) -> ExecSpec {
    ExecSpec {
        argv: vec![b"/bin/true".to_vec()],
        path: Vec::new(),
        env: Vec::new(),
        cwd: b"/".to_vec(),
        cwd_or_root: true,
        user: Ids::default(),
        stdio,
        toolbox: false,
        of_build: false,
    }
}

/// Runs a program through a relay and waits for its end.
async fn run(init: &std::sync::Arc<InitClient>, stdio: Stdio) -> Result<(), ExecError> {
    let process = init.exec(&program(stdio), false).await?;
    process.exit.await.unwrap_or(Err(ExecError::ContainerGone)).map(drop)
}

#[test]
fn a_relay_that_lies_ends_the_connection_at_most() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for seed in 1..=400_u64 {
        runtime.block_on(async {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut lies = said(reply::HELLO, 0, ABI_VERSION, NOTHING, b"");
            let hello = lies.clone();
            lies.clear();
            for _ in 0..random.below(200) {
                lies.extend(anything(&mut random));
            }
            let piece = 1 + usize::try_from(random.below(5000)).unwrap_or(0);
            let mut pieces: Vec<_> = lies.chunks(piece).map(<[u8]>::to_vec).collect();
            pieces.insert(0, hello);
            let told = stream::iter(pieces).then(|piece| async {
                // Let the engine's requests run in between.
                tokio::task::yield_now().await;
                Ok::<_, io::Error>(piece)
            });
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            Carrier::start(theirs, tokio::io::sink(), Box::pin(told), None);
            let init = InitClient::greeted(ours).await.expect("greeted");
            let listener = Listener::Unix(b"/socket".to_vec());
            let asked = async {
                let _ = tokio::join!(
                    run(&init, Stdio::Merged),
                    run(&init, Stdio::Separate),
                    run(&init, Stdio::Terminal(24, 80)),
                    init.open(Path::new("/file"), OpenMode::Read),
                    init.open(Path::new("/file"), OpenMode::ReadWriteCreate),
                    init.dial(&listener),
                    init.signal_all(9),
                );
                init.gone().await;
            };
            // Every request is answered, or fails because the relay is gone.
            let answered = tokio::time::timeout(PATIENCE, asked).await;
            assert!(answered.is_ok(), "somebody waits for ever; seed {seed}");
        });
    }
}
