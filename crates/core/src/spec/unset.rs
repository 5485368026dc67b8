//! Finds variables that commands use and nothing sets.
//!
//! Used by `lint` on a buildspec alone, and by `plan` for builds, which know their variables. Only
//! certain cases are reported: not names that are set anywhere, checked in a condition, or used
//! after a sourced file.

use super::diagnostic::Span;
use super::model::{Axis, BatchBuilds, BuildSpec, SpecCommand, UserPhase};
use super::shell;
use std::collections::{BTreeMap, BTreeSet};

/// A variable that nothing in a buildspec sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unset {
    /// Its name.
    pub name: String,
    /// Places where commands use it, in order, each line once.
    pub places: Vec<Span>,
}

impl Unset {
    /// The lines of the file that use it.
    #[must_use]
    pub fn lines(&self) -> Vec<u32> {
        self.places.iter().map(|place| place.line).collect()
    }
}

/// Finds such variables in the commands that run, in the order of their first use.
#[must_use]
pub fn unset(spec: &BuildSpec, is_run: impl Fn(UserPhase, &SpecCommand) -> bool) -> Vec<Unset> {
    if is_windows(spec) {
        return Vec::new();
    }
    let mut known = declared(spec);
    let mut uses = Vec::new();
    let mut is_open = false;
    for command in run(spec, is_run) {
        let found = shell::read(&command.text);
        let is_before = |line: usize| found.open_from.is_none_or(|from| line < from);
        let used = found.uses.into_iter().filter(|used| !is_open && is_before(used.line));
        uses.extend(used.map(|used| (used.name, command.line_span(used.line))));
        known.extend(found.sets);
        known.extend(found.optional);
        is_open |= found.open_from.is_some();
    }
    let mut order = Vec::new();
    let mut places: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for (name, span) in uses {
        if known.contains(&name) || is_given(&name) {
            continue;
        }
        let found = places.entry(name.clone()).or_default();
        if found.is_empty() {
            order.push(name);
        }
        if found.last().is_none_or(|last| last.line != span.line) {
            found.push(span);
        }
    }
    let found = |name: String| {
        let places = places.remove(&name).unwrap_or_default();
        Unset { name, places }
    };
    order.into_iter().map(found).collect()
}

fn run(
    spec: &BuildSpec,
    is_run: impl Fn(UserPhase, &SpecCommand) -> bool,
) -> impl Iterator<Item = &SpecCommand> {
    let commands = spec.phases.iter().flat_map(|phase| {
        let commands = phase.commands.iter().chain(&phase.finally);
        commands.map(|command| (phase.phase, command))
    });
    commands.filter(move |(phase, command)| is_run(*phase, command)).map(|(_, command)| command)
}

fn commands(spec: &BuildSpec) -> impl Iterator<Item = &SpecCommand> {
    spec.phases.iter().flat_map(|phase| phase.commands.iter().chain(&phase.finally))
}

/// Names that the buildspec sets outside of commands, and those it exports.
fn declared(spec: &BuildSpec) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = spec.exported.iter().cloned().collect();
    names.extend(spec.variables.iter().chain(&spec.parameters).map(|known| known.name.clone()));
    names.extend(spec.secrets.iter().map(|known| known.name.clone()));
    if spec.git_credential_helper {
        // Variables that configure git's credential helper.
        let own = ["GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0"];
        names.extend(own.map(str::to_owned));
    }
    match spec.batch.as_ref().map(|batch| &batch.builds) {
        Some(BatchBuilds::Tasks(tasks)) => {
            let known = tasks.iter().flat_map(|task| &task.settings.variables);
            names.extend(known.map(|known| known.name.clone()));
        }
        Some(BatchBuilds::Matrix(matrix)) => {
            names.extend(matrix.dimensions.iter().filter_map(|dimension| match &dimension.axis {
                Axis::Variable(name) => Some(name.clone()),
                Axis::Buildspec | Axis::Image | Axis::ComputeType => None,
            }));
        }
        Some(BatchBuilds::Fanout(fanout)) => {
            names.extend(fanout.settings.variables.iter().map(|known| known.name.clone()));
        }
        None => {}
    }
    names
}

