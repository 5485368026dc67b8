//! A text on its way into events of CloudWatch Logs, cut where lines end, as AWS's agent does it.

use super::Form;
use crate::time::WallTime;
use anstream::adapter::strip_bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Most bytes of the text that one event has.
const TEXT: usize = 200_000;
/// The same of an event in JSON.
const LINES: usize = 33_000;
/// Events in JSON of one call.
const LINES_A_CALL: usize = 4;
/// The same of text: five make a megabyte, which is all that a call takes.
const TEXTS_A_CALL: usize = 4;

/// What an event in JSON says beside the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventContext {
    /// The session.
    pub session: String,
    /// What its client asked to be connected to.
    pub target: String,
    /// Who has begun it, as an ARN.
    pub owner: String,
    /// As whom it runs in the container.
    pub user: String,
    /// The Region that its agent is configured for.
    pub region: String,
}

/// The next call: messages of its events, and how many bytes of the text are in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventBatch {
    /// One each.
    pub messages: Vec<String>,
    /// Of the text.
    pub bytes: usize,
}

/// The most bytes of a text that [`batch`] makes use of.
pub const MOST: usize = TEXT * TEXTS_A_CALL;

/// Takes the beginning of a text. What may go on, a line that has no end yet, is left where the text has not
/// ended (`is_all`) and there is room for more of it.
#[must_use]
pub fn batch(
    text: &[u8],
    is_all: bool,
    form: Form,
    context: &EventContext,
    now: WallTime,
) -> EventBatch {
    let (size, events) = match form {
        Form::Json => (LINES, LINES_A_CALL),
        Form::AtEnd | Form::Text => (TEXT, TEXTS_A_CALL),
    };
    let mut batch = EventBatch::default();
    while batch.messages.len() < events {
        let rest = &text[batch.bytes..];
        let end = cut(rest, size, is_all);
        if end == 0 {
            break;
        }
        batch.bytes += end;
        let message = match form {
            Form::Json => lines(&rest[..end], context, now),
            Form::AtEnd | Form::Text => plain(&rest[..end]),
        };
        // The service takes no event without a text.
        batch.messages.extend(Some(message).filter(|message| !message.is_empty()));
    }
    batch
}

/// Where an event of at most so many bytes ends: behind a line, else behind a character.
fn cut(text: &[u8], most: usize, is_all: bool) -> usize {
    if is_all && text.len() <= most {
        return text.len();
    }
    let window = &text[..most.min(text.len())];
    if let Some(end) = window.iter().rposition(|byte| *byte == b'\n') {
        return end + 1;
    }
    if window.len() < most {
        return 0;
    }
    // Bytes that go on with a character; text that is none is cut anywhere.
    let goes_on = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (0..4).map(|back| most - back).find(|at| !goes_on(at)).unwrap_or(most)
}

/// As it is, with the ends of lines that CloudWatch Logs shows well. What is no text becomes `?`, so that it does not
/// grow beyond what one call takes.
fn plain(text: &[u8]) -> String {
    let shown: String = text
        .utf8_chunks()
        .flat_map(|chunk| [chunk.valid(), if chunk.invalid().is_empty() { "" } else { "?" }])
        .collect();
    shown.replace("\r\n", "\n")
}

/// One line of JSON, with what is for a terminal alone taken out.
fn lines(text: &[u8], context: &EventContext, now: WallTime) -> String {
    let shown = strip_bytes(text).into_vec();
    let shown = String::from_utf8_lossy(&shown).replace('\t', " ").replace('\r', "");
    let lines: Vec<&str> = shown.strip_suffix('\n').unwrap_or(&shown).split('\n').collect();
    json!({
        "eventVersion": "1.0",
        "eventTime": now.to_string(),
        "awsRegion": context.region,
        "target": {"id": context.target},
        "userIdentity": {"arn": context.owner},
        "runAsUser": context.user,
        "sessionId": context.session,
        "sessionData": lines,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const NOW: WallTime = WallTime(1_700_000_000_000_000);

    fn of(text: &[u8], is_all: bool, form: Form) -> EventBatch {
        let context = EventContext {
            session: "ann-1".to_owned(),
            target: "codebuild:x".to_owned(),
            owner: "arn:aws:iam::000000000000:user/ann".to_owned(),
            user: "root".to_owned(),
            region: "us-east-1".to_owned(),
        };
        batch(text, is_all, form, &context, NOW)
    }

    fn data(message: &str) -> Value {
        serde_json::from_str::<Value>(message).expect("JSON")["sessionData"].clone()
    }

    #[test]
    fn lines_in_json_are_bare() {
        let text = b"\x1b[1;32m$ \x1b[0mls\ta\r\nb\x07\r\n\x1b]0;title\x07c\r\n$ not yet";
        let batch = of(text, false, Form::Json);
        assert_eq!(batch.bytes, text.len() - "$ not yet".len());
        let [message] = &batch.messages[..] else { panic!("{batch:?}") };
        assert_eq!(data(message), json!(["$ ls a", "b", "c"]));
        let event: Value = serde_json::from_str(message).expect("JSON");
        assert!(event["eventTime"].as_str().is_some_and(|time| time.ends_with('Z')), "{event}");
        assert_eq!(event["userIdentity"]["arn"], "arn:aws:iam::000000000000:user/ann");
        // The rest goes with the end.
        let rest = of(&text[batch.bytes..], true, Form::Json);
        assert_eq!(data(&rest.messages[0]), json!(["$ not yet"]));
        assert_eq!(of(b"", true, Form::Json), EventBatch::default());
    }

    #[test]
    fn text_is_cut_behind_lines_and_characters() {
        // Lines, and what has none: by turns within all limits, and nothing is lost.
        let mut texts: Vec<Vec<u8>> =
            vec![b"x\r\n".repeat(200_000), "\u{20ac}".repeat(150_000).into_bytes()];
        texts.push([&b"y".repeat(400_001)[..], b"\nend"].concat());
        texts.push(vec![0xff; 300_000]);
        for text in &texts {
            for form in [Form::Text, Form::AtEnd, Form::Json] {
                let (mut done, mut shown) = (0, String::new());
                while done < text.len() {
                    let window = &text[done..(done + MOST).min(text.len())];
                    let batch = of(window, done + window.len() == text.len(), form);
                    assert!(batch.bytes > 0 && batch.messages.len() <= 4);
                    done += batch.bytes;
                    // Most that one call of CloudWatch Logs takes.
                    let size: usize = batch.messages.iter().map(|it| it.len() + 26).sum();
                    assert!(form == Form::Json || size <= 1 << 20, "{size}");
                    for message in batch.messages {
                        assert!(message.len() <= 3 * TEXT);
                        assert!(
                            !message.contains('\u{fffd}') || text[0] == 0xff,
                            "a cut character"
                        );
                        shown.push_str(&message);
                    }
                }
                if form != Form::Json && text[0] != 0xff {
                    let wanted = String::from_utf8_lossy(text).replace("\r\n", "\n");
                    assert!(shown == wanted, "{} {}", shown.len(), wanted.len());
                }
            }
        }
    }

    #[test]
    fn a_line_that_may_go_on_waits() {
        for form in [Form::Text, Form::Json] {
            assert_eq!(of(b"no end", false, form), EventBatch::default());
            assert_eq!(of(b"one\ntwo", false, form).bytes, 4);
        }
    }
}
