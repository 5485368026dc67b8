//! The runner's identity at a registry: credentials of Docker, Podman and AWS; TLS with the
//! system's trust.

use super::service;
use crate::common::aws::{aws, surround};
use crate::common::daemon::Daemon;
use crate::common::registry::{Layout, PASSWORD, Registry, USER};
use crate::common::{Bed, Outcome, build, cases, outcome, python, write_program};
use base64::Engine;
use nix::sys::signal::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

cases! {
    [Image("busybox"), Containers, Program("docker-registry"), Program("skopeo"), Program("umoci")] =>
        nobody_is_let_in, an_image_that_nobody_has_chosen, dockers_config, a_credential_helper, podmans_auth_file, an_identity_token;
    [Image("busybox"), Containers, Program("docker-registry"), Program("skopeo"), Program("umoci"),
     Program("openssl"), Program("htpasswd"), Python] => ecr_over_tls;
    [Image("busybox"), Containers, Program("openssl"), Python] => aws_with_the_certificate_of_a_company;
}

fn pushed(name: &str) -> (&'static Registry, String) {
    let registry = Registry::closed();
    (registry, registry.push(&Layout::of_image("busybox"), name))
}

fn pull(bed: &Bed, name: &str) -> Outcome {
    bed.runner(["image", "pull", name])
}

fn encoded(user: &str, password: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
}

fn home_file(bed: &Bed, name: &str, text: &serde_json::Value) {
    let path = bed.path("home").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text.to_string()).unwrap();
}

fn nobody_is_let_in() {
    let bed = Bed::new();
    let (registry, name) = pushed("auth/none:one");
    pull(&bed, &name).code(3).says(&format!("docker login {}", registry.address));
    // A wrong password, too; missing images cannot be distinguished from existing ones.
    let auths = serde_json::json!({registry.address.clone(): {"auth": encoded(USER, "wrong")}});
    home_file(&bed, ".docker/config.json", &serde_json::json!({"auths": auths}));
    pull(&bed, &name).code(3).says("docker login");
}

/// An image named by a clone's own file is pulled anonymously until its user trusts the file; the
/// store does not provide what the user pulled with a password, either.
fn an_image_that_nobody_has_chosen() {
    let bed = Bed::new();
    let (registry, name) = pushed("auth/unasked:one");
    home_file(
        &bed,
        ".docker/config.json",
        &serde_json::from_str(&registry.docker_config()).unwrap(),
    );
    bed.write("buildspec.yml", build(&["echo it runs"]));
    bed.write("runner.toml", format!("image = \"{name}\"\n"));
    let refused = |bed: &Bed| {
        bed.runner(["run"])
            .code(3)
            .says("does not give it to us")
            .says("without your credentials")
            .says("--trust-project");
    };
    refused(&bed);
    // Chosen by its user, it is theirs, and stays theirs.
    bed.runner(["run", "--image", &name]).code(0);
    refused(&bed);
    assert_eq!(bed.runner(["run", "--trust-project"]).code(0).output(), "it runs\n");
    bed.runner(["run"]).code(0);
    // A new version of the file is untrusted again.
    bed.write("runner.toml", format!("timeout = \"5m\"\nimage = \"{name}\"\n"));
    refused(&bed);

    // A public image is pulled without asking, repeatedly.
    let open = Registry::open();
    let name = open.push(&Layout::of_image("busybox"), "unasked:one");
    bed.write("runner.toml", format!("image = \"{name}\"\n"));
    for _ in 0..2 {
        bed.runner(["run"]).code(0);
    }
}

fn dockers_config() {
    let bed = Bed::new();
    let (registry, name) = pushed("auth/docker:one");
    let auths = serde_json::json!({registry.address.clone(): {"auth": encoded(USER, PASSWORD)}});
    home_file(&bed, ".docker/config.json", &serde_json::json!({"auths": auths}));
    pull(&bed, &name).code(0);
    bed.runner(["image", "pull", &format!("{}/auth/docker:none", registry.address)])
        .code(3)
        .says("has no such image");
}