/// Whether the buildspec is for Windows, whose commands use another language.
fn is_windows(spec: &BuildSpec) -> bool {
    const MARKS: [&str; 3] = ["$env:", "$Env:", "$null"];
    commands(spec).any(|command| MARKS.iter().any(|mark| command.text.contains(mark)))
}

/// Whether a name is set elsewhere, or is commonly used without a value.
fn is_given(name: &str) -> bool {
    GIVEN.contains(&name)
        || GIVEN_BEGIN.iter().any(|begin| name.starts_with(begin))
        || is_version(name)
}

/// Version variables of AWS's images, such as `NODE_18_VERSION` and `PYTHON_311_VERSION`.
fn is_version(name: &str) -> bool {
    const RUNTIMES: [&str; 8] =
        ["NODE_", "PYTHON_", "RUBY_", "GOLANG_", "PHP_", "JAVA_", "DOTNET_", "ANDROID_"];
    name.contains(|c: char| c.is_ascii_digit())
        && (name.ends_with("_VERSION") || name.ends_with("_HOME"))
        && RUNTIMES.iter().any(|runtime| name.starts_with(runtime))
}

/// Prefixes of names used by shells, CodeBuild's agent, its images and their tools.
const GIVEN_BEGIN: [&str; 30] = [
    "CODEBUILD_",
    "BASH",
    "LC_",
    "XDG_",
    "SSH_",
    "GPG_",
    "JDK_",
    "JRE_",
    "MAVEN_",
    "GRADLE_",
    "ANT_",
    "ANDROID_SDK",
    "GOENV_",
    "NVM_",
    "PYENV_",
    "RBENV_",
    "PHPENV_",
    "CONDA_",
    "CARGO_",
    "RUSTUP_",
    "DOTNET_",
    "NUGET_",
    "DOCKER_",
    "AWS_CONTAINER_CREDENTIALS_",
    "npm_",
    "NPM_CONFIG_",
    "PIP_",
    "EPOCH",
    "SDKMAN_",
    "ECS_CONTAINER_METADATA_",
];

