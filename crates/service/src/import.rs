//! Imports the projects of a file, all or none: the output of a real account, or the input of
//! CreateProject.

use crate::db::projects::{self, Project};
use crate::db::{self, DatabaseOpenError, Db, DbError};
use crate::model::shape::InputProblems;
use crate::model::{DescribedService, known, validate};
use crate::project::{self, merge};
use runner_folder::state::Home;
use runner_host::clock;
use runner_host::stdio::say;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::HashSet;

/// A project in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedProject {
    pub name: String,
    pub given: Value,
    /// Why its builds cannot run here as it stands.
    pub unrunnable: Vec<String>,
}

/// What happened to a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imported {
    New(String),
    Replaced(String),
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Projects of these names exist.
    #[error("{}: there already", .0.join(", "))]
    Exist(Vec<String>),
    #[error(transparent)]
    Open(#[from] DatabaseOpenError),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Reads the projects of a file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(file: &Value) -> Result<Vec<ImportedProject>, Vec<String>> {
    let all: Vec<&Value> = match (&file["projects"], &file["project"]) {
        (Value::Array(all), _) => all.iter().collect(),
        (_, one @ Value::Object(_)) => vec![one],
        _ => vec![file],
    };
    let (mut found, mut problems, mut names) = (Vec::new(), Vec::new(), HashSet::new());
    if all.is_empty() {
        problems.push("it has no projects".to_owned());
    }
    for (at, one) in all.into_iter().enumerate() {
        let name = project::text(&one["name"]).to_owned();
        let shown = if name.is_empty() { format!("project {}", at + 1) } else { name.clone() };
        match named(name, one) {
            Err(more) => problems.extend(more.into_iter().map(|text| format!("{shown}: {text}"))),
            Ok(one) if !names.insert(one.name.clone()) => {
                problems.push(format!("{shown}: it is there twice"));
            }
            Ok(one) => found.push(one),
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

fn named(name: String, given: &Value) -> Result<ImportedProject, Vec<String>> {
    let mut given = given.clone();
    // Responses and calls name this member differently.
    if let Some(members) = given.as_object_mut()
        && let Some(badge) = members.remove("badge")
    {
        members.entry("badgeEnabled").or_insert(json!(badge["badgeEnabled"] == true));
    }
    match validate(DescribedService::CodeBuild, "CreateProject", &given) {
        Err(InputProblems::Type(text)) => return Err(vec![text]),
        Err(InputProblems::Constraints(all)) => return Err(all),
        Ok(()) => {}
    }
    let given = project::given(&known(DescribedService::CodeBuild, "CreateProject", &given));
    let problems = project::problems(&given);
    if !problems.is_empty() {
        return Err(problems);
    }
    let unrunnable = merge(&name, &given, &json!({})).err().unwrap_or_default();
    Ok(ImportedProject { name, given, unrunnable })
}

/// Imports projects, all or none. Another process may serve the database meanwhile.
///
/// # Errors
/// Nothing was imported.
pub fn put(
    home: &Home,
    is_served: bool,
    all: Vec<ImportedProject>,
    replaces: bool,
) -> Result<Vec<Imported>, ImportError> {
    let now = clock::wall().epoch_millis();
    let put = move |connection: &Connection| -> Result<Vec<Imported>, ImportError> {
        let (mut done, mut there) = (Vec::new(), Vec::new());
        for ImportedProject { name, given, .. } in all {
            let old = projects::get(connection, &name)?;
            let (created, cache_epoch) =
                old.as_ref().map_or((now, 0), |old| (old.created, old.cache_epoch));
            if old.is_some() && !replaces {
                there.push(name);
                continue;
            }
            done.push(match old {
                None => Imported::New(name.clone()),
                Some(_) => Imported::Replaced(name.clone()),
            });
            projects::put(
                connection,
                &Project { name, given, created, modified: now, cache_epoch },
            )?;
        }
        if there.is_empty() { Ok(done) } else { Err(ImportError::Exist(there)) }
    };
    if is_served {
        let connection = db::open_served(home.root())?;
        return db::transaction(&connection, put);
    }
    let opened = Db::open(home.root())?;
    opened.told.iter().for_each(|line| say(line));
    opened.db.write_now(put)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(name: &str) -> Value {
        json!({
            "name": name, "arn": "arn:aws:codebuild:eu-west-1:1:project/a", "created": 1.0,
            "source": {"type": "NO_SOURCE", "buildspec": "version: 0.2\n", "insecureSsl": false},
            "artifacts": {"type": "NO_ARTIFACTS"}, "badge": {"badgeEnabled": true},
            "environment": {"type": "LINUX_CONTAINER", "image": "host", "computeType": "BUILD_GENERAL1_SMALL"},
            "serviceRole": "arn:aws:iam::123456789012:role/builds", "projectVisibility": "PRIVATE",
        })
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let mut bad = answered("bad");
        bad["artifacts"]["location"] = json!("b");
        bad["serviceRole"] = json!("x");
        let file =
            json!({"projects": [answered("good"), bad, {"name": "worse"}, answered("good")]});
        let problems = read(&file).expect_err("refused");
        let has = |text: &str| problems.iter().any(|problem| problem.contains(text));
        assert!(has("bad: Invalid artifacts"), "{problems:?}");
        assert!(has("bad: Invalid service role"), "{problems:?}");
        assert!(has("worse: Value null at 'source'"), "{problems:?}");
        assert!(has("good: it is there twice"), "{problems:?}");
        assert!(read(&json!({"projects": []})).is_err());
    }

    #[test]
    fn what_an_account_prints_is_taken_in_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().to_path_buf()).expect("a state folder");
        let all = |names: &[&str]| {
            let all: Vec<Value> = names.iter().map(|name| answered(name)).collect();
            read(&json!({"projects": all})).expect("projects")
        };
        let one = all(&["one"]);
        assert_eq!(one[0].given["badgeEnabled"], true);
        assert!(one[0].given.get("arn").is_none() && one[0].unrunnable.is_empty());
        let done = put(&home, false, one, false).expect("done");
        assert_eq!(done, [Imported::New("one".to_owned())]);
        // A service that runs at the same time.
        let served = Db::open(home.root()).expect("a database").db;
        let error = put(&home, true, all(&["one", "two"]), false).expect_err("there");
        assert!(matches!(error, ImportError::Exist(names) if names == ["one"]));
        let get = |name: &'static str| {
            served.read_now(move |connection| projects::get(connection, name)).expect("a look")
        };
        assert_eq!(get("two"), None, "nothing was taken in");
        let done = put(&home, true, all(&["one", "two"]), true).expect("done");
        assert_eq!(done, [Imported::Replaced("one".to_owned()), Imported::New("two".to_owned())]);
        assert!(get("two").is_some());
    }
}
