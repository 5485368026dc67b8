//! Changes in git's format, fit for `git apply`.

use super::{FileNode, NodeKind, PathChange};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use runner_core::unified::{Hunks, hunks};
use sha1::{Digest, Sha1};
use std::io::Write;

/// Bytes of a file that decide whether it is binary.
const LOOKED_AT: usize = 8000;
/// The digits of git's base 85.
const DIGITS: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
/// Packed bytes in a line of base 85.
const IN_LINE: usize = 52;

/// How much of a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffStat {
    Lines {
        added: usize,
        removed: usize,
    },
    Binary {
        old: usize,
        new: usize,
    },
    /// The file is too large to compare.
    Unknown,
}

/// Counts the changed lines, or the bytes of binary files.
#[must_use]
pub fn stat_of(change: &PathChange) -> DiffStat {
    let Some((old, new)) = contents(change) else { return DiffStat::Unknown };
    if is_binary(old) || is_binary(new) {
        return DiffStat::Binary { old: old.len(), new: new.len() };
    }
    let Hunks { added, removed, .. } = hunks(old, new);
    DiffStat::Lines { added, removed }
}

/// The patch of one change; `None` if a file is too large.
#[must_use]
pub fn patch_of(change: &PathChange) -> Option<Vec<u8>> {
    let kinds = [&change.old, &change.new].map(|node| node.as_ref().map(|node| node.kind));
    // To git, replacing a link by a file means another file.
    if let [Some(old), Some(new)] = kinds
        && (old == NodeKind::Link) != (new == NodeKind::Link)
    {
        let gone = patch_of(&PathChange { new: None, ..change.clone() })?;
        let come = patch_of(&PathChange { old: None, ..change.clone() })?;
        return Some([gone, come].concat());
    }
    let (old, new) = contents(change)?;
    let (a, b) = (quoted(b"a/", &change.path), quoted(b"b/", &change.path));
    let mut text = format!("diff --git {a} {b}\n");
    match kinds {
        [None, Some(new)] => text.push_str(&format!("new file mode {}\n", mode(new))),
        [Some(old), None] => text.push_str(&format!("deleted file mode {}\n", mode(old))),
        [Some(old), Some(new)] if old != new => {
            text.push_str(&format!("old mode {}\nnew mode {}\n", mode(old), mode(new)));
        }
        _ => {}
    }
    let mut patch = text.into_bytes();
    if old == new {
        return Some(patch);
    }
    let id =
        |node: &Option<FileNode>, content| node.as_ref().map_or("0".repeat(40), |_| blob(content));
    let ids = format!("index {}..{}\n", id(&change.old, old), id(&change.new, new));
    patch.extend_from_slice(ids.as_bytes());
    if is_binary(old) || is_binary(new) {
        patch.extend_from_slice(b"GIT binary patch\n");
        literal(&mut patch, new);
        literal(&mut patch, old);
        return Some(patch);
    }
    // A tab marks the end of a name with a blank in it.
    let tab = if change.path.contains(&b' ') { "\t" } else { "" };
    let side = |sign, is_there: bool, name: &str| match is_there {
        true => format!("{sign} {name}{tab}\n"),
        false => format!("{sign} /dev/null\n"),
    };
    patch.extend_from_slice(side("---", change.old.is_some(), &a).as_bytes());
    patch.extend_from_slice(side("+++", change.new.is_some(), &b).as_bytes());
    patch.extend_from_slice(&hunks(old, new).text);
    Some(patch)
}

/// The content of both sides; `None` if one is unknown.
fn contents(change: &PathChange) -> Option<(&[u8], &[u8])> {
    fn content(node: Option<&FileNode>) -> Option<&[u8]> {
        node.map_or(Some(&[]), |node| node.content.as_deref())
    }
    Some((content(change.old.as_ref())?, content(change.new.as_ref())?))
}

fn is_binary(content: &[u8]) -> bool {
    content[..content.len().min(LOOKED_AT)].contains(&0)
}

fn mode(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "100644",
        NodeKind::Executable => "100755",
        NodeKind::Link => "120000",
    }
}

