//! Reading blocks of Prometheus.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use hashbrown::HashMap;
use serde::Deserialize;

use super::{
    checksum, chunk,
    index::{ChunkRef, IndexReader},
};
use crate::{
    block::{Block, meta::Compaction, ulid::Ulid, write::BlockWriter},
    bytes::{Reader, Torn},
    column::Columns,
    db::Db,
    deletion,
    error::{Error, Result},
    file::{self, Source, Window},
    upkeep,
};

const MAGIC: [u8; 5] = [0x85, 0xBD, 0x40, 0xDD, 1];
const TOMBSTONES: u32 = 0x0130_BA30;
/// Bytes of a chunk at most.
const CHUNK: u64 = 16 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    min_time: i64,
    max_time: i64,
    version: u32,
}

impl Db {
    /// Reads the blocks of Prometheus in a directory, all of them or none; says how many. They are there at once, and
    /// compacted like others.
    pub fn import(&self, dir: &Path) -> Result<usize> {
        let mut made: Vec<Arc<Block>> = Vec::new();
        for name in file::names(dir)? {
            let path = dir.join(&name);
            if Ulid::parse(&name).is_none() || !path.join("meta.json").exists() {
                continue;
            }
            match read(&path, &self.shared().dirs.blocks) {
                Ok(block) => made.extend(block.map(Arc::new)),
                Err(error) => {
                    for block in made {
                        block.remove()?;
                    }
                    return Err(error);
                }
            }
        }
        let count = made.len();
        let _upkeep = self.shared().upkeep();
        upkeep::publish(self.shared(), made, &[]);
        Ok(count)
    }
}

fn read(from: &Path, to: &Path) -> Result<Option<Block>> {
    let wrong = |reason: String| Error::Foreign { block: from.to_owned(), reason };
    let torn = |torn: Torn| wrong(torn.to_string());
    let bytes = |name: &str| {
        let path = from.join(name);
        fs::read(&path).map_err(Error::io(|| format!("read {}", path.display())))
    };
    let meta: Meta = serde_json::from_slice(&bytes("meta.json")?).map_err(|error| wrong(error.to_string()))?;
    if meta.version != 1 || meta.min_time >= meta.max_time {
        return Err(wrong("meta.json is of no version that is known".to_owned()));
    }
    let index = bytes("index")?;
    let index = IndexReader::new(&index).map_err(torn)?;
    let mut files = Vec::new();
    for name in file::names(&from.join("chunks"))? {
        let path: PathBuf = from.join("chunks").join(name);
        let source = Source::open(&path)?;
        if source.read(0, 5)? != MAGIC {
            return Err(wrong(format!("{} is no file of chunks", path.display())));
        }
        files.push((source, Window::default()));
    }
    let deleted = if from.join("tombstones").exists() {
        tombstones(&bytes("tombstones")?).map_err(torn)?
    } else {
        HashMap::default()
    };
    let mut writer = BlockWriter::create(to, meta.min_time)?;
    let mut columns = Columns::default();
    for number in index.series() {
        let (labels, chunks) = index.read(*number).map_err(torn)?;
        columns.clear();
        for place in chunks {
            read_chunk(&mut files, place, &mut columns).map_err(|error| wrong(error.to_string()))?;
        }
        columns.arrange();
        if let Some(ranges) = deleted.get(&u64::from(*number)) {
            columns.remove(|time| deletion::covers(ranges, time));
        }
        writer.put(labels.iter(), &columns)?;
    }
    writer.finish((meta.min_time, meta.max_time), None, Compaction { level: 1, sources: Vec::new() })
}

fn read_chunk(files: &mut [(Source, Window)], place: ChunkRef, into: &mut Columns) -> Result<()> {
    let (number, offset) = ((place.place >> 32) as usize, place.place & 0xffff_ffff);
    let Some((source, window)) = files.get_mut(number) else {
        return Err(Error::Damaged { file: "chunks".into(), reason: "a file of chunks is not there".to_owned() });
    };
    let path = source.path().to_owned();
    let damaged = |torn: Torn| Error::damaged(&path)(torn);
    // The length takes up to five bytes; more of them are there in any case, since a chunk ends with a checksum.
    let ahead = source.length().saturating_sub(offset).min(5) as usize;
    let mut reader = Reader(window.get(source, offset, ahead)?);
    let length = reader.varint().map_err(damaged)?;
    if length > CHUNK {
        return Err(damaged(Torn("a chunk is too long")));
    }
    let start = offset + (ahead - reader.0.len()) as u64;
    let bytes = window.get(source, start, length as usize + 5)?;
    let (content, sum) = bytes.split_at(length as usize + 1);
    if sum != checksum(&[content]).to_be_bytes() {
        return Err(damaged(Torn("the checksum of a chunk does not fit")));
    }
    chunk::read(content[0], &content[1..], into).map_err(damaged)
}

type Ranges = HashMap<u64, Vec<(i64, i64)>, foldhash::fast::RandomState>;

/// What was deleted, by the numbers of series. See
/// <https://github.com/prometheus/prometheus/blob/main/tsdb/docs/format/tombstones.md>.
fn tombstones(bytes: &[u8]) -> std::result::Result<Ranges, Torn> {
    let mut deleted = Ranges::default();
    let (body, sum) = bytes.len().checked_sub(4).map(|at| bytes.split_at(at)).ok_or(Torn("tombstones end early"))?;
    let mut reader = Reader(body);
    if reader.u32()?.swap_bytes() != TOMBSTONES || reader.u8()? != 1 {
        return Err(Torn("tombstones are of no version that is known"));
    }
    if sum != checksum(&[reader.0]).to_be_bytes() {
        return Err(Torn("the checksum of tombstones does not fit"));
    }
    while !reader.is_empty() {
        let (series, min, max) = (reader.varint()?, reader.zigzag()?, reader.zigzag()?);
        deletion::add(deleted.entry(series).or_default(), (min, max));
    }
    Ok(deleted)
}
