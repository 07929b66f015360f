//! Recovery of directories that were mistreated at random: all of it, or a refusal. Never less.

use std::{collections::BTreeMap, os::unix::fs::FileExt};

use bytes::Bytes;

use super::{
    super::{
        Engine, Options,
        frame::{BLOCK, Frame},
        random::Random,
    },
    *,
};
use crate::{Op, Txn};

const OPTIONS: Options = Options {
    segment_bytes: 8 << 20,
    checkpoint_bytes: 32 << 20,
    history_bytes: 256 << 20,
    progress: std::time::Duration::from_secs(5),
};

type Entries = BTreeMap<String, Bytes>;

fn open(dir: &Path) -> Result<Engine> {
    Engine::open_blocking(dir, OPTIONS)
}

fn entries(engine: &Engine) -> Entries {
    let page = engine.range("", None, None, 0).expect("range");
    page.entries.into_iter().map(|entry| (entry.key.to_string(), entry.value)).collect()
}

/// A store of a checkpoint and a log, some of it updates and deletions; what it holds.
fn make(dir: &Path, random: &mut Random) -> Entries {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let engine = open(dir).expect("open");
    let half = random.below(60);
    for number in 0..60 {
        if number == half {
            runtime.block_on(engine.backup(&mut tokio::io::sink())).expect("backup");
        }
        let key = format!("/{}", random.below(25)).into();
        let op = match random.below(6) {
            0 => Op::Delete { key },
            _ => Op::Put { key, value: random.bytes(9000).into() },
        };
        runtime.block_on(engine.commit(Txn { compare: vec![], ops: vec![op] })).expect("commit");
    }
    entries(&engine)
}

/// The files, without the zeros at their ends, and their lengths.
fn image(dir: &Path) -> Vec<(PathBuf, Vec<u8>, u64)> {
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("entry").path();
        let mut bytes = fs::read(&path).expect("read");
        let length = bytes.len() as u64;
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        (path.file_name().expect("name").into(), bytes, length)
    };
    fs::read_dir(dir).expect("list").map(file).collect()
}

/// Does something bad to one of the files.
fn mistreat(random: &mut Random, files: &mut [(PathBuf, Vec<u8>, u64)]) -> String {
    let (name, bytes, length) = loop {
        let file = random.below(files.len() as u64) as usize;
        if !files[file].1.is_empty() && files[file].0 != Path::new("lock") {
            break &mut files[file];
        }
    };
    let blocks = (bytes.len().div_ceil(BLOCK)) as u64;
    bytes.resize(blocks as usize * BLOCK, 0);
    let mut block = || random.below(blocks) as usize * BLOCK;
    let (one, other) = (block(), block());
    let what = random.below(7);
    match what {
        0 => bytes[one..one + BLOCK].fill(0),
        1 => bytes[one..one + BLOCK].iter_mut().for_each(|byte| *byte = random.next() as u8),
        2 => bytes.copy_within(one..one + BLOCK, other),
        3 => (0..BLOCK).for_each(|at| bytes.swap(one + at, other + at)),
        4 => {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        5 => {
            *length = random.below(bytes.len() as u64);
            bytes.truncate(*length as usize);
        }
        _ => {
            let from = random.below(bytes.len() as u64) as usize;
            bytes[from..].fill(0);
        }
    }
    *length = (*length).max(bytes.len() as u64);
    format!("{} treatment {what}, blocks at {one} and {other}", name.display())
}

#[test]
fn a_mistreated_store_opens_whole_or_not_at_all() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (mut refused, mut opened) = (0, 0);
    for seed in 0..12 {
        let mut random = Random(seed);
        let whole = dir.path().join(format!("whole{seed}"));
        let expected = make(&whole, &mut random);
        let image = image(&whole);
        for _ in 0..40 {
            let mut files = image.clone();
            let what = mistreat(&mut random, &mut files);
            let broken = dir.path().join("broken");
            let _ = fs::remove_dir_all(&broken);
            fs::create_dir(&broken).expect("make directory");
            for (name, bytes, length) in &files {
                fs::write(broken.join(name), bytes).expect("write");
                let file = fs::OpenOptions::new().write(true).open(broken.join(name)).expect("open");
                file.set_len(*length).expect("set length");
            }
            match open(&broken) {
                Ok(engine) => {
                    assert!(entries(&engine) == expected, "seed {seed}: {what}: opened with something else");
                    opened += 1;
                }
                Err(Error::Damaged { .. }) => refused += 1,
                Err(error) => panic!("seed {seed}: {what}: {error}"),
            }
        }
    }
    assert!(refused > 100 && opened > 50, "{refused} refused, {opened} opened");
}

#[test]
fn a_log_of_any_bytes_is_an_empty_one() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut random = Random(99);
    for round in 0..20 {
        let store = dir.path().join(format!("{round}"));
        drop(open(&store).expect("open"));
        let file = fs::OpenOptions::new().write(true).open(segment::path(&store, 1)).expect("open");
        file.write_all_at(&random.bytes(300_000), random.below(3) * 4096).expect("write");
        let engine = open(&store).expect("open with noise in the log");
        assert!(entries(&engine).is_empty());
    }
}

#[test]
fn groups_that_an_enemy_puts_into_a_value_are_not_believed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    // Frames that are right in all but the id, at every offset a block boundary can have in a value.
    let mut frame = Frame::new();
    frame.payload().push(0);
    let forged = frame.seal(Kind::Group, StoreId([0; 16]), 1000, 1000, 0).0.to_vec();
    let value: Bytes = forged[..64].iter().copied().cycle().take(100_000).collect();
    let engine = open(dir.path()).expect("open");
    for number in 0..5 {
        let op = Op::Put { key: format!("/{number}").into(), value: value.clone() };
        runtime.block_on(engine.commit(Txn { compare: vec![], ops: vec![op] })).expect("commit");
    }
    drop(engine);
    assert_eq!(entries(&open(dir.path()).expect("open")).len(), 5);
}

#[test]
fn a_group_that_was_written_but_not_marked_is_kept() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let expected = make(dir.path(), &mut Random(3));
    // As after a loss of power that took the mark's last writes with it.
    let said = Mark::read(dir.path()).expect("read").expect("a mark");
    let mut mark = Mark::open(dir.path(), said.id).expect("open");
    mark.write(said.sequence - 5).expect("write");
    mark.write(said.sequence - 5).expect("write");
    drop(mark);
    assert!(entries(&open(dir.path()).expect("open")) == expected);
    assert_eq!(Mark::read(dir.path()).expect("read"), Some(said));
}

#[test]
fn a_mark_beyond_the_log_is_damage() {
    let dir = tempfile::tempdir().expect("temporary directory");
    make(dir.path(), &mut Random(4));
    let said = Mark::read(dir.path()).expect("read").expect("a mark");
    Mark::open(dir.path(), said.id).expect("open").write(said.sequence + 1).expect("write");
    let error = open(dir.path()).expect_err("opened without its last group");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(&format!("group {} was synced", said.sequence + 1)), "{error}");
}
