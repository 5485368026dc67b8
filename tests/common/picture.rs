//! Draws two terminals as an SVG that is identical in every run.

use regex_lite::Regex;
use std::fmt::Write;

/// Size of each terminal, in characters.
pub(crate) const ROWS: u16 = 40;
pub(crate) const COLUMNS: u16 = 100;

/// Size of a character, in the drawing's units.
const WIDE: usize = 8;
const HIGH: usize = 17;
const MARGIN: usize = 14;

/// A terminal's content after these bytes, with varying text replaced.
pub(crate) fn shown(bytes: &[u8], replaced: &[(String, &str)]) -> Vec<String> {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    for (found, shown) in replaced {
        text = text.replace(found.as_str(), shown);
    }
    let token = Regex::new("#t=[0-9a-f]{64}").unwrap();
    let text = token.replace_all(&text, "#t=TOKEN").into_owned();
    let text = without_our_phases(&with_steady_times(&text));
    let [rows, columns] = [ROWS, COLUMNS].map(|size| size.try_into().unwrap());
    let mut parser = vt100::Parser::new(rows, columns, 0);
    parser.process(text.as_bytes());
    let rows = parser.screen().rows(0, COLUMNS).map(|row| row.trim_end().to_owned());
    let mut rows: Vec<String> = rows.collect();
    while rows.last().is_some_and(String::is_empty) {
        rows.pop();
    }
    rows
}

/// The line of phases without those shown only if they took noticeable time, as on a busy machine.
pub(crate) fn without_our_phases(text: &str) -> String {
    let ours = "(PROVISIONING|DOWNLOAD_SOURCE|UPLOAD_ARTIFACTS|FINALIZING) 0\\.1s";
    let before = Regex::new(&format!(r"phases: {ours} · ")).unwrap();
    let after = Regex::new(&format!(r" · {ours}")).unwrap();
    let mut text = after.replace_all(text, "").into_owned();
    while before.is_match(&text) {
        text = before.replace_all(&text, "phases: ").into_owned();
    }
    text
}

/// `12.3s` becomes `0.1s`.
fn with_steady_times(text: &str) -> String {
    let mut steady = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        steady.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let is_time = rest[..end].matches('.').count() == 1 && rest[end..].starts_with('s');
        steady.push_str(if is_time { "0.1" } else { &rest[..end] });
        rest = &rest[end..];
    }
    steady + rest
}

/// The drawing: one terminal below the other, each with a title.
pub(crate) fn draw(terminals: &[(&str, Vec<String>)]) -> String {
    let lines: usize = terminals.iter().map(|(_, lines)| lines.len() + 2).sum();
    let (width, height) = (usize::from(COLUMNS) * WIDE + 2 * MARGIN, lines * HIGH + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"13\">\n\
         <!-- Made from the program by `cargo xtask picture`. -->\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#16181d\"/>\n"
    );
    let mut y = MARGIN;
    for (title, lines) in terminals {
        let mut put = |text: &str, color: &str| {
            y += HIGH;
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            // Writing into a String cannot fail.
            let _ = writeln!(
                svg,
                "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"{color}\" xml:space=\"preserve\">{text}</text>"
            );
        };
        put(title, "#7f8794");
        for line in lines {
            put(line, color(line));
        }
        y += HIGH;
    }
    svg + "</svg>\n"
}

fn color(line: &str) -> &'static str {
    match line.chars().next() {
        Some('$' | '#') => "#7cc7ff",
        Some('✓') => "#8ee08e",
        Some('─') => "#ffffff",
        _ if line.contains("is paused") || line.starts_with("  ") => "#e6c86e",
        _ => "#d4d7dd",
    }
}
