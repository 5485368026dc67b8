//! Finds audit records, the newest first.
//!
//! Reads files backwards (`backwards`), piece by piece, and parses only lines that may match. A
//! page is limited in records and in bytes read: a search through a gigabyte takes many short calls
//! instead of a long one. A token holds the next page's start in each file, by the file's inode and
//! not by its name, which changes when segments are put aside.

use super::backwards::Backwards;
use super::segments::Segments;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io;

/// Most records on a page.
pub const MAX_FOUND: usize = 50;
/// Most bytes read for a page.
const MAX_READ: u64 = 64 << 20;

/// The attribute that records must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    EventId(String),
    EventName(String),
    ReadOnly(bool),
    Username(String),
    ResourceType(String),
    /// An ARN, or the part of it after the kind of resource.
    ResourceName(String),
    EventSource(String),
    AccessKeyId(String),
}

/// The conditions of a search.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    pub attribute: Option<Attribute>,
    /// Seconds since 1970; both ends count.
    pub from: Option<i64>,
    pub to: Option<i64>,
    /// 1 to [`MAX_FOUND`].
    pub most: usize,
    /// The start of the page, from the previous page's `next`.
    pub token: Option<String>,
}

/// A matching line.
pub(super) struct Matching {
    pub(super) text: String,
    pub(super) record: Value,
    /// Seconds since 1970.
    pub(super) time: i64,
}

