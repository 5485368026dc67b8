//! Every way to write a command, and the result of an edit.

use super::*;
use crate::spec::USER_PHASES;

const HEAD: &str =
    "version: 0.2 # the version\nphases:\n  # what it does\n  build:\n    commands:\n";

fn edit(place: &str, text: &str) -> Edit {
    Edit { place: place.parse().expect(place), text: text.to_owned() }
}

fn patched(source: &str, place: &str, text: &str) -> String {
    match patch(source, &[edit(place, text)], false) {
        Ok(patched) => patched.source,
        Err(refusal) => panic!("{source}: {refusal}"),
    }
}

fn refused(source: &str, place: &str, text: &str) -> PatchRefusal {
    patch(source, &[edit(place, text)], false).expect_err(source)
}

/// Edits one command in `commands` and checks the result.
fn becomes(before: &str, text: &str, after: &str) {
    let tail = "      - last # stays\n\n# end\n";
    let source = format!("{HEAD}      - first\n{before}{tail}");
    assert_eq!(patched(&source, "build:2", text), format!("{HEAD}      - first\n{after}{tail}"));
}

#[test]
fn a_plain_one_stays_plain_where_it_can() {
    becomes("      - make test # slow\n", "make check", "      - make check # slow\n");
    becomes("      - make\n", "echo a: b", "      - 'echo a: b'\n");
    becomes("      - make\n", "# it's", "      - '# it''s'\n");
    becomes("      - make\n", "[ -f x ]", "      - '[ -f x ]'\n");
    becomes("      - make\n", "echo $HOME \"x\" 'y'", "      - echo $HOME \"x\" 'y'\n");
    becomes("      - make\n", "a\u{1}b", "      - \"a\\u0001b\"\n");
    // From several lines to one.
    becomes("      - make\n        all\n", "make", "      - make\n");
    // From one line to several.
    becomes("      - make # x\n", "a\n\n  b", "      - | # x\n        a\n\n          b\n");
    becomes("      - make\n", "  a\nb", "      - |2\n          a\n        b\n");
    becomes(
        "      -\n          make\n",
        "a\nb",
        "      -\n          |\n          a\n          b\n",
    );
}

#[test]
fn quotes_stay_what_they_are() {
    becomes("      - 'make'  # x\n", "it's", "      - 'it''s'  # x\n");
    becomes("      - \"make\"\n", "say \"a\\b\"\t.", "      - \"say \\\"a\\\\b\\\"\\t.\"\n");
    becomes("      - 'make'\n", "a\nb\n", "      - |\n        a\n        b\n");
    becomes("      - \"make\\nall\"\n", "a\nb", "      - |\n        a\n        b\n");
}

#[test]
fn a_block_keeps_its_header() {
    becomes("      - |\n        a\n        b\n", "c\n", "      - |\n        c\n");
    becomes("      - |-  # why\n        a\n", "c\nd", "      - |-  # why\n        c\n        d\n");
    becomes("      - |2\n          a\n", "  c\nd", "      - |2\n          c\n        d\n");
    becomes(
        "      - |\n            a\n",
        "c\n\td\n",
        "      - |\n            c\n            \td\n",
    );
    becomes("      - |\n        a\n", " c\nd\n", "      - |2\n         c\n        d\n");
    becomes("      - |\n\n        a\n\n\n", "c\n\nd\n", "      - |\n        c\n\n        d\n\n\n");
    becomes("      - |+\n        a\n\n", "c\n\n\n", "      - |+\n        c\n\n\n");
    becomes(
        "      - |\n        a\n      # not of it\n",
        "c\n",
        "      - |\n        c\n      # not of it\n",
    );
    becomes("      - |\n        echo '|'\n        # a | b\n", "c\n", "      - |\n        c\n");
}

#[test]
fn a_folded_one_is_folded_no_more() {
    becomes("      - >\n        a\n        b\n", "c\nd\n", "      - |\n        c\n        d\n");
    becomes("      - >-\n        a\n        b\n", "c", "      - |-\n        c\n");
    let source = format!("{HEAD}      - >\n        a\n");
    let Patched { notes, .. } = patch(&source, &[edit("build:1", "b\n")], false).expect("fits");
    assert!(notes[0].contains("now written with `|`"), "{notes:?}");
}

#[test]
fn of_a_list_in_brackets_only_the_item_changes() {
    let source = "version: 0.2\nphases: {build: {commands: [ one,  'two' , \"three\"]}}\n";
    for (place, text, after) in [
        ("build:1", "x", "[ x,  'two' , \"three\"]"),
        ("build:1", "x, y", "[ 'x, y',  'two' , \"three\"]"),
        ("build:2", "x", "[ one,  'x' , \"three\"]"),
        ("build:3", "a\nb", "[ one,  'two' , \"a\\nb\"]"),
        ("build:1", "a\nb", "[ \"a\\nb\",  'two' , \"three\"]"),
    ] {
        assert_eq!(
            patched(source, place, text),
            format!("version: 0.2\nphases: {{build: {{commands: {after}}}}}\n")
        );
    }
}

