//! Images: pulled from a registry on this machine, and started.

use super::{Bed, Contender, Docker, measure, quiet, text};
use crate::{ChoreResult, images, packages, root, run};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Debian packages of peers and of the tools that supply them.
const PEERS: [&str; 3] = ["docker-registry", "skopeo", "umoci"];
/// Parts of a Debian image that become separate layers.
const PARTS: [&str; 3] = ["usr/share", "usr/lib", "usr/bin"];

/// A registry that is stopped on drop.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(dir: &Path) -> ChoreResult<Self> {
        let failed = |error: std::io::Error| error.to_string();
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.map_err(failed)?.to_string();
        let config = dir.join("registry.yml");
        let storage = dir.join("registry");
        let text = format!(
            "version: 0.1\nhttp: {{addr: \"{address}\"}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n",
            storage.display()
        );
        fs::write(&config, text).map_err(failed)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null());
        let process =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(failed)?;
        let registry = Registry { process, address };
        while std::net::TcpStream::connect(&registry.address).is_err() {
            std::thread::yield_now();
        }
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Pushes a layout whose layers are these tars under a name.
fn push(bed: &Bed, registry: &Registry, name: &str, tars: &[PathBuf]) -> ChoreResult<String> {
    let layout = bed.dir.join(format!("layout-{name}"));
    let place = format!("{}:latest", layout.display());
    quiet(Command::new("umoci").args(["init", "--layout"]).arg(&layout))?;
    quiet(Command::new("umoci").args(["new", "--image", &place]))?;
    for tar in tars {
        quiet(Command::new("umoci").args(["raw", "add-layer", "--image", &place]).arg(tar))?;
    }
    let to = format!("{}/bench/{name}:1", registry.address);
    let mut copy = Command::new("skopeo");
    copy.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
    quiet(copy.args([&format!("oci:{place}"), &format!("docker://{to}")]))?;
    Ok(to)
}

fn tar(bed: &Bed, name: &str, from: &Path, arguments: &[&str]) -> ChoreResult<PathBuf> {
    let file = bed.dir.join(format!("{name}.tar"));
    let mut command = Command::new("tar");
    run(command.arg("-C").arg(from).arg("-cf").arg(&file).args(arguments))?;
    Ok(file)
}

/// A Debian image in four layers: from a registry to directories that containers can start from.
pub(super) fn pull(bed: &Bed, docker: Option<&Docker>) -> ChoreResult {
    packages::install(&PEERS)?;
    images::build(&["debian".to_owned()])?;
    let registry = Registry::start(&bed.dir)?;
    let debian = root().join("target/images/debian");
    let mut tars = Vec::new();
    let exclude: Vec<String> = PARTS.iter().map(|part| format!("--exclude=./{part}")).collect();
    let rest: Vec<&str> = exclude.iter().map(String::as_str).chain(["."]).collect();
    tars.push(tar(bed, "rest", &debian, &rest)?);
    for part in PARTS {
        tars.push(tar(bed, &part.replace('/', "-"), &debian, &[part])?);
    }
    let name = push(bed, &registry, "debian", &tars)?;
    let (store, oci, bundle) =
        (bed.dir.join("pulled"), bed.dir.join("copied"), bed.dir.join("unpacked"));
    let timed = |once: &mut dyn FnMut() -> ChoreResult, after: &mut dyn FnMut() -> ChoreResult| {
        quiet(&mut Command::new("sync"))?;
        let begin = Instant::now();
        once()?;
        let took = begin.elapsed();
        after()?;
        Ok(took)
    };
    let remove = |dir: &Path| fs::remove_dir_all(dir).map_err(|error| error.to_string());
    let mut contenders = vec![
        Contender::timed("`runner image pull`", || {
            timed(
                &mut || {
                    let mut command = bed.runner();
                    quiet(
                        command
                            .env("RUNNER_HOME", &store)
                            .args(["image", "pull", "--quiet", &name]),
                    )
                },
                &mut || remove(&store),
            )
        }),
        Contender::timed("`skopeo copy`, `umoci unpack`", || {
            timed(
                &mut || {
                    let place = format!("{}:latest", oci.display());
                    let mut copy = Command::new("skopeo");
                    copy.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]);
                    quiet(copy.args([&format!("docker://{name}"), &format!("oci:{place}")]))?;
                    let mut unpack = Command::new("umoci");
                    quiet(unpack.args(["unpack", "--image", &place]).arg(&bundle))
                },
                &mut || remove(&oci).and_then(|()| remove(&bundle)),
            )
        }),
    ];
    if let Some(docker) = docker {
        contenders.push(Contender::timed("`docker pull`", || {
            timed(&mut || quiet(docker.command().args(["pull", "--quiet", &name])), &mut || {
                quiet(docker.command().args(["rmi", &name]))
            })
        }));
    }
    measure("An image of four layers, pulled and unpacked", 1, &mut contenders)
}

/// The cost of layers at start.
pub(super) fn layers(bed: &Bed, _: Option<&Docker>) -> ChoreResult {
    packages::install(&PEERS)?;
    let registry = Registry::start(&bed.dir)?;
    let base = root().join("target/images/busybox.tar");
    let mut tars = vec![base];
    let one = push(bed, &registry, "one", &tars)?;
    for number in 1..40 {
        let dir = bed.dir.join(format!("layer-{number}"));
        fs::create_dir_all(dir.join("opt")).map_err(|error| error.to_string())?;
        fs::write(dir.join(format!("opt/{number}")), "x").map_err(|error| error.to_string())?;
        tars.push(tar(bed, &format!("layer-{number}"), &dir, &["."])?);
    }
    let forty = push(bed, &registry, "forty", &tars)?;
    let spec = bed.buildspec("layers", &["echo hi"])?;
    for name in [&one, &forty] {
        text(bed.runner().args(["image", "pull", "--quiet", name]))?;
    }
    let mut contenders = vec![
        Contender::new("`runner run`, image of 40 layers", || {
            bed.runner_run(&spec, &["--image", &forty])
        }),
        Contender::new("`runner run`, image of 1 layer", || {
            bed.runner_run(&spec, &["--image", &one])
        }),
        Contender::new("`runner run`, the same as `rootfs:DIR`", || {
            bed.runner_run(&spec, &["--image", &bed.image])
        }),
    ];
    measure("A build in an image of many layers (whole process)", 10, &mut contenders)
}
