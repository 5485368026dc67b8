//! A Debian kernel for the tests' virtual machines, unpacked below `target`: nothing is installed
//! that this machine would boot.

use crate::packages::{apt, apt_get, has};
use crate::{ChoreResult, is_root, root, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package that depends on the newest one. The one for virtual machines has a fifth of the
/// size.
const NAME: &str = "linux-image-cloud-amd64";

/// Puts the kernel, and the one module that a build needs, into `target/kernel`. If none is
/// available, says so and continues.
pub(crate) fn install() -> ChoreResult {
    let place = root().join("target/kernel");
    if place.is_dir() {
        return Ok(());
    }
    if !is_root() || !has("apt-cache") || !has("dpkg-deb") {
        println!("xtask: no kernel (as root, on Debian: {NAME}); nothing runs in virtual machines");
        return Ok(());
    }
    // A machine with everything installed may have no list of packages, or an outdated one.
    apt(&["update"])?;
    let Some(package) = newest() else {
        println!("xtask: no package {NAME} here; the tests with virtual machines are not run");
        return Ok(());
    };
    let dir = root().join("target/kernel.new");
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(|error| error.to_string())?;
    }
    fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    run(apt_get(&["download", &package]).current_dir(&dir))?;
    let files = |dir: &Path| -> ChoreResult<Vec<PathBuf>> {
        let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    };
    for package in files(&dir)? {
        run(Command::new("dpkg-deb").arg("-x").arg(package).arg(dir.join("all")))?;
    }
    let is_kernel = |path: &PathBuf| path.to_string_lossy().contains("/vmlinuz-");
    let kernel = files(&dir.join("all/boot"))?.into_iter().find(is_kernel);
    let kernel = kernel.ok_or("the package holds no kernel")?;
    let modules = files(&dir.join("all/lib/modules"))?;
    let modules = modules.first().ok_or("the package holds no modules")?;
    let overlay = files(&modules.join("kernel/fs/overlayfs"))?;
    let overlay = overlay.first().ok_or("the package holds no overlayfs")?;
    let ready = dir.join("ready");
    fs::create_dir(&ready).map_err(|error| error.to_string())?;
    fs::copy(kernel, ready.join("vmlinuz")).map_err(|error| error.to_string())?;
    let module = ready.join("overlay.ko");
    if overlay.extension().is_some_and(|kind| kind == "xz") {
        let unpack = "exec xz -dc \"$0\" > \"$1\"";
        run(Command::new("sh").args(["-c", unpack]).arg(overlay).arg(&module))?;
    } else {
        fs::copy(overlay, module).map_err(|error| error.to_string())?;
    }
    fs::rename(ready, place).map_err(|error| error.to_string())?;
    fs::remove_dir_all(dir).map_err(|error| error.to_string())
}

/// The package of the newest kernel.
fn newest() -> Option<String> {
    let output =
        Command::new("apt-cache").args(["show", "--no-all-versions", NAME]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let depends = text.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    depends.split([' ', ',']).next().map(str::to_owned)
}
