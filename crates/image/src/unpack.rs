//! Unpacking layers.

/// Bounds on one layer.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Files, directories and the rest.
    pub entries: u64,
    /// Bytes of the archive, not compressed.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 4 << 20, bytes: 256 << 30 }
    }
}

/// What the confined child runs: unpacks the layer that comes through standard input into the working directory.
pub fn run_confined() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
