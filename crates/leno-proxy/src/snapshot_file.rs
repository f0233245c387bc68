//! The last good state on disk: what a proxy starts from when no server answers.
//!
//! One JSON object with a format number and a SHA-256 over its content, written beside and renamed, so that a crash
//! leaves the old one or the new one. A file that does not read is put aside and reported; it never stops a proxy.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leno_model::snapshot::{Cluster, Endpoints, Listener, Name, RouteConfig};
use leno_xds::client::Received;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::held::Held;

const FORMAT: u32 = 1;

/// Why a file was not used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It could not be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not what this program writes.
    #[error("not a snapshot: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Its content is not what was written.
    #[error("checksum does not match: the file is damaged")]
    Checksum,
    /// Another version of leno wrote it.
    #[error("format {0}, this leno reads format {FORMAT}")]
    Format(u32),
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    sha256: String,
    content: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    listeners: Vec<(Arc<str>, Arc<Listener>)>,
    routes: Vec<(Arc<str>, Arc<RouteConfig>)>,
    clusters: Vec<(Arc<str>, Arc<Cluster>)>,
    endpoints: Vec<(Arc<str>, Arc<Endpoints>)>,
}

/// What the file holds; nothing when there is none. A file that cannot be used is renamed to `.bad`.
pub fn read(path: &Path) -> Result<Held, SnapshotError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::default()),
        Err(error) => return Err(error.into()),
    };
    decode(&bytes).inspect_err(|_| {
        // Kept for whoever wants to know; the next write must not find it in its way.
        let _ = std::fs::rename(path, path.with_extension("bad"));
    })
}

/// What [`encode`] wrote.
pub fn decode(bytes: &[u8]) -> Result<Held, SnapshotError> {
    let file: File = serde_json::from_slice(bytes)?;
    if file.format != FORMAT {
        return Err(SnapshotError::Format(file.format));
    }
    if checksum(file.content.get()) != file.sha256 {
        return Err(SnapshotError::Checksum);
    }
    let content: Content = serde_json::from_str(file.content.get())?;
    Ok(Held {
        listeners: named(content.listeners, |listener| listener.name.clone()),
        routes: named(content.routes, |config| config.name.clone()),
        clusters: named(content.clusters, |cluster| cluster.name.clone()),
        endpoints: named(content.endpoints, |endpoints| endpoints.cluster.clone()),
    })
}

fn named<T: DeserializeOwned>(
    parts: Vec<(Arc<str>, Arc<T>)>,
    name: impl Fn(&T) -> Name,
) -> std::collections::BTreeMap<Name, Received<T>> {
    let received = parts.into_iter().map(|(version, resource)| Received { version, resource });
    received.map(|received| (name(&received.resource), received)).collect()
}

/// The content of a file, for a disk or for another process.
pub fn encode(held: &Held) -> Result<Vec<u8>, SnapshotError> {
    let content = serde_json::to_string(&Content {
        listeners: parts(&held.listeners),
        routes: parts(&held.routes),
        clusters: parts(&held.clusters),
        endpoints: parts(&held.endpoints),
    })?;
    let file = File { format: FORMAT, sha256: checksum(&content), content: RawValue::from_string(content)? };
    Ok(serde_json::to_vec(&file)?)
}

/// Replaces the file.
pub(crate) async fn write(path: &Path, held: &Held) -> Result<(), SnapshotError> {
    let bytes = encode(held)?;
    let path = path.to_owned();
    let written = tokio::task::spawn_blocking(move || replace(&path, &bytes)).await;
    written.unwrap_or_else(|error| Err(io::Error::other(error)))?;
    Ok(())
}

fn parts<T>(held: &std::collections::BTreeMap<Name, Received<T>>) -> Vec<(Arc<str>, Arc<T>)> {
    held.values().map(|received| (received.version.clone(), received.resource.clone())).collect()
}

fn replace(path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    // During a hand-over two processes keep it.
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

fn checksum(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use leno_model::snapshot::Endpoint;

    fn held() -> Held {
        let endpoint = Endpoint::at("cart-1", "127.0.0.1:8080".parse().unwrap());
        let endpoints = Endpoints { cluster: "cart.shop.mesh:8080".into(), endpoints: vec![endpoint] };
        let mut held = Held::default();
        let received = Received { version: "1".into(), resource: Arc::new(endpoints) };
        held.endpoints.insert("cart.shop.mesh:8080".into(), received);
        held
    }

    #[tokio::test]
    async fn what_was_written_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot.json");
        write(&path, &held()).await.unwrap();
        assert_eq!(read(&path).unwrap().endpoints, held().endpoints);
    }

    #[tokio::test]
    async fn a_damaged_file_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot.json");
        write(&path, &held()).await.unwrap();
        let damaged = std::fs::read_to_string(&path).unwrap().replace("8080", "8081");
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(read(&path), Err(SnapshotError::Checksum)));
        assert!(!path.exists() && path.with_extension("bad").exists());
    }

    #[test]
    fn no_file_is_an_empty_state() {
        assert!(read(Path::new("/nonexistent/leno/snapshot.json")).unwrap().listeners.is_empty());
    }
}
