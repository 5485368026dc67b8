//! Hints for common failures: a table from a command's output to one sentence that names the option
//! to use.
//!
//! The driver asks for a hint when a command has failed; the first matching row is used. A row must
//! be certain of its cause.

use crate::spec::{self, SpecCommand, SpecVersion};
use regex_lite::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// A failed command and its environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct HintSubject<'f> {
    /// Its text.
    pub text: &'f str,
    /// Its last output.
    pub output: &'f str,
    /// Its exit status.
    pub status: i32,
    /// The commands before it.
    pub earlier: &'f [&'f SpecCommand],
    /// The version of the buildspec; decides what earlier commands leave.
    pub version: Option<SpecVersion>,
    /// Whether the image is this machine.
    pub is_host: bool,
    /// Whether the image is one of CodeBuild's own.
    pub is_codebuild: bool,
    /// Whether the container is privileged.
    pub is_privileged: bool,
    /// Whether the build has no network.
    pub is_closed: bool,
    /// Whether the caller has proxy variables and the build does not.
    pub lacks_proxy: bool,
    /// Whether the build has AWS credentials.
    pub has_credentials: bool,
    /// Whether directories of earlier commands cannot be renamed, because they are in sealed layers
    /// and the caller is not root.
    pub keeps_names: bool,
}

/// Maximum bytes of output to search.
pub const TAIL: usize = 16 << 10;

/// Returns the hint for a failure, if there is one.
#[must_use]
pub fn hint(failure: &HintSubject<'_>) -> Option<Cow<'static, str>> {
    let rows = ROWS.iter().filter(|row| (row.applies)(failure));
    let is_in = |row: &&HintRow| {
        let has = |texts: &[&str]| texts.iter().any(|text| failure.output.contains(text));
        has(row.needles) && !has(row.but)
    };
    let mut found = rows.filter(is_in);
    found.next().map(|row| row.advice.into()).or_else(|| missing(failure))
}

/// The hint for a program that is not found because an earlier command defined it, or set `PATH`,
/// in its own shell.
#[must_use]
pub fn lost_definition(failure: &HintSubject<'_>) -> Option<String> {
    let name = missing_program(failure.output)?;
    failure.earlier.iter().rev().find_map(|command| {
        let line = command.span.line;
        if defines(&command.text, name) {
            return Some(format!(
                "line {line} of the buildspec defines `{name}`, and each command runs in a separate shell: \
                 write both as one command, under `- |`"
            ));
        }
        if let Some(file) = sources(&command.text, name) {
            return Some(format!(
                "line {line} of the buildspec reads {file}, and each command runs in a separate shell, \
                 without the functions of others: write both as one command, under `- |`"
            ));
        }
        set_in(&command.text).any(|set| set == "PATH").then(|| lost_by(failure, command))?
    })
}

/// The hint for a failure whose likely cause is that an earlier command has lost its directory or
/// its variables. Use it if nothing else is known.
#[must_use]
pub fn lost_environment(failure: &HintSubject<'_>) -> Option<String> {
    let mut earlier = failure.earlier.iter().rev();
    earlier.find_map(|command| {
        counts_on(failure, &command.text).then(|| lost_by(failure, command)).flatten()
    })
}

/// How a command loses what it sets, if it does.
fn lost_by(failure: &HintSubject<'_>, command: &SpecCommand) -> Option<String> {
    let lost = spec::lost(failure.version?, &command.text).filter(|lost| lost.is_environment)?;
    let line = command.span.line;
    Some(format!("line {line} of the buildspec: {}; {}", lost.told, lost.hint))
}

/// Whether a command defines a function or alias with this name.
fn defines(text: &str, name: &str) -> bool {
    if !text.contains(name) {
        return false;
    }
    let name = regex_lite::escape(name);
    let definition = format!(
        r"(?:^|[;&|({{\n])\s*(?:function\s+{name}\b|{name}\s*\(\s*\)|alias\s+(?:\S+\s+)*{name}=)"
    );
    Regex::new(&definition).is_ok_and(|it| it.is_match(text))
}

static SOURCED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?:^|[;&|\n])\s*(?:\.|source)\s+([^\s;&|]+)").ok());

/// The file that a command reads into its shell, if it is known to define this name: `nvm.sh`
/// defines `nvm`, and `sdkman-init.sh` `sdk`.
fn sources<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let files = SOURCED.as_ref()?.captures_iter(text).filter_map(|found| found.get(1));
    let defined = |file: &str| {
        let file = file.trim_matches(['"', '\'']);
        let file = file.rsplit('/').next().unwrap_or(file);
        let stem = file.split('.').next().unwrap_or(file);
        stem == name || stem == "sdkman-init" && name == "sdk"
    };
    files.map(|file| file.as_str()).find(|file| defined(file))
}

