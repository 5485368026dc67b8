//! The channel with a client that behaves like the real one.

use super::*;
use crate::ssm::cipher::tests::{of_agent, of_client};
use crate::ssm::message::{encode, parse};

const ROOM: Room = Room { to_answer: true, for_input: true };

fn at(ms: u64) -> Now {
    Now { since: Duration::from_millis(ms), wall_ms: 1_700_000_000_000 + ms }
}

fn config(kind: SessionType, properties: Value) -> ChannelConfig {
    ChannelConfig {
        session: "alice-1".to_owned(),
        target: "codebuild:x".to_owned(),
        kind,
        properties,
        message: String::new(),
        seed: [7; 16],
        key: None,
        is_held: false,
    }
}

fn channel(kind: SessionType, properties: Value) -> DataChannel {
    DataChannel::new(config(kind, properties))
}

fn client(sequence: i64, payload: Payload, body: &[u8]) -> Vec<u8> {
    let head = MessageHeader {
        kind: MessageKind::Input,
        sequence,
        flags: 0,
        id: Id([9; 16]),
        payload,
        created_ms: 1,
    };
    encode(&head, body)
}

fn ack(sequence: i64) -> Vec<u8> {
    let head = MessageHeader {
        kind: MessageKind::Acknowledge,
        sequence: 0,
        flags: 3,
        id: Id([9; 16]),
        payload: Payload::None,
        created_ms: 1,
    };
    encode(&head, format!("{{\"AcknowledgedMessageSequenceNumber\":{sequence}}}").as_bytes())
}

/// The outgoing messages, in words.
fn sent(channel: &mut DataChannel) -> Vec<String> {
    std::iter::from_fn(|| channel.next_outgoing())
        .map(|frame| {
            let message = parse(&frame).expect("sound");
            let text = String::from_utf8_lossy(message.body);
            match message.kind {
                MessageKind::Acknowledge => {
                    let acknowledged: Acknowledged =
                        serde_json::from_slice(message.body).expect("sound");
                    format!("ack {}", acknowledged.sequence)
                }
                MessageKind::ChannelClosed => {
                    let body: Value = serde_json::from_slice(message.body).expect("JSON");
                    assert!(body["CreatedDate"].is_string() && body["SchemaVersion"] == 1);
                    format!("closed {}", body["Output"].as_str().expect("a text"))
                }
                _ if message.payload == Payload::Bytes => format!("{} {text}", message.sequence),
                _ => format!("{} {:?}", message.sequence, message.payload),
            }
        })
        .collect()
}

fn response(version: &str) -> Vec<u8> {
    let body = format!(
        "{{\"ClientVersion\":\"{version}\",\"ProcessedClientActions\":[{{\"ActionType\":\
         \"SessionType\",\"ActionStatus\":1}}]}}"
    );
    client(0, Payload::HandshakeResponse, body.as_bytes())
}

fn open(kind: SessionType, properties: Value) -> DataChannel {
    let mut channel = channel(kind, properties);
    channel.attach(at(0));
    assert_eq!(sent(&mut channel), ["0 HandshakeRequest"]);
    channel.receive(&ack(0), at(1), ROOM);
    let events = channel.receive(&response("1.2.0.0"), at(2), ROOM);
    assert!(matches!(events[..], [ChannelEvent::Ready(_)]), "{events:?}");
    // The acknowledgement precedes the end of the handshake.
    assert_eq!(sent(&mut channel), ["ack 0", "1 HandshakeComplete"]);
    channel.receive(&ack(1), at(3), ROOM);
    channel
}

fn shell() -> DataChannel {
    open(SessionType::StandardStream, Value::Null)
}

