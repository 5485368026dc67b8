//! The table of `runner ps`: complete in a file, and limited to the terminal's width otherwise.

use super::PsRow;
use runner_core::plain;
use runner_core::time::WallTime;

/// Characters kept of a shortened uuid.
const SHORT: usize = 8;
/// Minimum useful width of the last column.
const LEAST: usize = 12;
const TITLES: [&str; 9] = [
    "BUILD",
    "IN BATCH",
    "STATE",
    "PHASE",
    "STARTED (UTC)",
    "TIME",
    "SESSIONS",
    "TIME LEFT",
    "COMMAND, REASON",
];

/// Columns dropped, in this order, if there is no room.
const DISPENSABLE: [usize; 5] = [SESSIONS, STARTED, TIME, PHASE, LEFT];
const BUILD: usize = 0;
const IDENTIFIER: usize = 1;
const PHASE: usize = 3;
const STARTED: usize = 4;
const TIME: usize = 5;
const SESSIONS: usize = 6;
const LEFT: usize = 7;
const LAST: usize = 8;

type Cells = [String; 9];

/// Formats the rows within `width` columns, if given.
pub(super) fn of(rows: &[PsRow], width: Option<usize>) -> String {
    let mut cells = vec![TITLES.map(str::to_owned)];
    cells.extend(rows.iter().map(of_row));
    let has_batch = rows.iter().any(|row| row.identifier.is_some());
    let mut shown: Vec<usize> =
        (0..TITLES.len()).filter(|at| *at != IDENTIFIER || has_batch).collect();
    if let Some(width) = width {
        narrow(&mut cells, &mut shown, rows, width);
    }
    let widths = widths(&cells);
    let line = |row: &Cells| {
        let padded = shown.iter().map(|&at| format!("{:1$}", row[at], widths[at]));
        let line = padded.collect::<Vec<_>>().join("  ").trim_end().to_owned();
        width.map_or(line.clone(), |width| shortened(&line, width)) + "\n"
    };
    cells.iter().map(line).collect()
}

/// Shortens cells that have an equally good short form, then drops columns.
fn narrow(cells: &mut [Cells], shown: &mut Vec<usize>, rows: &[PsRow], width: usize) {
    let before = |cells: &[Cells], shown: &[usize]| {
        let widths = widths(cells);
        shown.iter().filter(|at| **at != LAST).map(|at| widths[*at] + 2).sum::<usize>()
    };
    let wanted = |cells: &[Cells]| LEAST.max(widths(cells)[LAST].min(40));
    if before(cells, shown) + wanted(cells) > width {
        for (cell, id) in cells[1..].iter_mut().zip(short_ids(rows)) {
            cell[BUILD] = id;
        }
    }
    if before(cells, shown) + LEAST > width {
        cells[0][STARTED] = "STARTED".to_owned();
        for cell in &mut cells[1..] {
            // `07/13 13:33`, without the year and the second.
            cell[STARTED] = cell[STARTED].get(5..16).unwrap_or("-").to_owned();
        }
    }
    for column in DISPENSABLE {
        if before(cells, shown) + LEAST > width {
            shown.retain(|at| *at != column);
        }
    }
    let room = width.saturating_sub(before(cells, shown)).max(LEAST);
    for cell in cells {
        cell[LAST] = shortened(&cell[LAST], room);
    }
}

fn widths(cells: &[Cells]) -> [usize; 9] {
    std::array::from_fn(|column| {
        // The last column ends the line and needs no padding.
        if column == LAST && cells.len() == 1 {
            return 0;
        }
        cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    })
}

fn of_row(row: &PsRow) -> Cells {
    let last = row.command.as_deref().or(row.reason.as_deref()).unwrap_or_default();
    let started = match row.start_time {
        0.0 => "-".to_owned(),
        // `2026/07/13 13:33:18`, without what only a log needs.
        time => WallTime((time * 1e6) as i64).log_form().chars().take(19).collect(),
    };
    let left = match (row.pause_left_s, row.time_left_s) {
        (Some(seconds), _) => format!("{} (pause)", clock(seconds)),
        (None, Some(seconds)) => clock(seconds),
        (None, None) => "-".to_owned(),
    };
    [
        row.id.clone(),
        row.identifier.clone().unwrap_or_else(|| "-".to_owned()),
        row.state.clone(),
        row.phase.clone(),
        started,
        if row.start_time > 0.0 { clock(row.duration_s) } else { "-".to_owned() },
        row.sessions.to_string(),
        left,
        plain::line(last.lines().next().unwrap_or_default()).into_owned(),
    ]
}

