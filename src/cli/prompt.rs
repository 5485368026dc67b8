//! `runner debug`: a prompt for a live build. Every line is a subcommand of this program, applied
//! to this build.
//!
//! Nothing is decided here: a line is parsed as a command line with the build inserted. After
//! commands that make the build continue, it is followed until it is paused again or over.

use super::course::FollowedBuild;
use super::error::CliError;
use super::home::open;
use super::{Cli, where_it_is};
use clap::CommandFactory;
use nix::sys::signal::Signal;
use runner_core::phase::Block;
use runner_core::view::BuildView;
use runner_folder::events::{CodeBuild, Follower, LogReader, OutputReader};
use runner_folder::state::{BuildNeed, Home, KnownBuild, find};
use runner_host::signals::SignalReader;
use runner_host::stdio::{CheckedStdout, is_gone, say};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};
use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

/// The accepted commands and their descriptions.
const VERBS: &[(&str, &str)] = &[
    ("where", "show where the build is"),
    ("resume", "continue to the next stop"),
    ("step", "continue to the next command"),
    ("retry", "run the command again; --edit, --text TEXT: with another text"),
    ("skip", "leave the command out; --to PLACE: all up to there"),
    ("rewind", "back to before the last run; --to RUN, --without-edits, --resume"),
    ("rerun", "continue from PLACE: PHASE[:finally][:N]"),
    ("abort", "end the build, without anything further"),
    ("stop", "stop the build"),
    ("pause", "stop in the middle of the command that runs"),
    ("eval", "run a text in the state of the build's commands"),
    ("set", "NAME=VALUE, or --unset NAME, for the commands to come"),
    ("env", "variables of the commands to come; --changed"),
    (
        "diff",
        "show what the build changed in its source; --stat, --patch; or runs: --run, --from, --to",
    ),
    ("blame", "PATH: the runs that have changed it"),
    ("history", "the runs so far"),
    ("patch", "put edited commands back into the buildspec; --write"),
    ("break", "add BREAKPOINT, ls, rm NUMBER"),
    ("logs", "the log so far"),
    ("attach", "a shell in the build's container"),
    ("exec", "-- CMD: one command in it"),
    ("help", "this; VERB --help has more"),
    ("quit", "leave; the build stays as it is"),
];

/// After these, the rest of the line is one word, unchanged.
const VERBATIM: [&str; 3] = ["eval", "set", "add"];
/// After these the build may continue.
const GO_ON: [&str; 8] = ["resume", "step", "retry", "skip", "rerun", "rewind", "abort", "stop"];

/// Reads and runs lines until the user quits or the build is over.
pub(super) fn debug(build: Option<&str>) -> Result<u8, CliError> {
    let home = open()?;
    let known = find(&home, build, BuildNeed::Live)?;
    let failed = |error: ReadlineError| CliError::ours(format!("cannot read lines: {error}"));
    // Ctrl-C cancels a line, ends what a line started, or stops following; only at a terminal is
    // there another key that ends the prompt.
    let interrupts = io::stdin()
        .is_terminal()
        .then(|| SignalReader::listen(&[Signal::SIGINT]))
        .transpose()
        .map_err(|error| CliError::ours(format!("cannot listen for signals: {error}")))?;
    let mut prompt = Prompt::new(&home, &known, interrupts)?;
    let mut editor: Editor<Completions, DefaultHistory> = Editor::new().map_err(failed)?;
    editor.set_helper(Some(Completions::default()));
    where_it_is::show(&known)?;
    while !prompt.is_over {
        if let (Some(words), Some(view)) =
            (editor.helper_mut(), prompt.log.catch_up().ok().flatten())
        {
            words.places = places(view, std::mem::take(&mut words.places));
        }
        let line = match editor.readline(&prompt.text()) {
            Ok(line) => line,
            // The line was cancelled.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                CliError::usage("this line is not UTF-8").print();
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        // Kept only for this prompt: a line may contain a secret.
        let _ = editor.add_history_entry(line);
        match prompt.perform(line) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                error.print();
            }
        }
    }
    Ok(0)
}

/// One build, and how far its log was shown.
struct Prompt<'a> {
    home: &'a Home,
    known: &'a KnownBuild,
    log: Follower,
    reader: LogReader,
    output: OutputReader,
    sink: CodeBuild<CheckedStdout>,
    /// Ctrl-C, if there is a terminal.
    interrupts: Option<SignalReader>,
    is_over: bool,
}