#[test]
fn an_alias_is_replaced_and_its_anchor_stays() {
    let source = "version: 0.2\nphases:\n  pre_build:\n    commands:\n      - &a make # one\n  build:\n    \
                  commands:\n      - *a # two\n      - b\n";
    let after = patch(source, &[edit("build:1", "make: x")], false).expect("fits");
    assert_eq!(after.source, source.replace("*a", "'make: x'"));
    assert!(after.notes[0].contains("was an alias"));
    let after = patched(source, "build:1", "a\nb");
    assert_eq!(after, source.replace("*a # two\n", "| # two\n        a\n        b\n"));

    // The anchor has other users.
    let refusal = refused(source, "pre_build:1", "x");
    assert_eq!((refusal.span.line, refusal.message.contains("line 8")), (5, true), "{refusal}");
    let after = patch(source, &[edit("pre_build:1", "x")], true).expect("changes both");
    assert_eq!(after.source, source.replace("&a make", "&a x"));
    // An unused anchor makes no difference.
    let alone = source.replace("*a", "a");
    assert_eq!(patched(&alone, "pre_build:1", "x"), alone.replace("&a make", "&a x"));
}

#[test]
fn what_cannot_be_kept_is_refused_with_its_place() {
    let list = "version: 0.2\nx: &l [a, b]\nphases:\n  build:\n    commands: *l\n";
    let refusal = refused(list, "build:1", "c");
    assert_eq!(refusal.span.line, 5);
    assert!(refusal.message.contains("line 2"), "{refusal}");
    let merged =
        "version: 0.2\nphases:\n  pre_build: &p\n    commands: [a]\n  build:\n    <<: *p\n";
    assert_eq!(refused(merged, "build:1", "c").span.line, 6);
    // The list has another user, whose command would change too.
    assert!(refused(merged, "pre_build:1", "c").message.contains("would change"));
    let several = format!("{HEAD}      - a\n---\nb: 1\n");
    assert!(patch(&several, &[edit("build:1", "b")], false).is_err());
    let tag = format!("{HEAD}      - !!str a\n");
    assert_eq!(refused(&tag, "build:1", "b").span.line, 6);
    assert!(refused(&tag, "build:2", "b").message.contains("no build:2"));
    assert!(refused("phases: [", "build:1", "b").message.contains("does not parse"));
    let carriage = format!("{HEAD}      - |\n        a\n");
    assert!(refused(&carriage, "build:1", "a\rb\n").message.contains("cannot be written"));
}

#[test]
fn ends_of_lines_and_of_the_file_stay() {
    let crlf = HEAD.replace('\n', "\r\n");
    let source = format!("{crlf}      - |\r\n        a\r\n      - b # x\r\n");
    assert_eq!(
        patched(&source, "build:1", "c\nd\n"),
        format!("{crlf}      - |\r\n        c\r\n        d\r\n      - b # x\r\n")
    );
    assert_eq!(
        patched(&source, "build:2", "c\nd\n"),
        format!("{crlf}      - |\r\n        a\r\n      - | # x\r\n        c\r\n        d\r\n")
    );
    for (before, text, after) in [
        ("      - a", "b", "      - b"),
        ("      - a", "b\nc", "      - |\n        b\n        c"),
        ("      - |\n        a", "b\nc", "      - |\n        b\n        c"),
    ] {
        let source = format!("{HEAD}{before}");
        assert_eq!(patched(&source, "build:1", text), format!("{HEAD}{after}"));
    }
    let one = "version: 0.2\nphases:\n  build:\n    commands: make # x\n";
    assert_eq!(patched(one, "build:1", "a"), one.replace("make", "a"));
    assert_eq!(
        patched(one, "build:1", "a\nb"),
        one.replace("make # x\n", "| # x\n      a\n      b\n")
    );
}

#[test]
fn several_are_written_at_once_and_none_twice() {
    let source = format!("{HEAD}      - a\n      - b\n    finally:\n      - c\n");
    let edits = [edit("build:2", "x\ny"), edit("build:finally", "z"), edit("build:1", "a")];
    let after = patch(&source, &edits, false).expect("fits");
    assert_eq!(
        after.source,
        format!("{HEAD}      - a\n      - |\n        x\n        y\n    finally:\n      - z\n")
    );
    assert_eq!(patch(&after.source, &edits, false).expect("is there").source, after.source);
}

