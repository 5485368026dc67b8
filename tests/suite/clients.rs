//! Third-party clients, through AWS's CLI: the package ssm-session for shells, socat and ssh for
//! connections.

use crate::common::endpoint::Endpoint;
use crate::common::gateway::echo_server;
use crate::common::{Bed, Outcome, Running, build, cases, clients, outcome, project, python};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

cases! {
    [Containers, Image("busybox"), Python, Clients] => a_shell_that_resumes_the_build, commands_of_ecs,
        ports_of_every_document;
    [Python, Clients, Program("ssh")] => ssh_to_a_server_in_the_build;
    [Python, Clients] => without_a_container;
}

fn typed(bed: &Bed, endpoint: &Endpoint, arguments: &[&str], text: &str) -> Outcome {
    outcome(&mut endpoint.aws_with_clients(bed, arguments, text))
}

/// The notice's line, pasted unchanged.
fn pasted(bed: &Bed, running: &Running, text: &str) -> Outcome {
    let notice = running.stderr.text();
    let line = notice.lines().find_map(|line| line.strip_prefix("runner:   aws ")).unwrap();
    let mut command = bed.other("sh");
    let programs = project().join("tests/clients");
    let python = python("aws");
    let path = format!("{}:{}", programs.display(), python.parent().unwrap().display());
    command.env("PATH", format!("{path}:/usr/local/bin:/usr/bin:/bin"));
    command.env("NODE_PATH", clients());
    command.env("TYPED", text).args(["-c", line]);
    outcome(&mut command)
}

const SHELL: &str = "PS1='rea''dy> '
wait:ready>
bytes:echo $SAVED-$NOT_SAVED $PWD; stty size
wait:34 197
codebuild-resume
";

fn a_shell_that_resumes_the_build() {
    let bed = Bed::new();
    let commands = ["export SAVED=1", "NOT_SAVED=2; cd /tmp; codebuild-breakpoint; echo went on"];
    let running = bed.paused(&build(&commands), &[]);
    let session = pasted(&bed, &running, SHELL).code(0);
    assert!(session.stdout.contains("1-2 /tmp"), "{session:?}");
    assert!(session.stdout.contains("closed: the build has ended: SUCCEEDED"), "{session:?}");
    // What the CLI passes on: Region, operation, profile, target, endpoint.
    assert!(session.stderr.contains("\"StartSession\",\"runner\""), "{session:?}");
    let mut running = running;
    assert_eq!(running.wait(), 0);
    assert!(running.stdout.text().contains("went on"));
}

fn commands_of_ecs() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["cd /tmp; codebuild-breakpoint"]), &[]);
    let endpoint = Endpoint::of_notice(&running);
    let task = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let execute = |task: &str, command: &str, text: &str| {
        let arguments =
            ["ecs", "execute-command", "--task", task, "--interactive", "--command", command];
        typed(&bed, &endpoint, &arguments, text)
    };
    let done =
        execute(&task, "sh -c 'id -u; pwd; read x; echo got $x'", "wait:/tmp\nsomething\n").code(0);
    assert!(done.stdout.contains("/tmp") && done.stdout.contains("got something"), "{done:?}");
    assert!(done.stderr.contains(&format!("ecs:default_{}_", task.replace('-', ""))), "{done:?}");
    execute("nobody", "sh", "").code(255).says("(InvalidParameterException)");
    execute(&task, "'", "").code(255).says("(InvalidParameterException)");
    bed.resume(running);
}

