//! Links to the page: a link opens it once, for a limited time.
//!
//! ```text
//! page-links/DIGEST   the link's rights and expiry time
//! ```
//!
//! The file name is the digest of the link's token, and removing the file takes the link: of two
//! that show the same token only one succeeds. So any program of the caller can make links, and any
//! endpoint of the state folder can take them, without any communication between the two.

use super::home::Home;
use super::random;
use runner_host::private::make_private;
use runner_host::users;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long an unopened link is valid.
const LIFE: Duration = Duration::from_secs(10 * 60);
/// Most links at once.
const MOST: usize = 1000;
/// Longest accepted token.
const LONGEST: usize = 100;

/// The rights of the visitor who opens a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkFor {
    /// Everything that the caller may do.
    Owner,
    /// Look at the build with this uuid.
    Reader(String),
}

#[derive(Serialize, Deserialize)]
struct PageLink {
    /// Milliseconds since 1970.
    until: u64,
    r#for: LinkFor,
}

/// The links of a state folder.
#[derive(Clone, Debug)]
pub struct PageLinks {
    folder: PathBuf,
}

impl PageLinks {
    pub fn of(home: &Home) -> Self {
        PageLinks { folder: home.root().join("page-links") }
    }

    /// Makes a link and returns its token.
    pub fn make(&self, r#for: LinkFor) -> io::Result<String> {
        make_private(&self.folder)?;
        if self.clear()? >= MOST {
            let text = format!("{MOST} links to the page are open; they end after ten minutes");
            return Err(io::Error::other(text));
        }
        let token = hex(&random::<32>()?);
        let link = PageLink { until: millis(SystemTime::now() + LIFE), r#for };
        // A power loss may take it: making the next one is easy.
        let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(&self.folder)?;
        file.write_all(&serde_json::to_vec(&link)?)?;
        users::give(file.path())?;
        file.persist(self.folder.join(name(&token)))?;
        Ok(token)
    }

    /// Takes a token's link; `None` if there is none or it is no longer valid.
    pub fn take(&self, token: &str) -> io::Result<Option<LinkFor>> {
        if token.is_empty() || token.len() > LONGEST {
            return Ok(None);
        }
        let path = self.folder.join(name(token));
        let taken = fs::read(&path).and_then(|text| fs::remove_file(&path).map(|()| text));
        let text = match taken {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            taken => taken?,
        };
        let link: PageLink = serde_json::from_slice(&text)?;
        Ok((millis(SystemTime::now()) < link.until).then_some(link.r#for))
    }

    /// Removes expired links. Returns how many are left.
    fn clear(&self) -> io::Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let old = entry.metadata().and_then(|facts| facts.modified());
            if old.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > LIFE)) {
                // Another process may have removed it first.
                let _ = fs::remove_file(entry.path());
            } else {
                count += 1;
            }
        }
        Ok(count)
    }
}

fn name(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> (tempfile::TempDir, PageLinks) {
        let bed = tempfile::tempdir().expect("a folder");
        let home = Home::at(bed.path().join("state")).expect("a state folder");
        (bed, PageLinks::of(&home))
    }

    #[test]
    fn a_link_is_good_once() {
        let (_bed, links) = links();
        let token = links.make(LinkFor::Owner).expect("a link");
        assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(links.take("../../x").expect("looked at"), None);
        assert_eq!(links.take(&token[1..]).expect("looked at"), None);
        assert_eq!(links.take(&token).expect("looked at"), Some(LinkFor::Owner));
        assert_eq!(links.take(&token).expect("looked at"), None);
    }

    #[test]
    fn many_that_show_one_token_get_one_link() {
        let (_bed, links) = links();
        let token = links.make(LinkFor::Reader("u".to_owned())).expect("a link");
        let taken: usize = std::thread::scope(|scope| {
            let take = || usize::from(links.take(&token).ok().flatten().is_some());
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).sum()
        });
        assert_eq!(taken, 1);
    }

    #[test]
    fn an_old_link_is_none() {
        let (_bed, links) = links();
        let token = links.make(LinkFor::Owner).expect("a link");
        let path = links.folder.join(name(&token));
        fs::write(path, r#"{"until": 1, "for": "owner"}"#).expect("written");
        assert_eq!(links.take(&token).expect("looked at"), None);
    }

    /// The folder does not contain the tokens.
    #[test]
    fn tokens_are_not_kept() {
        let (_bed, links) = links();
        let token = links.make(LinkFor::Owner).expect("a link");
        for entry in fs::read_dir(&links.folder).expect("a folder") {
            let path = entry.expect("a file").path();
            let text = fs::read_to_string(&path).expect("text");
            assert!(!text.contains(&token) && !path.to_string_lossy().contains(&token));
        }
    }
}
