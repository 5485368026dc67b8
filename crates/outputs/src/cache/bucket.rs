//! Caches in a bucket: one object each, `PREFIX/PROJECT/PATHS/KEY.tar.gz`.
//!
//! An object appears whole. It is downloaded whole and its digest compared before anything is
//! restored: a build never finds half a cache. `upkeep` lists and removes these objects.

use super::super::meter::Meter;
use super::super::{OutputError, hex};
use super::caching::Caching;
use super::copy::{broken, finish_directory, make_item, tell};
use super::gather::{CacheItem, Gathered, ROOT, SOURCE, parts};
use super::names::{WantedCache, decode, encode};
use super::tar::{PASSED, TarKeeper};
use ::tar::{Archive, EntryType};
use flate2::read::GzDecoder;
use runner_cloud::s3::{Location, Object, S3};
use runner_engine::files::{FileRequests, FilesProgram};
use runner_wire::abi::files::{DIRECTORY, REGULAR, SYMLINK, root};
use runner_wire::files::FileFacts;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

pub(super) const END: &str = ".tar.gz";
/// Name of a cache without a key. No encoded key looks like it.
pub(super) const NO_KEY: &str = "%";
/// Metadata key that holds the digest.
pub(super) const DIGEST: &str = "runner-sha256";
const ITEMS: &str = "runner-digest";
pub(super) const COUNTS: &str = "runner-counts";
/// Bytes passed on at a time.
const CHUNK: usize = 256 << 10;

fn folder(location: &Location, wanted: &WantedCache) -> Object {
    location.object(&format!("{}/{}", encode(wanted.project.as_bytes()), wanted.paths))
}

fn object(location: &Location, wanted: &WantedCache) -> Object {
    let key = wanted.key.as_ref().map_or(NO_KEY.to_owned(), |key| encode(key.as_bytes()));
    let folder = folder(location, wanted);
    Object { key: format!("{}/{key}{END}", folder.key), ..folder }
}

/// Whether the bucket already has exactly this cache.
pub(super) async fn has(
    s3: &S3,
    location: &Location,
    wanted: &WantedCache,
) -> Result<bool, OutputError> {
    let object = object(location, wanted);
    let listed = s3.list(&object.bucket, &object.key).await?;
    Ok(listed.iter().any(|listed| listed.key == object.key))
}

/// Restores a cache. Returns the digest of its content, or `None` if there was no cache.
pub(super) async fn restore(
    caching: &Caching,
    s3: &S3,
    location: &Location,
    wanted: &WantedCache,
) -> Result<Option<String>, OutputError> {
    let mut found = object(location, wanted);
    let mut key = wanted.key.clone();
    let mut download = s3.get(&found).await?;
    if download.is_none() {
        let folder = folder(location, wanted);
        for prefix in &wanted.fallback {
            let begin = format!("{}/{}", folder.key, encode(prefix.as_bytes()));
            let listed = s3.list(&folder.bucket, &begin).await?;
            let mut similar: Vec<_> = listed
                .into_iter()
                .filter_map(|listed| {
                    let name = listed.key.strip_prefix(&folder.key)?.strip_prefix('/')?;
                    let name = decode(name.strip_suffix(END)?)?;
                    Some((listed.modified, listed.key.clone(), String::from_utf8(name).ok()?))
                })
                .collect();
            similar.sort();
            // Take the newest; if a prune removes it at this very moment, try the next.
            while download.is_none()
                && let Some((_, object_key, name)) = similar.pop()
            {
                found.key = object_key;
                key = Some(name);
                download = s3.get(&found).await?;
            }
            if download.is_some() {
                break;
            }
        }
    }
    let Some(mut download) = download else { return Ok(None) };
    let failed = || OutputError::folder("write to a file in", &caching.at.scratch);
    let mut file = caching.at.scratch_file()?;
    let (meter, total) = (Meter::default(), download.length().unwrap_or(0));
    let fetch = async {
        let mut digest = Sha256::new();
        while let Some(bytes) = download.chunk().await? {
            digest.update(&bytes);
            meter.add(bytes.len() as u64);
            file.write_all(&bytes).map_err(failed())?;
        }
        Ok::<_, OutputError>(hex(&digest.finalize()))
    };
    let digest = meter.during(&caching.at.teller, &found.to_string(), total, fetch).await?;
    let told = |name: &str| download.metadata(name).map(str::to_owned);
    if told(DIGEST).as_ref() != Some(&digest) {
        let problem = format!("{found}: its bytes are not those that were saved (sha256 {digest})");
        return Err(OutputError::Other(problem));
    }
    for (side, to) in [(SOURCE, caching.at.source.as_bytes()), (ROOT, &b"/"[..])] {
        file.seek(SeekFrom::Start(0)).map_err(failed())?;
        let (archive, to) = (file.try_clone().map_err(failed())?, to.to_vec());
        let files = FilesProgram::start(&*caching.at.container).await?;
        let work = tokio::task::spawn_blocking(move || {
            files.write(&to, root::CREATE, |requests| unpack(&archive, side, requests))
        });
        let failures = work.await.map_err(|error| OutputError::Other(error.to_string()))??;
        tell(caching, &failures).await;
    }
    let (files, bytes) = counts(download.metadata(COUNTS));
    caching.tell_restored(&key, files, bytes, wanted).await;
    Ok(Some(told(ITEMS).unwrap_or_default()))
}

