//! Other people's values: from a file, from AWS's services, and credentials for the build.

use crate::common::aws::{cli, surround};
use crate::common::{Bed, Outcome, Running, cases, python};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;

cases! {
    [Containers, Image("busybox")] => from_a_file, what_a_file_lacks, entries_in_another_place, a_file_that_others_can_read,
        every_form_is_masked, the_command_line_goes_before;
    [Containers, Image("busybox"), Python] => from_aws, what_aws_refuses, no_credentials_at_all;
    [Python] => credentials_for_the_build;
    [Containers, Image("debian")] => as_bash_shows_it;
    [Containers, Image("debian"), Python] => the_endpoint_wants_its_token;
    [] => credentials_that_never_come;
    [Containers] => git_is_told;
}

const WANTED: &str = "version: 0.2
env:
  parameter-store:
    TOKEN: /app/token
  secrets-manager:
    PASSWORD: app/db:password
    WHOLE: app/db
  exported-variables: [TOKEN, PLAIN]
phases:
  build:
    commands:
      - test \"$TOKEN\" = t0ken-of-app && test \"$PASSWORD\" = 'p@ss w0rd'
      - test \"$WHOLE\" = '{\"password\":\"p@ss w0rd\"}'
      - echo \"$TOKEN|$PASSWORD\"; PLAIN=yes
";

