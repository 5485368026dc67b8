//! Breakpoints and conditions: parsed, printed and parsed again, rejected with a column, evaluated.

use super::*;
use crate::phase::{Block, Phase};
use crate::spec::{USER_PHASES, UserPhase};
use std::time::Duration;

fn facts<'f>(variables: &'f [(Vec<u8>, Vec<u8>)]) -> StopContext<'f> {
    StopContext {
        status: 137,
        signal: 9,
        failed: true,
        phase: Phase::PreBuild,
        place: "pre_build:2".parse().ok(),
        run: 12,
        hits: 3,
        elapsed: Duration::from_secs(90),
        text: "npm test -- --slow",
        output: "first\nerror: no such thing\n",
        variables,
    }
}

fn breakpoint(text: &str) -> Breakpoint {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn every_form_is_read() {
    let place = |phase, block, index| CommandPlace { phase, block, index };
    let (commands, finally) = (Block::Commands, Block::Finally);
    for (text, what) in [
        ("start", What::Start),
        ("failure", What::Failure),
        ("any-failure", What::AnyFailure),
        ("before:build", What::Before(place(UserPhase::Build, commands, 0))),
        ("before:pre_build:3", What::Before(place(UserPhase::PreBuild, commands, 2))),
        ("before:install:finally", What::Before(place(UserPhase::Install, finally, 0))),
        ("before:build:finally:2", What::Before(place(UserPhase::Build, finally, 1))),
        ("after:post_build", What::AfterPhase(UserPhase::PostBuild)),
        ("after:build:1", What::AfterPlace(place(UserPhase::Build, commands, 0))),
        ("change:PATH", What::Change("PATH".to_owned())),
        ("wrote:dist/*.js", What::Wrote("dist/*.js".to_owned())),
        ("wrote:'a b'", What::Wrote("a b".to_owned())),
        ("idle:90s", What::Idle(Duration::from_secs(90))),
        ("longer:1h30m", What::Longer(Duration::from_secs(5400))),
        ("memory:512M", What::Memory(512 << 20)),
    ] {
        let plain = Breakpoint { what, condition: None, hits: None, log: None };
        assert_eq!(breakpoint(text), plain, "{text}");
    }
    let whole =
        breakpoint(r#" command:/a\/b c/  if $A == 'x' && status > 2 hits %5 log "{run}: {{}}" "#);
    let What::Command(pattern) = &whole.what else { panic!("{whole:?}") };
    assert!(pattern.is_in("say a/b c") && !pattern.is_in("a b"));
    assert_eq!(whole.hits, Some(HitCondition::Every(5)));
    assert_eq!(whole.log.as_ref().map(|log| log.fill(&facts(&[]))).as_deref(), Some("12: {}"));
    // A fact may have the same name as a suffix.
    let named = breakpoint("failure if hits hits 2");
    assert_eq!(
        (named.condition, named.hits),
        (Some(Condition::Name(Name::Hits)), Some(HitCondition::Once(2)))
    );
}

#[test]
fn what_does_not_parse_is_told_with_its_column() {
    for (text, column, message) in [
        ("", 1, "a breakpoint is start"),
        ("never", 1, "a breakpoint is start"),
        ("before", 1, "a breakpoint is start"),
        ("before:biuld", 8, "a phase belongs here"),
        ("before:build:0", 14, "counted from 1"),
        ("before:build:x", 14, "whole number is missing"),
        ("before:build:final", 14, "`finally` or a number"),
        ("before:build:2x", 15, "`if`, `hits` or `log`"),
        ("command:npm", 9, "between slashes"),
        ("command:/npm", 9, "no slash at its end"),
        ("command://", 9, "empty pattern"),
        ("command:/(/", 9, "does not parse"),
        ("change:1A", 8, "name of a variable"),
        ("change:dist/app.js", 8, "for files use wrote:GLOB"),
        ("change:*.js if $A == 1", 8, "for files use wrote:GLOB"),
        ("wrote: ", 7, "pattern of paths"),
        ("idle:5", 6, "a time is written"),
        ("idle:5d", 6, "a time is written"),
        ("memory:lots", 8, "a size is written"),
        ("failure iff", 9, "`if`, `hits` or `log`"),
        ("failure if", 11, "a value is missing"),
        ("failure if status = 1", 19, "`==`"),
        ("failure if staus == 1", 12, "`staus` is not known"),
        ("failure if status == ", 22, "a value is missing"),
        ("failure if (status == 1", 12, "never closed"),
        ("failure if text =~ npm", 20, "between slashes"),
        ("failure if text == 'npm", 20, "never closed"),
        ("failure if status 1", 19, "an operator"),
        ("failure if 5x", 12, "a time is written"),
        ("failure if defined(1)", 20, "name of a variable"),
        ("failure hits 0", 14, "counted from 1"),
        ("failure hits many", 14, "N, ==N"),
        ("failure log hi", 13, "in quotes"),
        ("failure log \"a {status\"", 16, "never closed"),
        ("failure log \"a {stats}\"", 17, "`stats` is not known"),
        ("failure log 'a' b", 17, "nothing belongs behind"),
        ("failure hits 2 if status", 16, "only `log"),
    ] {
        let error = text.parse::<Breakpoint>().expect_err(text);
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
    let deep = format!("failure if {}status{}", "(".repeat(70), ")".repeat(70));
    assert!(deep.parse::<Breakpoint>().is_err());
    let long = format!("failure if status == 1{}", " ".repeat(5000));
    assert!(long.parse::<Breakpoint>().is_err());
}

#[test]
fn conditions_are_held_against_facts() {
    let variables = [("A", "10"), ("B", ""), ("A", "9")]
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    for (text, wanted) in [
        ("status == 137 && signal == 9", true),
        ("failed", true),
        ("!failed", false),
        ("failed == 'true'", true),
        ("phase == 'pre_build'", true),
        ("place == 'pre_build:2'", true),
        ("run > 11 && hits <= 3", true),
        ("elapsed > 1m && elapsed < 2m", true),
        ("elapsed == 90s", true),
        ("text =~ /^npm .*slow$/", true),
        ("output !~ /error:/", false),
        // Numeric comparison if both are numbers, otherwise text comparison.
        ("$A < 10", true),
        ("$A < '10'", true),
        ("$A < 'x'", true),
        ("'b' > 'a'", true),
        ("$A == 9.0", true),
        ("$NONE == ''", true),
        ("$B", false),
        ("$A", true),
        ("0", false),
        ("-1 < 0", true),
        ("defined(B) && !defined(NONE)", true),
        ("false_is_no_name == 1 || failed", true),
        ("status == 1 || status == 2 || status == 137", true),
        ("status == 1 && (status == 2 || failed)", false),
        ("'it\\'s' == \"it's\"", true),
        ("(status == 137) == 'true'", true),
    ] {
        match Condition::parse(text) {
            Ok(condition) => assert_eq!(condition.holds(&facts(&variables)), wanted, "{text}"),
            Err(error) => assert!(text.starts_with("false_is"), "{text}: {error}"),
        }
    }
}

#[test]
fn hits_count_as_they_are_written() {
    for (hits, wanted) in [
        (HitCondition::Once(2), [false, true, false, false, false, false]),
        (HitCondition::Exactly(3), [false, false, true, false, false, false]),
        (HitCondition::AtLeast(3), [false, false, true, true, true, true]),
        (HitCondition::MoreThan(3), [false, false, false, true, true, true]),
        (HitCondition::Every(2), [false, true, false, true, false, true]),
    ] {
        let mut counted = false;
        let counts = [1, 2, 3, 4, 5, 6].map(|hit| {
            let counts = hits.counts(hit, counted);
            counted |= counts;
            counts
        });
        assert_eq!(counts, wanted, "{hits:?}");
    }
}

#[test]
fn places_are_written_read_and_ordered() {
    let places = ["install:1", "build:1", "build:2", "build:finally:1", "post_build:1"];
    let read = places.map(|text| text.parse::<CommandPlace>().expect(text));
    assert!(read.is_sorted());
    assert_eq!(read.map(|place| place.to_string()), places);
    assert_eq!(
        "build:finally".parse::<CommandPlace>().expect("a place").to_string(),
        "build:finally:1"
    );
    assert!("build:1 ".parse::<CommandPlace>().is_err());
}

#[test]
fn a_strangers_name_is_cut_and_made_plain() {
    let client = DecisionClient::dap(&format!("a\u{1b}[31m{}", "x".repeat(60)));
    let DecisionClient::Dap(name) = &client else { panic!("{client:?}") };
    assert_eq!(name.chars().count(), 40);
    assert!(!name.contains('\u{1b}'));
    for client in [DecisionClient::Cli, DecisionClient::Key, DecisionClient::Shell, client] {
        assert_eq!(DecisionClient::from(client.to_string()), client);
    }
}

/// Generates breakpoints that cover every part of the language.
struct Maker(u64);

impl Maker {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn text(&mut self) -> String {
        const PARTS: [&str; 10] = ["a", " ", "\"", "'", "\\", "/", "{", "}", "ä🦀", "if"];
        (0..self.below(6)).map(|_| PARTS[usize::try_from(self.below(10)).unwrap_or(0)]).collect()
    }

    fn name(&mut self) -> String {
        ["A", "_x", "PATH", "hits", "a1"][usize::try_from(self.below(5)).unwrap_or(0)].to_owned()
    }

    fn pattern(&mut self) -> Pattern {
        let texts = ["a/b", "^x$", "\\d+ \\\\", "a\\/b", "[/]", "(a|b) \"c\"", "{{"];
        let text = texts[usize::try_from(self.below(6)).unwrap_or(0)];
        let Condition::Matches { pattern, .. } = Condition::parse(&format!(
            "text =~ /{}/",
            text.replace("\\/", "/").replace('/', "\\/")
        ))
        .unwrap_or_else(|error| panic!("{text}: {error}")) else {
            panic!("{text}")
        };
        pattern
    }

    fn condition(&mut self, depth: u64) -> Condition {
        let part = |maker: &mut Self| Box::new(maker.condition(depth.saturating_sub(1)));
        match self.below(if depth == 0 { 6 } else { 11 }) {
            0 => Condition::Name(
                [Name::Status, Name::Hits, Name::Text][usize::try_from(self.below(3)).unwrap_or(0)],
            ),
            1 => Condition::Variable(self.name()),
            2 => Condition::Defined(self.name()),
            #[allow(clippy::cast_precision_loss, reason = "small")]
            3 => Condition::Number(self.below(4000) as f64 / 8.0 - 100.0),
            4 => Condition::Time(Duration::from_millis(self.below(10_000_000))),
            5 => Condition::Text(self.text()),
            6 => Condition::Not(part(self)),
            7 => Condition::And(part(self), part(self)),
            8 => Condition::Or(part(self), part(self)),
            9 => {
                let all = [Comparison::Equal, Comparison::AtMost, Comparison::More];
                let how = all[usize::try_from(self.below(3)).unwrap_or(0)];
                Condition::Compare(part(self), how, part(self))
            }
            _ => Condition::Matches {
                value: part(self),
                pattern: self.pattern(),
                is_negated: self.below(2) == 0,
            },
        }
    }

    fn what(&mut self) -> What {
        let phase = USER_PHASES[usize::try_from(self.below(4)).unwrap_or(0)];
        let block = if self.below(2) == 0 { Block::Commands } else { Block::Finally };
        let place = CommandPlace { phase, block, index: u32::try_from(self.below(9)).unwrap_or(0) };
        match self.below(13) {
            0 => What::Start,
            1 => What::Failure,
            2 => What::AnyFailure,
            3 => What::Before(place),
            4 => What::AfterPhase(phase),
            5 => What::AfterPlace(place),
            6 => What::Command(self.pattern()),
            7 => What::Change(self.name()),
            8 => What::Wrote(format!("x{}", self.text())),
            9 => What::Output(self.pattern()),
            10 => What::Idle(Duration::from_millis(self.below(10_000_000))),
            11 => What::Longer(Duration::from_secs(self.below(100_000))),
            _ => What::Memory(self.below(1 << 40) + 1),
        }
    }

    fn breakpoint(&mut self) -> Breakpoint {
        let what = self.what();
        let condition = (self.below(2) == 0).then(|| self.condition(3));
        let count = self.below(9) + 1;
        let makes = [
            HitCondition::Once,
            HitCondition::Exactly,
            HitCondition::AtLeast,
            HitCondition::MoreThan,
            HitCondition::Every,
        ];
        let hits = makes.get(usize::try_from(self.below(8)).unwrap_or(0)).map(|make| make(count));
        let log = (self.below(2) == 0).then(|| {
            let text = self.text().replace('{', "{{").replace('}', "}}");
            let value = self.condition(2);
            Template::read(&format!("{text}{{{value}}}{text}"), 0)
                .unwrap_or_else(|error| panic!("{text:?} {value}: {error}"))
        });
        Breakpoint { what, condition, hits, log }
    }
}

#[test]
fn what_is_written_reads_back() {
    let mut maker = Maker(0x9E37_79B9_7F4A_7C15);
    for _ in 0..20_000 {
        let made = maker.breakpoint();
        let text = made.to_string();
        assert_eq!(breakpoint(&text), made, "{text}");
    }
}

#[test]
fn nothing_typed_makes_the_parser_stumble() {
    let mut maker = Maker(77);
    for _ in 0..20_000 {
        let text = maker.breakpoint().to_string();
        let characters: Vec<char> = text.chars().collect();
        let from = usize::try_from(maker.below(characters.len() as u64)).unwrap_or(0);
        let cut: String = characters[..from]
            .iter()
            .chain(&characters[(from + 1).min(characters.len())..])
            .collect();
        if let Err(error) = cut.parse::<Breakpoint>() {
            let length = u32::try_from(cut.chars().count()).unwrap_or(u32::MAX);
            assert!((1..=length + 2).contains(&error.column), "{cut}: {error}");
        }
    }
}