/// Git's id for a content.
fn blob(content: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", content.len()));
    hash.update(content);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Appends a content as printable lines.
fn literal(patch: &mut Vec<u8>, content: &[u8]) {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory cannot fail.
    let packed = packed.write_all(content).and_then(|()| packed.finish()).unwrap_or_default();
    patch.extend_from_slice(format!("literal {}\n", content.len()).as_bytes());
    for line in packed.chunks(IN_LINE) {
        let length = u8::try_from(line.len()).unwrap_or(0);
        patch.push(if length <= 26 { b'A' + length - 1 } else { b'a' + length - 27 });
        for word in line.chunks(4) {
            let mut bytes = [0; 4];
            bytes[..word.len()].copy_from_slice(word);
            let mut number = u32::from_be_bytes(bytes);
            let mut digits = [0; 5];
            for digit in digits.iter_mut().rev() {
                *digit = DIGITS[(number % 85) as usize];
                number /= 85;
            }
            patch.extend_from_slice(&digits);
        }
        patch.push(b'\n');
    }
    patch.push(b'\n');
}

/// A name as git writes it: quoted if it has characters that break a line or disturb a terminal.
#[must_use]
pub fn quoted(before: &[u8], path: &[u8]) -> String {
    let whole = [before, path].concat();
    let is_plain = |byte: &u8| (0x20..0x7f).contains(byte) && *byte != b'"' && *byte != b'\\';
    if whole.iter().all(is_plain) {
        return whole.iter().map(|&byte| char::from(byte)).collect();
    }
    let mut text = String::from("\"");
    for byte in &whole {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            byte if is_plain(byte) => text.push(char::from(*byte)),
            byte => text.push_str(&format!("\\{byte:03o}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(old: Option<(NodeKind, &str)>, new: Option<(NodeKind, &str)>) -> PathChange {
        let node = |(kind, text): (NodeKind, &str)| FileNode { kind, content: Some(text.into()) };
        PathChange { path: b"a b".to_vec(), old: old.map(node), new: new.map(node) }
    }

    fn patch(old: Option<(NodeKind, &str)>, new: Option<(NodeKind, &str)>) -> String {
        let patch = patch_of(&change(old, new)).expect("it is not large");
        let text = String::from_utf8(patch).expect("text");
        // These ids come from `git hash-object`.
        text.replace("78981922613b2afb6025042ff6bd878ac1994e85", "A")
            .replace("61780798228d17af2d34fce4cfbdf35556832472", "B")
    }

    #[test]
    fn changes_read_as_those_of_git() {
        use NodeKind::{Executable, File, Link};
        let zero = "0".repeat(40);
        assert_eq!(
            patch(Some((File, "a\n")), Some((File, "b\n"))),
            "diff --git a/a b b/a b\nindex A..B\n--- a/a b\t\n+++ b/a b\t\n@@ -1 +1 @@\n-a\n+b\n"
        );
        assert_eq!(
            patch(None, Some((Executable, "a\n"))),
            format!(
                "diff --git a/a b b/a b\nnew file mode 100755\nindex {zero}..A\n--- /dev/null\n+++ b/a b\t\n\
                 @@ -0,0 +1 @@\n+a\n"
            )
        );
        assert_eq!(
            patch(Some((File, "a\n")), Some((Executable, "a\n"))),
            "diff --git a/a b b/a b\nold mode 100644\nnew mode 100755\n"
        );
        let text = patch(Some((Link, "t")), Some((File, "a\n")));
        assert_eq!(text.matches("diff --git").count(), 2, "{text}");
        assert!(text.contains("deleted file mode 120000\n"), "{text}");
        assert!(patch(None, Some((File, "a\0"))).contains("GIT binary patch\nliteral 2\n"));
        let large = PathChange { new: None, ..change(Some((File, "")), None) };
        let large =
            PathChange { old: large.old.map(|old| FileNode { content: None, ..old }), ..large };
        assert_eq!((patch_of(&large), stat_of(&large)), (None, DiffStat::Unknown));
    }

    #[test]
    fn names_are_quoted_where_they_must_be() {
        assert_eq!(quoted(b"a/", b"x y"), "a/x y");
        assert_eq!(quoted(b"a/", "ä\n\x1b\"".as_bytes()), "\"a/\\303\\244\\n\\033\\\"\"");
    }
}
