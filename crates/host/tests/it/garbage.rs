//! Contents that no kernel writes: nothing panics, and what is written stays a page.

use std::{fs, path::Path};

use host::{
    machine::{Machine, Settings},
    source::Source,
};

use crate::tree;

fn page(root: &Path) -> String {
    let source =
        Source { proc: root.join("proc"), sys: root.join("sys"), udev: root.join("udev"), root: root.to_owned() };
    Machine::new(Settings { source, ..Settings::default() }).page(None).text()
}

/// Every line is a type or a sample with a number, names are names, and quotes are closed.
fn check(text: &str) {
    for line in text.lines().filter(|line| !line.starts_with("# TYPE ")) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        assert!(value.parse::<f64>().is_ok(), "{line:?}");
        let name = series.split('{').next().unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':'), "{line:?}");
        assert_eq!(series.contains('{'), series.ends_with('}'), "{line:?}");
    }
}

fn files(root: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(root).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path(), found),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

#[test]
fn a_machine_without_anything_has_a_page() {
    let empty = tempfile::tempdir().unwrap();
    let text = page(empty.path());
    check(&text);
    assert!(text.contains("node_scrape_collector_success{collector=\"meminfo\"} 0\n"), "{text}");
}

#[test]
fn files_of_garbage_are_survived() {
    let noise: Vec<u8> = (0..4096u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let numbers = "99999999999999999999999999 -1 1e400 nan 0x 0xfffffffffffffffffff\n".repeat(50);
    let kinds: [&[u8]; 6] =
        [b"", b"\n\n\n", &noise, numbers.as_bytes(), b": : : [ ] { } = - ( )\n%%%", b"cpu : a[ cpu 0 :\n"];
    let made = tempfile::tempdir().unwrap();
    tree::write(made.path());
    let mut found = Vec::new();
    files(made.path(), &mut found);
    assert!(found.len() > 150, "{}", found.len());
    for garbage in kinds {
        for path in &found {
            fs::write(path, garbage).unwrap();
        }
        check(&page(made.path()));
    }
}

#[test]
fn files_cut_short_anywhere_are_survived() {
    let made = tempfile::tempdir().unwrap();
    tree::write(made.path());
    let mut found = Vec::new();
    files(made.path(), &mut found);
    let whole: Vec<Vec<u8>> = found.iter().map(|path| fs::read(path).unwrap()).collect();
    for part in 1..10 {
        for (path, content) in found.iter().zip(&whole) {
            fs::write(path, &content[..content.len() * part / 10]).unwrap();
        }
        check(&page(made.path()));
    }
}

#[test]
fn a_file_without_an_end_is_read_to_its_bound() {
    let made = tempfile::tempdir().unwrap();
    let proc = made.path().join("proc");
    fs::create_dir_all(&proc).unwrap();
    std::os::unix::fs::symlink("/dev/zero", proc.join("meminfo")).unwrap();
    check(&page(made.path()));
}
