//! The keys of the buildspec language: their names, shapes and meanings.
//!
//! A single table. `shape` checks documents against it, and `schema` converts it to JSON Schema.
//! `validate` checks values beyond their shape.

#[derive(Debug)]
pub(crate) enum ValueShape {
    /// Any scalar, kept as written.
    Text,
    /// A boolean, in any of YAML's forms.
    Flag,
    /// A whole number.
    Count,
    /// One of these values, ignoring case.
    Choice(&'static [&'static str]),
    /// A scalar with its own syntax, which `validate` checks; the pattern is for the schema.
    Form(&'static str),
    /// A list of scalars. A single scalar counts as a list of one.
    Texts,
    /// A list of commands; the text is CodeBuild's name for it in messages.
    Commands(&'static str),
    /// A list of maps.
    Maps(&'static [LanguageKey]),
    /// A map with these keys.
    Map(&'static [LanguageKey]),
    /// Anything: the value has no effect here.
    Any,
    /// A map with names chosen by the author: what the names are, and the shape of the values.
    Names(&'static str, &'static ValueShape),
}

/// A key in a map of the language.
#[derive(Debug)]
pub(crate) struct LanguageKey {
    pub(crate) name: &'static str,
    pub(crate) shape: ValueShape,
    /// Whether the key is required.
    pub(crate) is_required: bool,
    /// Description in one sentence.
    pub(crate) about: &'static str,
}

pub(crate) const fn key(name: &'static str, shape: ValueShape, about: &'static str) -> LanguageKey {
    LanguageKey { name, shape, is_required: false, about }
}

pub(crate) const fn required(
    name: &'static str,
    shape: ValueShape,
    about: &'static str,
) -> LanguageKey {
    LanguageKey { name, shape, is_required: true, about }
}

use ValueShape::{Choice, Commands, Count, Flag, Form, Map, Maps, Names, Text, Texts};

/// The whole document.
pub(super) const DOCUMENT: ValueShape = Map(&[
    required("version", Form("^0\\.[12]$"), "Version of the language: 0.2, or 0.1."),
    key("run-as", Text, "The Linux user that runs all commands; root if absent."),
    key("env", Map(ENV), "Variables and the shell."),
    key("environment_variables", Map(OLD_ENV), "Version 0.1 only: what `env` is in 0.2."),
    key("proxy", Map(PROXY), "What CodeBuild sends through an explicit proxy."),
    key("batch", Map(BATCH), "Builds of a batch build."),
    key("phases", Map(PHASES), "What the build does."),
    key("reports", Names("a report group", &Map(REPORT)), "Test and coverage reports, by group."),
    key("artifacts", Map(ARTIFACTS), "What the build leaves."),
    key("cache", Map(CACHE), "What the next build finds again."),
]);

const ENV: &[LanguageKey] = &[
    key(
        "shell",
        Text,
        "The shell that runs commands: sh, bash; on Windows powershell.exe, cmd.exe.",
    ),
    key(
        "variables",
        Names("a variable", &Text),
        "Plain variables; nothing in a value is expanded.",
    ),
    key(
        "parameter-store",
        Names("a variable", &Text),
        "Variables with the name of their parameter in Systems Manager Parameter Store.",
    ),
    key(
        "secrets-manager",
        Names("a variable", &Text),
        "Variables with their secret: secret-id[:json-key[:version-stage[:version-id]]].",
    ),
    key("exported-variables", Texts, "Variables whose final values go into the build's record."),
    key("git-credential-helper", Flag, "Whether git asks CodeBuild for credentials."),
];

const OLD_ENV: &[LanguageKey] =
    &[key("plaintext", Names("a variable", &Text), "Plain variables, as env.variables in 0.2.")];

const PROXY: &[LanguageKey] = &[
    key("upload-artifacts", Flag, "Whether artifacts are uploaded through the proxy."),
    key("logs", Flag, "Whether logs are sent through the proxy."),
];

const PHASES: &[LanguageKey] = &[
    key("install", Map(INSTALL), "Packages and runtimes."),
    key("pre_build", Map(PHASE), "What comes before the build."),
    key("build", Map(PHASE), "The build."),
    key("post_build", Map(PHASE), "What comes after the build, also after one that failed."),
];

const RUN_AS: LanguageKey =
    key("run-as", Text, "The Linux user of this phase; it beats the one for all.");
const ON_FAILURE: LanguageKey = key(
    "on-failure",
    Form("(?i)^(abort|continue|retry(-.*)?)$"),
    "What follows when the phase fails: ABORT, CONTINUE, RETRY, RETRY-<count>, RETRY-<regex>, \
     RETRY-<count>-<regex>.",
);
const COMMANDS: LanguageKey =
    key("commands", Commands("Commands"), "Run one after the other until one fails.");
const FINALLY: LanguageKey =
    key("finally", Commands("Finally"), "Run after the commands in any case.");

const PHASE: &[LanguageKey] = &[RUN_AS, ON_FAILURE, COMMANDS, FINALLY];

const INSTALL: &[LanguageKey] = &[
    RUN_AS,
    ON_FAILURE,
    key(
        "runtime-versions",
        Names("a runtime", &Text),
        "Runtimes with the version to be installed: exact, <major>.x, latest or $VARIABLE.",
    ),
    COMMANDS,
    FINALLY,
];

const REPORT: &[LanguageKey] = &[
    required("files", Texts, "Globs of raw result files."),
    key("file-format", Choice(REPORT_FORMATS), "Their format; JUNITXML if absent."),
    key("base-directory", Text, "The directory the globs start from."),
    key("discard-paths", Flag, "Whether exported raw files lose their directories."),
];

/// Formats of test and coverage reports.
pub(super) const REPORT_FORMATS: &[&str] = &[
    "CUCUMBERJSON",
    "JUNITXML",
    "NUNITXML",
    "NUNIT3XML",
    "TESTNGXML",
    "VISUALSTUDIOTRX",
    "CLOVERXML",
    "COBERTURAXML",
    "JACOCOXML",
    "SIMPLECOV",
];

const FILES: LanguageKey = key("files", Texts, "Globs of the files to collect.");
const NAME: LanguageKey = key("name", Text, "Name of the artifact; a shell evaluates it.");
const DISCARD_PATHS: LanguageKey =
    key("discard-paths", Flag, "Whether all files lie at the artifact's root.");
const BASE_DIRECTORY: LanguageKey =
    key("base-directory", Text, "The directory, or glob, that files are collected from.");
const EXCLUDE_PATHS: LanguageKey = key("exclude-paths", Texts, "Globs of files to leave out.");
const ENABLE_SYMLINKS: LanguageKey =
    key("enable-symlinks", Flag, "Whether a ZIP keeps links as links.");
const S3_PREFIX: LanguageKey = key("s3-prefix", Text, "Prefix of the object's key.");

const ARTIFACT: &[LanguageKey] =
    &[FILES, NAME, DISCARD_PATHS, BASE_DIRECTORY, EXCLUDE_PATHS, ENABLE_SYMLINKS, S3_PREFIX];

const ARTIFACTS: &[LanguageKey] = &[
    FILES,
    NAME,
    DISCARD_PATHS,
    BASE_DIRECTORY,
    EXCLUDE_PATHS,
    ENABLE_SYMLINKS,
    S3_PREFIX,
    key("secondary-artifacts", Names("an artifact", &Map(ARTIFACT)), "Further artifacts, by id."),
];

const CACHE: &[LanguageKey] = &[
    key("paths", Texts, "Globs of the files to cache."),
    key("key", Text, "Name of the cache; a shell evaluates it."),
    key("fallback-keys", Texts, "Prefixes of caches that will do, at most five."),
    key("action", Choice(&["restore", "save"]), "Only the one or the other; both if absent."),
];

const IDENTIFIER: LanguageKey = required("identifier", Text, "Name of the build in its batch.");
const BUILDSPEC: LanguageKey =
    key("buildspec", Text, "The buildspec of this build; the current one if absent.");
const DEBUG_SESSION: LanguageKey = key("debug-session", Flag, "Whether sessions are enabled.");
const IGNORE_FAILURE: LanguageKey =
    key("ignore-failure", Flag, "Whether the batch continues as if it had succeeded.");
const PRIVILEGED_MODE: LanguageKey =
    key("privileged-mode", Flag, "Whether the container is privileged.");
const TYPE: LanguageKey = key("type", Text, "The environment type.");
const COMPUTE_TYPE: LanguageKey = key("compute-type", Text, "The compute type.");
const IMAGE: LanguageKey = key("image", Text, "The image.");
const VARIABLES: LanguageKey =
    key("variables", Names("a variable", &Text), "Variables of the build.");
const TASK_ENV: LanguageKey = key(
    "env",
    Map(&[
        COMPUTE_TYPE,
        key("fleet", Text, "The reserved fleet; not together with compute-type."),
        IMAGE,
        PRIVILEGED_MODE,
        TYPE,
        VARIABLES,
    ]),
    "The environment of this build.",
);

const BATCH: &[LanguageKey] = &[
    key("fast-fail", Flag, "Whether one failure stops the others."),
    key(
        "build-list",
        Maps(&[IDENTIFIER, BUILDSPEC, DEBUG_SESSION, IGNORE_FAILURE, TASK_ENV]),
        "Builds that run side by side.",
    ),
    key(
        "build-graph",
        Maps(&[
            IDENTIFIER,
            BUILDSPEC,
            DEBUG_SESSION,
            IGNORE_FAILURE,
            TASK_ENV,
            key("depend-on", Texts, "Builds that must have ended before."),
        ]),
        "Builds that wait for each other.",
    ),
    key(
        "build-matrix",
        Map(&[
            key(
                "static",
                Map(&[
                    IGNORE_FAILURE,
                    key(
                        "env",
                        Map(&[PRIVILEGED_MODE, TYPE, COMPUTE_TYPE, IMAGE, VARIABLES]),
                        "The environment of every build.",
                    ),
                ]),
                "What all builds have in common.",
            ),
            key(
                "dynamic",
                Map(&[
                    key("buildspec", Texts, "Buildspecs."),
                    key(
                        "env",
                        Map(&[
                            key("compute-type", Texts, "Compute types."),
                            key("image", Texts, "Images."),
                            key("variables", Names("a variable", &Texts), "Values of variables."),
                        ]),
                        "Environments.",
                    ),
                ]),
                "What each combination has one of.",
            ),
        ]),
        "One build for each combination.",
    ),
    key(
        "build-fanout",
        Map(&[
            required("parallelism", Count, "How many builds share the tests."),
            IGNORE_FAILURE,
            BUILDSPEC,
            DEBUG_SESSION,
            TASK_ENV,
        ]),
        "One build's tests, shared out.",
    ),
];

/// Parses a boolean in any of YAML's forms.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "y" => Some(true),
        "no" | "false" | "off" | "n" => Some(false),
        _ => None,
    }
}
