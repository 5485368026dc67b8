//! Adds the caller's certificates to a container's trust store: `--ca-file`.
//!
//! Used by `housing` before any command of the build runs. Programs that use variables find the
//! certificates there as well (`crate::certificates`).

use runner_engine::{Container, OpenMode};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// Files in which systems keep all trusted certificates.
const STORES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Appends the certificates to the stores that exist.
pub(super) async fn add(container: &dyn Container, pem: &str) {
    for store in STORES.map(Path::new) {
        if container.open(store, OpenMode::Look).await.is_err() {
            continue;
        }
        let added = append(container, store, pem).await;
        if let Err(error) = added {
            tracing::debug!(store = %store.display(), %error, "certificates were not added");
        }
    }
}

async fn append(container: &dyn Container, store: &Path, pem: &str) -> io::Result<()> {
    let mut file = File::from(container.open(store, OpenMode::ReadWriteCreate).await?);
    file.seek(SeekFrom::End(0))?;
    file.write_all(format!("\n{pem}").as_bytes())
}
