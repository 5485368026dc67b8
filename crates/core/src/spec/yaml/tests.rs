use super::*;

fn root(source: &str) -> YamlNode {
    parse(source).unwrap_or_else(|problem| panic!("{source:?}: {problem:?}")).root
}

fn at<'a>(node: &'a YamlNode, path: &[&str]) -> &'a YamlNode {
    path.iter().fold(node, |node, name| {
        let YamlValue::Mapping(entries) = &node.value else { panic!("{name}: not a map") };
        let found =
            entries.iter().find(|(key, _)| key.value == YamlValue::Scalar((*name).to_owned()));
        &found.unwrap_or_else(|| panic!("{name}: missing")).1
    })
}

fn text(node: &YamlNode) -> &str {
    match &node.value {
        YamlValue::Scalar(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn scalars_keep_their_face_and_their_place() {
    let source = "env:\n  variables:\n    A: 010\n    B: 1.10\n    C: yes\n    D: '3.10'\n    E: 0x1F\n    \
                  F: 2024-01-01\n    G: 1e3\n    H: \"a\\tb\"\n    I: 12e4567\n    J: .inf\n    K: .nan\n    \
                  L: 1e400\n    M: -.INF\n    N: 0o17\n    O: 1_000\n    P: 190:20:30\n    \
                  Q: 99999999999999999999\n    R: +1\n    S: 2001-12-14t21:59:43.10-05:00\n";
    let node = root(source);
    for (name, wanted, line) in [
        ("A", "010", 3),
        ("B", "1.10", 4),
        ("C", "yes", 5),
        ("D", "3.10", 6),
        ("E", "0x1F", 7),
        ("F", "2024-01-01", 8),
        ("G", "1e3", 9),
        ("H", "a\tb", 10),
        ("I", "12e4567", 11),
        ("J", ".inf", 12),
        ("K", ".nan", 13),
        ("L", "1e400", 14),
        ("M", "-.INF", 15),
        ("N", "0o17", 16),
        ("O", "1_000", 17),
        ("P", "190:20:30", 18),
        ("Q", "99999999999999999999", 19),
        ("R", "+1", 20),
        ("S", "2001-12-14t21:59:43.10-05:00", 21),
    ] {
        let node = at(&node, &["env", "variables", name]);
        assert_eq!(text(node), wanted);
        assert_eq!((node.span.line, node.span.column), (line, 8), "{name}");
    }
}

#[test]
fn a_tag_changes_no_text() {
    let node = root(
        "a: !!int \"5\"\nb: !!str 12e4567\nc: !!float '1.10'\nd: !!bool \"no\"\ne: ! test\nf: !!float abc\n\
         g: !ls -la\nh: !!str\ni: ! ~\nj: !!null x\nk: !!int\n12e4567: l\n",
    );
    for (name, wanted, tag) in [
        ("a", "5", Some("!!int")),
        ("b", "12e4567", Some("!!str")),
        ("c", "1.10", Some("!!float")),
        ("d", "no", Some("!!bool")),
        ("e", "test", Some("!")),
        ("f", "abc", Some("!!float")),
        ("g", "-la", Some("!ls")),
        ("h", "", Some("!!str")),
        ("i", "~", Some("!")),
        ("12e4567", "l", None),
    ] {
        let node = at(&node, &[name]);
        assert_eq!((text(node), node.tag.as_deref()), (wanted, tag), "{name}");
    }
    for name in ["j", "k"] {
        assert_eq!(at(&node, &[name]).value, YamlValue::Null, "{name}");
    }
}

#[test]
fn repeated_keys_and_merged_maps_are_both_there() {
    let node = root("a: &x {k: 1}\nb:\n  <<: *x\n  m: 2\na: 3\n");
    let YamlValue::Mapping(entries) = &node.value else { panic!("a map") };
    assert_eq!(entries.len(), 3);
    assert_eq!(text(at(&node, &["b", "k"])), "1");
}

#[test]
fn what_a_map_has_itself_goes_before_what_is_merged() {
    let node = root(
        "one: &one {a: 1, b: 1, c: 1}\ntwo: &two {b: 2, d: 2}\nboth:\n  a: own\n  <<: [*one, *two]\n  c: own\n",
    );
    let YamlValue::Mapping(entries) = &at(&node, &["both"]).value else { panic!("a map") };
    let told: Vec<_> = entries.iter().map(|(key, value)| (text(key), text(value))).collect();
    assert_eq!(told, [("a", "own"), ("b", "1"), ("d", "2"), ("c", "own")]);
    for source in ["a:\n  <<: text\n", "a: &a [x]\nb:\n  <<: *a\n"] {
        let problem = parse(source).expect_err(source);
        assert!(problem.message.contains("merges a map"), "{problem:?}");
    }
    assert_eq!(text(at(&root("'<<': x\n"), &["<<"])), "x");
}

#[test]
fn an_alias_has_the_place_where_it_stands() {
    let node = root("x: &a\n  - one\n  - {k: two}\ny:\n  z: *a\n");
    let alias = at(&node, &["y", "z"]);
    let place = |node: &YamlNode| {
        let Span { line, column, length, written } = node.span;
        (line, column, length, written.map(|place| (place.line, place.column)))
    };
    assert_eq!(place(alias), (5, 6, 2, Some((2, 3))));
    let YamlValue::Sequence(items) = &alias.value else { panic!("a list") };
    assert_eq!(place(&items[0]), (5, 6, 2, Some((2, 5))));
    assert_eq!(place(at(&items[1], &["k"])), (5, 6, 2, Some((3, 9))));
}

#[test]
fn lines_of_a_block_know_theirs() {
    let node = root(
        "a: |\n  x\n   y\nb: |2\n\n     z\nc: |-\n\n\nd: >\n  x\ne: 'x'\nf: [|\n]\n"
            .split("f:")
            .next()
            .expect("all"),
    );
    for (name, wanted) in [
        ("a", Some(BlockScalar { line: 2, indent: 2 })),
        ("b", Some(BlockScalar { line: 5, indent: 2 })),
        ("c", None),
        ("d", None),
        ("e", None),
    ] {
        assert_eq!(at(&node, &[name]).block, wanted, "{name}");
    }
}

#[test]
fn the_first_document_counts() {
    for (source, next) in [
        ("a: 1\n---\n", Some(2)),
        ("a: 1\n--- \nb: [\n", Some(2)),
        ("---\na: 1\n...\n---\nb: 2\n", Some(4)),
        ("a: 1\n...\nb: 2\n", Some(3)),
        ("a: 1\n...\n", None),
        ("---\na: 1\n", None),
        ("# x\n---\na: 1\n# y\n", None),
    ] {
        let document = parse(source).unwrap_or_else(|problem| panic!("{source:?}: {problem:?}"));
        assert_eq!(text(at(&document.root, &["a"])), "1", "{source:?}");
        assert_eq!(document.next.map(|span| span.line), next, "{source:?}");
    }
    assert_eq!(parse("").expect("is YAML").root.value, YamlValue::Null);
    assert_eq!(parse("---\n---\na: 1\n").expect("is YAML").root.value, YamlValue::Null);
}

#[test]
fn what_is_not_yaml_is_told_with_its_place() {
    for (source, line, column, hint) in [
        ("a:\n\tb: c\n", 2, 2, "spaces"),
        ("a: b: c\n", 1, 5, "quoted"),
        ("a: *x\n", 1, 4, "&name"),
        ("a:\n  - [[ -f x ]] && y\n", 2, 16, "for a list"),
        ("a:\n  - \"$x\" --all\n", 2, 10, "second quote"),
        ("a:\n  - @x\n", 2, 5, "first character"),
        ("a:\n  - && x\n", 2, 5, "starts with `&`"),
        ("a: &x b\nc:\n  - *x.js\n", 3, 5, "&name"),
    ] {
        let error = parse(source).expect_err(source);
        assert_eq!((error.span.line, error.span.column), (line, column), "{error:?}");
        assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{error:?}");
        assert!(!error.message.contains("at line"), "{error:?}");
    }
}

#[test]
fn hostile_text_is_refused_at_once() {
    let error = parse(&"[".repeat(200_000)).expect_err("nested too deeply");
    assert_eq!(error.code, DiagnosticCode::TooLarge);
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
    assert_eq!(parse(bomb).expect_err("a bomb").code, DiagnosticCode::TooLarge);
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(40));
    assert_eq!(parse(&long).expect_err("another").code, DiagnosticCode::TooLarge);
    // Each anchor keeps everything inside it.
    let nested = format!("{}x{}", "&a [".repeat(60), ",x]".repeat(60));
    assert!(parse(&nested).is_ok());
    let deep = format!(
        "a: &a {}x{}\nb: [[[[[[[[[[[[[[[[*a]]]]]]]]]]]]]]]]\n",
        "[".repeat(50),
        "]".repeat(50)
    );
    assert_eq!(parse(&deep).expect_err("deep").code, DiagnosticCode::TooLarge);
}