/// A page of records.
#[derive(Debug)]
pub struct AuditPage {
    /// Each record as written, and parsed.
    pub records: Vec<(String, Value)>,
    /// The token of the next page, if there may be one.
    pub next: Option<String>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum AuditLookupError {
    #[error("the token is not of this lookup, or its records are gone")]
    Token,
    #[error("cannot read the audit: {0}")]
    Io(#[from] io::Error),
}

impl Lookup {
    pub(super) fn find(
        &self,
        done: &Segments,
        refused: &Segments,
    ) -> Result<AuditPage, AuditLookupError> {
        let mut lists = [Backwards::of(done)?, Backwards::of(refused)?];
        if let Some(token) = &self.token {
            self.go_to(token, &mut lists)?;
        }
        let mut budget = MAX_READ;
        let mut records = Vec::new();
        while records.len() < self.most {
            for list in &mut lists {
                list.peek(&mut budget, |line| self.parsed(line))?;
            }
            // One list's next record may be older than what the other still has to find.
            if !lists.iter().all(Backwards::is_settled) {
                break;
            }
            let [one, other] = &mut lists;
            let taken =
                if one.next_time() >= other.next_time() { one.take() } else { other.take() };
            let Some(found) = taken else { break };
            records.push((found.text, found.record));
        }
        let is_over = lists.iter().all(Backwards::is_over);
        Ok(AuditPage { records, next: (!is_over).then(|| self.token_at(&lists)) })
    }

    /// Parses a line and returns it if it matches.
    fn parsed(&self, line: &[u8]) -> Option<Matching> {
        if !self.may_match(line) {
            return None;
        }
        let text = std::str::from_utf8(line).ok()?;
        let record: Value = serde_json::from_str(text).ok()?;
        let time: Timestamp = record["eventTime"].as_str()?.parse().ok()?;
        let time = time.as_second();
        let matches = self.matches(&record, time);
        matches.then(|| Matching { text: text.to_owned(), record, time })
    }

    /// Whether a line can match, checked before parsing it.
    fn may_match(&self, line: &[u8]) -> bool {
        let text = match &self.attribute {
            None | Some(Attribute::ReadOnly(_)) => return true,
            Some(Attribute::EventId(text) | Attribute::EventName(text)) => text,
            Some(Attribute::Username(text) | Attribute::ResourceType(text)) => text,
            Some(Attribute::ResourceName(text) | Attribute::EventSource(text)) => text,
            Some(Attribute::AccessKeyId(text)) => text,
        };
        // The parser decides on characters that JSON may escape.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
        !is_plain || text.is_empty() || contains(line, text.as_bytes())
    }

    fn matches(&self, record: &Value, time: i64) -> bool {
        if self.from.is_some_and(|from| time < from) || self.to.is_some_and(|to| time > to) {
            return false;
        }
        let text = |pointer: &str, wanted: &String| {
            record.pointer(pointer).and_then(Value::as_str) == Some(wanted)
        };
        let resource = |is: &dyn Fn(&Value) -> bool| {
            record["resources"].as_array().is_some_and(|list| list.iter().any(is))
        };
        match &self.attribute {
            None => true,
            Some(Attribute::EventId(wanted)) => text("/eventID", wanted),
            Some(Attribute::EventName(wanted)) => text("/eventName", wanted),
            Some(Attribute::ReadOnly(wanted)) => record["readOnly"] == *wanted,
            Some(Attribute::Username(wanted)) => text("/userIdentity/userName", wanted),
            Some(Attribute::EventSource(wanted)) => text("/eventSource", wanted),
            Some(Attribute::AccessKeyId(wanted)) => text("/userIdentity/accessKeyId", wanted),
            Some(Attribute::ResourceType(wanted)) => resource(&|one| one["type"] == **wanted),
            Some(Attribute::ResourceName(wanted)) => resource(&|one| {
                let arn = one["ARN"].as_str().unwrap_or_default();
                arn == wanted || resource_name(arn) == wanted
            }),
        }
    }

    /// Identifies a search, so that tokens of other searches are refused.
    fn digest(&self) -> String {
        let asked = format!("{:?} {:?} {:?}", self.attribute, self.from, self.to);
        let digest = Sha256::digest(asked.as_bytes());
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    fn token_at(&self, lists: &[Backwards; 2]) -> String {
        let at = |list: &Backwards| {
            let (file, end) = list.place();
            format!("{file:x}-{end:x}")
        };
        format!("1-{}-{}-{}", self.digest(), at(&lists[0]), at(&lists[1]))
    }

    fn go_to(&self, token: &str, lists: &mut [Backwards; 2]) -> Result<(), AuditLookupError> {
        let parts: Vec<&str> = token.split('-').collect();
        let ["1", digest, places @ ..] = &parts[..] else { return Err(AuditLookupError::Token) };
        if *digest != self.digest() || places.len() != 4 {
            return Err(AuditLookupError::Token);
        }
        for (list, place) in lists.iter_mut().zip(places.chunks(2)) {
            let number =
                |text: &str| u64::from_str_radix(text, 16).map_err(|_| AuditLookupError::Token);
            let is_there = list.go_to(number(place[0])?, number(place[1])?);
            if !is_there {
                return Err(AuditLookupError::Token);
            }
        }
        Ok(())
    }
}

/// The part of an ARN after the kind of resource: `demo` of `arn:...:project/demo`.
pub fn resource_name(arn: &str) -> &str {
    let rest = arn.splitn(6, ':').nth(5).unwrap_or(arn);
    rest.split_once('/').map_or(rest, |(_, name)| name)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::super::{Audit, AuditRecord, AuditedResource, CallerIdentity};
    use super::*;
    use runner_folder::state::Home;

    fn audit(dir: &std::path::Path) -> Audit {
        Audit::of(&Home::at(dir.to_path_buf()).expect("a home"))
    }

    fn call(user: &str, name: &str, project: &str) -> AuditRecord {
        let who = CallerIdentity::user(&format!("arn:aws:iam::0:user/{user}"), "AIDA", "AKIA");
        let arn = format!("arn:aws:codebuild:us-east-1:0:project/{project}");
        let about = AuditedResource { arn, r#type: "AWS::CodeBuild::Project" };
        AuditRecord::call(who, "codebuild", name).judged(vec![about], None)
    }

    /// The names of the events, page by page.
    fn pages(audit: &Audit, mut lookup: Lookup) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        loop {
            let found = audit.lookup(&lookup).expect("a page");
            let name =
                |(_, record): &(String, Value)| record["eventName"].as_str().map(str::to_owned);
            pages.push(found.records.iter().filter_map(name).collect());
            match found.next {
                Some(token) => lookup.token = Some(token),
                None => return pages,
            }
        }
    }

    #[tokio::test]
    async fn records_are_found_the_newest_first_by_any_attribute() {
        let dir = tempfile::tempdir().expect("a folder");
        let audit = audit(dir.path());
        assert_eq!(pages(&audit, Lookup { most: 5, ..Lookup::default() }), [Vec::<String>::new()]);
        for (user, name, project) in [("ann", "A", "p"), ("bob", "B", "p"), ("ann", "C", "q/r")] {
            audit.write(call(user, name, project));
        }
        audit.write_refused(AuditRecord::call(CallerIdentity::unknown(), "ssm", "D"));
        audit.written().await;
        // A line in another version's form, and half of a line.
        let path = dir.path().join("audit.jsonl");
        let text = std::fs::read_to_string(&path).expect("a file");
        std::fs::write(&path, format!("{{\"event\":\"old\"}}\n\n{text}{{\"ev")).expect("written");
        let found = |attribute| {
            pages(&audit, Lookup { attribute, most: 50, ..Lookup::default() }).concat().concat()
        };
        let all = found(None);
        // The two files have no order within a second.
        assert_eq!(all.replace('D', ""), "CBA");
        assert_eq!(all.len(), 4);
        let text = str::to_owned;
        assert_eq!(found(Some(Attribute::Username(text("ann")))), "CA");
        assert_eq!(found(Some(Attribute::EventName(text("D")))), "D");
        assert_eq!(found(Some(Attribute::ResourceName(text("q/r")))), "C");
        let arn = "arn:aws:codebuild:us-east-1:0:project/p";
        assert_eq!(found(Some(Attribute::ResourceName(text(arn)))), "BA");
        assert_eq!(found(Some(Attribute::ResourceType(text("AWS::CodeBuild::Project")))), "CBA");
        assert_eq!(found(Some(Attribute::EventSource(text("ssm.amazonaws.com")))), "D");
        assert_eq!(found(Some(Attribute::AccessKeyId(text("AKIA")))), "CBA");
        assert_eq!(found(Some(Attribute::ReadOnly(true))), "");
        assert_eq!(found(Some(Attribute::Username(String::new()))), "");
        let late = Lookup { from: Some(i64::MAX), most: 50, ..Lookup::default() };
        assert_eq!(pages(&audit, late).concat().concat(), "");
    }

    #[tokio::test]
    async fn pages_go_on_where_the_last_has_ended_whatever_is_written_meanwhile() {
        let dir = tempfile::tempdir().expect("a folder");
        let audit = audit(dir.path());
        for number in 0..7 {
            audit.write(call("ann", &number.to_string(), "p"));
        }
        audit.written().await;
        let lookup = Lookup { most: 3, ..Lookup::default() };
        let first = audit.lookup(&lookup).expect("a page");
        let token = first.next.expect("another page");
        // The file is put aside, and a new one takes its name.
        std::fs::rename(dir.path().join("audit.jsonl"), dir.path().join("audit.1.jsonl"))
            .expect("renamed");
        audit.write(call("ann", "new", "p"));
        audit.written().await;
        let rest = pages(&audit, Lookup { token: Some(token.clone()), ..lookup.clone() });
        assert_eq!(rest.concat().concat(), "3210");
        assert_eq!(pages(&audit, lookup.clone()).concat().concat(), "new6543210");
        // Tokens of another search, or of none.
        for bad in
            [token.replacen('1', "2", 1), String::new(), "1-2-3".to_owned(), format!("{token}-0")]
        {
            let lookup = Lookup { token: Some(bad.clone()), ..lookup.clone() };
            assert!(matches!(audit.lookup(&lookup), Err(AuditLookupError::Token)), "{bad}");
        }
        let other = Lookup { token: Some(token.clone()), from: Some(0), ..lookup.clone() };
        assert!(matches!(audit.lookup(&other), Err(AuditLookupError::Token)));
        std::fs::remove_file(dir.path().join("audit.1.jsonl")).expect("removed");
        let gone = Lookup { token: Some(token), ..lookup };
        assert!(matches!(audit.lookup(&gone), Err(AuditLookupError::Token)));
    }

    #[test]
    fn names_of_resources() {
        for (arn, name) in [
            ("arn:aws:codebuild:us-east-1:0:build/demo:1", "demo:1"),
            ("arn:aws:ssm:us-east-1::document/AWS-X", "AWS-X"),
            ("*", "*"),
        ] {
            assert_eq!(resource_name(arn), name);
        }
    }
}
