//! A Docker daemon shared by the tests of a run, with its own roots and socket.
//!
//! It has no network except the host's, and no image except those of `images/`.

use super::daemon::Daemon;
use super::{image, outcome};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

/// The daemon, and how to connect to it.
pub(crate) struct Docker {
    daemon: Daemon,
    port: u16,
    imported: Mutex<Vec<&'static str>>,
}

impl Docker {
    /// The daemon of this run.
    pub(crate) fn shared() -> &'static Docker {
        static SHARED: OnceLock<Docker> = OnceLock::new();
        SHARED.get_or_init(|| Docker::start(&[]))
    }

    /// Another daemon, which does not see the beds, as on another machine.
    pub(crate) fn elsewhere() -> &'static Docker {
        static ELSEWHERE: OnceLock<Docker> = OnceLock::new();
        // Its own folder is next to the beds.
        let script = "mount --bind $0 /mnt; mount -t tmpfs none /var/tmp; mkdir $0; mount --move /mnt $0; \
                      exec \"$@\"";
        let hides = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script];
        ELSEWHERE.get_or_init(|| Docker::start(&hides))
    }

    fn start(hides: &[&str]) -> Self {
        // It cannot be told to use a free port.
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let daemon = Daemon::start_listening(socket, |dir| {
            let mut command = match hides {
                [] => Command::new("dockerd"),
                [program, arguments @ ..] => {
                    let mut command = Command::new(program);
                    command.args(arguments).arg(dir).arg("dockerd");
                    command
                }
            };
            command.arg("--data-root").arg(dir.join("data"));
            command.arg("--exec-root").arg(dir.join("exec"));
            command.arg("--pidfile").arg(dir.join("pid"));
            command.arg("--host").arg(format!("unix://{}", dir.join("sock").display()));
            command.args(["--host", "fd://", "--tls=false"]);
            command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
            command
        });
        let docker = Docker { daemon, port, imported: Mutex::default() };
        // Only a response shows that it is ready.
        docker.daemon.answers(|| outcome(&mut docker.command(&["version"])).code == 0);
        // Its folder belongs to this run alone; tests connect as other users, too.
        let everybody = fs::Permissions::from_mode(0o666);
        fs::set_permissions(docker.daemon.path("sock"), everybody).unwrap();
        docker
    }

    /// Its address for `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.daemon.path("sock").display())
    }

    /// The same over TCP.
    pub(crate) fn tcp(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Docker's own command.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.daemon.path("home"))
            .args(["--host", &self.host()])
            .args(arguments);
        command
    }

    /// The name it uses for an image of `images/`.
    pub(crate) fn image(&self, name: &'static str) -> String {
        let reference = format!("runner-test/{name}:latest");
        let mut imported = self.imported.lock().unwrap();
        if !imported.contains(&name) {
            let tar = image(name).with_extension("tar");
            outcome(&mut self.command(&["import", tar.to_str().unwrap(), &reference])).code(0);
            imported.push(name);
        }
        reference
    }
}
