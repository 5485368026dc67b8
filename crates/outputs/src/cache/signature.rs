//! How a cache shows that this user's runner saved it on this machine (docs/adr/0062).
//!
//! A cache folder may come from anywhere: out of a clone, from another machine, from another user.
//! The runner signs what it saves with a key that exists only in the state folder. The signature
//! covers the cache's description, its name, and the identity of its directories: a copy, however
//! made, has no valid signature.

use super::super::hex;
use super::super::shared::Naming;
use super::gather::{ROOT, SOURCE};
use hmac::{Hmac, KeyInit, Mac};
use runner_host::beneath::Dir;
use runner_wire::files::FileFacts;
use rustix::fs::{AtFlags, StatxFlags, statx};
use sha2::Sha256;
use std::fmt;
use std::io;

/// Digits that replace a secret in a cache's key.
const DIGITS: usize = 16;

/// Signs caches and verifies its own signatures. Without a key it does neither.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Signer(Option<[u8; 32]>);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Signer(key)" } else { "Signer(none)" })
    }
}

/// The signed data.
pub(super) struct Signed<'a> {
    /// Folder of the cache.
    pub(super) dir: &'a Dir,
    /// Name of the cache.
    pub(super) id: &'a [u8],
    /// Description of the cache.
    pub(super) words: &'a [u8],
}

impl Signer {
    pub fn new(key: [u8; 32]) -> Self {
        Signer(Some(key))
    }

    /// The signature; `None` without a key.
    pub(super) fn sign(&self, signed: &Signed<'_>) -> io::Result<Option<String>> {
        let Some(mac) = self.of(signed)? else { return Ok(None) };
        Ok(Some(hex(&mac.finalize().into_bytes())))
    }

    /// Whether the signature is one of this signer's.
    pub(super) fn knows(&self, signed: &Signed<'_>, signature: &[u8]) -> bool {
        let bytes = unhex(signature);
        let (Ok(Some(mac)), Some(bytes)) = (self.of(signed), bytes) else { return false };
        mac.verify_slice(&bytes).is_ok()
    }

    /// Replaces a secret in a cache's key: always the same for one secret, and of no help in
    /// guessing it without the key.
    pub(super) fn pseudonym(&self, secret: &[u8]) -> Option<String> {
        let mut mac = self.begin("pseudonym of a secret")?;
        mac.update(secret);
        let mut digits = hex(&mac.finalize().into_bytes());
        digits.truncate(DIGITS);
        Some(digits)
    }

    /// Names shared files so that nobody without the key can compute the names.
    pub(super) fn naming(&self) -> Option<Naming> {
        let begun = self.begin("name of a file")?;
        Some(Box::new(move |content, facts| {
            let FileFacts { mode, modified, modified_ns, .. } = *facts;
            let mut mac = begun.clone();
            mac.update(content);
            mac.update(&(mode & 0o777).to_le_bytes());
            mac.update(&modified.to_le_bytes());
            mac.update(&modified_ns.to_le_bytes());
            hex(&mac.finalize().into_bytes())
        }))
    }

    fn of(&self, signed: &Signed<'_>) -> io::Result<Option<Hmac<Sha256>>> {
        let Some(mut mac) = self.begin("cache") else { return Ok(None) };
        for text in [signed.id, signed.words] {
            mac.update(&(text.len() as u64).to_le_bytes());
            mac.update(text);
        }
        mac.update(&identity(signed.dir)?);
        for side in [SOURCE, ROOT] {
            mac.update(&identity(&signed.dir.open([b"tree/", side].concat())?)?);
        }
        Ok(Some(mac))
    }

    /// `purpose` keeps signatures of one kind from being taken for those of another.
    fn begin(&self, purpose: &str) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0?).ok()?;
        mac.update(purpose.as_bytes());
        mac.update(b"\0");
        Some(mac)
    }
}

/// What no copy of a directory shares with it: its inode number and, if the file system records it,
/// its creation time. Device numbers are left out, since they change when a machine reboots.
fn identity(dir: &Dir) -> io::Result<[u8; 24]> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME;
    let facts = statx(dir, c"", AtFlags::EMPTY_PATH, wanted)?;
    let is_known = facts.stx_mask & StatxFlags::BTIME.bits() != 0;
    let (seconds, nanos) = match is_known {
        true => (facts.stx_btime.tv_sec, facts.stx_btime.tv_nsec),
        false => (0, 0),
    };
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&facts.stx_ino.to_le_bytes());
    bytes[8..16].copy_from_slice(&seconds.to_le_bytes());
    bytes[16..20].copy_from_slice(&nanos.to_le_bytes());
    Ok(bytes)
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?));
    text.len().is_multiple_of(2).then(|| pairs.collect()).flatten()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a folder of the test's own")]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn make(at: &Path) -> io::Result<Dir> {
        fs::create_dir_all(at.join("tree/source"))?;
        fs::create_dir_all(at.join("tree/root"))?;
        Dir::top(at)
    }

    #[test]
    fn a_signature_is_of_one_cache_by_one_signer() -> io::Result<()> {
        let bed = tempfile::tempdir()?;
        let place = bed.path().join("one");
        let (one, other) = (make(&place)?, make(&bed.path().join("other"))?);
        let signer = Signer::new([7; 32]);
        let of = |dir| Signed { dir, id: b"id", words: b"words" };
        let signature = signer.sign(&of(&one))?.unwrap_or_default();
        let knows = |signed: &Signed<'_>| signer.knows(signed, signature.as_bytes());
        assert!(knows(&of(&one)));
        assert!(!knows(&of(&other)));
        assert!(!knows(&Signed { id: b"i", words: b"dwords", ..of(&one) }));
        assert!(!knows(&Signed { words: b"word", ..of(&one) }));
        assert!(!Signer::new([8; 32]).knows(&of(&one), signature.as_bytes()));
        assert!(
            !signer.knows(&of(&one), &signature.as_bytes()[..62]) && !signer.knows(&of(&one), b"")
        );
        // Signed by nobody.
        assert_eq!(Signer::default().sign(&of(&one))?, None);
        assert!(!Signer::default().knows(&of(&one), b""));
        // The signature still holds for the renamed cache, and not for what takes its place.
        fs::rename(&place, bed.path().join("moved"))?;
        let (moved, replaced) = (Dir::top(&bed.path().join("moved"))?, make(&place)?);
        assert!(knows(&of(&moved)) && !knows(&of(&replaced)));
        // Links are not followed.
        fs::rename(bed.path().join("moved/tree/root"), bed.path().join("root"))?;
        std::os::unix::fs::symlink(bed.path().join("root"), bed.path().join("moved/tree/root"))?;
        assert!(!knows(&of(&one)));
        Ok(())
    }

    #[test]
    fn a_pseudonym_is_always_the_same() {
        let signer = Signer::new([7; 32]);
        let one = signer.pseudonym(b"hunter2");
        assert_eq!(one.as_ref().map(String::len), Some(DIGITS));
        assert_eq!(signer.pseudonym(b"hunter2"), one);
        assert_ne!(signer.pseudonym(b"hunter3"), one);
        assert_ne!(Signer::new([8; 32]).pseudonym(b"hunter2"), one);
        assert_eq!(Signer::default().pseudonym(b"hunter2"), None);
    }
}