fn a_credential_helper() {
    let bed = Bed::new();
    let (registry, name) = pushed("auth/helper:one");
    let bin = bed.path("home/bin");
    fs::create_dir_all(&bin).unwrap();
    let helper = |text: &str| write_program(&bin.join("docker-credential-test"), text);
    let with_helper = |bed: &Bed| {
        let mut command = bed.command(["image", "pull", &name]);
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        outcome(&mut command)
    };
    let helpers = serde_json::json!({registry.address.clone(): "test"});
    home_file(&bed, ".docker/config.json", &serde_json::json!({"credHelpers": helpers}));
    helper("#!/bin/sh\ncat > /dev/null\necho \"the keyring is locked\" >&2\nexit 1\n");
    with_helper(&bed).code(3).says("the keyring is locked");
    helper(&format!(
        "#!/bin/sh\ntest \"$1\" = get && test \"$(cat)\" = {} || exit 1\necho \
         '{{\"ServerURL\":\"x\",\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n",
        registry.address
    ));
    with_helper(&bed).code(0);
}

fn podmans_auth_file() {
    let bed = Bed::new();
    let (registry, name) = pushed("auth/podman:one");
    let auths = serde_json::json!({registry.address.clone(): {"auth": encoded(USER, PASSWORD)}});
    let text = serde_json::json!({"auths": auths});
    home_file(&bed, ".config/containers/auth.json", &text);
    pull(&bed, &name).code(0);
    // When named, it may be anywhere.
    let bed = Bed::new();
    home_file(&bed, "elsewhere.json", &text);
    let mut command = bed.command(["image", "pull", &name]);
    command.env("REGISTRY_AUTH_FILE", bed.path("home/elsewhere.json"));
    outcome(&mut command).code(0);
}

fn an_identity_token() {
    let bed = Bed::new();
    let (registry, name) = pushed("auth/token:one");
    let auths = serde_json::json!({registry.address.clone(): {"identitytoken": "t"}});
    home_file(&bed, ".docker/config.json", &serde_json::json!({"auths": auths}));
    pull(&bed, &name).code(3).says("identity token").says("docker login");
}

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// A registry under ECR's own name, through a proxy, with a certificate that only the system
/// trusts; the password comes from moto's ECR.
fn ecr_over_tls() {
    let bed = Bed::new();
    let dir = bed.path("tls");
    fs::create_dir(&dir).unwrap();
    certificate(&dir);
    let password = {
        let mut cli = Command::new(python("aws"));
        surround(&mut cli, aws()).args(["ecr", "get-authorization-token", "--output", "json"]);
        let answer = outcome(&mut cli).code(0).stdout;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let token =
            answer["authorizationData"][0]["authorizationToken"].as_str().unwrap().to_owned();
        let token = base64::engine::general_purpose::STANDARD.decode(token).unwrap();
        String::from_utf8(token).unwrap().strip_prefix("AWS:").unwrap().to_owned()
    };
    let mut htpasswd = Command::new("htpasswd");
    let passwords = outcome(htpasswd.args(["-nbB", "AWS", &password])).code(0).stdout;
    let registry = Registry::with_tls(&passwords, &dir.join("cert.pem"), &dir.join("key.pem"));
    registry.push_as(&Layout::of_image("busybox"), "app/image:one", "AWS", &password);
    let proxy = connect_proxy(&registry.address);
    let name = format!("{ECR}/app/image:one");
    let with = |trust: &str| {
        let mut command = bed.command(["image", "pull", &name]);
        surround(&mut command, aws())
            .env("HTTPS_PROXY", format!("http://127.0.0.1:{proxy}"))
            .env("NO_PROXY", "127.0.0.1")
            .env("SSL_CERT_FILE", dir.join(trust));
        outcome(&mut command)
    };
    with("ca.pem").code(0);
    // Another certificate.
    fs::write(dir.join("none.pem"), "").unwrap();
    bed.runner(["image", "rm", &name]).code(0);
    with("none.pem").code(3).says("cannot reach");
    bed.write("buildspec.yml", build(&["true"]));
    let ca = dir.join("ca.pem");
    for (options, code) in [(&["--ca-file", ca.to_str().unwrap()][..], 0), (&[], 3)] {
        let mut command = bed.command(["run", "--image", &name]);
        surround(&mut command, aws())
            .args(options)
            .env("HTTPS_PROXY", format!("http://127.0.0.1:{proxy}"))
            .env("NO_PROXY", "127.0.0.1");
        outcome(&mut command).code(code);
        bed.runner(["image", "rm", &name]);
    }
}

