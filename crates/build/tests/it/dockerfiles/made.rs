//! An image as it lies in an archive: its files laid over each other, its configuration, its history.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    io::Read,
    path::Path,
};

use serde_json::Value;

/// Fields of the configuration that are compared.
pub const FIELDS: [&str; 12] = [
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "OnBuild",
    "Shell",
    "Healthcheck",
];

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub owner: (u64, u64),
}

/// The kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A small file.
    File(String),
    /// A large one: its length, and a hash.
    Large(usize, u64),
    Directory,
    Link(String),
    Other(u8),
}

/// An image.
#[derive(Clone, Debug, Default)]
pub struct Made {
    pub files: BTreeMap<String, Node>,
    config: Value,
}

impl Made {
    /// Reads an archive as `docker save` writes one.
    pub fn read(archive: &Path) -> Self {
        let bytes = std::fs::read(archive).unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
        let mut members: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut links: Vec<(String, String)> = Vec::new();
        for entry in tar::Archive::new(&bytes[..]).entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a name").to_string_lossy().trim_start_matches("./").to_owned();
            match entry.link_name().expect("a link") {
                Some(target) => links.push((name, target.to_string_lossy().into_owned())),
                None => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content).expect("a member");
                    members.insert(name, content);
                }
            }
        }
        for (name, target) in links {
            let last = target.rsplit('/').next().unwrap_or_default();
            let found = members.iter().find(|(known, _)| **known == target || known.ends_with(last));
            let content = found.map(|(_, content)| content.clone()).unwrap_or_else(|| panic!("{name}: no {target}"));
            members.insert(name, content);
        }
        let manifest: Value = serde_json::from_slice(&members["manifest.json"]).expect("a manifest");
        let text = |value: &Value| value.as_str().expect("a name").to_owned();
        let config = serde_json::from_slice(&members[&text(&manifest[0]["Config"])]).expect("a configuration");
        let mut made = Self { files: BTreeMap::new(), config };
        for layer in manifest[0]["Layers"].as_array().expect("layers") {
            made.lay(&unpacked(&members[&text(layer)]));
        }
        made
    }

    /// Puts a layer on top.
    fn lay(&mut self, layer: &[u8]) {
        let mut archive = tar::Archive::new(layer);
        let mut own: BTreeMap<String, Node> = BTreeMap::new();
        for entry in archive.entries().expect("a layer") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").to_string_lossy().into_owned();
            let path = format!("/{}", path.trim_start_matches("./").trim_matches('/'));
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if let Some(gone) = name.strip_prefix(".wh.") {
                // One mark says that nothing of below is there, the other that one thing is not.
                let root = if gone == ".wh..opq" { folder.to_owned() } else { format!("{folder}/{gone}") };
                let below = format!("{root}/");
                self.files.retain(|path, _| !path.starts_with(&below) && (gone == ".wh..opq" || *path != root));
                continue;
            }
            let header = entry.header().clone();
            let target = entry.link_name().expect("a link").map(|link| link.to_string_lossy().into_owned());
            let kind = match header.entry_type() {
                tar::EntryType::Directory => Kind::Directory,
                tar::EntryType::Symlink => Kind::Link(target.unwrap_or_default()),
                tar::EntryType::Link => {
                    let target = target.unwrap_or_default();
                    let target = format!("/{}", target.trim_start_matches("./").trim_start_matches('/'));
                    let found = own.get(&target).or_else(|| self.files.get(&target));
                    let node = found.unwrap_or_else(|| panic!("{path}: no {target}")).clone();
                    own.insert(path, node);
                    continue;
                }
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content).expect("content");
                    content_of(content)
                }
                other => Kind::Other(other.as_byte()),
            };
            let mode = if matches!(kind, Kind::Link(_)) { 0o777 } else { header.mode().expect("a mode") & 0o7777 };
            let owner = (header.uid().expect("an owner"), header.gid().expect("a group"));
            own.insert(path, Node { kind, mode, owner });
        }
        for (path, node) in own {
            if !matches!(node.kind, Kind::Directory) {
                let below = format!("{path}/");
                self.files.retain(|path, _| !path.starts_with(&below));
            }
            if path != "/" {
                self.files.insert(path, node);
            }
        }
    }

    /// A field of the configuration; null for one that is empty.
    pub fn field(&self, name: &str) -> Value {
        let value = &self.config["config"][name];
        let empty = match value {
            Value::Array(list) => list.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if empty { Value::Null } else { value.clone() }
    }

    /// Who made it.
    pub fn author(&self) -> &str {
        self.config["author"].as_str().unwrap_or_default()
    }

    /// Instructions, and whether each made a layer. Left out is what the tools mean differently: `ONBUILD` is no step of a
    /// build, and whether `WORKDIR` makes a layer of its own says nothing about the image.
    pub fn history(&self) -> Vec<(String, bool)> {
        let entries = self.config["history"].as_array().cloned().unwrap_or_default();
        let read = |entry: &Value| {
            let text = entry["created_by"].as_str().unwrap_or_default();
            let text = text.split_once("#(nop)").map_or(text, |(_, rest)| rest).trim_start();
            let word = text.split_whitespace().next().unwrap_or_default();
            // buildah writes the shell's command line, arguments of the build before it.
            let is_name = !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase());
            let word = if is_name { word } else { "RUN" };
            (word.to_owned(), word != "WORKDIR" && !entry["empty_layer"].as_bool().unwrap_or_default())
        };
        entries.iter().skip(1).map(read).filter(|(word, _)| word != "ONBUILD").collect()
    }

    /// Everything as text, for what must be nowhere.
    pub fn text(&self) -> String {
        format!("{:?}\n{}", self.files, self.config)
    }
}

