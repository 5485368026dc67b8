//! The key by which this user's runner recognises what it made elsewhere on this machine
//! (docs/adr/0062).

use super::home::Home;
use super::random;
use runner_host::users;
use std::fs;
use std::io::{self, Write};

const NAME: &str = "signing-key";

impl Home {
    /// The key; created if missing. Runners that create it at the same time get the same key.
    pub fn signing_key(&self) -> io::Result<[u8; 32]> {
        match self.read_signing_key() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(self.root())?;
        file.write_all(&random::<32>()?)?;
        file.as_file().sync_all()?;
        users::give(file.path())?;
        match file.persist_noclobber(self.root().join(NAME)) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error.error);
            }
            _ => {}
        }
        self.read_signing_key()
    }

    fn read_signing_key(&self) -> io::Result<[u8; 32]> {
        let path = self.root().join(NAME);
        let no_key = |bytes: Vec<u8>| {
            let length = bytes.len();
            let text = format!("{} is not a key, but {length} bytes: remove it", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        fs::read(&path)?.try_into().map_err(no_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runners_that_make_a_key_at_once_get_the_same() -> io::Result<()> {
        let bed = tempfile::tempdir()?;
        let home = Home::at(bed.path().join("state")).map_err(io::Error::other)?;
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| home.signing_key().ok())).collect();
            threads.into_iter().map(|thread| thread.join().ok().flatten()).collect()
        });
        let first = home.signing_key()?;
        assert!(keys.iter().all(|key| *key == Some(first)), "{keys:?}");
        fs::write(home.root().join(NAME), "cut short")?;
        let error = home.signing_key().map_err(|error| error.kind());
        assert_eq!(error, Err(io::ErrorKind::InvalidData));
        Ok(())
    }
}
