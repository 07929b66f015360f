//! What an instance's objects are called in the kernel.

/// What an instance's objects are called.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) instance: String,
    /// Links to pods begin so: two letters and 20 bits of the instance's name.
    pub(crate) link_prefix: String,
    /// The addresses on the loopback link carry this.
    pub(crate) label: String,
    /// The metric of its routes.
    pub(crate) metric: u32,
}

impl Names {
    pub(crate) fn of(instance: &str) -> Self {
        let hash = hash(instance);
        let link_prefix = format!("md{}", letters(hash, 4));
        let label = format!("lo:{link_prefix}");
        Self { instance: instance.into(), link_prefix, label, metric: 0x6d00_0000 | (hash as u32 & 0xff_ffff) }
    }

    /// The link to a sandbox, in 15 bytes: 45 bits of its identifier.
    pub(crate) fn link(&self, id: &str) -> String {
        format!("{}{}", self.link_prefix, letters(hash(id), 9))
    }

    /// The second name of the link to a sandbox, by which the sandbox is found again.
    pub(crate) fn alias(&self, id: &str) -> String {
        format!("{}/{id}", self.instance)
    }
}

/// FNV-1a, which is the same in every process and version.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn letters(hash: u64, count: u32) -> String {
    (0..count)
        .map(|place| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(hash >> (64 - 5 * (place + 1))) as usize & 31]))
        .collect()
}
