//! Results of steps, by what they were made from; shared by all builds, and kept over restarts.
//!
//! ```text
//! key ─ find ─► layer (a draft of the image store), key for the steps that follow
//!
//! DIR/cache/KEY     a record, written when the step has ended
//! ```
//!
//! A record says in which boot of the machine it was written until the layer is known to be on the disk ([`Cache::settle`], once a
//! build): after a crash of the machine such records do not count, after a crash of the process alone they do.

pub mod carried;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use anyhow::Context;
use image::store::drafts::{Draft, Sealed};
use jiff::Timestamp;
use oci::Digest;
use serde::{Deserialize, Serialize};

use crate::key::Key;

/// What is known of a step's result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The draft that holds what it wrote.
    pub layer: u64,
    /// What the keys of following steps are made from.
    pub next: Key,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used.
    pub used: Timestamp,
    /// How often.
    pub uses: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// What made it, for people.
    pub title: String,
    /// The boot in which it was written, until it is on the disk.
    boot: Option<String>,
    /// Keys that mean the same on every machine, whoever's build it was: for results that travel.
    #[serde(default)]
    pub found_by: Vec<Key>,
    /// Its archive, by the newest time in it.
    #[serde(default)]
    sealed: BTreeMap<String, (Digest, u64)>,
}

/// What is noted of a result.
#[derive(Clone, Debug)]
pub struct Noted<'a> {
    /// What the keys of following steps are made from.
    pub next: Key,
    /// What made it, for people.
    pub title: &'a str,
    /// Bytes on disk.
    pub bytes: u64,
    /// When it was made; now without it.
    pub created: Option<Timestamp>,
    /// [`Record::found_by`].
    pub found_by: Vec<Key>,
}

/// All records. Clones are the same cache.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    boot: String,
    store: image::Store,
    state: Mutex<State>,
    turns: Mutex<HashMap<Key, Weak<tokio::sync::Mutex<()>>>>,
    /// Held for reading while a layer is begun that is not in use yet.
    making: tokio::sync::RwLock<()>,
}

#[derive(Default)]
struct State {
    records: HashMap<Key, Record>,
    /// How many use a layer now.
    in_use: HashMap<u64, usize>,
    /// Keys that are not settled.
    fresh: HashSet<Key>,
}

/// A layer that is not removed while this lives.
pub struct Use {
    cache: Cache,
    layer: u64,
}

impl std::fmt::Debug for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Use({})", self.layer)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut state = self.cache.lock();
        if let Some(count) = state.in_use.get_mut(&self.layer) {
            *count -= 1;
            if *count == 0 {
                state.in_use.remove(&self.layer);
            }
        }
    }
}

/// What of the cache is to be removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prune {
    /// Bytes that may stay: the least recently used go first. None to remove all.
    pub keep: Option<u64>,
    /// Only what was not used for so long.
    pub unused_for: Duration,
}

/// What was removed.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// Keys.
    pub keys: Vec<Key>,
    /// Bytes freed.
    pub bytes: u64,
}