impl<'a> Prompt<'a> {
    fn new(
        home: &'a Home,
        known: &'a KnownBuild,
        interrupts: Option<SignalReader>,
    ) -> Result<Self, CliError> {
        let failed = not_read(known);
        let mut prompt = Prompt {
            home,
            known,
            log: Follower::open(&known.dir).map_err(&failed)?,
            reader: LogReader::open(&known.dir).map_err(&failed)?,
            output: OutputReader::open(&known.dir).map_err(&failed)?,
            sink: CodeBuild::new(CheckedStdout).for_people(true),
            interrupts,
            is_over: false,
        };
        // Earlier output can be seen with `logs`.
        prompt.pass().map_err(failed)?;
        Ok(prompt)
    }

    /// Skips the log up to its current end.
    fn pass(&mut self) -> io::Result<()> {
        while self.reader.next_event()?.is_some() {}
        Ok(())
    }

    fn text(&mut self) -> String {
        let view = self.log.catch_up().ok().flatten();
        let stop = view.and_then(|view| view.stop.as_ref()).map(|(_, stop)| stop);
        match stop.and_then(|stop| stop.place) {
            Some(place) => format!("({place}) "),
            None => "(runner) ".to_owned(),
        }
    }

    /// Runs a line. Returns whether to read another.
    fn perform(&mut self, line: &str) -> Result<bool, CliError> {
        let verb = verb(line.split_whitespace().next().unwrap_or_default())?;
        match verb {
            "quit" => return Ok(false),
            "help" => return super::answer(help()).map(|_| true),
            "where" => return where_it_is::show(self.known).map(|()| true),
            _ => {}
        }
        let words = words(verb, line, &self.known.id)?;
        // The other process has the terminal and its signals meanwhile, and prints its result.
        let ran = super::once_more().args(&words[1..]).status();
        let ran = ran.map_err(|error| CliError::ours(format!("{verb}: {error}")))?;
        self.is_interrupted();
        if !ran.success() && verb != "eval" {
            return Ok(true);
        }
        if verb == "eval" {
            // The command has shown its own output.
            self.pass().map_err(not_read(self.known))?;
        }
        if GO_ON.contains(&verb) {
            self.follow()?;
            if !self.is_over && self.is_paused() {
                where_it_is::show(self.known)?;
            }
        }
        Ok(true)
    }

    fn is_paused(&mut self) -> bool {
        self.log.catch_up().ok().flatten().is_some_and(|view| !view.paused.is_empty())
    }

    /// Shows the log until the build is paused or over, or the user presses Ctrl-C.
    fn follow(&mut self) -> Result<(), CliError> {
        let mut course = FollowedBuild::of(self.home, self.known)?;
        loop {
            let is_over = course.record().is_some();
            let failed = not_read(self.known);
            let is_paused = match self.log.catch_up().map_err(&failed)? {
                Some(view) => !view.paused.is_empty(),
                None => false,
            };
            match self.show() {
                Err(error) if !is_gone(&error) => return Err(failed(error)),
                _ => {}
            }
            if is_over {
                let status = course.record().map(|record| record.build_status);
                status.iter().for_each(|status| say(&format!("build {}: {status}", self.known.id)));
                self.is_over = true;
                return Ok(());
            }
            if is_paused {
                return Ok(());
            }
            course.next_or(None, self.interrupts.as_ref().map(AsFd::as_fd))?;
            if self.is_interrupted() {
                say("no longer followed; the build continues, and `pause` stops it");
                return Ok(());
            }
        }
    }

    /// Whether Ctrl-C was pressed since the last call.
    fn is_interrupted(&self) -> bool {
        let interrupts = self.interrupts.iter();
        interrupts.flat_map(|signals| std::iter::from_fn(|| signals.next())).count() > 0
    }

    fn show(&mut self) -> io::Result<()> {
        while let Some(event) = self.reader.next_event()? {
            self.sink.event(&event, &mut self.output)?;
        }
        self.sink.flushed().map(drop)
    }
}

fn not_read(known: &KnownBuild) -> impl Fn(io::Error) -> CliError + use<> {
    let id = known.id.clone();
    move |error| CliError::ours(format!("the log of build {id}: {error}"))
}

/// The subcommand meant by a name or an unambiguous prefix.
fn verb(word: &str) -> Result<&'static str, CliError> {
    let mut fitting = VERBS.iter().filter(|(name, _)| name.starts_with(word));
    let exact = VERBS.iter().find(|(name, _)| *name == word);
    match (exact, fitting.next(), fitting.next()) {
        (Some((name, _)), ..) | (None, Some((name, _)), None) => Ok(name),
        (None, Some((first, _)), Some((second, _))) => {
            Err(CliError::usage(format!("`{word}` may be `{first}` or `{second}`")))
        }
        (None, None, _) => {
            Err(CliError::usage(format!("there is no `{word}` here")).hint("`help` has a list"))
        }
    }
}