static SET: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?:^|[;&|({\n]|\bexport\s)\s*([A-Za-z_]\w*)=").ok());

/// Names of the variables that a command sets.
fn set_in(text: &str) -> impl Iterator<Item = &str> {
    let found = SET.iter().flat_map(move |set| set.captures_iter(text));
    found.filter_map(|found| found.get(1)).map(|name| name.as_str())
}

/// Whether a failed command counts on the directory or a variable of an earlier one.
fn counts_on(failure: &HintSubject<'_>, earlier: &str) -> bool {
    let is_used = |name: &str| {
        failure.text.match_indices(name).any(|(at, _)| {
            let before = failure.text[..at].trim_end_matches('{');
            let after = failure.text[at + name.len()..].chars().next();
            before.ends_with('$') && !after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    };
    let no_file = ["No such file", "not found", "cannot find", "can't open", "Cannot open"];
    // A program is found by PATH, wherever a command runs.
    let is_elsewhere = || {
        missing_program(failure.output).is_none()
            && no_file.iter().any(|text| failure.output.contains(text))
    };
    let goes = || {
        let words = earlier.split([';', '&', '\n']).map(str::trim_start);
        words.into_iter().any(|part| part.starts_with("cd "))
    };
    set_in(earlier).any(is_used) || goes() && is_elsewhere()
}

/// The hint for a `run-as` user that the image does not have.
#[must_use]
pub fn missing_user(name: &str) -> String {
    match name {
        "codebuild-user" => "images from CodeBuild have that user: --image \
                             public.ecr.aws/codebuild/amazonlinux-x86_64-standard:5.0; or a command of root's \
                             before this one: useradd -m codebuild-user"
            .to_owned(),
        _ => format!(
            "use an image that has that user (--image), or create it before this command, as root: \
             useradd -m {name}"
        ),
    }
}

/// The hint if a breakpoint did not pause because sessions are off.
pub const PASSED: &str = "a breakpoint was passed; to pause there: --enable-session";

/// Whether a successful command certainly called `codebuild-breakpoint`, because it begins one of
/// the commands that run in sequence.
#[must_use]
pub fn passes_breakpoint(text: &str) -> bool {
    let calls = |part: &str| {
        let word = part.split_whitespace().next().unwrap_or_default();
        word.rsplit('/').next() == Some("codebuild-breakpoint")
    };
    // After `||`, in a loop or in a condition it may not have been reached.
    text.contains("codebuild-breakpoint")
        && text.lines().flat_map(|line| line.split([';', '&'])).any(calls)
}

/// Returns the program that was not found. Considers only messages of a shell, make or `env`,
/// because other programs mean other things by them. Uses the last such line.
#[must_use]
pub fn missing_program(output: &str) -> Option<&str> {
    output.lines().rev().find_map(|line| {
        let line = line.trim_end();
        if let Some(rest) = line.strip_suffix(": No such file or directory") {
            // Messages of make and of `#!/usr/bin/env`.
            let begin = ["make: ", "env: ", "/usr/bin/env: "];
            let name = begin.iter().find_map(|begin| rest.strip_prefix(begin))?;
            return as_program(name.trim_matches(['\'', '"', '‘', '’']));
        }
        let ends = [": not found", ": command not found", ": Command not found"];
        let rest = ends.iter().find_map(|end| line.strip_suffix(end))?;
        let (before, name) = rest.rsplit_once(": ")?;
        is_shell(before).then(|| as_program(name))?
    })
}

/// Whether a message comes from a shell or make: `sh: 1`, `bash: line 2`, `/tmp/script.sh: 3`,
/// `/bin/sh`, `make: line 1`.
fn is_shell(before: &str) -> bool {
    let mut parts = before.split(": ");
    let who = parts.next().unwrap_or_default();
    let has_line = parts.next().is_some_and(|line| {
        let number = line.strip_prefix("line ").unwrap_or(line);
        !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
    });
    let name = who.rsplit('/').next().unwrap_or_default();
    !who.contains(' ')
        && parts.next().is_none()
        && (has_line
            || before == who && matches!(name, "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh"))
}

fn as_program(name: &str) -> Option<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    (!name.is_empty() && name.chars().all(is_plain)).then_some(name)
}

/// One kind of failure.
struct HintRow {
    applies: fn(&HintSubject<'_>) -> bool,
    /// Texts, one of which must be in the output.
    needles: &'static [&'static str],
    /// Texts that indicate a different failure.
    but: &'static [&'static str],
    advice: &'static str,
}

fn always(_: &HintSubject<'_>) -> bool {
    true
}

/// In order of precedence: causes of other failures come first.
const ROWS: [HintRow; 15] = [
    HintRow {
        applies: |failure| failure.keeps_names,
        needles: &["cross-device link", "EXDEV"],
        but: &[],
        advice: "a checkpoint has sealed what earlier commands have written, and without root no directory in \
                 there can be renamed: --checkpoint off",
    },
    HintRow {
        applies: |failure| failure.is_closed,
        needles: UNREACHED,
        but: &[],
        advice: "--network none closes the build off; leave it out, or use --network pasta",
    },
    HintRow {
        applies: |failure| failure.lacks_proxy && !failure.is_closed,
        needles: UNREACHED,
        but: &[],
        advice: "you use a proxy that the build does not know about: --proxy",
    },
    HintRow {
        applies: always,
        needles: &["externally-managed-environment"],
        but: &[],
        advice: "-e PIP_BREAK_SYSTEM_PACKAGES=1 lets pip install beside the packages of the image, which \
                 is thrown away afterwards",
    },
    HintRow {
        applies: |failure| {
            let is_piped = failure.text.contains('|') && failure.text.contains("docker login");
            is_piped && missing_program(failure.output).is_some()
        },
        needles: &[
            "Cannot perform an interactive login from a non TTY device",
            "Password required",
            "password is empty",
            "Must provide --username with --password-stdin",
            "password-stdin",
        ],
        but: &[],
        advice: "`docker login` got no password, because the program before it in the pipe was not found: \
                 use an image that has it (--image), or leave the command out: --skip '*docker \
                 login*'",
    },
    HintRow {
        applies: |failure| !failure.is_privileged,
        needles: DOCKER,
        but: &[],
        advice: "the build has no Docker daemon: --privileged and an image that starts one in its \
                 ENTRYPOINT, such as --image public.ecr.aws/codebuild/standard:7.0; or a stand-in: \
                 --stub docker",
    },
    HintRow {
        applies: |failure| failure.is_privileged,
        needles: DOCKER,
        but: &[],
        advice: "--privileged lets a Docker daemon run and starts none: an image's ENTRYPOINT does, such as \
                 that of public.ecr.aws/codebuild/standard:7.0, or a command: dockerd &",
    },
    HintRow {
        applies: |failure| !failure.has_credentials,
        needles: &[
            "Unable to locate credentials",
            "NoCredentialsError",
            "NoCredentialProviders",
            "Could not load credentials from any providers",
            "Missing credentials in config",
            "no EC2 IMDS role found",
            "Unable to load credentials from any of the providers",
            "Unable to load AWS credentials",
        ],
        but: &[],
        advice: "--aws-profile NAME gives the build your credentials, --aws-profile env those in \
                 your variables; or use a stub: --stub aws",
    },
    HintRow {
        applies: always,
        needles: &[
            "self-signed certificate",
            "self signed certificate",
            "unable to get local issuer certificate",
            "certificate signed by unknown authority",
            "CERTIFICATE_VERIFY_FAILED",
            "server certificate verification failed",
            "PKIX path building failed",
            "SELF_SIGNED_CERT_IN_CHAIN",
        ],
        but: &[],
        advice: "if the server's certificate is from your own CA: --ca-file CA.pem",
    },
    HintRow {
        applies: always,
        needles: &[
            "[[: not found",
            "source: not found",
            "pushd: not found",
            "shopt: not found",
            "declare: not found",
            "Syntax error: redirection unexpected",
            "Syntax error: \"(\" unexpected",
            "syntax error: unexpected redirection",
            "syntax error: unexpected \"(\"",
            ": Bad substitution",
            "Illegal option -o pipefail",
        ],
        but: &[],
        advice: "the command is written for bash, but this image's `sh` is another shell: set \
                 `shell: bash` under `env:` in the buildspec",
    },
    HintRow {
        applies: |failure| failure.is_host,
        needles: NOT_ROOT,
        but: &[],
        advice: "only real root can install packages in the image `host`: use an image that has \
                 them (--image), or start the build with sudo",
    },
    HintRow {
        applies: |failure| !failure.is_host,
        needles: NOT_ROOT,
        but: &[],
        advice: "only root can install packages, and this command runs as another user: see \
                 `run-as` in the buildspec",
    },
    HintRow {
        applies: always,
        needles: &["No space left on device", "ENOSPC", "Disk quota exceeded"],
        but: &["number of file watchers"],
        advice: "make room with runner cache prune and runner image prune, or store builds \
                 elsewhere: RUNNER_HOME=DIR",
    },
    HintRow {
        applies: always,
        needles: &["JavaScript heap out of memory"],
        but: &[],
        advice: "-e NODE_OPTIONS=--max-old-space-size=4096 lets node use 4 GB",
    },
    HintRow {
        applies: always,
        needles: &["java.lang.OutOfMemoryError"],
        but: &["native thread", "Metaspace"],
        advice: "-e JAVA_TOOL_OPTIONS=-Xmx4g lets java use 4 GB",
    },
];

const UNREACHED: &[&str] = &[
    "Could not resolve host",
    "unable to resolve host address",
    "Temporary failure in name resolution",
    "Temporary failure resolving",
    "getaddrinfo ENOTFOUND",
    "getaddrinfo EAI_AGAIN",
    "Name or service not known",
    "no such host",
    "bad address",
];

const DOCKER: &[&str] = &[
    "Cannot connect to the Docker daemon",
    "failed to connect to the docker API",
    "Is the docker daemon running",
];

const NOT_ROOT: &[&str] = &[
    "are you root?",
    "Could not open lock file /var/lib/dpkg/lock",
    "requires superuser privilege",
    "This command has to be run with superuser privileges",
    "This command has to be run under the root user",
];

/// Clients of services that a build does not have here.
const CLIENTS: [&str; 22] = [
    "aws",
    "az",
    "cdk",
    "codecov",
    "docker",
    "docker-compose",
    "eb",
    "ecs-cli",
    "ecs-deploy",
    "eksctl",
    "flyctl",
    "gcloud",
    "gh",
    "helm",
    "kubectl",
    "podman",
    "sam",
    "sentry-cli",
    "serverless",
    "sls",
    "sonar-scanner",
    "terraform",
];
/// Programs in CodeBuild's own images that small images lack.
const OF_CODEBUILD: [&str; 28] = [
    "bundle", "bundler", "composer", "corepack", "dotnet", "gem", "git", "go", "gradle", "jar",
    "java", "javac", "jq", "make", "mvn", "node", "npm", "npx", "php", "pip", "pip3", "python3",
    "rake", "ruby", "sbt", "unzip", "yarn", "zip",
];

/// The hint for a missing program: an image that has it, or a stand-in.
fn missing(failure: &HintSubject<'_>) -> Option<Cow<'static, str>> {
    let name = missing_program(failure.output)?;
    let place = if failure.is_host { "this machine has no" } else { "the image has no" };
    Some(match name {
        "python" => "the image has no `python`, perhaps a `python3`: put ln -s \"$(command -v python3)\" \
                     /usr/local/bin/python before this command, or take an image of CodeBuild's: --image \
                     public.ecr.aws/codebuild/amazonlinux-x86_64-standard:5.0"
            .into(),
        "yum" | "dnf" | "amazon-linux-extras" => format!(
            "`{name}` is Amazon Linux's: --image \
             public.ecr.aws/codebuild/amazonlinux-x86_64-standard:5.0"
        )
        .into(),
        "apt" | "apt-get" | "dpkg" => format!(
            "`{name}` is Debian's and Ubuntu's: --image public.ecr.aws/codebuild/standard:7.0"
        )
        .into(),
        _ if CLIENTS.contains(&name) => format!(
            "{place} `{name}`: --stub {name} replaces it by a stub that does nothing and succeeds"
        )
        .into(),
        _ if OF_CODEBUILD.contains(&name) && !failure.is_codebuild => format!(
            "{place} `{name}`; CodeBuild's own image does: --image \
             public.ecr.aws/codebuild/amazonlinux-x86_64-standard:5.0"
        )
        .into(),
        _ => format!(
            "{place} `{name}`: use an image that has it (--image), or replace it by a stub: --stub \
             {name}"
        )
        .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(failure: HintSubject<'_>) -> String {
        hint(&failure).unwrap_or_default().into_owned()
    }

    #[test]
    fn known_failures_get_their_hint() {
        for (output, option) in [
            (
                "error: externally-managed-environment\n\n× This environment is externally managed\n╰─> To \
                 install Python packages system-wide, try apt install\n",
                "-e PIP_BREAK_SYSTEM_PACKAGES=1",
            ),
            (
                "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker \
                 daemon running?\n",
                "--privileged and an image",
            ),
            (
                "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is \
                 correct and if the daemon is running",
                "--stub docker",
            ),
            (
                "\nUnable to locate credentials. You can configure credentials by running \"aws \
                 configure\".\n",
                "--aws-profile NAME",
            ),
            ("botocore.exceptions.NoCredentialsError: Unable to locate credentials", "--stub aws"),
            (
                "CredentialsProviderError: Could not load credentials from any providers\n    at x",
                "--aws-profile env",
            ),
            (
                "npm error code SELF_SIGNED_CERT_IN_CHAIN\nnpm error self-signed certificate in certificate \
                 chain\n",
                "--ca-file",
            ),
            (
                "curl: (60) SSL certificate problem: unable to get local issuer certificate\n",
                "--ca-file",
            ),
            (
                "go: proxy.golang.org: tls: failed to verify certificate: x509: certificate signed by unknown \
                 authority",
                "--ca-file",
            ),
            ("/tmp/s: 3: [[: not found\n", "`shell: bash`"),
            ("sh: 1: source: not found\n", "`shell: bash`"),
            ("sh: 2: Syntax error: redirection unexpected\n", "`shell: bash`"),
            ("sh: syntax error: unexpected redirection\n", "`shell: bash`"),
            ("sh: 1: Bad substitution\n", "`shell: bash`"),
            ("sh: 1: set: Illegal option -o pipefail\n", "`shell: bash`"),
            ("sh: 1: python: not found\n", "python3"),
            ("bash: line 1: python: command not found\n", "python3"),
            ("/usr/bin/env: ‘python’: No such file or directory\n", "python3"),
            ("sh: 1: yum: not found\n", "amazonlinux-x86_64-standard:5.0"),
            ("bash: line 2: apt-get: command not found\n", "codebuild/standard:7.0"),
            ("tar: x: Cannot write: No space left on device\n", "runner cache prune"),
            (
                "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n",
                "--max-old-space-size",
            ),
            ("Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space", "-Xmx4g"),
            ("./build.sh: line 3: terraform: command not found\nfailed\n", "--stub terraform"),
            ("/tmp/s: 3: npm: not found\n", "amazonlinux-x86_64-standard:5.0"),
            ("sh: frobnicate: not found\n", "--stub frobnicate"),
            ("make: docker: No such file or directory\nmake: *** [x] Error 127\n", "--stub docker"),
            (
                "E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13: Permission denied)\nE: \
                 Unable to acquire the dpkg frontend lock, are you root?\n",
                "`run-as`",
            ),
        ] {
            let told = told(HintSubject { output, status: 1, ..HintSubject::default() });
            assert!(told.contains(option), "{output}: {told}");
        }
    }

    #[test]
    fn a_breakpoint_that_was_passed_is_one_that_was_called() {
        for text in [
            "codebuild-breakpoint",
            "  /codebuild/user/bin/codebuild-breakpoint",
            "make; codebuild-breakpoint",
            "make && codebuild-breakpoint && echo on",
            "cd x\ncodebuild-breakpoint\n",
        ] {
            assert!(passes_breakpoint(text), "{text}");
        }
        for text in
            ["make || codebuild-breakpoint", "echo codebuild-breakpoint", "codebuild-resume", ""]
        {
            assert!(!passes_breakpoint(text), "{text}");
        }
    }

    #[test]
    fn what_the_build_runs_in_decides() {
        let resolve = "curl: (6) Could not resolve host: example.com\n";
        let closed =
            HintSubject { output: resolve, status: 6, is_closed: true, ..HintSubject::default() };
        assert!(told(closed).contains("--network none"));
        let open = HintSubject { is_closed: false, ..closed };
        assert_eq!(told(open), "");
        assert!(told(HintSubject { lacks_proxy: true, ..open }).contains("--proxy"));
        let docker = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.";
        let docker = HintSubject { output: docker, is_privileged: true, ..HintSubject::default() };
        assert!(told(docker).contains("dockerd &"));
        let aws = HintSubject { output: "Unable to locate credentials", ..HintSubject::default() };
        assert_eq!(told(HintSubject { has_credentials: true, ..aws }), "");
        let lock = "E: Could not open lock file /var/lib/dpkg/lock - open (13: Permission denied)";
        let lock = HintSubject { output: lock, is_host: true, ..HintSubject::default() };
        assert!(told(lock).contains("sudo"));
    }

    #[test]
    fn what_only_looks_like_a_known_failure_gets_no_hint() {
        for output in [
            "Error: ENOSPC: System limit for number of file watchers reached, watch '/src'\n",
            "java.lang.OutOfMemoryError: unable to create native thread: possibly out of memory\n",
            "Exception in thread \"main\" java.lang.OutOfMemoryError: Metaspace\n",
            "Error: uninstall: Release not loaded: my-release: release: not found\n",
            "note: optional tool: jq: not found\n",
        ] {
            assert_eq!(
                told(HintSubject { output, status: 1, ..HintSubject::default() }),
                "",
                "{output}"
            );
        }
    }

    #[test]
    fn a_pipe_that_ends_in_a_login_is_understood() {
        let login = HintSubject {
            text: "aws ecr get-login-password | docker login --username AWS --password-stdin x",
            output: "sh: 1: aws: not found\nError: Cannot perform an interactive login from a non TTY device\n",
            status: 1,
            ..HintSubject::default()
        };
        assert!(told(login).contains("--skip '*docker login*'"));
        assert!(
            told(HintSubject { output: "sh: 1: aws: not found\n", ..login }).contains("--stub aws")
        );
    }

    #[test]
    fn what_an_earlier_command_has_lost_is_told() {
        let told = |version: SpecVersion, earlier: &str, text: &str, output: &str| {
            let span = spec::Span::new(5, 9, 1);
            let command = SpecCommand { text: earlier.to_owned(), span, block: None };
            let failure = HintSubject {
                text,
                output,
                status: 1,
                earlier: &[&command],
                version: Some(version),
                ..HintSubject::default()
            };
            lost_definition(&failure).or_else(|| lost_environment(&failure)).unwrap_or_default()
        };
        let (old, new) = (SpecVersion::V0_1, SpecVersion::V0_2);
        for (version, earlier, text, output, wanted) in [
            (
                new,
                "f() { echo hi; }",
                "f",
                "sh: 4: f: not found\n",
                "line 5 of the buildspec defines `f`",
            ),
            (
                new,
                "set -e; function go_on {\n:\n}",
                "go_on",
                "bash: line 2: go_on: command not found",
                "defines",
            ),
            (new, "go-on() { :; }", "go-on", "bash: line 1: go-on: command not found", "defines"),
            (new, "alias k=kubectl", "k get pods", "sh: 1: k: not found\n", "one command"),
            (
                new,
                ". \"$HOME/.nvm/nvm.sh\"",
                "nvm install",
                "sh: 1: nvm: not found\n",
                "reads \"$HOME/.nvm/nvm.sh\"",
            ),
            (
                old,
                "export A=1",
                "test -n \"${A}\"",
                "",
                "in version 0.1 every command starts afresh",
            ),
            (
                old,
                "cd sub",
                "cat file",
                "cat: file: No such file or directory",
                "join the commands",
            ),
            (old, "export PATH=$PATH:/x", "tool", "sh: 1: tool: not found", "version: 0.2"),
            (new, "export A=1\nexit 0", "test -n $A", "", "`exit` ends this command before"),
        ] {
            let told = told(version, earlier, text, output);
            assert!(told.contains(wanted), "{earlier}: {told}");
        }
        for (version, earlier, text, output) in [
            (new, "export A=1", "test -n \"$A\"", ""),
            (old, "export A=1", "test -n \"$AB\"", ""),
            (old, "cd sub", "make", "make: *** [x] Error 1"),
            (new, "cd sub", "cat file", "cat: file: No such file or directory"),
            (new, "of() { :; }", "f", "sh: 1: f: not found\n"),
            (new, ". venv/bin/activate", "nvm", "sh: 1: nvm: not found\n"),
            (new, ". ./setup-node.sh", "node x", "sh: 1: node: not found\n"),
            (old, "cd src", "mvn package", "sh: 1: mvn: not found\n"),
        ] {
            assert_eq!(told(version, earlier, text, output), "", "{earlier}");
        }
    }

    #[test]
    fn what_is_not_known_gets_none() {
        for (output, status) in [
            ("", 1),
            ("make: *** [check] Error 1\n", 2),
            ("sh: 1: ./build.sh: not found\n", 127),
            ("404: page not found\n", 1),
            ("ls: x: No such file or directory\n", 2),
        ] {
            assert_eq!(
                told(HintSubject { output, status, ..HintSubject::default() }),
                "",
                "{output}"
            );
        }
    }
}
