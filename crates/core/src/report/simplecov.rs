//! SIMPLECOV: SimpleCov's `.resultset.json`, and the `coverage.json` of its JSON formatter, which
//! is the default from version 1.0 on.

use super::coverage::{FileCoverage, Tally};
use super::cucumber::malformed;
use super::{Contents, Malformed, totals};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

pub(super) fn read(text: &str) -> Contents {
    if text.trim().is_empty() {
        return Contents::refused(Malformed::whole("the file is empty"));
    }
    // The form decides what the other keys mean.
    let form = match serde_json::from_str::<SimplecovForm>(text) {
        Ok(form) => form,
        Err(error) => return Contents::refused(malformed(&error)),
    };
    let document = match form.has_coverage {
        true => serde_json::from_str::<Formatted>(text).map(|formatted| formatted.0),
        false => serde_json::from_str::<ResultSet>(text).map(|runs| runs.0),
    };
    match document {
        Err(error) => Contents::refused(malformed(&error)),
        Ok(SimplecovDocument { files: None, .. }) => {
            Contents::refused(Malformed::whole("there is no `coverage` in it"))
        }
        Ok(SimplecovDocument { files: Some(files), said }) => {
            let coverage: Vec<FileCoverage> = files.0.into_iter().map(covered).collect();
            let found = coverage.iter().map(|file| file.lines.all()).fold(0, u64::saturating_add);
            let doubt = totals::missing(0, "lines", said, found);
            Contents { coverage, doubts: doubt.into_iter().collect(), ..Contents::default() }
        }
    }
}

fn covered((path, hits): (String, SimplecovHits)) -> FileCoverage {
    FileCoverage { path, roots: Vec::new(), lines: hits.lines, branches: hits.branches }
}

/// The contents of a document in either form.
#[derive(Default)]
struct SimplecovDocument {
    files: Option<SimplecovFiles>,
    /// Number of lines that the document reports.
    said: Option<u64>,
}

#[derive(Default)]
struct SimplecovForm {
    has_coverage: bool,
}

/// The JSON formatter's document.
#[derive(Default)]
struct Formatted(SimplecovDocument);

/// A result set: runs by name.
#[derive(Default)]
struct ResultSet(SimplecovDocument);

/// One run, if it is one.
#[derive(Default)]
struct SimplecovRun(Option<SimplecovFiles>);

/// The formatter's own totals; only the lines matter.
#[derive(Default)]
struct Total(Option<u64>);

#[derive(Default)]
struct LineTotal {
    covered: Option<u64>,
    missed: Option<u64>,
}

#[derive(Default)]
struct SimplecovFiles(BTreeMap<String, SimplecovHits>);

#[derive(Default)]
struct SimplecovHits {
    lines: Tally,
    branches: Tally,
}

impl SimplecovFiles {
    /// Adds a measurement. Measurements of the same file are merged.
    fn add(&mut self, path: String, hits: SimplecovHits) {
        let known = self.0.entry(path).or_default();
        known.lines.unite(hits.lines);
        known.branches.unite(hits.branches);
    }
}

/// Parses a map and calls a block for each key with access to its value. Anything but a map is an
/// error with its place, or is ignored if `else` says so.
macro_rules! map_visitor {
    (@ask $deserializer:ident $map:ident) => {
        $deserializer.deserialize_map($map)
    };
    (@ask $deserializer:ident $map:ident or_nothing) => {
        $deserializer.deserialize_any($map)
    };
    (@or_nothing $type:ty) => {
        fn visit_bool<E>(self, _: bool) -> Result<$type, E> {
            Ok(<$type>::default())
        }

        fn visit_u64<E>(self, _: u64) -> Result<$type, E> {
            Ok(<$type>::default())
        }

        fn visit_i64<E>(self, _: i64) -> Result<$type, E> {
            Ok(<$type>::default())
        }

        fn visit_f64<E>(self, _: f64) -> Result<$type, E> {
            Ok(<$type>::default())
        }

        fn visit_str<E>(self, _: &str) -> Result<$type, E> {
            Ok(<$type>::default())
        }

        fn visit_unit<E>(self) -> Result<$type, E> {
            Ok(<$type>::default())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<$type, A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(<$type>::default())
        }
    };
    ($type:ty, $what:literal, |$this:ident, $key:ident, $map:ident| $body:block $(, $else:ident)?) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Map;
                impl<'de> Visitor<'de> for Map {
                    type Value = $type;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str($what)
                    }

                    fn visit_map<A: MapAccess<'de>>(
                        self,
                        mut $map: A,
                    ) -> Result<Self::Value, A::Error> {
                        let mut $this = <$type>::default();
                        while let Some($key) = $map.next_key::<String>()? {
                            $body
                        }
                        Ok($this)
                    }

                    $(map_visitor!(@$else $type);)?
                }
                map_visitor!(@ask deserializer Map $($else)?)
            }
        }
    };
}