fn content_of(content: Vec<u8>) -> Kind {
    if content.len() > 4096 {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        return Kind::Large(content.len(), hasher.finish());
    }
    Kind::File(String::from_utf8_lossy(&content).into_owned())
}

fn unpacked(layer: &[u8]) -> Vec<u8> {
    if !layer.starts_with(&[0x1f, 0x8b]) {
        return layer.to_vec();
    }
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(layer).read_to_end(&mut out).expect("gzip");
    out
}

/// Holds an image against what a case expects of it; what is not so.
pub fn unmet(made: &Made, expect: &[String]) -> Vec<String> {
    expect.iter().filter_map(|line| one(made, line).err()).collect()
}

fn one(made: &Made, line: &str) -> Result<(), String> {
    let (kind, rest) = line.split_once(' ').ok_or_else(|| format!("no expectation: {line}"))?;
    let wrong = |found: &dyn std::fmt::Debug| Err(format!("expected {line:?}, found {found:?}"));
    let at = |path: &str| made.files.get(path);
    match kind {
        "absent" => match at(rest) {
            None => Ok(()),
            found => wrong(&found),
        },
        "exists" => match at(rest) {
            Some(_) => Ok(()),
            None => wrong(&"nothing"),
        },
        "link" => {
            let (path, target) = rest.split_once(' ').unwrap_or((rest, ""));
            match at(path) {
                Some(Node { kind: Kind::Link(found), .. }) if found == target => Ok(()),
                found => wrong(&found),
            }
        }
        "file" | "dir" => {
            // Paths may hold blanks: the mode is the first word of digits after one.
            let words: Vec<&str> = rest.split(' ').collect();
            let is_mode = |word: &&str| word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_digit());
            let place = words.iter().position(is_mode).ok_or_else(|| format!("no mode: {line}"))?;
            let (path, mode, owner) =
                (words[..place].join(" "), words[place], words.get(place + 1).copied().unwrap_or_default());
            let content = words.get(place + 2..).map(|words| words.join(" ")).unwrap_or_default();
            let node = at(&path);
            let owned = node.is_some_and(|node| format!("{}:{}", node.owner.0, node.owner.1) == owner);
            let moded = node.is_some_and(|node| format!("{:04o}", node.mode) == mode);
            let same = match node.map(|node| &node.kind) {
                Some(Kind::Directory) => kind == "dir",
                Some(Kind::File(found)) => kind == "file" && *found == escaped(&content),
                _ => false,
            };
            if owned && moded && same { Ok(()) } else { wrong(&node) }
        }
        "env" => {
            let name = rest.split('=').next().unwrap_or_default();
            let variables = made.field("Env");
            let found = variables.as_array().into_iter().flatten().filter_map(Value::as_str);
            let found: Vec<&str> = found.filter(|pair| pair.split('=').next() == Some(name)).collect();
            if found == [rest] { Ok(()) } else { wrong(&found) }
        }
        "config" => {
            let (field, json) = rest.split_once(' ').unwrap_or((rest, "null"));
            let expected: Value = serde_json::from_str(json).map_err(|error| format!("{line}: {error}"))?;
            let found = made.field(field);
            if found == expected { Ok(()) } else { wrong(&found.to_string()) }
        }
        "author" if made.author() == rest => Ok(()),
        "author" => wrong(&made.author()),
        "nowhere" if made.text().contains(rest) => wrong(&"it"),
        "nowhere" => Ok(()),
        _ => Err(format!("no expectation: {line}")),
    }
}

/// `\n`, `\t` and `\\` as what they mean.
fn escaped(text: &str) -> String {
    let (mut out, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            (c, false) => out.push(c),
        }
    }
    out
}
