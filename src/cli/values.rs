//! Parses values of options.

use jiff::SignedDuration;
use runner_build::{ServiceRequest, Stub};
use runner_cloud::CloudIdentity;
use runner_cloud::s3::Location;
use runner_core::artifact::{ArtifactSettings, Packaging};
use runner_core::env::is_name;
use runner_core::spec::is_identifier;
use runner_engine::{MountAccess, UserMount};
use runner_host::beneath;
use runner_outputs::{ArtifactDestination, OutputStore};
use runner_sandbox::Cpus;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a list is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OutputFormat {
    Text,
    Json,
}

/// `90s`, `15m`, `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration =
        text.parse().map_err(|_| "write a time like 90s, 15m or 1h30m".to_owned())?;
    let duration =
        Duration::try_from(parsed).map_err(|_| "a time cannot be negative".to_owned())?;
    if duration.is_zero() {
        Err("the time must be longer than zero".to_owned())
    } else {
        Ok(duration)
    }
}

/// A memory limit: `512M`, `2G`, `1.5GiB` or bytes.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    /// A smaller limit is too small for a shell and its commands. Docker has the same minimum.
    const LEAST: u64 = 6 << 20;
    match size(text)? {
        bytes if bytes < LEAST => Err("a build needs at least 6M".to_owned()),
        bytes => Ok(bytes),
    }
}

/// A size: `512M`, `2G`, `1.5GiB` or bytes; units are powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches("ib").trim_end_matches('b');
    let (number, bits) = match number.as_bytes().last() {
        Some(b'k') => (&number[..number.len() - 1], 10),
        Some(b'm') => (&number[..number.len() - 1], 20),
        Some(b'g') => (&number[..number.len() - 1], 30),
        Some(b't') => (&number[..number.len() - 1], 40),
        _ => (number, 0),
    };
    let amount: f64 = number
        .parse()
        .ok()
        .filter(|_| number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
        .ok_or("write a size like 512M or 2G")?;
    let bytes = amount * (1_u64 << bits) as f64;
    if bytes < 1.0 {
        return Err("write a size like 512M or 2G".to_owned());
    }
    if bytes >= (1_u64 << 53) as f64 {
        return Err("no machine has that much".to_owned());
    }
    Ok(bytes as u64)
}

/// A number of processors: `2`, `0.5`.
pub(super) fn cpus(text: &str) -> Result<Cpus, String> {
    let amount: f64 = text
        .parse()
        .ok()
        .filter(|_| text.starts_with(|c: char| c.is_ascii_digit()))
        .ok_or("write a number of processors like 2 or 0.5")?;
    if !(0.01..=100_000.0).contains(&amount) {
        return Err("write a number from 0.01 up".to_owned());
    }
    Ok(Cpus((amount * 1000.0).round() as u32))
}

/// `SRC:DST`, `SRC:DST:rw` or `SRC:DST:cow`.
pub(super) fn mount(text: &str) -> Result<UserMount, String> {
    const FORM: &str = "write SRC:DST, SRC:DST:rw or SRC:DST:cow";
    let endings = [
        (":rw", MountAccess::Write),
        (":cow", MountAccess::CopyOnWrite),
        (":ro", MountAccess::Read),
    ];
    let named = |(ending, access)| Some((text.strip_suffix(ending)?, access));
    let (rest, access) = endings.into_iter().find_map(named).unwrap_or((text, MountAccess::Read));
    let (source, target) = rest.split_once(':').ok_or(FORM)?;
    if source.is_empty() || !target.starts_with('/') || target.contains(':') {
        return Err(format!("{FORM}, with DST an absolute path in the container"));
    }
    if Path::new(target).components().any(|part| part == std::path::Component::ParentDir)
        || target.trim_end_matches('/').is_empty()
    {
        return Err("DST cannot be the root or contain `..`".to_owned());
    }
    for taken in ["/proc", "/sys", "/dev", "/codebuild/readonly"] {
        if Path::new(target).starts_with(taken) {
            return Err(format!("{taken} belongs to the container itself"));
        }
    }
    let source = std::fs::canonicalize(source).map_err(|error| format!("{source}: {error}"))?;
    Ok(UserMount { source, target: PathBuf::from(target), access, hidden: Vec::new() })
}