/// Ids with uuids shortened while still unique; they also name a build.
fn short_ids(rows: &[PsRow]) -> Vec<String> {
    let short = |id: &str| match id.rsplit_once(':') {
        Some((project, uuid)) => format!("{project}:{}", uuid.get(..SHORT).unwrap_or(uuid)),
        None => id.to_owned(),
    };
    let all: Vec<String> = rows.iter().map(|row| short(&row.id)).collect();
    let is_alone = |id: &String| all.iter().filter(|other| *other == id).count() == 1;
    let pick =
        |(row, id): (&PsRow, &String)| if is_alone(id) { id.clone() } else { row.id.clone() };
    rows.iter().zip(&all).map(pick).collect()
}

/// `5:07`, `1:02:03`.
fn clock(seconds: u64) -> String {
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, command: &str) -> PsRow {
        PsRow {
            id: id.to_owned(),
            identifier: None,
            project: "shop".to_owned(),
            phase: "PRE_BUILD".to_owned(),
            command: Some(command.to_owned()),
            state: "paused".to_owned(),
            sessions: 1,
            time_left_s: None,
            pause_left_s: Some(754),
            start_time: 1_783_949_598.14,
            duration_s: 3723,
            reason: None,
            endpoint: None,
        }
    }

    #[test]
    fn a_table_fits_the_terminal() {
        let command = "make test ".repeat(20);
        let rows = [
            row("shop:0b5e1234-7a44-4f0e-8f6b-0123456789ab", &command),
            row("shop:0c5e1234-7a44-4f0e-8f6b-0123456789ab", "true"),
        ];
        let whole = of(&rows, None);
        assert!(whole.contains("-0123456789ab  paused"), "{whole}");
        assert!(whole.contains(command.trim_end()), "{whole}");
        let narrow = of(&rows, Some(110));
        assert!(narrow.lines().all(|line| line.chars().count() <= 110), "{narrow}");
        let line = narrow.lines().nth(1).unwrap_or_default();
        let wanted = "shop:0b5e1234  paused  PRE_BUILD  2026/07/13 13:33:18  1:02:03  1         12:34 (pause)  make";
        assert!(line.starts_with(wanted), "{line}");
        assert!(line.ends_with('…'), "{line}");
        for (width, wanted) in [
            (
                100,
                "shop:0b5e1234  paused  PRE_BUILD  07/13 13:33  1:02:03  1         12:34 (pause)  make test make tes…",
            ),
            (
                80,
                "shop:0b5e1234  paused  PRE_BUILD  1:02:03  12:34 (pause)  make test make test m…",
            ),
            (50, "shop:0b5e1234  paused  12:34 (pause)  make test m…"),
            (37, "shop:0b5e1234  paused  make test mak…"),
            (20, "shop:0b5e1234  paus…"),
        ] {
            let narrow = of(&rows, Some(width));
            assert_eq!(narrow.lines().nth(1), Some(wanted));
            assert!(narrow.lines().all(|line| line.chars().count() <= width), "{narrow}");
        }
    }

    #[test]
    fn builds_of_a_batch_have_their_names() {
        let mut rows = ["shop:0b5e1234-7a44", "shop:0c5e1234-7a44"].map(|id| row(id, "make"));
        rows[0].identifier = Some("unit".to_owned());
        let whole = of(&rows, None);
        assert!(whole.starts_with("BUILD               IN BATCH  STATE"), "{whole}");
        assert!(whole.contains("7a44  unit      paused"), "{whole}");
        assert!(whole.contains("7a44  -         paused"), "{whole}");
    }

    #[test]
    fn ids_that_begin_alike_stay_whole() {
        let alike = ["p:0b5e1234-1", "p:0b5e1234-2"];
        let rows = alike.map(|id| row(id, "x"));
        assert_eq!(short_ids(&rows), alike);
    }
}