#[test]
fn values_are_the_same_however_they_are_written() {
    let one = format!("{HEAD}      - exit 3 # x\n      - b\n");
    let other = "version: \"0.2\"\nphases: {build: {commands: ['exit 3', b]}}\n";
    let (one, other) = (values(&one), values(other));
    assert!(one.is_some() && one == other, "{one:?} {other:?}");
    assert_ne!(values(&format!("{HEAD}      - exit 4\n      - b\n")), one);
    assert_ne!(values(&format!("{HEAD}      - exit 3, b\n")), one);
    assert_eq!(values("a: ["), None);
    // An edit, and back to the original.
    let source = format!("{HEAD}      - exit 3 # x\n      - b\n");
    let there = patched(&source, "build:1", "it's: \"1\"\nand");
    let back = patched(&there, "build:1", "exit 3");
    assert!(back != source && values(&back) == values(&source), "{back}");
}

/// Edits each command of a buildspec several times.
fn each_command(name: &str, source: &str) -> (usize, usize) {
    let Ok((spec, _)) = spec::parse(source) else { return (0, 0) };
    let (mut done, mut refused) = (0, 0);
    for phase in USER_PHASES {
        let lists = spec.phases.iter().filter(|spec| spec.phase == phase);
        for (block, list) in lists.flat_map(|phase| {
            [(Block::Commands, &phase.commands), (Block::Finally, &phase.finally)]
        }) {
            for (index, command) in (0..).zip(list) {
                let place = CommandPlace { phase, block, index };
                let texts =
                    [format!("{}\n# more: it's \"new\"", command.text), "x: 'y' # z".to_owned()];
                // One command per list is enough.
                if index == 0 {
                    each_insertion(name, source, Edit { place, text: texts[1].clone() });
                }
                for text in texts {
                    match patch(source, &[Edit { place, text: text.clone() }], false) {
                        Ok(after) => {
                            let old: Vec<&str> = comments(source);
                            let kept = old.iter().all(|comment| after.source.contains(comment));
                            assert!(kept || command.text.contains('#'), "{name} {place}");
                            let (new, _) = spec::parse(&after.source).expect("was checked");
                            let phases = new.phases.iter().find(|spec| spec.phase == phase);
                            let phase = phases.expect("all are there");
                            let list = match block {
                                Block::Finally => &phase.finally,
                                _ => &phase.commands,
                            };
                            assert!(is_same(&list[index as usize].text, &text), "{name} {place}");
                            done += 1;
                        }
                        Err(refusal) => {
                            assert!(command.span.written.is_some(), "{name} {place}: {refusal}");
                            refused += 1;
                        }
                    }
                }
            }
        }
    }
    (done, refused)
}

/// Inserts the same text before that command.
fn each_insertion(name: &str, source: &str, edit: Edit) {
    let texts = [edit];
    match insert(source, &[], &texts) {
        Ok(after) => {
            let old: Vec<&str> = source.lines().collect();
            let mut new = after.lines();
            assert!(old.iter().all(|line| new.any(|new| new == *line)), "{name}: {after}");
            assert_eq!(values_without(&after, &texts), values(source), "{name}: {texts:?}");
        }
        Err(refusal) => {
            let line = source.lines().nth(refusal.span.line as usize - 1).unwrap_or_default();
            // In brackets, shared, or not in a list.
            let is_elsewhere = line.contains(['[', '*', '&']) || source.contains("<<:");
            let is_elsewhere =
                is_elsewhere || line.contains("commands: ") || line.contains("finally: ");
            assert!(is_elsewhere, "{name}: {refusal}: {line}");
        }
    }
}

fn comments(source: &str) -> Vec<&str> {
    source.lines().filter(|line| line.starts_with('#')).collect()
}

#[test]
fn every_command_of_our_own_file_can_be_written() {
    let (done, refused) = each_command("every_key.yml", include_str!("../spec/every_key.yml"));
    assert!(done > 0 && refused == 0, "{done} {refused}");
}

/// Edits all buildspecs of the project.
#[test]
fn commands_of_whole_files_can_be_written() {
    let project = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let of_project =
        ["buildspecs", "buildspecs/valid", "buildspecs/debugger", "buildspecs/breakpoint"];
    let folders = of_project.map(|folder| format!("{project}/{folder}"));
    let (mut files, mut written) = (0, 0);
    for folder in &folders {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            let is_spec = path.extension().is_some_and(|end| end == "yml" || end == "yaml");
            let Some(source) = is_spec.then(|| std::fs::read_to_string(&path).ok()).flatten()
            else {
                continue;
            };
            let source = source.trim_start_matches('\u{feff}');
            let (done, _) = each_command(&path.display().to_string(), source);
            (files, written) = (files + usize::from(done > 0), written + done);
        }
    }
    assert!(files > 20 && written > 50, "{files} {written}");
}

