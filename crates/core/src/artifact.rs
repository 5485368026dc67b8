//! Where an artifact is stored, and under which name.
//!
//! Input comes from the command line and the project. `crates/outputs/src`, which knows buckets and
//! folders, uses the result. A local folder has the same layout as a bucket.

use serde::{Deserialize, Serialize};

/// How an artifact is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Packaging {
    /// Each file on its own.
    None,
    /// All files in one ZIP.
    Zip,
}

/// Whether the name includes the build ID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Namespace {
    /// Without the build ID.
    #[default]
    None,
    /// With the build ID.
    BuildId,
}

/// A project's settings for an artifact, except the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactSettings {
    /// Prefix of the name.
    pub path: String,
    /// The part between the path and the name.
    pub namespace: Namespace,
    /// The name; `/` means none. If absent, the name comes from the buildspec, then from the
    /// identifier of a secondary artifact; otherwise there is none.
    pub name: Option<String>,
    /// If absent, a name that ends in `.zip` makes a ZIP.
    pub packaging: Option<Packaging>,
    /// Whether the buildspec's name overrides [`Self::name`].
    pub override_name: bool,
}

/// The place of an artifact in its bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactPlace {
    /// The key without leading or trailing slashes; empty for the bucket itself.
    pub key: String,
    /// How it is stored there.
    pub packaging: Packaging,
}

impl ArtifactSettings {
    /// Resolves the place. `own_name` is the buildspec's name, evaluated; `prefix` is its
    /// `s3-prefix`.
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
        // A ZIP always needs a name.
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
        // A shell produced the name, so drop parts that would lead out of the bucket's folder.
        let parts: Vec<&str> = parts.filter(|part| !matches!(*part, "" | "." | "..")).collect();
        ArtifactPlace { key: parts.join("/"), packaging }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the specification's table, row by row.
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
