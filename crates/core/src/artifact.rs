//! Where an artifact goes and what it is called there.
//!
//! Fed by the command line and the project; used by `crates/outputs/src`, which knows buckets and folders. A
//! folder of this machine has the layout of a bucket.

use serde::{Deserialize, Serialize};

/// How an artifact is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Packaging {
    /// Each file by itself.
    None,
    /// All files in one ZIP.
    Zip,
}

/// Whether the build's id is part of the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Namespace {
    /// It is not.
    #[default]
    None,
    /// It is.
    BuildId,
}

/// What a project says of an artifact, but for the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactSettings {
    /// Prefix of the name.
    pub path: String,
    /// What comes between the two.
    pub namespace: Namespace,
    /// The name; `/` for none. Where it is absent: the buildspec's, else the identifier of a secondary
    /// artifact, else none.
    pub name: Option<String>,
    /// Where it is absent, a name that ends in `.zip` makes a ZIP.
    pub packaging: Option<Packaging>,
    /// Whether a name in the buildspec goes before [`Self::name`].
    pub override_name: bool,
}

/// Where an artifact goes below its bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactPlace {
    /// Without slashes at its ends; empty for the bucket itself.
    pub key: String,
    /// How it is stored there.
    pub packaging: Packaging,
}

impl ArtifactSettings {
    /// Resolves everything. `own_name` is the buildspec's, evaluated; `prefix` its `s3-prefix`.
    #[must_use]
    pub fn place(
        &self,
        identifier: Option<&str>,
        own_name: Option<&str>,
        prefix: Option<&str>,
        build: &str,
    ) -> ArtifactPlace {
        let name = match (&self.name, own_name) {
            (Some(name), None) => name,
            (Some(name), Some(_)) if !self.override_name => name,
            (_, Some(own)) => own,
            (None, None) => identifier.unwrap_or("/"),
        };
        let is_zip = std::path::Path::new(name).extension().is_some_and(|end| end == "zip");
        let packaging = self.packaging.unwrap_or(match is_zip {
            true => Packaging::Zip,
            false => Packaging::None,
        });
        // A ZIP needs a name of some kind.
        let name = match (packaging, name.trim_matches('/')) {
            (Packaging::Zip, "") => {
                identifier.map_or("artifacts.zip".into(), |id| format!("{id}.zip"))
            }
            (_, name) => name.to_owned(),
        };
        let parts: Vec<&str> = match self.namespace {
            Namespace::None => vec![&self.path, &name],
            Namespace::BuildId => vec![prefix.unwrap_or(&self.path), build, &name],
        };
        let parts = parts.iter().flat_map(|part| part.split('/'));
        // A name is the shell's word; what would lead out of the bucket's folder does not.
        let parts: Vec<&str> = parts.filter(|part| !matches!(*part, "" | "." | "..")).collect();
        ArtifactPlace { key: parts.join("/"), packaging }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the specification, row by row.
    #[test]
    fn names_are_those_of_the_table() {
        use {Namespace::BuildId, Packaging::Zip};
        let none = (Namespace::None, Packaging::None);
        for (path, (namespace, packaging), name, wanted) in [
            ("", (Namespace::None, Zip), "a.zip", "a.zip"),
            ("P", (Namespace::None, Zip), "a.zip", "P/a.zip"),
            ("P", (BuildId, Zip), "a.zip", "P/uuid/a.zip"),
            ("", none, "/", ""),
            ("P", (BuildId, Packaging::None), "/", "P/uuid"),
            ("P", none, "n", "P/n"),
            ("P/", none, "n/m/", "P/n/m"),
        ] {
            let settings = ArtifactSettings {
                path: path.to_owned(),
                namespace,
                name: Some(name.to_owned()),
                packaging: Some(packaging),
                override_name: false,
            };
            let place = settings.place(None, None, None, "uuid");
            assert_eq!(place, ArtifactPlace { key: wanted.to_owned(), packaging }, "{path} {name}");
        }
    }

    #[test]
    fn without_a_project_the_buildspec_names_it() {
        let settings = ArtifactSettings::default();
        let place = |id, name| {
            let place = settings.place(id, name, None, "uuid");
            (place.key, place.packaging)
        };
        assert_eq!(place(None, None), (String::new(), Packaging::None));
        assert_eq!(place(None, Some("v1/app")), ("v1/app".to_owned(), Packaging::None));
        assert_eq!(place(None, Some("app.zip")), ("app.zip".to_owned(), Packaging::Zip));
        assert_eq!(place(Some("docs"), None), ("docs".to_owned(), Packaging::None));
        assert_eq!(place(None, Some("../../etc/./x")), ("etc/x".to_owned(), Packaging::None));
    }

    #[test]
    fn a_projects_name_stands_unless_it_may_be_overridden() {
        let mut settings = ArtifactSettings { name: Some("fixed".into()), ..Default::default() };
        assert_eq!(settings.place(None, Some("own"), None, "u").key, "fixed");
        settings.override_name = true;
        assert_eq!(settings.place(None, Some("own"), None, "u").key, "own");
        assert_eq!(settings.place(None, None, None, "u").key, "fixed");
        settings.namespace = Namespace::BuildId;
        assert_eq!(settings.place(None, Some("own.zip"), Some("pre"), "u").key, "pre/u/own.zip");
        settings.packaging = Some(Packaging::Zip);
        settings.name = Some("/".into());
        assert_eq!(settings.place(None, None, None, "u").key, "u/artifacts.zip");
    }
}
