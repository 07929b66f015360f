//! Directories of volumes that are made for claims: `PUT /volumes/NAME` makes one and tells its path, `DELETE` removes it
//! with all that is in it.

use std::{fs, io, path::Path};

use http::{Method, Response, StatusCode};
use serde_json::json;
use serve::Body;

use super::{Failure, text, value};
use crate::volume::disk;

/// Longest name of an object.
const LONGEST: usize = 253;

/// Answers a request for the volume `name` in `dir`.
///
/// # Errors
/// The name is none that a volume may have, or the directory cannot be made or removed.
pub async fn answer(dir: &Path, method: &Method, name: &str) -> Result<Response<Body>, Failure> {
    if !is_name(name) {
        return Err(Failure::Bad(format!("{name:?} is not the name of a volume")));
    }
    let path = dir.join(name);
    let internal = |error: String| Failure::Internal(format!("volume {name}: {error}"));
    match *method {
        Method::PUT => {
            let made = path.clone();
            let done = tokio::task::spawn_blocking(move || disk::provisioned(&made)).await;
            done.map_err(|error| internal(error.to_string()))?.map_err(|error| internal(format!("{error:#}")))?;
            Ok(value(&json!({ "path": path })))
        }
        Method::DELETE => {
            let done = tokio::task::spawn_blocking(move || remove(&path)).await;
            done.map_err(|error| internal(error.to_string()))?.map_err(|error| internal(error.to_string()))?;
            Ok(text(StatusCode::OK, "removed"))
        }
        _ => Err(Failure::Method),
    }
}

/// Names of objects hold nothing that leads out of a directory.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !name.is_empty() && name.len() <= LONGEST && name.bytes().all(plain) && !name.starts_with('.')
}

/// Removes a directory; links in it are removed, never followed.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_is_made_once_and_removed_with_its_contents() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "stays").unwrap();
        let volumes = dir.path().join("volumes");
        for _ in 0..2 {
            assert_eq!(answer(&volumes, &Method::PUT, "pvc-1").await.unwrap().status(), StatusCode::OK);
        }
        fs::write(volumes.join("pvc-1/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, volumes.join("pvc-1/link")).unwrap();
        for _ in 0..2 {
            assert_eq!(answer(&volumes, &Method::DELETE, "pvc-1").await.unwrap().status(), StatusCode::OK);
        }
        assert!(!volumes.join("pvc-1").exists());
        assert_eq!(fs::read_to_string(&outside).unwrap(), "stays");
    }

    #[tokio::test]
    async fn names_lead_nowhere_else() {
        for name in ["", "..", ".", "../x", "a/b", "A", ".hidden", &"a".repeat(254)] {
            let refused = answer(Path::new("/nonexistent"), &Method::DELETE, name).await;
            assert!(matches!(refused, Err(Failure::Bad(_))), "{name:?}");
        }
    }
}