/// `NAME=VALUE`, or `NAME` for the caller's own value.
pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => {
            let value = std::env::var(text)
                .map_err(|_| format!("there is no variable {text} to pass through"))?;
            (text, value)
        }
    };
    check_variable(name, &value)?;
    Ok((name.to_owned(), value))
}

/// `NAME=IMAGE` or `NAME=IMAGE:TAG`; `:PORT` may follow a tag, a digest or a file.
pub(super) fn service(text: &str) -> Result<ServiceRequest, String> {
    const FORM: &str = "write NAME=IMAGE[:PORT], such as db=postgres:16:5432";
    let (name, rest) = text.split_once('=').ok_or(FORM)?;
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_name = name.chars().all(is_label)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.len() <= 63
        && name != "localhost";
    if !is_name {
        return Err(format!("`{name}` is not a valid host name: a to z, 0 to 9 and - in between"));
    }
    let behind = rest.rsplit_once(':').filter(|(image, _)| has_tag(image));
    let port = behind.and_then(|(image, port)| Some((image, port.parse::<u16>().ok()?)));
    let (image, port) = match port {
        Some((_, 0)) => return Err("0 is not a port".to_owned()),
        Some((image, port)) => (image, Some(port)),
        None => (rest, None),
    };
    Ok(ServiceRequest { name: name.to_owned(), image: image.parse()?, port, variables: Vec::new() })
}

/// Whether the text after the next colon of an image's name cannot be a tag.
fn has_tag(image: &str) -> bool {
    let of_file = ["rootfs:", "oci:", "oci-archive:", "docker-archive:"];
    let name = image.strip_prefix("docker-daemon:").unwrap_or(image);
    of_file.iter().any(|kind| image.starts_with(kind))
        || name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']))
}

/// `SERVICE:NAME=VALUE`, or `SERVICE:NAME` for the caller's own value.
pub(super) fn service_variable(text: &str) -> Result<(String, (String, String)), String> {
    let (service, rest) = text.split_once(':').ok_or("write SERVICE:NAME=VALUE")?;
    Ok((service.to_owned(), variable(rest)?))
}

/// A directory or `s3://bucket/prefix`.
pub(super) fn store(text: &str) -> Result<OutputStore, String> {
    match as_typed(text)? {
        OutputStore::Folder(path) => {
            let path = beneath::real(&path).map_err(|error| error.to_string())?;
            Ok(OutputStore::Folder(path))
        }
        bucket @ OutputStore::Bucket(_) => Ok(bucket),
    }
}

/// The same, with a directory's name as typed.
pub(super) fn as_typed(text: &str) -> Result<OutputStore, String> {
    match Location::parse(text) {
        Some(location) => Ok(OutputStore::Bucket(location?)),
        None if text.is_empty() => Err("name a directory or s3://BUCKET/PREFIX".to_owned()),
        None if text.contains("://") => Err("write a directory or s3://BUCKET/PREFIX".to_owned()),
        None => Ok(OutputStore::Folder(PathBuf::from(text))),
    }
}

/// The identity for AWS: a profile or, for `env`, the caller's variables.
pub(super) fn identity(name: &str) -> CloudIdentity {
    match name {
        "env" => CloudIdentity::Environment,
        name => CloudIdentity::Profile(name.to_owned()),
    }
}

/// Destination of artifacts: a place for their files, or for a ZIP of all of them.
pub(super) fn artifacts(text: &str) -> Result<ArtifactDestination, String> {
    let (place, zip) = match text.rsplit_once('/') {
        // `s3://NAME.zip` is a bucket, not a ZIP.
        Some((place, name)) if name.ends_with(".zip") && place != "s3:/" => (place, Some(name)),
        None if text.ends_with(".zip") => (".", Some(text)),
        _ => (text, None),
    };
    let store = store(if place.is_empty() { "/" } else { place })?;
    let settings = match zip {
        None => ArtifactSettings::default(),
        Some(name) => ArtifactSettings {
            name: Some(name.to_owned()),
            packaging: Some(Packaging::Zip),
            ..ArtifactSettings::default()
        },
    };
    Ok(ArtifactDestination { store, settings, is_path: zip.is_some(), stream: None })
}

/// Checks that a variable can be passed to a program.
pub(super) fn check_variable(name: &str, value: &str) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!("`{name}` cannot be the name of a variable"));
    }
    if value.contains('\0') {
        return Err(format!("the value of {name} contains a NUL"));
    }
    Ok(())
}