fn secrets(bed: &Bed, name: &str, text: &str) -> String {
    let path = bed.path(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Checks that nothing the bed's build has left contains these values.
fn leaks_nothing(bed: &Bed, outcome: &Outcome, values: &[&str]) {
    let mut texts = vec![outcome.stdout.clone(), outcome.stderr.clone()];
    for file in ["events.jsonl", "output.log", "record.json", "meta.json"] {
        let bytes = fs::read(bed.only().join(file)).unwrap();
        texts.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    for value in values {
        assert!(texts.iter().all(|text| !text.contains(value)), "{value} is shown: {texts:#?}");
    }
}

fn from_a_file() {
    let yaml = "/app/token: t0ken-of-app\napp/db:\n  password: p@ss w0rd\n";
    let dotenv = "# local\n/app/token=t0ken-of-app\napp/db={\"password\":\"p@ss w0rd\"}\n";
    for (name, text) in [("secrets.yml", yaml), ("secrets.env", dotenv)] {
        let bed = Bed::new();
        let file = secrets(&bed, name, text);
        let outcome = bed.build(WANTED, &["--secrets", &file]).code(0);
        assert_eq!(outcome.output(), "***|***\n");
        leaks_nothing(&bed, &outcome, &["t0ken-of-app", "p@ss w0rd"]);
        let record = bed.record();
        let exported: Vec<(&str, &str)> = record["exportedEnvironmentVariables"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| (v["name"].as_str().unwrap(), v["value"].as_str().unwrap()))
            .collect();
        assert_eq!(exported, [("TOKEN", "***"), ("PLAIN", "yes")]);
        let lines = outcome.stdout.contains("Decrypting parameter store environment variables");
        assert!(lines, "{}", outcome.stdout);
    }
}

fn what_a_file_lacks() {
    for (text, code, message) in [
        ("app/db: x\n", "Decrypted Variables Error", "parameter does not exist: /app/token"),
        (
            "/app/token: x\n",
            "Secrets Manager Error",
            "ResourceNotFoundException: Secrets Manager can't find the specified secret.",
        ),
        (
            "/app/token: x\napp/db: {user: x}\n",
            "Secrets Manager Error",
            "the secret app/db has no key password",
        ),
    ] {
        let bed = Bed::new();
        let file = secrets(&bed, "s.yml", text);
        let outcome = bed.build(WANTED, &["--secrets", &file]).code(1).says("has no entry");
        let line = if code.starts_with("Decrypted") { "4:12" } else { "6:15" };
        let outcome = outcome.says(&format!("buildspec.yml:{line}: {message}"));
        assert!(!outcome.stdout.contains("Entering phase"), "{}", outcome.stdout);
        let record = bed.record();
        let failed = &record["phases"][3];
        assert_eq!(failed["phaseType"], "DOWNLOAD_SOURCE");
        assert_eq!(failed["contexts"][0]["statusCode"], code);
        assert_eq!(failed["contexts"][0]["message"], message);
        // Text and hint are separate facts, displayed as two lines.
        let notice = bed.events("notice").pop().unwrap();
        let (text, hint) = (notice["text"].as_str().unwrap(), notice["hint"].as_str().unwrap());
        assert_eq!(notice["level"], "error");
        assert!(!text.contains("hint: ") && hint.contains("has no entry"), "{notice}");
        let lines = format!("runner: error: {text}\nrunner: hint: {hint}\n");
        assert!(outcome.stderr.contains(&lines), "{}", outcome.stderr);
    }
}

/// For a file with another structure, the error says where the wanted entry is, and what else the
/// file contains.
fn entries_in_another_place() {
    let bed = Bed::new();
    let file = secrets(&bed, "s.yml", "parameters: {/app/token: x}\n");
    let outcome = bed.build(WANTED, &["--secrets", &file]).code(1);
    outcome.says("has no entry `/app/token` at its top; it stands under `parameters`");
    let file = secrets(&bed, "s.yml", "/app/other: x\n");
    let outcome = bed.build(WANTED, &["--secrets", &file]).code(1);
    outcome.says("has no entry `/app/token`; it has `/app/other`");
}

fn a_file_that_others_can_read() {
    let bed = Bed::new();
    let file = secrets(&bed, "s.yml", "a: b\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    bed.build(WANTED, &["--secrets", &file]).code(2).says("chmod 600");
    bed.build(WANTED, &["--secrets", "nosuch"]).code(2).says("cannot read nosuch");
}

/// Encoded forms in which programs print a secret.
fn every_form_is_masked() {
    let bed = Bed::new();
    let file = secrets(
        &bed,
        "s.yml",
        "value: 'it''s \"p/ss\" wörd'\nkey: |-\n  -----BEGIN-----\n  MIIBOgIBAAJBAK\n  -----END-----\nshort: abc\n",
    );
    let buildspec = "version: 0.2
env:
  parameter-store: {VALUE: value, KEY: key, SHORT: short}
phases:
  build:
    commands:
      - printf %s \"$VALUE\" | base64; printf 'user:%s' \"$VALUE\" | base64; echo \"x $KEY y\"
      - printf '%s\\n' \"$KEY\" | sed 's/^/> /'; export -p | grep VALUE; echo $SHORT
      - for part in 1 2 3; do printf '%s' \"$VALUE\" | head -c 9; sleep 0.01; printf '%s' \"$VALUE\" | tail -c +10; done; echo
      - set -x; echo \"$VALUE\"
";
    let outcome = bed
        .build(buildspec, &["--secrets", &file])
        .code(0)
        .says("not masked, because shorter than 4 characters: the value of SHORT");
    leaks_nothing(
        &bed,
        &outcome,
        &["p/ss", "w\u{f6}rd", "aXQncyAicC9zcyIgd", "MIIBOgIBAAJBAK", "cC9zcy", "-----BEGIN"],
    );
    assert!(outcome.output().contains("\nabc\n"), "{}", outcome.output());
}

/// bash's own output of values with characters that it quotes, in a locale that has them and in one
/// that has not; lines of a value in base64.
fn as_bash_shows_it() {
    let bed = Bed::with_image(&format!("rootfs:{}", crate::common::image("debian").display()));
    let text = "word: 'pass~word{1,2}^x=y'\nhash: '#a=~b;c'\numlaut: \"\u{dc}ber'\u{e4}ll\"\n\
                key: |-\n  -----BEGIN-----\n  MIIBOgIBAAJBAK\n  -----END-----\n";
    let file = secrets(&bed, "s.yml", text);
    let buildspec = "version: 0.2
env:
  shell: bash
  parameter-store: {WORD: word, HASH: hash, UMLAUT: umlaut, KEY: key}
phases:
  build:
    commands:
      - printf '%q\\n' \"$WORD\" \"$HASH\" \"x$HASH\" \"$UMLAUT\" \"$KEY\"
      - export LC_ALL=C; printf '%q\\n' \"$UMLAUT\"; export -p | grep -a UMLAUT; declare -p WORD
      - set -x; true \"$UMLAUT\" \"$WORD\" \"$KEY\"
      - set +x; printf '%s\\n' \"$KEY\" | while read -r line; do printf %s \"$line\" | base64; done
";
    let outcome = bed.build(buildspec, &["--secrets", &file]).code(0);
    let shown = [
        "word",
        "{1",
        "a=",
        "~b",
        "\u{dc}ber",
        "ber'",
        "ber\\",
        "\\303",
        "\\344",
        "MIIBOg",
        "TUlJQk9nSUJBQUpCQUs",
        "BEGIN",
    ];
    leaks_nothing(&bed, &outcome, &shown);
    assert!(outcome.output().starts_with("***\n***\nx***\n"), "{}", outcome.output());
}

fn the_command_line_goes_before() {
    let bed = Bed::new();
    let options = ["-e", "TOKEN=t0ken-of-app", "-e", "PASSWORD=p@ss w0rd", "-e"];
    let options = [&options[..], &["WHOLE={\"password\":\"p@ss w0rd\"}"]].concat();
    // Nobody is asked for a value that is given.
    assert_eq!(bed.build(WANTED, &options).code(0).output(), "t0ken-of-app|p@ss w0rd\n");
}

/// The services, with the data that the tests need.
fn aws() -> u16 {
    static FILLED: OnceLock<u16> = OnceLock::new();
    *FILLED.get_or_init(|| {
        for (name, value) in [("/app/token", "t0ken-of-app"), ("/app/other", "other-value")] {
            let kind = ["--type", "SecureString", "--name", name, "--value", value];
            cli(&[&["ssm", "put-parameter"][..], &kind].concat());
        }
        let text = "{\"password\":\"p@ss w0rd\"}";
        cli(&["secretsmanager", "create-secret", "--name", "app/db", "--secret-string", text]);
        crate::common::aws::aws()
    })
}

fn with_aws(bed: &Bed, buildspec: &str, options: &[&str]) -> Outcome {
    aws();
    crate::common::aws::with_aws(bed, buildspec, options)
}

fn from_aws() {
    let bed = Bed::new();
    let outcome = with_aws(&bed, WANTED, &[]).code(0);
    assert_eq!(outcome.output(), "***|***\n");
    leaks_nothing(&bed, &outcome, &["t0ken-of-app", "p@ss w0rd", "wJalrXUtn"]);

    // From the configuration files: a profile with a process that provides the keys.
    let bed = Bed::new();
    let port = aws();
    let home = bed.path("home");
    fs::create_dir_all(home.join(".aws")).unwrap();
    let keys = "{\"Version\":1,\"AccessKeyId\":\"ASIAIOSFODNN7EXAMPLE\",\"SecretAccessKey\":\"s\",\
                \"SessionToken\":\"t\"}";
    fs::write(home.join("keys"), keys).unwrap();
    let config = format!(
        "[profile work]\nregion = eu-west-1\ncredential_process = cat {}\nservices = local\n\
         [services local]\nssm =\n  endpoint_url = http://127.0.0.1:{port}\nsecrets_manager =\n  \
         endpoint_url = http://127.0.0.1:{port}\n",
        home.join("keys").display()
    );
    fs::write(home.join(".aws/config"), config).unwrap();
    let outcome = crate::common::outcome(bed.build_command(WANTED, &[]).env("AWS_PROFILE", "work"));
    assert_eq!(outcome.code(0).output(), "***|***\n");
}

fn what_aws_refuses() {
    for (buildspec, code, message) in [
        (
            "parameter-store: {A: /nosuch}",
            "Decrypted Variables Error",
            "parameter does not exist: /nosuch",
        ),
        (
            "secrets-manager: {A: nosuch}",
            "Secrets Manager Error",
            "ResourceNotFoundException: Secrets Manager can't find the specified secret.",
        ),
        ("secrets-manager: {A: 'app/db:nosuch'}", "Secrets Manager Error", "has no key nosuch"),
        ("secrets-manager: {A: 'app/db::NOSUCH'}", "Secrets Manager Error", "can't find"),
    ] {
        let bed = Bed::new();
        let buildspec = format!(
            "version: 0.2\nenv:\n  {buildspec}\nphases: {{build: {{commands: [touch /x]}}}}\n"
        );
        with_aws(&bed, &buildspec, &[]).code(1);
        let context = &bed.record()["phases"][3]["contexts"][0];
        assert_eq!(context["statusCode"], code, "{context}");
        assert!(context["message"].as_str().unwrap().contains(message), "{context}");
    }
}

fn no_credentials_at_all() {
    let bed = Bed::new();
    let mut command = bed.build_command(WANTED, &[]);
    let outcome = crate::common::outcome(command.env("AWS_EC2_METADATA_DISABLED", "true"));
    outcome.code(1).says("--secrets FILE").says("-e NAME=VALUE").says("buildspec.yml:");
    let context = &bed.record()["phases"][3]["contexts"][0];
    assert_eq!(context["statusCode"], "Decrypted Variables Error", "{context}");
}

/// AWS's own CLI in the build finds its credentials, which are the caller's.
fn credentials_for_the_build() {
    let bed = Bed::new();
    let port = aws();
    let cli: PathBuf = python("aws");
    bed.write(
        "buildspec.yml",
        format!(
            "version: 0.2\nphases:\n  build:\n    commands:\n      - env | grep -E \
             '^AWS_(ACCESS|SECRET|SESSION)' ; test $AWS_REGION = eu-west-1\n      - {} --endpoint-url \
             http://127.0.0.1:{port} ssm get-parameter --name /app/other --query Parameter.Value\n      - {} \
             configure list\n",
            cli.display(),
            cli.display()
        ),
    );
    let mut command = bed.command(["run", "--engine", "process", "--aws-profile", "env"]);
    let outcome =
        crate::common::outcome(surround(&mut command, port).env_remove("AWS_ENDPOINT_URL"));
    let output = outcome.code(0).says("long-term keys").output();
    assert!(output.contains("other-value") && output.contains("container-role"), "{output}");
    assert!(!output.contains("AWS_ACCESS_KEY_ID"), "{output}");

    let mut command = bed.command(["run", "--engine", "process", "--aws-profile", "nosuch"]);
    crate::common::outcome(&mut command).code(3).says("--aws-profile").says("logged in");
}

/// Ctrl-C works while the runner waits for credentials.
fn credentials_that_never_come() {
    let bed = Bed::new();
    let home = bed.path("home");
    fs::create_dir_all(home.join(".aws")).unwrap();
    let fifo = home.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let process = format!("[profile slow]\ncredential_process = cat {}\n", fifo.display());
    fs::write(home.join(".aws/config"), process).unwrap();
    bed.write("buildspec.yml", crate::common::build(&["true"]));
    let mut command = bed.command(["run", "--engine", "process", "--aws-profile", "slow"]);
    let running = Running::spawn_from(&mut command);
    // It can be opened for writing only while the process reads it.
    let writer = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    running.signal(nix::sys::signal::Signal::SIGINT);
    running.ends(5);
    drop(writer);
    assert_eq!(crate::common::list(&bed.home().join("builds")), [""; 0]);
}

fn the_endpoint_wants_its_token() {
    let image = format!("rootfs:{}", crate::common::image("debian").display());
    let bed = Bed::with_image(&image);
    let ask = "ask() { uri=${AWS_CONTAINER_CREDENTIALS_FULL_URI#http://}; host=${uri%%/*}; exec \
               3<>/dev/tcp/${host%:*}/${host#*:}; printf 'GET /v2/credentials HTTP/1.1\\r\\nHost: \
               x\\r\\n%sConnection: close\\r\\n\\r\\n' \"$1\" >&3; cat <&3; echo; }; ";
    let command = format!(
        "{ask}ask ''; ask $'Authorization: wrong\\r\\n'; ask \"Authorization: $AWS_CONTAINER_AUTHORIZATION_TOKEN\"$'\\r\\n'"
    );
    let text = serde_json::to_string(&command).unwrap();
    let buildspec = format!(
        "version: 0.2\nenv: {{shell: bash}}\nphases:\n  build:\n    commands:\n      - {text}\n"
    );
    let outcome = with_aws(&bed, &buildspec, &["--aws-profile", "env"]).code(0);
    let output = outcome.output();
    assert_eq!(output.matches("HTTP/1.1 401").count(), 2, "{output}");
    assert_eq!(output.matches("HTTP/1.1 200").count(), 1, "{output}");
    assert!(output.contains("\"SecretAccessKey\":\"***\""), "{output}");
    leaks_nothing(&bed, &outcome, &["wJalrXUtn", "AKIAIOSFODNN7EXAMPLE"]);
}

/// `git-credential-helper: yes`: git in the build asks, and gets the file's content.
fn git_is_told() {
    let buildspec = "version: 0.2
env:
  git-credential-helper: yes
phases:
  build:
    commands:
      - printf 'protocol=https\\nhost=git.example.com\\n\\n' | git credential fill
      - git config credential.helper
      - printf 'protocol=https\\nhost=other.example.com\\n\\n' | GIT_TERMINAL_PROMPT=0 git credential fill 2>&1 || echo none
";
    for engine in ["namespaces", "process"] {
        let bed = Bed::host();
        let file = secrets(&bed, "s.yml", "'git:git.example.com': 'bob:t0p-secret'\n");
        bed.write("buildspec.yml", buildspec);
        let run = ["run", "--engine", engine, "--secrets", &file];
        let output = bed.runner(run).code(0).output();
        assert!(output.contains("username=bob\npassword=***\n"), "{output}");
        assert!(output.contains("/readonly/bin/git-credential-helper\n"), "{output}");
        assert!(output.ends_with("none\n"), "{output}");
    }
    let bed = Bed::host();
    let output = bed.build(&buildspec.replace("helper: yes", "helper: no"), &[]).code(1).output();
    assert!(!output.contains("username=bob"), "{output}");
}