/// Number of files and bytes of a cache, parsed from its metadata.
pub(super) fn counts(text: Option<&str>) -> (u64, u64) {
    let (files, bytes) = text.and_then(|text| text.split_once(' ')).unwrap_or_default();
    let number = |text: &str| text.parse().unwrap_or(0);
    (number(files), number(bytes))
}

/// Passes on the part of an archive that belongs to one side.
fn unpack(archive: &File, side: &[u8], requests: &mut FileRequests) -> Result<(), OutputError> {
    let bad = |error: std::io::Error| OutputError::Other(format!("it cannot be unpacked: {error}"));
    let mut archive = Archive::new(GzDecoder::new(archive));
    let mut directories = Vec::new();
    let mut buffer = vec![0; CHUNK];
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let name = entry.path_bytes().into_owned();
        let name = name.strip_suffix(b"/").unwrap_or(&name).to_vec();
        let Some((_, path)) = parts(&name).filter(|(of, _)| *of == side) else { continue };
        let header = entry.header();
        let kind = match header.entry_type() {
            EntryType::Directory => DIRECTORY,
            EntryType::Regular => REGULAR,
            EntryType::Symlink => SYMLINK,
            _ => continue,
        };
        let number = |value: std::io::Result<u64>| {
            u32::try_from(value.map_err(bad)?).map_err(|_| {
                OutputError::Other("it cannot be unpacked: an owner that is none".to_owned())
            })
        };
        let mut facts = FileFacts {
            mode: kind | header.mode().map_err(bad)? & 0o7777,
            uid: number(header.uid())?,
            gid: number(header.gid())?,
            size: if kind == REGULAR { entry.size() } else { 0 },
            modified: header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0),
            ..FileFacts::default()
        };
        let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let mut is_passed = false;
        for record in entry.pax_extensions().map_err(bad)?.into_iter().flatten() {
            let record = record.map_err(bad)?;
            match (record.key(), record.value()) {
                (Ok("mtime"), Ok(value)) => {
                    let (seconds, nanos) = value.split_once('.').unwrap_or((value, "0"));
                    facts.modified = seconds.parse().unwrap_or(facts.modified);
                    facts.modified_ns =
                        nanos.parse().ok().filter(|n| *n < 1_000_000_000).unwrap_or(0);
                }
                (Ok(PASSED), _) => is_passed = true,
                _ => {}
            }
        }
        let item = CacheItem { facts, target: None, is_passed };
        make_item(requests, &item, path, if kind == SYMLINK { &target } else { b"" })?;
        match kind {
            DIRECTORY => directories.push((path.to_vec(), item)),
            REGULAR => {
                loop {
                    let got = entry.read(&mut buffer).map_err(bad)?;
                    if got == 0 {
                        break;
                    }
                    requests.data(&buffer[..got]).map_err(broken)?;
                }
                requests.end().map_err(broken)?;
            }
            _ => {}
        }
    }
    // Innermost first.
    for (path, item) in directories.iter().rev() {
        finish_directory(requests, item, path)?;
    }
    Ok(())
}

/// Saves a cache.
pub(super) async fn save(
    caching: &Caching,
    s3: &S3,
    location: &Location,
    wanted: &WantedCache,
    gathered: Gathered,
) -> Result<(), OutputError> {
    let failed = || OutputError::folder("read a file in", &caching.at.scratch);
    let file = caching.at.scratch_file()?;
    let meter = Meter::default();
    let keeper = TarKeeper::new(file, caching.at.scratch.clone(), meter.clone(), &gathered)?;
    let packing = caching.keep_with(&gathered, keeper);
    let keeper = meter.during(&caching.at.teller, "cache", gathered.bytes(), packing).await?;
    let finished = tokio::task::spawn_blocking(move || keeper.finish()).await;
    let (mut file, digest) = finished.map_err(|error| OutputError::Other(error.to_string()))??;
    let size = file.seek(SeekFrom::End(0)).map_err(failed())?;
    file.seek(SeekFrom::Start(0)).map_err(failed())?;
    let object = Object {
        content_type: Some("application/gzip".to_owned()),
        metadata: vec![
            (DIGEST.to_owned(), digest),
            (ITEMS.to_owned(), gathered.digest()),
            (COUNTS.to_owned(), format!("{} {}", gathered.files(), gathered.bytes())),
        ],
        ..object(location, wanted)
    };
    let meter = Meter::default();
    let told = |bytes| meter.add(bytes);
    let put = caching.at.unless_cancelled(s3.put(&object, file, &told));
    let done = meter.during(&caching.at.teller, &object.to_string(), size, put).await;
    s3.settle().await;
    Ok(done??)
}