/// `ID=DIR`.
pub(super) fn secondary_source(text: &str) -> Result<(String, PathBuf), String> {
    let (id, dir) = text.split_once('=').ok_or("write ID=DIR")?;
    if !is_identifier(id) {
        return Err(format!(
            "`{id}` cannot be the identifier of a source: use letters, digits and `_`, less than 128"
        ));
    }
    let dir = std::fs::canonicalize(dir).map_err(|error| format!("{dir}: {error}"))?;
    if !dir.is_dir() {
        return Err(format!("{} is not a directory", dir.display()));
    }
    if dir == Path::new("/") {
        return Err("a source cannot be /".to_owned());
    }
    Ok((id.to_owned(), dir))
}

/// `NAME` or `NAME=FILE`.
pub(super) fn stub(text: &str) -> Result<Stub, String> {
    let (name, file) = match text.split_once('=') {
        Some((name, file)) => (name, Some(PathBuf::from(file))),
        None => (text, None),
    };
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(format!("`{name}` is not the name of a program"));
    }
    if let Some(file) = &file
        && !std::fs::metadata(file)
            .map_err(|error| format!("{}: {error}", file.display()))?
            .is_file()
    {
        return Err(format!("{} is not a file", file.display()));
    }
    Ok(Stub { name: name.to_owned(), file })
}

/// A project name that AWS allows.
pub(super) fn project(text: &str) -> Result<String, String> {
    let mut chars = text.chars();
    let fits = (2..=150).contains(&text.len())
        && chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if fits {
        Ok(text.to_owned())
    } else {
        Err("2 to 150 letters, digits, `-` and `_`, the first a letter or digit".to_owned())
    }
}

/// A directory's name as a project name.
pub(super) fn project_of(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let fitting: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(150)
        .collect();
    if fitting.len() < 2 { "build".to_owned() } else { fitting }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "5", "soon", "-5s", "0s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in
            [("1", 1), ("512M", 512 << 20), ("2g", 2 << 30), ("1.5GiB", 3 << 29), ("4kb", 4096)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "M", "0", "-1", "1x", "1e3", "99999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_need_a_place_that_is_free() {
        let mount_of = |text: &str| mount(text).map(|m| (m.target, m.access));
        assert_eq!(mount_of("/usr:/tools"), Ok((PathBuf::from("/tools"), MountAccess::Read)));
        assert_eq!(mount_of("/usr:/tools:rw"), Ok((PathBuf::from("/tools"), MountAccess::Write)));
        let cow = Ok((PathBuf::from("/tools"), MountAccess::CopyOnWrite));
        assert_eq!(mount_of("/usr:/tools:cow"), cow);
        for bad in ["/usr", "/usr:tools", "/usr:/", "/usr:/a/../b", "/usr:/proc/x", "/nowhere:/a"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_behind_a_tag_is_a_port() {
        for (text, image, port) in [
            ("db=postgres:16:5432", "docker.io/library/postgres:16", Some(5432)),
            ("db=postgres:16", "docker.io/library/postgres:16", None),
            ("db=redis", "docker.io/library/redis:latest", None),
            ("db=127.0.0.1:5000/a:b", "127.0.0.1:5000/a:b", None),
            ("db=127.0.0.1:5000/a:b:80", "127.0.0.1:5000/a:b", Some(80)),
            ("db=rootfs:/a:80", "rootfs:/a", Some(80)),
            ("db=docker-daemon:a:b:80", "docker-daemon:a:b", Some(80)),
        ] {
            let service = service(text).expect(text);
            assert_eq!((service.image.to_string().as_str(), service.port), (image, port), "{text}");
        }
        for bad in ["db", "Db=a", "localhost=a", "=a", "db=", "a b=c", "db=a:b:0", "db-=a"] {
            assert!(service(bad).is_err(), "{bad}");
        }
        assert!(service_variable("db:A=b").is_ok() && service_variable("A=b").is_err());
    }

    #[test]
    fn folders_make_project_names() {
        assert_eq!(project_of(Path::new("/a/my app.v2")), "my-app-v2");
        assert_eq!(project_of(Path::new("/")), "build");
        assert!(project(&project_of(Path::new("/a/.-x-y"))).is_ok());
    }
}
