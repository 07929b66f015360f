//! The artifacts of a run: all that its steps archived, by path.

use std::{io, path::Path};

use super::parcel::{self, Entry, Error, Parcel};

/// Artifacts in the order of their paths, each with the parcel it is in. Where two steps archived the same path, the later one counts.
///
/// # Errors
/// They cannot be read.
pub fn list(dir: &Path) -> Result<Vec<(Parcel, Entry)>, Error> {
    let mut all: std::collections::BTreeMap<String, (Parcel, Entry)> = std::collections::BTreeMap::new();
    for mut parcel in parcel::all(dir)? {
        let entries = std::mem::take(&mut parcel.entries);
        // Links are not followed where they lead, so there is nothing to show of them.
        for entry in entries.into_iter().filter(|entry| entry.link.is_none()) {
            all.insert(entry.path.clone(), (parcel.clone(), entry));
        }
    }
    Ok(all.into_values().collect())
}

/// The artifact at a path.
///
/// # Errors
/// They cannot be read.
pub fn find(dir: &Path, path: &str) -> Result<Option<(Parcel, Entry)>, Error> {
    let parcels = parcel::all(dir)?;
    Ok(parcels.into_iter().rev().find_map(|mut parcel| {
        let at = parcel.entries.iter().position(|entry| entry.path == path && entry.link.is_none())?;
        let entry = parcel.entries.swap_remove(at);
        Some((parcel, entry))
    }))
}

/// Files and bytes.
///
/// # Errors
/// They cannot be read.
pub fn totals(dir: &Path) -> Result<(u64, u64), Error> {
    let all = list(dir)?;
    Ok((all.len() as u64, all.iter().map(|(_, entry)| entry.size).sum()))
}

/// Removes all.
///
/// # Errors
/// The disk says no.
pub fn remove(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(dir: &Path, name: &str, files: &[(&str, &str)]) {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        parcel::keep(dir, name, bytes.as_slice(), parcel::Limits::default(), |_| true).unwrap();
    }

    #[test]
    fn later_steps_replace_what_earlier_ones_archived() {
        let dir = tempfile::tempdir().unwrap();
        assert!(list(&dir.path().join("none")).unwrap().is_empty());
        archive(dir.path(), "1", &[("a", "old"), ("b/c", "kept")]);
        archive(dir.path(), "2", &[("a", "newer")]);
        let all = list(dir.path()).unwrap();
        let told: Vec<(&str, u64)> = all.iter().map(|(_, entry)| (entry.path.as_str(), entry.size)).collect();
        assert_eq!(told, [("a", 5), ("b/c", 4)]);
        assert_eq!(totals(dir.path()).unwrap(), (2, 9));
        let (parcel, entry) = find(dir.path(), "a").unwrap().unwrap();
        assert_eq!(io::read_to_string(parcel.read(&entry, 0).unwrap()).unwrap(), "newer");
        assert!(find(dir.path(), "../a").unwrap().is_none());
        remove(dir.path()).unwrap();
        remove(dir.path()).unwrap();
        assert!(find(dir.path(), "a").unwrap().is_none());
    }
}