/// A company's proxy signs what comes from AWS.
fn aws_with_the_certificate_of_a_company() {
    let bed = Bed::new();
    let dir = bed.path("tls");
    fs::create_dir(&dir).unwrap();
    certificate(&dir);
    let server = Daemon::start(|_| {
        let mut command = Command::new(python("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", "0", "-c"]).arg(dir.join("cert.pem"));
        command.arg("-k").arg(dir.join("key.pem"));
        command
    });
    let port: u16 = server.log.number_after("Running on https://127.0.0.1:");
    let ca = dir.join("ca.pem");
    let reach = |command: &mut Command| {
        surround(command, port).env("AWS_ENDPOINT_URL", format!("https://127.0.0.1:{port}"));
    };
    let mut bucket = bed.other(python("aws").to_str().unwrap());
    reach(&mut bucket);
    outcome(bucket.args(["s3", "mb", "s3://company"]).env("AWS_CA_BUNDLE", &ca)).code(0);
    let text = build(&["echo x > x"]) + "artifacts:\n  files: [x]\n";
    let kept = |options: &[&str], bundle: &Path| {
        let mut command = bed.build_command(&text, &["--artifacts", "s3://company/there"]);
        reach(&mut command);
        outcome(command.args(options).env("AWS_CA_BUNDLE", bundle))
    };
    let none = Path::new("");
    kept(&[], &ca).code(0);
    kept(&["--ca-file", ca.to_str().unwrap()], none).code(0);
    kept(&[], none).code(1).says("certificate");
    kept(&[], Path::new("/nosuch.pem")).code(1).says("AWS_CA_BUNDLE=/nosuch.pem: No such file");
    bed.runner(["serve", "--ca-file", "nosuch.pem"]).code(2).says("--ca-file: cannot read");
    // Builds of `serve` trust it, too.
    let trusts = "grep -q 'BEGIN CERTIFICATE' $AWS_CA_BUNDLE";
    let options = ["--ca-file", ca.to_str().unwrap()];
    let (endpoint, server) = service::served(&bed, trusts, &options);
    let id = service::start(&endpoint, serde_json::json!({}));
    let ended = service::until(&endpoint, &id, service::has_ended);
    assert_eq!(ended["buildStatus"], "SUCCEEDED", "{ended:#}");
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

fn certificate(dir: &Path) {
    let script = format!(
        "set -e; openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out \
         ca.pem; openssl req -newkey rsa:2048 -nodes -subj /CN={ECR} -keyout key.pem -out csr.pem; \
         printf 'subjectAltName=DNS:{ECR},IP:127.0.0.1\\n' > ext; openssl x509 -req -in csr.pem -CA \
         ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem"
    );
    outcome(Command::new("sh").args(["-c", &script]).current_dir(dir)).code(0);
}

/// A proxy that leads every CONNECT to one address.
fn connect_proxy(to: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = to.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { continue };
            let to = to.clone();
            std::thread::spawn(move || tunnel(client, &to));
        }
    });
    port
}

fn tunnel(mut client: TcpStream, to: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut server = TcpStream::connect(to)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut to_client, mut from_server) = (client, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(std::net::Shutdown::Both);
    });
    let mut rest = reader.buffer().to_vec();
    server.write_all(&std::mem::take(&mut rest))?;
    let mut inner = reader.into_inner();
    let mut buffer = [0; 16384];
    loop {
        match inner.read(&mut buffer)? {
            0 => return server.shutdown(std::net::Shutdown::Write),
            count => server.write_all(&buffer[..count])?,
        }
    }
}