/// Each listens where its document says and leads to the same server, also by a name that only the
/// build knows.
fn ports_of_every_document() {
    let bed = Bed::new();
    let running = bed
        .paused(&build(&["echo 127.0.0.1 db.internal >> /etc/hosts; codebuild-breakpoint"]), &[]);
    let endpoint = Endpoint::of_notice(&running);
    let target = format!("codebuild:{}", bed.live().file_name().unwrap().to_str().unwrap());
    let port = echo_server();
    let path = bed.path("local.sock");
    let documents = [
        ("AWS-StartPortForwardingSession", String::new()),
        ("AWS-StartPortForwardingSessionToRemoteHost", ",host=db.internal".to_owned()),
        ("AWS-StartPortForwardingSessionToSocket", format!(",localUnixSocket={}", path.display())),
    ];
    let mut clients = Vec::new();
    for (document, more) in documents {
        let parameters = format!("portNumber={port}{more}");
        let mut arguments = vec!["ssm", "start-session", "--target", &target];
        arguments.extend(["--document-name", document, "--parameters", &parameters]);
        let client = Running::spawn(endpoint.aws_with_clients(&bed, &arguments, ""));
        client.stdout.wait_for("Waiting for connections...");
        let text = client.stdout.text();
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n >> 4) as u8).collect();
        let heard = match text.split_once("Port ").map(|(_, rest)| rest.split_once(' ').unwrap().0)
        {
            Some(port) => {
                let port: u16 = port.parse().unwrap();
                there_and_back(TcpStream::connect(("127.0.0.1", port)).unwrap(), &sent)
            }
            None => there_and_back(UnixStream::connect(&path).unwrap(), &sent),
        };
        assert!(heard == sent, "{document}: {} bytes", heard.len());
        clients.push(client);
    }
    bed.resume(running);
    clients.into_iter().for_each(|client| client.ends(0));
}

fn there_and_back(stream: impl Read + Write + AsFd + Send, sent: &[u8]) -> Vec<u8> {
    let mut writer = std::fs::File::from(stream.as_fd().try_clone_to_owned().unwrap());
    let mut reader = stream;
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(sent).unwrap());
        let mut heard = vec![0; sent.len()];
        reader.read_exact(&mut heard).unwrap();
        heard
    })
}

/// An SSH server in the build, ssh outside, and AWS's CLI as the connection.
fn ssh_to_a_server_in_the_build() {
    let bed = Bed::host();
    let server = format!(
        "{} {}/tests/clients/ssh-server.py",
        python("python").display(),
        project().display()
    );
    let start = format!("{server} port & until test -s port; do :; done; echo port $(cat port)");
    let spec = build(&[&format!("{start}; codebuild-breakpoint; kill %1 2>/dev/null || kill $!")]);
    let running = bed.paused(&spec, &["--engine", "process"]);
    // On a separate, complete line: the command's own text contains the word as well.
    let port_in = |text: &str| {
        let mut lines = text.split_inclusive('\n');
        let port = lines.find_map(|line| line.strip_prefix("port ")?.strip_suffix('\n'));
        port.map(str::to_owned)
    };
    running.stdout.wait_until("the server's port", |bytes| {
        port_in(&String::from_utf8_lossy(bytes)).is_some()
    });
    let port = port_in(&running.stdout.text()).unwrap();
    let endpoint = Endpoint::of_notice(&running);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let proxy = format!(
        "{} ssm start-session --target codebuild:{uuid} --document-name AWS-StartSSHSession --parameters \
         portNumber={port}",
        python("aws").display()
    );
    let cli = endpoint.aws_with_clients(&bed, &[], "");
    let mut command = bed.other("ssh");
    command.envs(cli.get_envs().filter_map(|(name, value)| Some((name, value?))));
    for option in [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "BatchMode=yes",
    ] {
        command.args(["-F", "none", "-o", option]);
    }
    command.args(["-o", &format!("ProxyCommand={proxy}"), "someone@build", "anything"]);
    let text: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    let input = bed.write("input", &text);
    command.stdin(std::fs::File::open(input).unwrap());
    let answer = outcome(&mut command);
    assert_eq!(answer.code, 7, "{}", answer.stderr);
    assert!(answer.stdout == text, "{} of {} bytes", answer.stdout.len(), text.len());
    bed.resume(running);
}

fn without_a_container() {
    let bed = Bed::host();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &["--engine", "process"]);
    let session = pasted(&bed, &running, SHELL).code(0);
    assert!(session.stdout.contains("closed: the build has ended: SUCCEEDED"), "{session:?}");
    running.ends(0);
}