/// The line as this program's command line, with the build inserted.
fn words(verb: &str, line: &str, build: &str) -> Result<Vec<String>, CliError> {
    let (_, mut rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    rest = rest.trim();
    let mut words = vec!["runner".to_owned(), verb.to_owned()];
    let mut last = verb;
    if verb == "break" {
        let (sub, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        words.push(sub.to_owned());
        (last, rest) = (sub, behind.trim());
    }
    words.push(build.to_owned());
    if VERBATIM.contains(&last) && !rest.starts_with("--") {
        if rest.is_empty() {
            return Err(CliError::usage(format!("`{last}` needs an argument"))
                .hint(format!("{verb} --help")));
        }
        words.push(rest.to_owned());
        return Ok(words);
    }
    let parted = shlex::split(rest)
        .ok_or_else(|| CliError::usage("a quotation mark in this line has no second one"))?;
    // Help needs no build.
    if parted.iter().any(|word| word == "--help") {
        words.pop();
    }
    words.extend(parted);
    Ok(words)
}

fn help() -> String {
    let width = VERBS.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    VERBS.iter().map(|(name, what)| format!("  {name:<width$}  {what}\n")).collect()
}

/// Places of commands reached so far.
fn places(view: &BuildView, mut known: BTreeSet<String>) -> BTreeSet<String> {
    let stop = view.stop.iter().filter_map(|(_, stop)| stop.place);
    known.extend(stop.filter(|place| place.block != Block::Eval).map(|place| place.to_string()));
    known
}

/// The words that can be completed.
#[derive(Default)]
struct Completions {
    places: BTreeSet<String>,
}

impl Completions {
    fn candidates(&self, before: &str) -> Vec<String> {
        let mut typed = before.split_whitespace();
        let Some(verb) = typed.next() else {
            return VERBS.iter().map(|(name, _)| (*name).to_owned()).collect();
        };
        let command = Cli::command();
        let command = command.find_subcommand(verb);
        let options = command.into_iter().flat_map(clap::Command::get_arguments);
        let options = options.filter_map(|option| Some(format!("--{}", option.get_long()?)));
        let below = command.into_iter().flat_map(clap::Command::get_subcommands);
        let below = below.map(|below| below.get_name().to_owned());
        let places = self.places.iter().filter(|_| matches!(verb, "rerun" | "skip")).cloned();
        below.chain(places).chain(options).collect()
    }
}

impl Completer for Completions {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> Result<(usize, Vec<Pair>), ReadlineError> {
        let before = line.get(..at).unwrap_or(line);
        let begin = before.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
        let (before, word) = before.split_at(begin);
        let fitting = self.candidates(before).into_iter().filter(|name| name.starts_with(word));
        let pair = |name: String| Pair { display: name.clone(), replacement: name };
        Ok((begin, fitting.map(pair).collect()))
    }
}

impl Hinter for Completions {
    type Hint = String;
}
impl Highlighter for Completions {}
impl Validator for Completions {}
impl Helper for Completions {}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        let verb = verb(text.split_whitespace().next().expect("a word")).expect("a verb");
        words(verb, text, "ID").expect("words").join("|")
    }

    #[test]
    fn a_line_is_a_command_line_with_the_build_in_its_place() {
        for (typed, wanted) in [
            ("retry --text 'a b'", "runner|retry|ID|--text|a b"),
            ("ste", "runner|step|ID"),
            ("rerun build:2", "runner|rerun|ID|build:2"),
            ("eval echo \"$A\"  'b", "runner|eval|ID|echo \"$A\"  'b"),
            ("set A=b c", "runner|set|ID|A=b c"),
            ("set --unset A", "runner|set|ID|--unset|A"),
            ("break add failure if $A == \"x y\"", "runner|break|add|ID|failure if $A == \"x y\""),
            ("break rm 2", "runner|break|rm|ID|2"),
            ("diff --stat -- 'a b'", "runner|diff|ID|--stat|--|a b"),
            ("retry --help", "runner|retry|--help"),
        ] {
            assert_eq!(line(typed), wanted);
        }
        assert!(verb("re").is_err() && verb("nothing").is_err());
        assert!(words("diff", "diff 'a", "ID").is_err());
    }

    #[test]
    fn every_verb_is_one_of_this_program() {
        let command = Cli::command();
        for (name, _) in
            VERBS.iter().filter(|(name, _)| !matches!(*name, "where" | "help" | "quit"))
        {
            assert!(command.find_subcommand(name).is_some(), "{name}");
        }
    }

    #[test]
    fn words_are_completed() {
        let words = Completions { places: ["build:2".to_owned()].into() };
        let has = |before: &str, wanted: &str| words.candidates(before).iter().any(|w| w == wanted);
        assert!(has("", "retry") && has("retry ", "--edit") && has("rerun ", "build:2"));
        assert!(has("break ", "add") && !has("retry ", "build:2") && !has("nothing ", "x"));
    }
}