#[test]
fn a_shell_from_beginning_to_end() {
    let mut channel = shell();
    let size =
        channel.receive(&client(1, Payload::Size, b"{\"cols\":80,\"rows\":24}"), at(4), ROOM);
    assert_eq!(size, [ChannelEvent::Size { rows: 24, cols: 80 }]);
    let typed = channel.receive(&client(2, Payload::Bytes, b"ls\n"), at(5), ROOM);
    assert_eq!(typed, [ChannelEvent::Bytes(b"ls\n".to_vec())]);
    channel.number(Payload::Bytes, b"file\r\n", at(6));
    channel.number(Payload::Bytes, b"", at(6));
    assert_eq!(sent(&mut channel), ["ack 1", "ack 2", "2 file\r\n"]);
    assert!(!channel.is_drained());
    channel.receive(&ack(2), at(7), ROOM);
    assert!(channel.is_drained());
    channel.close("", at(8));
    assert_eq!(sent(&mut channel), ["closed "]);
    assert_eq!(channel.receive(&client(3, Payload::Bytes, b"x"), at(9), ROOM), []);
    assert_eq!(sent(&mut channel), [""; 0]);
}

#[test]
fn an_acknowledgement_travels_with_the_echo() {
    let mut channel = shell();
    channel.receive(&client(1, Payload::Bytes, b"l"), at(10), ROOM);
    assert!(!channel.is_pressing(at(10)) && !channel.is_pressing(at(11)));
    channel.number(Payload::Bytes, b"l", at(11));
    assert!(channel.is_pressing(at(11)));
    assert_eq!(sent(&mut channel), ["ack 1", "2 l"]);
    channel.receive(&ack(2), at(12), ROOM);
    // Without output, the acknowledgement is sent alone, in time.
    channel.receive(&client(2, Payload::Bytes, b"s"), at(20), ROOM);
    assert!(!channel.is_pressing(at(21)));
    assert_eq!(channel.deadline(), Some(at(22).since));
    assert!(channel.is_pressing(at(22)));
    assert_eq!(sent(&mut channel), ["ack 2"]);
    assert_eq!(channel.deadline(), None);
    // Many acknowledgements do not wait.
    for sequence in 3..11 {
        assert!(!channel.is_pressing(at(30)));
        channel.receive(&client(sequence, Payload::Bytes, b"x"), at(30), ROOM);
    }
    assert!(channel.is_pressing(at(30)));
    assert_eq!(sent(&mut channel).len(), 8);
}

