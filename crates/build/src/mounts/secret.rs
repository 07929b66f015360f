//! `type=secret`: a file in memory, a variable, or both.

use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown},
};

use anyhow::{Context, Result, bail};

use super::{Ground, Made, Ready, target};
use crate::{dockerfile::Mount, tree};

/// Bytes of a secret, as BuildKit has it.
const LARGEST: usize = 500 << 10;

pub(super) async fn make(ground: &Ground<'_>, mount: &Mount, number: usize, ready: &mut Ready) -> Result<()> {
    let written = mount.target.as_deref().filter(|target| !target.is_empty());
    let named = mount.source.as_deref().or(mount.id.as_deref()).filter(|id| !id.is_empty());
    let last = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let id = named.map_or_else(|| written.map(last).unwrap_or_default(), str::to_owned);
    if id.is_empty() {
        bail!("invalid secret mount. one of source, target required");
    }
    let Some(secret) = ground.client.secret(&id).await.with_context(|| format!("secret {id}"))? else {
        if mount.required {
            bail!("secret {id}: not found");
        }
        return Ok(());
    };
    if secret.len() > LARGEST {
        bail!("secret {id} has {} bytes; at most {LARGEST} are allowed", secret.len());
    }
    if let Some(name) = mount.env.as_deref().filter(|name| !name.is_empty()) {
        let text = std::str::from_utf8(&secret).ok().filter(|text| !text.contains('\0'));
        let text = text.with_context(|| format!("secret {id} is not text, and cannot be a variable"))?;
        if name.contains(['=', '\0']) {
            bail!("secret {id}: {name:?} is no variable's name");
        }
        ready.environment.push(format!("{name}={text}"));
        if written.is_none() {
            return Ok(());
        }
    }
    let target = match written {
        Some(written) => target(ground.working_dir, written)?,
        None => format!("/run/secrets/{}", last(&id)),
    };
    let place = ground.place(&format!("secret-{number}"))?;
    fs::set_permissions(&place, Permissions::from_mode(0o700))?;
    ready.guards.push(Box::new(tree::memory(&place, LARGEST as u64 * 2)?));
    let path = place.join("secret");
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(&secret).with_context(|| format!("write secret {id}"))?;
    fchown(&file, Some(mount.uid.unwrap_or(0)), Some(mount.gid.unwrap_or(0)))?;
    file.set_permissions(Permissions::from_mode(mount.mode.unwrap_or(0o400) & 0o7777))?;
    ready.mounts.push(Made::Bind { source: path, target, read_only: true, mapped: false });
    Ok(())
}
