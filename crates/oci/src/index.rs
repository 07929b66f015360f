//! Which image of an index fits a machine.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-index.md>. Variants are ordered as containerd orders
//! them: an arm64 machine runs `v8`, an arm machine its own variant and all below it.

use oci_spec::image::{Descriptor, Platform};

#[cfg(test)]
mod tests;

/// What a machine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Go's name of the system: `linux`.
    pub os: String,
    /// Go's name of the architecture: `amd64`.
    pub architecture: String,
    /// Variants that run, best first; an image without variant always runs.
    pub variants: Vec<String>,
}

impl Machine {
    /// The machine that this was built for.
    pub fn host() -> Self {
        let (architecture, variants): (_, &[&str]) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", &["v1"]),
            "aarch64" => ("arm64", &["v8"]),
            "arm" => ("arm", &["v7", "v6", "v5"]),
            "x86" => ("386", &[]),
            "powerpc64" => ("ppc64le", &[]),
            "loongarch64" => ("loong64", &[]),
            other => (other, &[]),
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variants: variants.iter().map(|&variant| variant.into()).collect(),
        }
    }

    /// Parses `os/architecture[/variant]` as `--platform` takes it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (os, architecture) = (parts.next()?, parts.next()?);
        let variants: Vec<String> = parts.next().map(str::to_owned).into_iter().collect();
        let whole = parts.next().is_none() && !os.is_empty() && !architecture.is_empty();
        whole.then(|| Self { os: os.into(), architecture: architecture.into(), variants })
    }

    /// How well `platform` fits: lower is better, nothing does not run.
    fn rank(&self, platform: &Platform) -> Option<usize> {
        if platform.os().to_string() != self.os || platform.architecture().to_string() != self.architecture {
            return None;
        }
        match platform.variant().as_deref().filter(|variant| !variant.is_empty()) {
            None => Some(self.variants.len()),
            Some(variant) => self.variants.iter().position(|runs| runs == variant),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// The best of an index's `entries` for `machine`, the first among equals. Entries without a platform (as archives have
/// them) are taken where nothing better is there.
pub fn choose<'a>(entries: impl IntoIterator<Item = &'a Descriptor>, machine: &Machine) -> Option<&'a Descriptor> {
    let last = usize::MAX;
    entries
        .into_iter()
        .filter_map(|entry| {
            let rank = match entry.platform() {
                Some(platform) => machine.rank(platform)?,
                None => last,
            };
            Some((rank, entry))
        })
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, entry)| entry)
}
