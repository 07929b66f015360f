//! What a block says of itself, as JSON. The fields that Prometheus has too are called as there.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    file,
};

/// The form of blocks that this program writes.
const VERSION: u32 = 1;

/// What a block says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// Its name.
    pub ulid: String,
    /// The form, counted by Madang.
    pub madang_version: u32,
    /// Start of its range, milliseconds since 1970.
    pub min_time: i64,
    /// End of its range, itself not in it.
    pub max_time: i64,
    /// Times in its chunks count from here.
    pub base: i64,
    /// Where it was made from the head: from which time on the head has the samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boundary: Option<i64>,
    /// What is in it.
    pub stats: Stats,
    /// What it was made of.
    pub compaction: Compaction,
}

/// How much is in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Samples, floats and histograms.
    pub num_samples: u64,
    /// Series.
    pub num_series: u64,
    /// Chunks.
    pub num_chunks: u64,
}

/// What a block was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Compaction {
    /// 1 for a block that was made from the head; one more than the highest of those that it was made of.
    pub level: u32,
    /// The blocks of level 1 that are in it.
    pub sources: Vec<String>,
}

impl Meta {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io(|| format!("read {}", path.display())))?;
        let damaged = |reason: String| Error::Damaged { file: path.to_owned(), reason };
        let meta: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if meta.madang_version != VERSION {
            return Err(damaged(format!("blocks of version {} are not known", meta.madang_version)));
        }
        Ok(meta)
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let meta = Self { madang_version: VERSION, ..self.clone() };
        let json = serde_json::to_vec_pretty(&meta)
            .map_err(|error| Error::Damaged { file: path.to_owned(), reason: error.to_string() })?;
        file::replace(path, &json)
    }
}
