//! Cases as they are written: `tests/dockerfiles/README.md`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// A Dockerfile, what is around it, and what it should make.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub name: String,
    pub reference: String,
    pub arguments: Vec<String>,
    pub buildah_arguments: Vec<String>,
    pub secrets: Vec<(String, String)>,
    /// What the error says.
    pub fails: Option<String>,
    /// What buildah lacks.
    pub lacks: Option<String>,
    /// What differs, and why.
    pub differs: Vec<(String, String)>,
    pub expect: Vec<String>,
    /// The Dockerfile stands in the context.
    pub in_context: bool,
    pub base: Option<String>,
    files: Vec<File>,
}

#[derive(Clone, Debug)]
struct File {
    /// Below the case's folder.
    path: String,
    mode: u32,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Plain(String),
    Directory,
    Link(String),
    Archive(String),
}

/// Every case.
pub fn all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dockerfiles");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("tests/dockerfiles")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cases"))
        .collect();
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a file of cases");
        let topic = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let blocks = format!("\n{text}");
        cases.extend(blocks.split("\n=== ").skip(1).map(|block| read(&topic, block)));
    }
    cases
}

fn read(topic: &str, block: &str) -> Case {
    let (head, rest) = block.split_once("\n-- ").unwrap_or((block, ""));
    let mut lines = head.lines();
    let name = format!("{topic}/{}", lines.next().unwrap_or_default().trim());
    let mut case = Case { name, ..Case::default() };
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.trim();
        match key {
            "reference" => value.clone_into(&mut case.reference),
            "args" => case.arguments = words(value),
            "buildah-args" => case.buildah_arguments = words(value),
            "secret" => case.secrets.extend(value.split_once('=').map(|(id, text)| (id.to_owned(), text.to_owned()))),
            "fails" => case.fails = Some(value.to_owned()),
            "buildah" => case.lacks = Some(value.to_owned()),
            "differs" => {
                let (aspect, reason) =
                    value.split_once(": ").unwrap_or_else(|| panic!("{}: no reason: {line}", case.name));
                case.differs.push((aspect.to_owned(), reason.to_owned()));
            }
            _ => panic!("{}: {line}", case.name),
        }
    }
    for section in rest.split("\n-- ").filter(|section| !section.is_empty()) {
        let (title, body) = section.split_once('\n').unwrap_or((section, ""));
        // The blank line before the next case is nobody's.
        let body = match body.trim_end_matches('\n') {
            "" => String::new(),
            body => format!("{body}\n"),
        };
        add(&mut case, title, body);
    }
    case
}

fn add(case: &mut Case, title: &str, body: String) {
    if title == "expect" {
        case.expect = body.lines().map(str::to_owned).collect();
        return;
    }
    if title == "base" {
        case.base = Some(body);
        return;
    }
    if let Some(options) = title.strip_prefix("Dockerfile").filter(|rest| rest.is_empty() || rest.starts_with(' ')) {
        let body = match options.trim() {
            "bom" => format!("\u{feff}{body}"),
            "crlf" => body.replace('\n', "\r\n"),
            _ => body,
        };
        case.in_context = options.trim() == "in-context";
        let path = if case.in_context { "context/Dockerfile" } else { "Dockerfile" };
        case.files.push(File { path: path.to_owned(), mode: 0o644, kind: Kind::Plain(body) });
        return;
    }
    if let Some(path) = title.strip_prefix("tar ") {
        case.files.push(File { path: path.to_owned(), mode: 0o644, kind: Kind::Archive(body) });
        return;
    }
    if let Some((path, target)) = title.split_once(" -> ") {
        case.files.push(File { path: path.to_owned(), mode: 0, kind: Kind::Link(target.to_owned()) });
        return;
    }
    let (path, last) = title.rsplit_once(' ').unwrap_or((title, ""));
    let mode = u32::from_str_radix(last, 8).ok();
    let path = if mode.is_some() || last == "empty" { path } else { title };
    let body = if last == "empty" { String::new() } else { body };
    let file = match path.strip_suffix('/') {
        Some(path) => File { path: path.to_owned(), mode: mode.unwrap_or(0o755), kind: Kind::Directory },
        None => File { path: path.to_owned(), mode: mode.unwrap_or(0o644), kind: Kind::Plain(body) },
    };
    case.files.push(file);
}

impl Case {
    /// Writes everything below a folder, `{web}` replaced.
    pub fn write(&self, folder: &Path, web: &str) {
        fs::create_dir_all(folder.join("context")).expect("make a context");
        let mut directories = Vec::new();
        for File { path, mode, kind } in &self.files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
            match kind {
                Kind::Directory => {
                    fs::create_dir_all(&path).expect("make a folder");
                    directories.push((path, *mode));
                    continue;
                }
                Kind::Link(target) => {
                    symlink(target, &path).expect("make a link");
                    continue;
                }
                Kind::Plain(text) => fs::write(&path, text.replace("{web}", web)).expect("write a file"),
                Kind::Archive(entries) => pack(entries, &path, folder),
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("set a mode");
        }
        for (path, mode) in directories {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set a mode");
        }
        if let Some(base) = &self.base {
            fs::write(folder.join("base"), base).expect("write the base's Dockerfile");
        }
        for (id, text) in &self.secrets {
            fs::write(folder.join(format!("secret-{id}")), text).expect("write a secret");
        }
    }

    /// Flags with their placeholders filled in.
    pub fn flags(&self, folder: &Path) -> Vec<String> {
        let given = self.arguments.iter().map(|word| word.replace("{dir}", &folder.display().to_string()));
        let secrets = self
            .secrets
            .iter()
            .flat_map(|(id, _)| ["--secret".to_owned(), format!("id={id},src={}/secret-{id}", folder.display())]);
        given.chain(secrets).collect()
    }

    /// The Dockerfile.
    pub fn file(&self, folder: &Path) -> PathBuf {
        folder.join(if self.in_context { "context/Dockerfile" } else { "Dockerfile" })
    }
}

/// An archive whose entries are lines of path, mode and content.
fn pack(entries: &str, path: &Path, folder: &Path) {
    let mut archive = tar::Builder::new(Vec::new());
    for line in entries.lines() {
        let mut words = line.splitn(3, ' ');
        let (name, mode) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let content = format!("{}\n", words.next().unwrap_or_default());
        let mut header = tar::Header::new_gnu();
        // Names that climb are refused by the crate's own setter.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(u32::from_str_radix(mode, 8).expect("a mode"));
        header.set_size(content.len() as u64);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_cksum();
        archive.append(&header, content.as_bytes()).expect("pack");
    }
    let plain = folder.join("plain.tar");
    fs::write(&plain, archive.into_inner().expect("pack")).expect("write an archive");
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => "gzip",
        Some("bz2") => "bzip2",
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => "cat",
    };
    let mut command = Command::new(program);
    if program != "cat" {
        command.arg("--stdout");
    }
    let output = command.arg(&plain).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(path, output.stdout).expect("write an archive");
    fs::remove_file(plain).expect("remove an archive");
}
