//! The readers. Each tells in a few words what it made of its input; what it must never do is panic or hang.

use std::{
    io::{Seek, Write},
    sync::Arc,
};

use build::{
    dockerfile,
    ignore::Ignore,
    plan::{Options, Plan, Platform},
    resolve::{Base, Resolved, resolve},
    source::address::Repository,
};
use groovy::{
    fault::Outcome,
    host::{Host, Step},
    interpret::{Interpreter, Program, Strand},
    limit::Limits,
    value::Value,
};

use crate::{history, metrics, pipelines};

/// A reader under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Reads.
    pub read: fn(&[u8]) -> String,
    /// Words that its format is made of.
    pub words: &'static [&'static str],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "dockerfile", read: dockerfile, words: DOCKERFILE },
    Target { name: "ignore", read: ignore, words: &["!", "**", "*", "?", "[a-z]", "\\", "/", "../", "./", "#", "\n"] },
    Target { name: "repository", read: repository, words: ADDRESS },
    Target { name: "reference", read: reference, words: REFERENCE },
    Target { name: "manifest", read: manifest, words: MANIFEST },
    Target { name: "archive", read: archive, words: ARCHIVE },
    Target { name: "pack", read: pack, words: &["PACK\0\0\0\x02", "x\x01", "x\u{9c}", "\0\0\0\x01"] },
    Target { name: "tree", read: tree, words: &["100644 ", "40000 ", "120000 ", "160000 ", ".git", "..", "/", "\0"] },
    Target {
        name: "gitmodules",
        read: gitmodules,
        words: &["[submodule \"", "\"]\n", "path = ", "url = ", "../", "\\", "#"],
    },
    Target { name: "fetch", read: fetch, words: FETCH },
    Target { name: "changes", read: history::changes, words: history::WORDS },
    Target { name: "query", read: metrics::query, words: metrics::QUERY },
    Target { name: "exposition", read: metrics::exposition, words: metrics::EXPOSITION },
    Target { name: "families", read: metrics::families, words: &["\n", "\x12", "\x1a", "\x22", "\x3a"] },
    Target { name: "remote-write", read: metrics::remote_write, words: &["\n", "\x12", "__name__"] },
    Target { name: "otlp", read: metrics::otlp, words: OTLP },
    Target { name: "log", read: metrics::log, words: &["mdR1"] },
    Target { name: "record", read: metrics::record, words: &["\0", "\x01", "\x7f"] },
    Target { name: "chunk", read: metrics::chunk, words: &["\0", "\x01", "\x7f"] },
    Target { name: "block-index", read: metrics::index, words: &["\0", "\x01", "\x7f"] },
    Target { name: "prometheus-chunk", read: metrics::prometheus_chunk, words: &["\0", "\x01", "\x7f"] },
    Target { name: "script", read: script, words: SCRIPT },
    Target { name: "xml", read: pipelines::xml, words: pipelines::XML },
    Target { name: "cron", read: pipelines::cron, words: pipelines::CRON },
    Target { name: "docker", read: pipelines::docker, words: pipelines::DOCKER },
    Target { name: "packets", read: packets, words: &["0000", "0001", "0002", "0004", "0005", "ffff", "fff0", "ERR "] },
];

const OTLP: &[&str] = &[
    "\n",
    "\x12",
    "\x1a",
    ":",
    ",",
    "{",
    "[",
    "\"asInt\":\"",
    "\"asDouble\":",
    "\"count\":",
    "\"scale\":",
    "\"offset\":",
    "\"bucketCounts\":[",
    "\"attributes\":[",
    "-2147483648",
    "9223372036854775807",
    "1e308",
];

const FETCH: &[&str] = &[
    "0000",
    "0001",
    "0014command=ls-refs\n",
    "0012command=fetch\n",
    "0009peel\n",
    "000csymrefs\n",
    "000bunborn\n",
    "ref-prefix refs/",
    "want ",
    "have ",
    "0009done\n",
    "deepen ",
    "deepen-since ",
    "deepen-not ",
    "shallow ",
    "filter combine:blob:none+tree:1",
    "1111111111111111111111111111111111111111",
];

