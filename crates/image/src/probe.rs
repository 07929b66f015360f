//! What reads documents and archives of strangers, without the store around it: for those who try to break it.

use oci::Digest;

use crate::{
    manifest::{Address, Manifest},
    tar::Archive,
};

/// Reads a manifest and, as its configuration, the same bytes. How many layers it has.
pub fn manifest(bytes: &[u8]) -> Result<usize, String> {
    let manifest = Manifest::parse(&Digest::sha256(bytes), bytes).map_err(|error| format!("{error:#}"))?;
    let Address { size, .. } = &manifest.config;
    // A configuration is never this document; how it is refused must be an error all the same.
    let planned = manifest.plan(bytes).map_or(0, |(_, plans)| plans.len());
    Ok(manifest.layers.len() + planned + usize::from(*size == 0))
}

/// Reads an archive to its end: how many entries it has, how many bytes, and what ended it early.
pub fn archive(bytes: &[u8]) -> (usize, u64, Option<String>) {
    let mut archive = Archive::new(bytes, 1 << 20);
    let (mut entries, mut size) = (0, 0);
    loop {
        match archive.next_entry() {
            Ok(None) => return (entries, size, None),
            Err(error) => return (entries, size, Some(error.to_string())),
            Ok(Some(_)) => entries += 1,
        }
        loop {
            match archive.content() {
                Ok([]) => break,
                Ok(piece) => {
                    let length = piece.len();
                    size += length as u64;
                    archive.consume(length);
                }
                Err(error) => return (entries, size, Some(error.to_string())),
            }
        }
    }
}
