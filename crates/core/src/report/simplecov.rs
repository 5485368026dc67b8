//! SIMPLECOV: SimpleCov's `.resultset.json`, and the `coverage.json` of its JSON formatter.

use super::cucumber::malformed;
use super::model::FileCoverage;
use super::{Contents, Malformed};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// How often each line was run; none for lines that are no code.
type Lines = Vec<Option<u64>>;

#[derive(Clone, Debug, Default)]
struct Hits {
    lines: Lines,
    taken: u64,
    branches: u64,
}

#[derive(Default)]
struct Document {
    files: BTreeMap<String, Hits>,
    has_coverage: bool,
}

pub(super) fn read(text: &str) -> Contents {
    let whole = |reason: &str| {
        let problem = Malformed { line: 0, column: 0, reason: reason.to_owned() };
        Contents { problem: Some(problem), ..Contents::default() }
    };
    if text.trim().is_empty() {
        return whole("the file is empty");
    }
    match serde_json::from_str::<Document>(text) {
        Err(error) => Contents { problem: Some(malformed(&error)), ..Contents::default() },
        Ok(document) if !document.has_coverage => whole("there is no `coverage` in it"),
        Ok(document) => {
            let coverage = document.files.into_iter().map(|(path, hits)| {
                let lines = hits.lines.into_iter().flatten();
                let (covered, missed): (Vec<u64>, Vec<u64>) = lines.partition(|&count| count > 0);
                FileCoverage {
                    path,
                    lines_covered: covered.len() as u64,
                    lines_missed: missed.len() as u64,
                    branches_covered: hits.taken,
                    branches_missed: hits.branches.saturating_sub(hits.taken),
                }
            });
            Contents { coverage: coverage.collect(), ..Contents::default() }
        }
    }
}

impl Document {
    /// Runs of the same file add up.
    fn add(&mut self, files: Files) {
        self.has_coverage = true;
        for (path, hits) in files.0 {
            let known = self.files.entry(path).or_default();
            if known.lines.len() < hits.lines.len() {
                known.lines.resize(hits.lines.len(), None);
            }
            for (line, more) in known.lines.iter_mut().zip(&hits.lines) {
                if let Some(more) = more {
                    *line = Some(line.unwrap_or(0).saturating_add(*more));
                }
            }
            known.taken = known.taken.max(hits.taken);
            known.branches = known.branches.max(hits.branches);
        }
    }
}

/// Visits a map and hands on each key with the access to its value; whatever is no map is an error
/// with its place.
macro_rules! map_visitor {
    ($type:ty, $what:literal, |$this:ident, $key:ident, $map:ident| $body:block) => {
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
                }
                deserializer.deserialize_map(Map)
            }
        }
    };
}

#[derive(Default)]
struct Files(BTreeMap<String, Hits>);

#[derive(Default)]
struct Command(Option<Files>);

map_visitor!(Document, "a map of runs", |document, key, map| {
    match key.as_str() {
        // The JSON formatter's, beside facts about itself.
        "coverage" => document.add(map.next_value()?),
        "meta" | "groups" | "total" | "errors" => drop(map.next_value::<IgnoredAny>()?),
        _ => {
            if let Command(Some(files)) = map.next_value()? {
                document.add(files);
            }
        }
    }
});

map_visitor!(Command, "a run with its `coverage`", |command, key, map| {
    match key.as_str() {
        "coverage" => command.0 = Some(map.next_value()?),
        _ => drop(map.next_value::<IgnoredAny>()?),
    }
});

map_visitor!(Files, "a map of files", |files, path, map| {
    let hits = map.next_value::<Hits>()?;
    files.0.insert(path, hits);
});

impl<'de> Deserialize<'de> for Hits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrMap;
        impl<'de> Visitor<'de> for ListOrMap {
            type Value = Hits;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of lines, or a map with `lines`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Hits, A::Error> {
                let mut lines = Lines::new();
                while let Some(count) = list.next_element::<Count>()? {
                    lines.push(count.0);
                }
                Ok(Hits { lines, ..Hits::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Hits, A::Error> {
                let mut hits = Hits::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "lines" => {
                            hits.lines =
                                map.next_value::<Option<Hits>>()?.unwrap_or_default().lines;
                        }
                        "branches" => {
                            let Branches { taken, all } = map.next_value()?;
                            (hits.taken, hits.branches) = (taken, all);
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(hits)
            }
        }
        deserializer.deserialize_any(ListOrMap)
    }
}

/// A line's count: a number, or nothing, or a word such as `ignored`.
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Count;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("how often a line was run")
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

/// Branches taken and all, in either of two forms: conditions with their branches, or a list.
#[derive(Default)]
struct Branches {
    taken: u64,
    all: u64,
}

impl Branches {
    fn count(&mut self, hits: u64) {
        self.all += 1;
        self.taken += u64::from(hits > 0);
    }
}

impl<'de> Deserialize<'de> for Branches {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct One {
            #[serde(default)]
            coverage: Option<u64>,
        }
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Branches;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("branches")
            }

            fn visit_unit<E>(self) -> Result<Branches, E> {
                Ok(Branches::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Branches, A::Error> {
                let mut branches = Branches::default();
                while let Some(one) = list.next_element::<One>()? {
                    branches.count(one.coverage.unwrap_or(0));
                }
                Ok(branches)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Branches, A::Error> {
                let mut branches = Branches::default();
                while map.next_key::<IgnoredAny>()?.is_some() {
                    for hits in map.next_value::<BTreeMap<String, u64>>()?.into_values() {
                        branches.count(hits);
                    }
                }
                Ok(branches)
            }
        }
        deserializer.deserialize_any(Any)
    }
}
