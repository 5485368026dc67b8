//! Splits a text into CloudWatch Logs events at line ends, as AWS's agent does.

use super::Form;
use crate::time::WallTime;
use anstream::adapter::strip_bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Maximum bytes of text in one event.
const TEXT: usize = 200_000;
/// The same for an event in JSON.
const LINES: usize = 33_000;
/// Maximum JSON events in one call.
const LINES_A_CALL: usize = 4;
/// Maximum text events in one call: five would make a megabyte, the limit of a call.
const TEXTS_A_CALL: usize = 4;

/// Context of a JSON event, besides its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventContext {
    /// The session.
    pub session: String,
    /// The target that the client asked for.
    pub target: String,
    /// ARN of the person who started the session.
    pub owner: String,
    /// The user that the session runs as in the container.
    pub user: String,
    /// The Region in the agent's config.
    pub region: String,
}

/// The events of the next call, and how many bytes of the text they use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventBatch {
    /// One message per event.
    pub messages: Vec<String>,
    /// Bytes of the text used.
    pub bytes: usize,
}

/// Maximum bytes of a text that [`batch`] uses.
pub const MOST: usize = TEXT * TEXTS_A_CALL;

/// Takes the beginning of a text. An unfinished line is left for later unless the text has ended
/// (`is_all`) or no more of the line would fit.
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
        // The service rejects events without text.
        batch.messages.extend(Some(message).filter(|message| !message.is_empty()));
    }
    batch
}

/// Returns where an event of at most `most` bytes ends: after a line, otherwise between characters.
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
    // UTF-8 continuation bytes. Text that is not UTF-8 is cut anywhere.
    let goes_on = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (0..4).map(|back| most - back).find(|at| !goes_on(at)).unwrap_or(most)
}

/// The text with line ends that CloudWatch Logs shows well. Invalid UTF-8 becomes `?`, so that the
/// text does not outgrow one call.
fn plain(text: &[u8]) -> String {
    let shown: String = text
        .utf8_chunks()
        .flat_map(|chunk| [chunk.valid(), if chunk.invalid().is_empty() { "" } else { "?" }])
        .collect();
    shown.replace("\r\n", "\n")
}

/// One JSON event, without terminal control sequences.
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
        // The end of the text flushes the rest.
        let rest = of(&text[batch.bytes..], true, Form::Json);
        assert_eq!(data(&rest.messages[0]), json!(["$ not yet"]));
        assert_eq!(of(b"", true, Form::Json), EventBatch::default());
    }

    #[test]
    fn text_is_cut_behind_lines_and_characters() {
        // Mixes lines with text that has none: all limits hold and nothing is lost.
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
                    // Limit of one call to CloudWatch Logs.
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