const SCRIPT: &[&str] = &[
    "pipeline {",
    "def ",
    "class A { ",
    "try { ",
    "} catch (e) { ",
    "} finally { ",
    "switch (a) { case 1: ",
    "for (a in b) ",
    "while (a) ",
    "if (a) ",
    "else ",
    "return ",
    "throw ",
    "new A(",
    "a.each { ",
    "{ a, b -> ",
    "[a: 1, ",
    "a: ",
    "\"${",
    "'''",
    "$/",
    "/$",
    "=~ ",
    "?.",
    "*.",
    "?: ",
    "..",
    "<=>",
    "**",
    " as int",
    "@Field ",
    "@Library('a') _",
    "import a.b",
    "0x1F",
    "1.5e3",
    "\n",
    "}",
];

const DOCKERFILE: &[&str] = &[
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "ONBUILD ",
    "HEALTHCHECK ",
    "EXPOSE ",
    "VOLUME ",
    "USER ",
    "WORKDIR ",
    "SHELL ",
    "CMD ",
    "ENTRYPOINT ",
    "STOPSIGNAL ",
    "MAINTAINER ",
    " AS ",
    "--from=",
    "--mount=type=",
    "cache,",
    "secret,",
    "ssh,",
    "tmpfs,",
    "bind,",
    "target=",
    "--chown=",
    "--chmod=",
    "--link",
    "--parents",
    "--exclude=",
    "--checksum=",
    "<<EOF",
    "<<-\"E\"",
    "\nEOF\n",
    "${",
    "}",
    ":-",
    ":+",
    ":?",
    "##",
    "%%",
    "//",
    "\\\n",
    "`\n",
    "# escape=`\n",
    "# syntax=",
    "[\"",
    "\", \"",
    "\"]",
    "'",
    "\"",
    "$",
    "\\",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "é",
    "\u{feff}",
    "NONE",
    "--interval=",
    "1h2m",
];
const ADDRESS: &[&str] = &[
    "https://",
    "http://",
    "git@",
    "ssh://",
    "github.com/",
    ".git",
    "#",
    ":",
    "?",
    "&",
    "=",
    "ref=",
    "tag=",
    "branch=",
    "subdir=",
    "checksum=",
    "keep-git-dir",
    "submodules=",
    "mtime=",
    "%2e",
    "%2F",
    "%",
    "..",
    "/",
    "@",
];
const REFERENCE: &[&str] = &[
    "docker.io/",
    "library/",
    "localhost:5000/",
    "[::1]:5000/",
    "@sha256:",
    "@sha512:",
    ":",
    "/",
    ".",
    "__",
    "--",
    "latest",
];
const MANIFEST: &[&str] = &[
    "\"schemaVersion\"",
    "\"mediaType\"",
    "\"config\"",
    "\"layers\"",
    "\"manifests\"",
    "\"digest\"",
    "\"size\"",
    "\"rootfs\"",
    "\"diff_ids\"",
    "\"history\"",
    "sha256:",
    "-1",
    "1e99",
    "18446744073709551616",
    "null",
    "{",
    "}",
    "[",
    "]",
    "\\u0000",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const ARCHIVE: &[&str] = &[
    "ustar\0",
    "ustar  \0",
    "0000644\0",
    "0000000\0",
    "7777777\0",
    "\u{80}",
    "PaxHeader",
    "path=",
    "size=",
    "GNU.sparse.major=1",
    "GNU.sparse.map=",
    "SCHILY.xattr.",
    "../",
    "/",
    "\0\0\0\0\0\0\0\0",
    "mtime=",
    "linkpath=",
];

/// An error without what is only this input's: numbers, quoted words.
pub(crate) fn kind(text: &str) -> String {
    let (mut out, mut quoted) = (String::new(), None);
    for c in text.chars().take(400) {
        match (quoted, c) {
            (Some(quote), c) if c == quote => quoted = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quoted = Some(c),
            (None, c) if c.is_ascii_alphabetic() || c == ' ' => out.push(c),
            (None, _) => {}
        }
    }
    out.chars().take(60).collect()
}

/// A number by its size, so that outcomes do not differ endlessly.
pub(crate) fn about(count: usize) -> u32 {
    count.checked_ilog2().map_or(0, |bits| bits + 1)
}

fn dockerfile(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let file = match dockerfile::parse(&text) {
        Ok(file) => file,
        Err(error) => {
            assert!(error.lines.first >= 1 && error.lines.first <= error.lines.last, "{error:?}");
            let shown = error.show("Dockerfile", &text);
            assert!(shown.contains(&error.message), "{shown}");
            return format!("error {}", kind(&error.message));
        }
    };
    let host = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() };
    let options = Options { target: None, arguments: Default::default(), build: host.clone(), platform: host };
    let plan = match Plan::new(&file, &options) {
        Ok(plan) => plan,
        Err(error) => return format!("plan {}", kind(&error.message)),
    };
    let mut done: Vec<Option<Resolved>> = vec![None; file.stages.len()];
    for stage in plan.order() {
        let base = match &plan.stages[stage].base {
            build::plan::Origin::Stage(before) => done[*before].as_ref().map_or(Base::Scratch, Base::Stage),
            _ => Base::Scratch,
        };
        match resolve(&file, &plan, stage, base, &options.arguments) {
            Ok(resolved) => done[stage] = Some(resolved),
            Err(error) => return format!("resolve {}", kind(&error.message)),
        }
    }
    let kinds: std::collections::BTreeSet<&str> =
        file.stages.iter().flat_map(|stage| &stage.steps).map(|step| step.instruction.name()).collect();
    format!("{} {} {}", about(file.stages.len()), kinds.into_iter().collect::<String>(), about(file.warnings.len()))
}