const GIVEN: [&str; 122] = [
    // Set by a shell or the login.
    "HOME",
    "PATH",
    "PWD",
    "OLDPWD",
    "USER",
    "LOGNAME",
    "SHELL",
    "HOSTNAME",
    "HOST",
    "LANG",
    "LANGUAGE",
    "TERM",
    "TZ",
    "TMPDIR",
    "TEMP",
    "TMP",
    "IFS",
    "PPID",
    "PS1",
    "PS2",
    "PS3",
    "PS4",
    "UID",
    "EUID",
    "GID",
    "GROUPS",
    "RANDOM",
    "SRANDOM",
    "SECONDS",
    "LINENO",
    "OPTARG",
    "OPTIND",
    "OPTERR",
    "REPLY",
    "SHLVL",
    "SHELLOPTS",
    "FUNCNAME",
    "PIPESTATUS",
    "_",
    "COLUMNS",
    "LINES",
    "HOSTTYPE",
    "MACHTYPE",
    "OSTYPE",
    "DIRSTACK",
    "MAPFILE",
    "COPROC",
    "ENV",
    "MAIL",
    "EDITOR",
    "PAGER",
    "DISPLAY",
    "DEBUG",
    "VERBOSE",
    "HISTFILE",
    "CDPATH",
    "FIGNORE",
    "TIMEFORMAT",
    "POSIXLY_CORRECT",
    "NO_COLOR",
    "FORCE_COLOR",
    "CI",
    "DEBIAN_FRONTEND",
    "SUDO",
    "SUDO_USER",
    // Set by AWS.
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CA_BUNDLE",
    "AWS_PAGER",
    "AWS_DEFAULT_OUTPUT",
    "AWS_EXECUTION_ENV",
    "AWS_ENDPOINT_URL",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_SESSION_NAME",
    "AWS_STS_REGIONAL_ENDPOINTS",
    // Set by images and installed runtimes.
    "JAVA_HOME",
    "JAVA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "M2_HOME",
    "GOPATH",
    "GOROOT",
    "GOBIN",
    "GOCACHE",
    "GOFLAGS",
    "GOPROXY",
    "GO111MODULE",
    "NODE_PATH",
    "NODE_ENV",
    "NODE_OPTIONS",
    "N_SRC_DIR",
    "SRC_DIR",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "ANDROID_HOME",
    "CLASSPATH",
    "GEM_HOME",
    "GEM_PATH",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PKG_CONFIG_PATH",
    "MANPATH",
    // Optional variables of build tools and proxies.
    "CC",
    "CXX",
    "CFLAGS",
    "CXXFLAGS",
    "LDFLAGS",
    "MAKEFLAGS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

#[cfg(test)]
mod tests {
    use crate::spec::parse;

    fn told(head: &str, commands: &[&str]) -> Vec<(String, Vec<u32>)> {
        let list: String = commands
            .iter()
            .map(|text| format!("      - {}\n", serde_json::to_string(text).expect("a string")))
            .collect();
        let source = format!("version: 0.2\nphases:\n  build:\n    commands:\n{list}{head}");
        let (spec, _) = parse(&source).expect("is sound");
        let lines = |places: Vec<super::Span>| places.iter().map(|span| span.line).collect();
        super::unset(&spec, |_, _| true)
            .into_iter()
            .map(|found| (found.name, lines(found.places)))
            .collect()
    }

    #[test]
    fn what_nothing_sets_is_told_with_its_lines() {
        let commands = [
            "docker build -t $IMAGE_REPO_NAME:$IMAGE_TAG .",
            "docker tag $IMAGE_REPO_NAME $AWS_ACCOUNT_ID.dkr.ecr.$AWS_REGION.amazonaws.com/$IMAGE_REPO_NAME",
        ];
        let told = told("", &commands);
        let wanted =
            [("IMAGE_REPO_NAME", vec![5, 6]), ("IMAGE_TAG", vec![5]), ("AWS_ACCOUNT_ID", vec![6])];
        assert_eq!(told, wanted.map(|(name, lines)| (name.to_owned(), lines)));
    }

    #[test]
    fn lines_of_a_block_are_lines_of_the_file() {
        let source = "version: 0.2\nphases:\n  build:\n    commands:\n      - |\n        true\n        \
                      echo $TAG\n";
        let (spec, _) = parse(source).expect("is sound");
        let found = super::unset(&spec, |_, _| true);
        assert_eq!((found[0].places[0].line, found[0].places[0].column), (7, 9));
    }

    #[test]
    fn what_something_sets_is_not_told() {
        for (head, commands) in [
            ("env: {variables: {A: x}}\n", &["echo $A"][..]),
            ("env: {parameter-store: {A: x}}\n", &["echo $A"]),
            ("env: {secrets-manager: {A: x}}\n", &["echo $A"]),
            ("env: {exported-variables: [A]}\n", &["echo $A"]),
            ("batch: {build-matrix: {dynamic: {env: {variables: {A: [x]}}}}}\n", &["echo $A"]),
            ("", &["A=1", "echo $A"]),
            ("", &["echo $A", "A=1"]),
            ("", &[". ./env", "echo $A"]),
            ("", &["echo ${A:-x}", "echo $A"]),
            ("", &["echo $HOME $CODEBUILD_BUILD_ID $JAVA_HOME $NODE_18_VERSION $CI"]),
            ("", &["echo $AWS_DEFAULT_REGION $AWS_SESSION_TOKEN"]),
            ("", &["$env:A=1; echo $B"]),
            ("", &["[ \"$A\" ] && echo $A"]),
            ("", &["if [ ! \"$A\" ]; then echo none; else echo $A; fi"]),
            ("", &["test \"$A\" && make $A"]),
            ("", &["[ -d \"$A\" ] && ls $A"]),
            ("", &["[ -n x -a \"$A\" ] && echo $A"]),
            ("env: {shell: bash}\n", &["[[ $A ]] && echo $A"]),
        ] {
            assert_eq!(told(head, commands), [], "{head} {commands:?}");
        }
        let before = told("", &["echo $A", ". ./env", "echo $B"]);
        assert_eq!(before, [("A".to_owned(), vec![5])]);
    }
}