#[test]
fn sizes_are_made_to_fit() {
    let mut channel = shell();
    for (n, (text, wanted)) in [
        (r#"{"cols":0,"rows":0}"#, Some((1, 1))),
        (r#"{"cols":4000000000,"rows":70000}"#, Some((65535, 65535))),
        (r#"{"cols":-1,"rows":1}"#, None),
        ("", None),
    ]
    .into_iter()
    .enumerate()
    {
        let n = i64::try_from(n).expect("small") + 1;
        let events = channel.receive(&client(n, Payload::Size, text.as_bytes()), at(9), ROOM);
        let wanted = wanted.map(|(rows, cols)| ChannelEvent::Size { rows, cols });
        assert_eq!(events.into_iter().next(), wanted, "{text}");
    }
}

#[test]
fn reordered_duplicated_and_harmed_input() {
    let mut channel = shell();
    let message = |n: i64| client(n, Payload::Bytes, format!("{n}").as_bytes());
    assert_eq!(channel.receive(&message(3), at(4), ROOM), []);
    assert_eq!(channel.receive(&message(2), at(4), ROOM), []);
    let mut harmed = message(1);
    harmed[120] = b'x';
    assert_eq!(channel.receive(&harmed, at(4), ROOM), []);
    let all = channel.receive(&message(1), at(4), ROOM);
    assert_eq!(all, [b"1", b"2", b"3"].map(|text| ChannelEvent::Bytes(text.to_vec())));
    assert_eq!(channel.receive(&message(1), at(4), ROOM), []);
    // The damaged message is not acknowledged; a duplicate is acknowledged again.
    assert_eq!(sent(&mut channel), ["ack 3", "ack 2", "ack 1", "ack 1"]);
}

#[test]
fn a_program_that_takes_nothing() {
    let mut channel = shell();
    let full = Room { to_answer: true, for_input: false };
    let message = client(1, Payload::Bytes, b"x");
    assert_eq!(channel.receive(&message, at(4), full), []);
    assert_eq!(sent(&mut channel), [""; 0]);
    // Messages other than input get through, for example the one that ends the session.
    let stuck = Room { to_answer: false, for_input: false };
    assert_eq!(channel.receive(&client(1, Payload::Flag, &[0, 0, 0, 2]), at(4), stuck), []);
    let ended = channel.receive(&client(1, Payload::Flag, &[0, 0, 0, 2]), at(4), full);
    assert_eq!(ended, [ChannelEvent::Terminate]);
}

#[test]
fn another_socket_goes_on_where_the_last_has_ended() {
    let mut channel = shell();
    channel.number(Payload::Bytes, b"one", at(4));
    assert_eq!(sent(&mut channel), ["2 one"]);
    channel.detach();
    channel.number(Payload::Bytes, b"two", at(5));
    channel.tick(at(5000));
    assert_eq!(sent(&mut channel), [""; 0]);
    assert_eq!(channel.deadline(), None);
    // There is no second handshake, and the numbers go on.
    channel.attach(at(6000));
    assert_eq!(sent(&mut channel), ["2 one", "3 two"]);
    channel.receive(&ack(3), at(6001), ROOM);
    channel.tick(channel_deadline(&channel));
    assert_eq!(sent(&mut channel), ["2 one"]);
    let typed = channel.receive(&client(1, Payload::Bytes, b"x"), at(6100), ROOM);
    assert_eq!(typed, [ChannelEvent::Bytes(b"x".to_vec())]);
}

fn channel_deadline(channel: &DataChannel) -> Now {
    let since = channel.deadline().expect("something is not acknowledged");
    Now { since, wall_ms: 1 }
}

#[test]
fn a_multiplexing_client_is_left_alone_until_it_speaks() {
    let properties = json!({"portNumber": "80", "type": "LocalPortForwarding"});
    let mut channel = channel(SessionType::Port, properties);
    channel.attach(at(0));
    channel.receive(&response("1.2.0.0"), at(1), ROOM);
    assert_eq!(sent(&mut channel), ["0 HandshakeRequest", "ack 0", "1 HandshakeComplete"]);
    // Not even unacknowledged messages, or the answer to a repeated request.
    channel.tick(at(60_000));
    channel.receive(&response("1.2.0.0"), at(60_000), ROOM);
    assert_eq!((channel.deadline(), channel.room()), (None, 0));
    assert_eq!(sent(&mut channel), [""; 0]);
    let first = channel.receive(&client(1, Payload::Bytes, b"\x01"), at(60_001), ROOM);
    assert_eq!(first, [ChannelEvent::Bytes(vec![1])]);
    assert!(channel.room() > 0);
    assert_eq!(sent(&mut channel), ["ack 1"]);
    // With an old client, there is only one connection, and the server may send first.
    let properties = json!({"portNumber": "80", "type": "LocalPortForwarding"});
    let mut old = self::channel(SessionType::Port, properties);
    old.attach(at(0));
    old.receive(&response("1.1.40.0"), at(1), ROOM);
    assert!(old.room() > 0);
}

#[test]
fn a_client_that_never_acknowledges_costs_no_more_than_the_window() {
    let mut channel = shell();
    let mut sent_bytes = 0;
    while channel.room() > 0 {
        let piece = vec![b'x'; channel.room()];
        sent_bytes += piece.len();
        channel.number(Payload::Bytes, &piece, at(4));
    }
    assert!(sent_bytes <= super::super::sender::MAX_BYTES + MAX_OUTPUT);
    sent(&mut channel);
    // The request is repeated less and less often.
    let mut times = 0;
    for ms in (0..60_000).step_by(100) {
        channel.tick(at(ms));
        times += usize::from(!sent(&mut channel).is_empty());
    }
    assert!((10..40).contains(&times), "{times}");
}

#[test]
fn input_before_the_handshake_and_a_client_that_refuses() {
    let mut channel = channel(SessionType::NonInteractiveCommands, Value::Null);
    channel.attach(at(0));
    sent(&mut channel);
    assert_eq!(channel.receive(&client(0, Payload::Bytes, b"early"), at(1), ROOM), []);
    assert_eq!(sent(&mut channel), ["ack 0"]);
    assert_eq!(channel.room(), 0);
    let no = br#"{"ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":2,"Error":"no"}]}"#;
    let events = channel.receive(&client(1, Payload::HandshakeResponse, no), at(2), ROOM);
    assert_eq!(events, [ChannelEvent::Failed("no".to_owned())]);
}

#[test]
fn a_client_that_knows_of_no_handshake() {
    let mut channel = channel(SessionType::StandardStream, Value::Null);
    channel.attach(at(0));
    sent(&mut channel);
    let size = client(0, Payload::Size, br#"{"cols":80,"rows":24}"#);
    let events = channel.receive(&size, at(1), ROOM);
    let size = ChannelEvent::Size { rows: 24, cols: 80 };
    assert_eq!(events, [ChannelEvent::Ready(ClientVersion::default()), size]);
    assert_eq!(sent(&mut channel), ["ack 0"]);
    channel.number(Payload::Bytes, b"$ ", at(2));
    assert_eq!(sent(&mut channel), ["1 $ "]);
}

/// A client with a single connection handles nothing before somebody connects to it. So an
/// acknowledgement of a later message does not prove that an earlier one was handled.
#[test]
fn a_client_whose_connection_is_not_made_yet() {
    let properties = json!({"portNumber": "80", "type": "LocalPortForwarding"});
    let mut channel = channel(SessionType::Port, properties);
    channel.attach(at(0));
    channel.receive(&ack(0), at(1), ROOM);
    channel.receive(&response("1.1.40.0"), at(1), ROOM);
    channel.receive(&ack(1), at(2), ROOM);
    channel.number(Payload::Bytes, b"one", at(3));
    channel.detach();
    channel.attach(at(4));
    channel.tick(channel_deadline(&channel));
    sent(&mut channel);
    channel.number(Payload::Bytes, b"two", at(5000));
    channel.receive(&ack(3), at(5001), ROOM);
    assert_eq!(sent(&mut channel), ["3 two"]);
    channel.tick(channel_deadline(&channel));
    assert_eq!(sent(&mut channel), ["2 one"]);
}

/// An encrypted session up to the data key, and the client's response.
fn keyed() -> DataChannel {
    let key = KmsKey { id: "k".to_owned(), challenge: "cmFuZG9t".to_owned() };
    let mut channel = DataChannel::new(ChannelConfig {
        key: Some(key),
        is_held: true,
        ..config(SessionType::StandardStream, Value::Null)
    });
    channel.attach(at(0));
    assert_eq!(sent(&mut channel), ["0 HandshakeRequest"]);
    let body = r#"{"ClientVersion":"1.2.0.0","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":1},
        {"ActionType":"KMSEncryption","ActionStatus":1,"ActionResult":{"KMSCipherTextKey":"a2V5"}}]}"#;
    let answer = client(0, Payload::HandshakeResponse, body.as_bytes());
    let events = channel.receive(&answer, at(1), ROOM);
    let key = DataKey { sealed: b"key".to_vec(), has_challenge: false };
    assert_eq!(events, [ChannelEvent::Key(key)]);
    channel.encrypt(of_agent(), b"proof", at(2));
    channel
}

/// The body of the last outgoing message.
fn last_body(channel: &mut DataChannel) -> Vec<u8> {
    let frames: Vec<Bytes> = std::iter::from_fn(|| channel.next_outgoing()).collect();
    parse(frames.last().expect("a frame")).expect("sound").body.to_vec()
}

#[test]
fn an_encrypted_session() {
    let (mut channel, mut peer) = (keyed(), of_client());
    let asked = last_body(&mut channel);
    let mut proof =
        peer.open(&handshake::challenge_response(&asked).expect("a challenge")).expect("ours");
    assert_eq!(proof, b"proof");
    peer.seal(&mut proof, 0);
    let answer = handshake::challenge(&proof);
    let answer = client(1, Payload::ChallengeResponse, answer.as_bytes());
    // A repeated response cannot end the handshake early.
    assert_eq!(channel.complete("early", at(3)), None);
    assert_eq!(channel.receive(&answer, at(3), ROOM), [ChannelEvent::Answered]);
    let ready = channel.complete("This session is encrypted using AWS KMS.", at(4));
    assert!(matches!(ready, Some(ChannelEvent::Ready(_))));
    let complete = String::from_utf8(last_body(&mut channel)).expect("a text");
    assert!(complete.contains("encrypted using AWS KMS"), "{complete}");
    channel.number(Payload::Bytes, b"shown", at(5));
    let shown = last_body(&mut channel);
    assert_eq!(peer.open(&shown).as_deref(), Some(&b"shown"[..]));
    // A resent message is identical.
    channel.tick(at(2_000));
    assert_eq!(last_body(&mut channel), shown);
    let mut typed = b"typed".to_vec();
    peer.seal(&mut typed, 0);
    let events = channel.receive(&client(2, Payload::Bytes, &typed), at(2_001), ROOM);
    assert_eq!(events, [ChannelEvent::Bytes(b"typed".to_vec())]);
    // The terminal's size is not encrypted. Unencrypted input ends the session.
    let size = client(3, Payload::Size, br#"{"rows":24,"cols":80}"#);
    assert_eq!(
        channel.receive(&size, at(2_002), ROOM),
        [ChannelEvent::Size { rows: 24, cols: 80 }]
    );
    let events = channel.receive(&client(4, Payload::Bytes, b"clear"), at(2_003), ROOM);
    assert!(
        matches!(&events[..], [ChannelEvent::Failed(why)] if why.contains("decrypted")),
        "{events:?}"
    );
}

#[test]
fn clients_without_the_key() {
    for sealed in [&b"nonsense"[..], b""] {
        let mut channel = keyed();
        let answer = handshake::challenge(sealed);
        let answer = client(1, Payload::ChallengeResponse, answer.as_bytes());
        let events = channel.receive(&answer, at(3), ROOM);
        assert!(
            matches!(&events[..], [ChannelEvent::Failed(why)] if why.contains("has the session's key"))
        );
        assert_eq!(channel.phase(), ChannelPhase::Handshake);
    }
    // A client that begins unencrypted, and one that has not created a key.
    let mut secret = config(SessionType::StandardStream, Value::Null);
    secret.key = Some(KmsKey { id: "k".to_owned(), challenge: String::new() });
    for message in [client(0, Payload::Bytes, b"id"), response("1.2.0.0")] {
        let mut channel = DataChannel::new(secret.clone());
        channel.attach(at(0));
        let events = channel.receive(&message, at(1), ROOM);
        assert!(matches!(&events[..], [ChannelEvent::Failed(_)]), "{events:?}");
    }
}

#[test]
fn a_session_that_does_not_begin_at_once() {
    let held = ChannelConfig { is_held: true, ..config(SessionType::StandardStream, Value::Null) };
    let mut channel = DataChannel::new(held.clone());
    channel.attach(at(0));
    assert_eq!(channel.receive(&response("1.2.0.0"), at(1), ROOM), [ChannelEvent::Answered]);
    assert_eq!((channel.phase(), channel.room()), (ChannelPhase::Handshake, 0));
    assert!(matches!(channel.complete("word", at(2)), Some(ChannelEvent::Ready(_))));
    assert_eq!(channel.complete("word", at(2)), None);
    // Input from a client that skips the handshake is kept until its session begins.
    let mut channel = DataChannel::new(held);
    channel.attach(at(0));
    sent(&mut channel);
    let size = client(0, Payload::Size, br#"{"rows":1,"cols":2}"#);
    assert_eq!(channel.receive(&size, at(1), ROOM), [ChannelEvent::Answered]);
    assert_eq!(channel.receive(&size, at(2), ROOM), []);
    assert_eq!(channel.receive(&client(1, Payload::Bytes, b"id"), at(2), ROOM), []);
    assert_eq!(channel.caught_up(at(2)).len(), 0);
    assert!(matches!(channel.complete("", at(3)), Some(ChannelEvent::Ready(_))));
    let typed = ChannelEvent::Bytes(b"id".to_vec());
    assert_eq!(channel.caught_up(at(3)), [ChannelEvent::Size { rows: 1, cols: 2 }, typed]);
    assert_eq!(channel.caught_up(at(3)), []);
}
