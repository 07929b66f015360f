//! The image of the step runner: one layer with the shim's program in it, which every node has from its start.
//!
//! Its tag tells the program's content, so that pods of runs that are on their way keep the one that they began with.

use std::{io::Cursor, sync::LazyLock};

use anyhow::{Context, Result};
use oci::Digest;
use serde_json::json;

use crate::{config::REGISTRY, oci_runtime::SHIM};

static IMAGE: LazyLock<String> = LazyLock::new(|| {
    let digest = Digest::sha256(SHIM);
    format!("{REGISTRY}/madang/step:{}-{}", env!("CARGO_PKG_VERSION"), &digest.hex()[..12])
});

/// The image's name.
pub fn image() -> String {
    IMAGE.clone()
}

/// Puts the image into a node's store, if it is not there.
pub async fn load(store: &image::Store) -> Result<()> {
    if store.get(&IMAGE).is_some() {
        return Ok(());
    }
    let archive = archive().context("make the step runner's image")?;
    store.load(Cursor::new(archive)).await.context("load the step runner's image").map(drop)
}

/// What `docker save` would write of it.
fn archive() -> Result<Vec<u8>> {
    let layer = tar(&[("step", SHIM, 0o755)])?;
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": ["/step"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(&layer).as_str()]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [&*IMAGE], "Layers": ["layer.tar"]}]);
    let (config, manifest) = (config.to_string(), manifest.to_string());
    let files: [(&str, &[u8], u32); 3] = [
        ("manifest.json", manifest.as_bytes(), 0o644),
        ("config.json", config.as_bytes(), 0o644),
        ("layer.tar", &layer, 0o644),
    ];
    tar(&files)
}

fn tar(files: &[(&str, &[u8], u32)]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, name, *content)?;
    }
    Ok(archive.into_inner()?)
}