impl Cache {
    /// Reads the records in `dir`, and removes layers that belong to none.
    pub async fn open(dir: &Path, store: image::Store) -> anyhow::Result<Self> {
        let directory = dir.to_owned();
        let read = move || -> anyhow::Result<(String, HashMap<Key, Record>)> {
            std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
            let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot id")?;
            let boot = boot.trim().to_owned();
            let mut records = HashMap::new();
            for entry in std::fs::read_dir(&directory)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let record: Option<Record> =
                    std::fs::read(entry.path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                match record {
                    Some(record) if record.boot.as_ref().is_none_or(|written| *written == boot) => {
                        records.insert(name, record);
                    }
                    _ => std::fs::remove_file(entry.path())?,
                }
            }
            Ok((boot, records))
        };
        let (boot, mut records) = tokio::task::spawn_blocking(read).await??;
        records.retain(|_, record| store.draft_root(record.layer).is_some());
        let known: HashSet<u64> = records.values().map(|record| record.layer).collect();
        for number in store.drafts() {
            if !known.contains(&number) {
                store.discard_draft(number).await?;
            }
        }
        let fresh = records.iter().filter(|(_, record)| record.boot.is_some()).map(|(key, _)| key.clone()).collect();
        let state = Mutex::new(State { records, fresh, ..State::default() });
        Ok(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            boot,
            store,
            state,
            turns: Mutex::default(),
            making: tokio::sync::RwLock::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits until nobody else makes the result of `key`.
    pub async fn turn(&self, key: &Key) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut turns = self.0.turns.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            match turns.get(key).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::default();
                    turns.insert(key.clone(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        lock.lock_owned().await
    }

    /// Keeps a layer from being removed.
    pub fn hold(&self, layer: u64) -> Use {
        *self.lock().in_use.entry(layer).or_default() += 1;
        Use { cache: self.clone(), layer }
    }

    /// The result for a key, held.
    pub fn find(&self, key: &Key) -> Option<(Record, PathBuf, Use)> {
        let mut state = self.lock();
        let record = state.records.get_mut(key)?;
        let root = self.0.store.draft_root(record.layer)?;
        record.used = Timestamp::now();
        record.uses += 1;
        let record = record.clone();
        *state.in_use.entry(record.layer).or_default() += 1;
        drop(state);
        let held = Use { cache: self.clone(), layer: record.layer };
        Some((record, root, held))
    }

    /// Notes a result under one or several keys. What they had before is forgotten, and removed with the next [`Cache::settle`].
    pub async fn note(&self, keys: &[Key], layer: u64, noted: Noted<'_>) -> anyhow::Result<Record> {
        let now = Timestamp::now();
        let Noted { next, title, bytes, created, found_by } = noted;
        let record = Record {
            layer,
            next,
            created: created.unwrap_or(now),
            used: now,
            uses: 1,
            bytes,
            title: title.to_owned(),
            found_by,
            boot: Some(self.0.boot.clone()),
            sealed: BTreeMap::new(),
        };
        for key in keys {
            self.write(key, &record).await?;
            let mut state = self.lock();
            state.fresh.insert(key.clone());
            state.records.insert(key.clone(), record.clone());
        }
        Ok(record)
    }

    /// Notes that a result is known by a further key.
    pub async fn alias(&self, key: &Key, record: &Record) -> anyhow::Result<()> {
        self.write(key, record).await?;
        let mut state = self.lock();
        if record.boot.is_some() {
            state.fresh.insert(key.clone());
        }
        state.records.insert(key.clone(), record.clone());
        Ok(())
    }

    /// Begins a layer over `below`, held.
    pub async fn begin(&self, below: Option<&Path>) -> anyhow::Result<(Draft, Use)> {
        let _making = self.0.making.read().await;
        let draft = self.0.store.draft(below).await?;
        let held = self.hold(draft.number);
        Ok((draft, held))
    }

    /// The archive of a layer, where it was made before.
    pub fn sealed(&self, layer: u64, newest: Option<i64>) -> Option<Sealed> {
        let state = self.lock();
        let record = state.records.values().find(|record| record.layer == layer)?;
        let (diff_id, size) = record.sealed.get(&name_of(newest))?.clone();
        Some(Sealed { number: layer, diff_id, size })
    }

    /// Notes the archive of a layer.
    pub async fn note_sealed(&self, sealed: &Sealed, newest: Option<i64>) -> anyhow::Result<()> {
        let changed: Vec<(Key, Record)> = {
            let mut state = self.lock();
            let all = state.records.iter_mut().filter(|(_, record)| record.layer == sealed.number);
            all.map(|(key, record)| {
                record.sealed.insert(name_of(newest), (sealed.diff_id.clone(), sealed.size));
                (key.clone(), record.clone())
            })
            .collect()
        };
        for (key, record) in changed {
            self.write(&key, &record).await?;
        }
        Ok(())
    }

    /// Puts layers onto the disk and says so in their records; removes layers that no record leads to any more.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let fresh: Vec<Key> = self.lock().fresh.iter().cloned().collect();
        if !fresh.is_empty() {
            self.0.store.flush().await?;
            for key in fresh {
                let record = {
                    let mut state = self.lock();
                    state.fresh.remove(&key);
                    let Some(record) = state.records.get_mut(&key) else { continue };
                    record.boot = None;
                    record.clone()
                };
                self.write(&key, &record).await?;
            }
        }
        let _making = self.0.making.write().await;
        let forgotten: Vec<u64> = {
            let state = self.lock();
            let known: HashSet<u64> = state.records.values().map(|record| record.layer).collect();
            let unwanted = |layer: &u64| !known.contains(layer) && !state.in_use.contains_key(layer);
            self.0.store.drafts().into_iter().filter(unwanted).collect()
        };
        for layer in forgotten {
            self.0.store.discard_draft(layer).await?;
        }
        Ok(())
    }

    /// All records with their keys, the least recently used first.
    pub fn list(&self) -> Vec<(Key, Record)> {
        let state = self.lock();
        let mut all: Vec<_> = state.records.iter().map(|(key, record)| (key.clone(), record.clone())).collect();
        all.sort_by_key(|(_, record)| record.used);
        all
    }

    /// Whether a build uses a layer now.
    pub fn is_in_use(&self, layer: u64) -> bool {
        self.lock().in_use.contains_key(&layer)
    }

    /// Removes what is not in use.
    pub async fn prune(&self, what: Prune) -> anyhow::Result<Pruned> {
        let mut pruned = Pruned::default();
        let all = self.list();
        let mut counted = HashSet::new();
        let mut total: u64 =
            all.iter().filter(|(_, record)| counted.insert(record.layer)).map(|(_, record)| record.bytes).sum();
        for (key, record) in all {
            let age = Timestamp::now().duration_since(record.used).unsigned_abs();
            if what.keep.is_some_and(|keep| total <= keep) || age < what.unused_for || self.is_in_use(record.layer) {
                continue;
            }
            let last = {
                let mut state = self.lock();
                state.records.remove(&key);
                state.fresh.remove(&key);
                !state.records.values().any(|other| other.layer == record.layer)
            };
            self.remove(&key).await?;
            if last {
                self.0.store.discard_draft(record.layer).await?;
                total -= record.bytes.min(total);
                pruned.bytes += record.bytes;
            }
            pruned.keys.push(key);
        }
        Ok(pruned)
    }

    async fn write(&self, key: &Key, record: &Record) -> anyhow::Result<()> {
        let (path, temporary) = (self.0.dir.join(key), self.0.dir.join(format!(".{key}")));
        let bytes = serde_json::to_vec(record)?;
        let write = move || {
            std::fs::write(&temporary, bytes)?;
            std::fs::rename(&temporary, &path)
        };
        tokio::task::spawn_blocking(write).await?.with_context(|| format!("write cache record {key}"))
    }

    async fn remove(&self, key: &Key) -> anyhow::Result<()> {
        match tokio::fs::remove_file(self.0.dir.join(key)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove cache record {key}"))
            }
            _ => Ok(()),
        }
    }
}

fn name_of(newest: Option<i64>) -> String {
    newest.map_or_else(|| "any".to_owned(), |newest| newest.to_string())
}