fn ignore(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    match Ignore::parse(&text) {
        Err(error) => format!("error {}", kind(&error.to_string())),
        Ok(ignore) => {
            let paths = ["a", "a/b/c", "src/main.rs", ".git", "é/ü", "*", "["];
            let ignored: Vec<bool> = paths.iter().map(|path| ignore.ignores(path)).collect();
            format!("{ignored:?} {}", ignore.takes_back())
        }
    }
}

fn repository(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let shown = build::source::address::without_password(&text);
    let name = build::source::address::file_name(&text);
    assert!(
        name.as_deref().is_none_or(|name| !name.contains(['/', '\0']) && name != ".." && !name.is_empty()),
        "{name:?}"
    );
    match Repository::parse(&text) {
        Err(error) => format!("error {}", kind(&error.to_string())),
        Ok(None) => format!("none {} {}", name.is_some(), shown.len() == text.len()),
        Ok(Some(found)) => {
            assert!(!found.subdirectory.split('/').any(|part| part == ".."), "{found:?}");
            format!("{} {} {:?}", found.ambiguous, about(found.reference.len()), found.keep_git_dir)
        }
    }
}

fn reference(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    match oci::Reference::parse(&text) {
        Err(error) => format!("error {}", kind(&error.to_string())),
        Ok(found) => {
            assert_eq!(oci::Reference::parse(&found.to_string()).as_ref(), Ok(&found), "{text}");
            assert!(oci::reference::is_repository(found.path()), "{text}");
            format!(
                "{} {} {}",
                found.tag().is_some(),
                found.digest().is_some(),
                about(found.path().matches('/').count())
            )
        }
    }
}

fn manifest(input: &[u8]) -> String {
    match image::probe::manifest(input) {
        Err(error) => format!("error {}", kind(&error)),
        Ok(layers) => format!("layers {}", about(layers)),
    }
}

fn archive(input: &[u8]) -> String {
    match image::probe::archive(input) {
        (entries, bytes, None) => format!("{} {}", about(entries), about(bytes as usize)),
        (entries, _, Some(error)) => format!("{} {}", about(entries), kind(&error)),
    }
}

