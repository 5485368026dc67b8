//! Forms as real programs print them.

use super::*;

fn has(value: &str, form: &str) -> bool {
    of(value.as_bytes()).iter().any(|found| found == form.as_bytes())
}

#[test]
fn the_ways_programs_write_a_value_down_are_forms_of_it() {
    // Copied from base64(1), python3, bash, dash, jq, Go, .NET, xmllint and others.
    for (value, form) in [
        ("hunter2", "hunter2"),
        ("hunter2", "aHVudGVyMg=="),
        ("hunter2", "aHVudGVyM"),
        ("p@ss w/rd", "p%40ss%20w%2Frd"),
        ("p@ss w/rd", "p%40ss%20w/rd"),
        ("p@ss w/rd", "p%40ss+w%2Frd"),
        ("first line\nsecond line", "second line"),
        ("~~~~???>", "fn5-fj8_Pz4"),
        // set -x, export -p, printf %q
        ("it's me", "it'\\''s me"),
        ("it's me", "it'\"'\"'s me"),
        ("it's me", "it\\'s\\ me"),
        ("a$b`c", "a\\$b\\`c"),
        ("pass~word{1,2}^x", "pass~word\\{1\\,2\\}\\^x"),
        ("key=a;b", "key=a\\;b"),
        ("#a=~b", "\\#a=\\~b"),
        ("#a=~b", "#a=\\~b"),
        ("~home", "\\~home"),
        ("Über", "\\303\\234ber"),
        ("Ü'b\te\\r", "\\303\\234\\'b\\te\\\\r"),
        ("Ü'b\te\u{1b}\u{1}", "Ü\\'b\\te\\E\\001"),
        // Python's repr of text and of bytes
        ("it's \\x", "it's \\\\x"),
        ("Über\n", "\\xc3\\x9cber\\n"),
        // JSON
        ("a\"b\\c\nd", "a\\\"b\\\\c\\nd"),
        ("päss", "p\\u00e4ss"),
        ("p\u{1d11e}s", "p\\ud834\\udd1es"),
        ("a/ä", "a\\/\\u00e4"),
        ("R&D<x>", "R\\u0026D\\u003cx\\u003e"),
        ("a&b\u{8}", "a\\u0026b\\u0008"),
        ("k=v'", "k\\u003dv\\u0027"),
        ("a+\"ä", "a\\u002B\\u0022\\u00E4"),
        // within JSON
        ("a\"b\\c", "a\\\\\\\"b\\\\\\\\c"),
        ("R&D!", "R\\\\u0026D!"),
        // XML and HTML
        ("R&D<x>", "R&amp;D&lt;x>"),
        ("R&D<x>", "R&amp;D&lt;x&gt;"),
        ("a\"b'c", "a&quot;b'c"),
        ("a\"b'c", "a&quot;b&apos;c"),
        ("a\"b'c", "a&quot;b&#39;c"),
        ("a\"b'c", "a&quot;b&#x27;c"),
        ("a\"b'c", "a&#34;b&#39;c"),
        ("é&b", "&#233;&amp;b"),
        ("ab\ncd\"", "ab&#10;cd&quot;"),
        // YAML and SQL; CSV
        ("it's me", "it''s me"),
        ("a\"b\"c", "a\"\"b\"\"c"),
    ] {
        assert!(has(value, form), "{value}: {form}");
    }
    // Bytes that are not UTF-8.
    let forms = of(b"a\xffb'cd");
    for form in [&b"a\\377b\\'cd"[..], b"a\\xffb'cd", b"a%FFb%27cd"] {
        assert!(forms.iter().any(|found| found == form), "{}", form.escape_ascii());
    }
}

#[test]
fn lines_of_a_value_and_lines_of_base64() {
    let key: String = (0..6).map(|line| format!("{}{line}\n", "k".repeat(60))).collect();
    // `sed 2q | tail -1 | base64`, with and without the line break
    let line = format!("{}1", "k".repeat(60));
    let [own, _, padded] = base64::alone(line.as_bytes());
    for form in [line.as_bytes(), &own, &padded] {
        assert!(has(&key, std::str::from_utf8(form).expect("ASCII")));
    }
    // `base64 key`, and with -w 64
    let [.., whole] = base64::alone(key.as_bytes());
    for width in [76, 64] {
        let rows: Vec<&[u8]> = whole.chunks(width).collect();
        assert!(rows.len() > 5);
        for row in rows.iter().filter(|row| row.len() >= 8) {
            assert!(has(&key, std::str::from_utf8(row).expect("ASCII")));
        }
    }
}

#[test]
fn what_needs_no_escaping_has_few_forms() {
    let value = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    // The value, base64 in two alphabets, two percent-encodings, slashes as PHP writes them,
    // doubled quotes.
    assert!(of(value).len() <= 23, "{}", of(value).len());
    assert!(of(b"0123456789abcdef0123456789abcdef").len() <= 17);
}
