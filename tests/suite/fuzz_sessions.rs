//! Hostile bytes for the parsers of sessions and of AWS's calls: messages, handshake, multiplexing,
//! CBOR.

use super::fuzz::{Random, mutate, rounds};
use crate::common::cases;
use crate::common::channel::head;
use runner_wire::ssm::channel::{ChannelConfig, Now, Room};
use runner_wire::ssm::handshake::{self, SessionType};
use runner_wire::ssm::message::{encode, parse};
use runner_wire::ssm::{ChannelPhase, DataChannel, HEADER_LEN, MessageKind, Payload};
use runner_wire::{cbor, smux};
use serde_json::{Value, json};
use std::time::Duration;

cases! {
    [] => channels_survive_everything, handshakes, multiplexing_is_cut_anywhere, cbor_bodies;
}

const RESPONSE: &[u8] = br#"{"ClientVersion":"1.2.0.0","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":1,"ActionResult":null,"Error":""}],"Errors":null}"#;

/// Whatever a client sends in any order: every answer is valid, and buffers are bounded.
fn channels_survive_everything() {
    let mut random = Random(0x55E);
    for round in 0..rounds() {
        let kinds = [
            (SessionType::StandardStream, Value::Null),
            (SessionType::NonInteractiveCommands, Value::Null),
            (SessionType::Port, json!({"portNumber": "1", "type": "LocalPortForwarding"})),
            (SessionType::Port, json!({"portNumber": "1"})),
        ];
        let (kind, properties) = kinds[random.below(kinds.len())].clone();
        let (session, target) = ("s".to_owned(), "t".to_owned());
        let seed = [random.next() as u8; 16];
        let message = String::new();
        let mut channel = DataChannel::new(ChannelConfig {
            session,
            target,
            kind,
            properties,
            message,
            seed,
            key: None,
            is_held: false,
        });
        let mut time = Duration::ZERO;
        let (mut events, mut outgoing) = (0, 0);
        for step in 0..40 {
            time += Duration::from_millis(random.next() % 500);
            let now = Now { since: time, wall_ms: 1 };
            let sequence = match random.below(8) {
                0 => random.next().cast_signed(),
                _ => i64::try_from(random.below(step + 2)).unwrap(),
            };
            let payload =
                [Payload::Bytes, Payload::Size, Payload::HandshakeResponse, Payload::Flag]
                    [random.below(4)];
            let mut body = match payload {
                Payload::Size => br#"{"cols":80,"rows":24}"#.to_vec(),
                Payload::HandshakeResponse => RESPONSE.to_vec(),
                Payload::Flag => vec![0, 0, 0, random.below(4) as u8],
                _ => random.bytes(200),
            };
            if random.below(4) == 0 {
                mutate(&mut random, &mut body);
            }
            let mut message = match random.below(4) {
                0 => {
                    let body = json!({"AcknowledgedMessageSequenceNumber": sequence}).to_string();
                    encode(&head(MessageKind::Acknowledge, 0, Payload::None), body.as_bytes())
                }
                _ => encode(&head(MessageKind::Input, sequence, payload), &body),
            };
            if random.below(4) == 0 {
                mutate(&mut random, &mut message);
            }
            let room = Room { to_answer: random.below(8) > 0, for_input: random.below(4) > 0 };
            match random.below(12) {
                0 => channel.attach(now),
                1 => channel.detach(),
                2 => channel.tick(now),
                3 if channel.room() > 0 => channel.number(Payload::Bytes, b"output", now),
                4 if random.below(10) == 0 => channel.close("over", now),
                _ => events += channel.receive(&message, now, room).len(),
            }
            assert!(events <= 80, "round {round}: {events} events of {step} messages");
            while let Some(frame) = channel.next_outgoing() {
                outgoing += frame.len();
                let sound = parse(&frame).unwrap_or_else(|error| panic!("round {round}: {error}"));
                assert!(!sound.body.is_empty(), "round {round}: an empty message");
            }
            assert!(channel.phase() != ChannelPhase::New || outgoing == 0, "round {round}");
        }
        assert!(outgoing < 1 << 20, "round {round}: {outgoing} bytes for 40 messages");
        let garbage = random.bytes(HEADER_LEN * 2);
        assert_eq!(
            channel.receive(&garbage, Now::default(), Room { to_answer: true, for_input: true }),
            []
        );
    }
}

fn handshakes() {
    let mut random = Random(0x4A2D);
    for round in 0..rounds() {
        let mut text = RESPONSE.to_vec();
        mutate(&mut random, &mut text);
        if let Err(reason) = handshake::response(&text) {
            assert!(!reason.is_empty(), "round {round}");
        }
    }
}

/// The same frames however the stream is cut; after invalid data an error, and no memory for what
/// is only announced.
fn multiplexing_is_cut_anywhere() {
    let mut random = Random(0x3117);
    for round in 0..rounds() {
        let mut stream = Vec::new();
        for _ in 0..random.below(8) {
            let id = random.next() as u32;
            match random.below(3) {
                0 => stream.extend(smux::close(id)),
                _ => {
                    let data = random.bytes(300);
                    stream.extend(smux::data_head(id, data.len()));
                    stream.extend(data);
                }
            }
        }
        if random.below(2) == 0 {
            mutate(&mut random, &mut stream);
        }
        let read = |cuts: &mut dyn FnMut(usize) -> usize| {
            let mut decoder = smux::SmuxDecoder::default();
            let (mut frames, mut rest) = (Vec::new(), stream.as_slice());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cuts(rest.len()));
                decoder.feed(piece);
                rest = after;
                loop {
                    match decoder.next_frame() {
                        Ok(Some(frame)) => frames.push(frame),
                        Ok(None) => break,
                        Err(error) => return (frames, Some(error)),
                    }
                }
            }
            (frames, None)
        };
        let whole = read(&mut |length| length);
        let cut = read(&mut |length| 1 + random.below(length));
        assert_eq!(whole, cut, "round {round}: {stream:?}");
    }
}

fn cbor_bodies() {
    let value = json!({
        "ids": ["demo:1", "demo:2"], "n": [1, -1, 1.5, u64::MAX, i64::MIN], "deep": [[[[{"a": null}]]]],
        "startTime": 1_700_000_000.25, "flag": true,
    });
    let mut random = Random(0xCB0);
    let is_time: fn(&str) -> bool = |name| name.ends_with("Time");
    let sound = cbor::encode(&value, is_time);
    assert_eq!(cbor::decode(&sound), Ok(value));
    for round in 0..rounds() {
        let mut bytes = if random.below(4) == 0 { random.bytes(64) } else { sound.clone() };
        mutate(&mut random, &mut bytes);
        if let Ok(read) = cbor::decode(&bytes) {
            // What was read can be written, and reads the same again.
            let written = cbor::encode(&read, |_| false);
            assert_eq!(cbor::decode(&written), Ok(read), "round {round}: {bytes:x?}");
        }
    }
}