fn pack(input: &[u8]) -> String {
    let limits = git::Limits { object: 1 << 20, unpacked: 8 << 20, objects: 1000, ..git::Limits::default() };
    let Ok(mut file) = tempfile::tempfile() else { return "no file".to_owned() };
    if file.write_all(input).and_then(|()| file.rewind()).is_err() {
        return "no file".to_owned();
    }
    match git::pack::Pack::read(file, git::id::Format::Sha1, limits) {
        Err(error) => format!("error {}", kind(&error.to_string())),
        Ok(pack) => format!("{}", about(pack.len())),
    }
}

fn tree(input: &[u8]) -> String {
    match git::object::tree(input, git::id::Format::Sha1) {
        Err(error) => format!("error {}", kind(&error.to_string())),
        Ok(entries) => {
            for entry in &entries {
                assert!(!entry.name.contains('/') && !matches!(entry.name, "" | "." | ".."), "{entry:?}");
            }
            let commit = git::object::Commit::parse(input).is_ok();
            format!("{} {commit}", about(entries.len()))
        }
    }
}

fn gitmodules(input: &[u8]) -> String {
    let modules = git::modules::parse(&String::from_utf8_lossy(input));
    let addresses =
        modules.iter().filter(|module| git::modules::address("https://h/a/b.git", &module.url).is_ok()).count();
    format!("{} {}", about(modules.len()), about(addresses))
}

/// Either version, asked of a repository that has nothing.
fn fetch(input: &[u8]) -> String {
    use git::{Limits, id::Format, repository::Repository, upload};
    static EMPTY: std::sync::LazyLock<(tempfile::TempDir, Repository)> = std::sync::LazyLock::new(|| {
        let place = tempfile::tempdir().expect("a directory");
        Repository::create(place.path(), "main", Format::Sha1).expect("a repository");
        let repository = Repository::open(place.path(), Limits::default()).expect("a repository");
        (place, repository)
    });
    let (first, rest) = input.split_first().unwrap_or((&b'2', b""));
    let mut sent = 0;
    let mut sink = |piece: bytes::Bytes| {
        sent += piece.len();
        Ok(())
    };
    let done = match first {
        b'0' => upload::answer_first_version(&EMPTY.1, rest, &mut sink),
        _ => upload::answer(&EMPTY.1, rest, &mut sink),
    };
    match done {
        Ok(()) => about(sent).to_string(),
        Err(error) => format!("error {}", kind(&error.to_string())),
    }
}

fn packets(input: &[u8]) -> String {
    let mut held = bytes::BytesMut::from(input);
    let mut count = 0;
    loop {
        match git::packet::take(&mut held) {
            Ok(Some(_)) => count += 1,
            Ok(None) => return format!("{} {}", about(count), held.is_empty()),
            Err(_) => return format!("{} error", about(count)),
        }
    }
}

/// A script is read, and what can be read is run within narrow bounds.
fn script(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input).into_owned();
    let work = move || match Program::read("fuzz", &text) {
        Ok(program) => {
            let limits = Limits { steps: 2_000, memory: 4 << 20, text: 1 << 16, elements: 1_000, ..Limits::default() };
            match Interpreter::new(program, Arc::new(Nothing), limits).run(Arc::new(())) {
                Ok(value) => value.class_name(),
                Err(failure) => failure.message.chars().take(20).collect(),
            }
        }
        Err(error) => error.message.chars().take(20).collect(),
    };
    // Reading wants as much stack as the main thread of a program has.
    let thread = std::thread::Builder::new().stack_size(8 << 20).spawn(work);
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(told)) => told,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => format!("no thread: {error}"),
    }
}

/// A host without steps and variables.
struct Nothing;

impl Host for Nothing {
    fn has_step(&self, _name: &str) -> bool {
        false
    }

    fn step(&self, _strand: &mut Strand, step: Step) -> Outcome {
        Err(groovy::fault::throw("NoSuchMethodError", step.name))
    }

    fn variable(&self, _strand: &mut Strand, _name: &str) -> Outcome<Option<Value>> {
        Ok(None)
    }

    fn print(&self, _strand: &mut Strand, _text: &str) -> Outcome<()> {
        Ok(())
    }
}