fn evals(texts: &[(&str, &str)]) -> Vec<Edit> {
    texts.iter().map(|(place, text)| edit(place, text)).collect()
}

/// Inserts texts before commands and checks the list.
#[track_caller]
fn inserted(list: &str, texts: &[(&str, &str)], after: &str) {
    let (source, after) = (format!("{HEAD}{list}"), format!("{HEAD}{after}"));
    let texts = evals(texts);
    assert_eq!(insert(&source, &[], &texts).as_deref(), Ok(&*after));
    // Without the inserted texts, the values are the original ones.
    assert_eq!(values_without(&after, &texts), values(&source));
    // The same one at a time, as they are evaluated.
    let mut one_by_one = source;
    for at in 0..texts.len() {
        let (before, next) = (&texts[..at], &texts[at..=at]);
        one_by_one = insert(&one_by_one, before, next).expect("one more");
    }
    assert_eq!(one_by_one, after);
}

#[test]
fn a_list_at_the_column_of_its_key() {
    let source = "version: 0.2\nphases:\n  build:\n    commands:\n    - one\n    - two\n";
    let after = source.replace("- one", "- |\n      a\n      b");
    assert_eq!(patched(source, "build:1", "a\nb"), after);
}

#[test]
fn what_was_evaluated_goes_before_what_has_followed() {
    let list = "      - one # a\n      # the second\n      - |\n        two\n        - no item\n";
    inserted(
        list,
        &[("build:1", "a"), ("build:2", "b: c"), ("build:1", "it's"), ("build:2", "d\n e\n")],
        "      - a\n      - it's\n      - one # a\n      - 'b: c'\n      - |\n        d\n         e\n      \
         # the second\n      - |\n        two\n        - no item\n",
    );
    // For every form of item.
    inserted(
        "      - >-\n        a\n\n        b\n",
        &[("build:1", "x")],
        "      - x\n      - >-\n        a\n\n        b\n",
    );
    inserted(
        "      -\n        # why\n        'a\n        b'\n",
        &[("build:1", " x\ny")],
        "      - |2\n         x\n        y\n      -\n        # why\n        'a\n        b'\n",
    );
    inserted(
        "      - a: b\n".replace(": ", ":").as_str(),
        &[("build:1", "\u{1}")],
        "      - \"\\u0001\"\n      - a:b\n",
    );
    inserted(
        "      - &x one\n      - *x\n",
        &[("build:2", "two")],
        "      - &x one\n      - two\n      - *x\n",
    );
    // At the column of its key, and with CRLF line endings.
    let source = "version: 0.2\r\nphases:\r\n  build:\r\n    commands:\r\n    - one\r\n    finally:\r\n    - two";
    let after = insert(source, &[], &evals(&[("build:finally:1", "a\nb"), ("build:1", "c")]));
    let wanted = source.replace("    - one", "    - c\r\n    - one");
    let wanted = wanted.replace("    - two", "    - |\r\n      a\r\n      b\r\n    - two");
    assert_eq!(after.as_deref(), Ok(&*wanted));
}

#[test]
fn where_nothing_can_be_put_before() {
    let flow = "version: 0.2\nphases: {build: {commands: [one]}}\n";
    let refusal = insert(flow, &[], &evals(&[("build:1", "x")])).expect_err("in brackets");
    assert_eq!((refusal.span.line, refusal.message.contains("brackets")), (2, true), "{refusal}");
    let shared = "version: 0.2\nphases:\n  pre_build:\n    commands: &all\n      - one\n  build:\n    commands: *all\n";
    for place in ["pre_build:1", "build:1"] {
        insert(shared, &[], &evals(&[(place, "x")])).expect_err(place);
    }
    insert("version: 0.2\nphases: {}\n", &[], &evals(&[("build:1", "x")])).expect_err("no phase");
    // A missing text cannot be removed.
    let source = format!("{HEAD}      - one\n");
    assert_eq!(values_without(&source, &evals(&[("build:1", "two")])), None);
    assert_eq!(values_without(&source, &evals(&[("build:2", "one")])), None);
}

#[test]
fn an_edit_finds_its_place_among_what_was_put_before() {
    let inside =
        evals(&[("build:2", "a"), ("build:1", "b"), ("build:2", "c"), ("build:finally:1", "d")]);
    let shown = |place: &str| shifted(place.parse().expect(place), &inside).to_string();
    assert_eq!(["build:1", "build:2", "build:3"].map(shown), ["build:2", "build:5", "build:6"]);
    assert_eq!(shown("pre_build:1"), "pre_build:1");
}