map_visitor!(SimplecovForm, "a map of runs", |form, key, map| {
    form.has_coverage |= key == "coverage";
    map.next_value::<IgnoredAny>()?;
});

map_visitor!(Formatted, "a map with `coverage`", |formatted, key, map| {
    match key.as_str() {
        "coverage" => formatted.0.files = Some(map.next_value()?),
        "total" => formatted.0.said = map.next_value::<Total>()?.0,
        _ => drop(map.next_value::<IgnoredAny>()?),
    }
});

map_visitor!(ResultSet, "a map of runs", |runs, _name, map| {
    if let SimplecovRun(Some(files)) = map.next_value()? {
        let known = runs.0.files.get_or_insert_default();
        for (path, hits) in files.0 {
            known.add(path, hits);
        }
    }
});

map_visitor!(
    SimplecovRun,
    "a run with its `coverage`",
    |run, key, map| {
        match key.as_str() {
            "coverage" => run.0 = Some(map.next_value()?),
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
    },
    or_nothing
);

map_visitor!(
    Total,
    "sums",
    |total, key, map| {
        match key.as_str() {
            "lines" => {
                let LineTotal { covered, missed } = map.next_value()?;
                total.0 = covered.zip(missed).map(|(one, other)| one.saturating_add(other));
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
    },
    or_nothing
);

map_visitor!(
    LineTotal,
    "a sum of lines",
    |total, key, map| {
        match key.as_str() {
            "covered" => total.covered = map.next_value::<Count>()?.0,
            "missed" => total.missed = map.next_value::<Count>()?.0,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
    },
    or_nothing
);

map_visitor!(SimplecovFiles, "a map of files", |files, path, map| {
    let hits = map.next_value::<SimplecovHits>()?;
    files.add(path, hits);
});

impl<'de> Deserialize<'de> for SimplecovHits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrMap;
        impl<'de> Visitor<'de> for ListOrMap {
            type Value = SimplecovHits;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of lines, or a map with `lines`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<SimplecovHits, A::Error> {
                let mut hits = SimplecovHits::default();
                let mut number = 0;
                while let Some(Count(count)) = list.next_element()? {
                    number += 1;
                    if let Some(count) = count {
                        hits.lines.line(number, count > 0);
                    }
                }
                Ok(hits)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SimplecovHits, A::Error> {
                let mut hits = SimplecovHits::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "lines" => {
                            hits.lines = map
                                .next_value::<Option<SimplecovHits>>()?
                                .unwrap_or_default()
                                .lines;
                        }
                        "branches" => hits.branches = map.next_value::<Branches>()?.0,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(hits)
            }
        }
        deserializer.deserialize_any(ListOrMap)
    }
}

/// A count: a number, nothing, or a word such as `ignored`.
#[derive(Default)]
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Count;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("how often it was run")
            }

            fn visit_u64<E>(self, count: u64) -> Result<Count, E> {
                Ok(Count(Some(count)))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Count, E> {
                Ok(Count(Some(0)))
            }

            fn visit_f64<E>(self, count: f64) -> Result<Count, E> {
                Ok(Count(Some(u64::from(count > 0.0))))
            }

            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_str<E>(self, _: &str) -> Result<Count, E> {
                Ok(Count(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Branches in either form: conditions with their branches, or a list.
struct Branches(Tally);

/// A number that identifies a branch, the same in every run.
fn number(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

impl<'de> Deserialize<'de> for Branches {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct One {
            #[serde(default)]
            r#type: Option<String>,
            #[serde(default)]
            start_line: Option<u32>,
            #[serde(default)]
            end_line: Option<u32>,
            #[serde(default)]
            coverage: Count,
        }
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Branches;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("branches")
            }

            fn visit_unit<E>(self) -> Result<Branches, E> {
                Ok(Branches(Tally::default()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Branches, A::Error> {
                let mut branches = Tally::default();
                // A line may have several branches of the same kind.
                let mut alike: BTreeMap<u64, u32> = BTreeMap::new();
                while let Some(one) = list.next_element::<One>()? {
                    let One { r#type, start_line, end_line, coverage } = one;
                    let kind = number((&r#type, start_line, end_line));
                    let which = alike.entry(kind).or_default();
                    *which += 1;
                    if let Count(Some(hits)) = coverage {
                        let part = (start_line.unwrap_or(0), number((kind, *which)));
                        branches.hit(part, u64::from(hits > 0), 1);
                    }
                }
                Ok(Branches(branches))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Branches, A::Error> {
                let mut branches = Tally::default();
                while let Some(condition) = map.next_key::<String>()? {
                    for (branch, count) in map.next_value::<BTreeMap<String, Count>>()? {
                        if let Count(Some(hits)) = count {
                            let part = (0, number((&condition, &branch)));
                            branches.hit(part, u64::from(hits > 0), 1);
                        }
                    }
                }
                Ok(Branches(branches))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
