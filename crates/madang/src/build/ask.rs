//! From flags to what the server is asked.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use build::{
    dockerfile::LARGEST,
    request::{CachePlace, CacheTo, NetworkMode, Options, Ulimit},
    source,
    wire::{Agent, Ask, Context, File as Dockerfile, Made},
};
use image::commit::{TreeOptions, write_tree};

use super::Build;

/// A context that goes along.
type Input = Box<dyn Read + Send>;

/// Bytes that are read of a file of known hosts.
const KNOWN_HOSTS: u64 = 1 << 20;
/// Bytes that are read of a private key, as in buildx.
const KEY: u64 = 100 << 10;
/// The largest secret, as docker has it.
const SECRET: u64 = 500 << 10;

/// `NAME=VALUE`, or the name alone.
fn pair(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

/// The fields of `id=x,src=y`.
pub fn fields(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .map(|field| {
            let (name, value) = pair(field.trim());
            (name.to_ascii_lowercase(), value.unwrap_or_default())
        })
        .collect()
}

impl Build {
    /// What is asked, and what goes along with it.
    pub(super) fn ask(&self, outputs: Vec<Made>) -> Result<(Ask, Option<Input>)> {
        let mut input = None;
        let mut named = BTreeMap::new();
        for text in &self.contexts {
            let (name, Some(place)) = pair(text) else { bail!("--build-context {text}: NAME=PLACE is wanted") };
            named.insert(name, named_context(&place)?);
        }
        let (context, dockerfile) = self.context(&mut input)?;
        let mut secrets = BTreeMap::new();
        for text in &self.secrets {
            let (id, bytes) = secret(text)?;
            secrets.insert(id, STANDARD.encode(bytes));
        }
        let mut agents = BTreeMap::new();
        for text in self.agents.iter().filter(|text| !text.is_empty()) {
            let (id, agent) = agent(text, std::env::var("SSH_AUTH_SOCK").ok().as_deref())?;
            agents.insert(id, agent);
        }
        let known_hosts = if agents.is_empty() { None } else { known_hosts()? };
        // Which images it takes from where only the server learns.
        let (known, failed) = image::pull::user::all(|name| std::env::var(name).ok());
        for error in failed {
            eprintln!("WARNING: credentials are left out: {error:#}");
        }
        let credentials = known.into_iter().map(|(registry, known)| (registry, known.document())).collect();
        let options = self.options()?;
        let ask = Ask { options, context, dockerfile, named, secrets, agents, known_hosts, credentials, outputs };
        Ok((ask, input))
    }

    fn options(&self) -> Result<Options> {
        let mut options = Options {
            target: self.target.clone(),
            platform: self.platform.clone(),
            no_cache: self.no_cache,
            no_cache_filter: self.no_cache_filter.clone(),
            pull: self.pull,
            network: match self.network.as_str() {
                "default" | "bridge" => NetworkMode::Default,
                "none" => NetworkMode::None,
                "host" => NetworkMode::Host,
                other => bail!("--network {other}: default, none or host is wanted"),
            },
            memory: self.memory.as_deref().map(|text| bytes("--memory", text)).transpose()?,
            shm_size: self
                .shm_size
                .as_deref()
                .map(|text| bytes("--shm-size", text))
                .transpose()?
                .map(i64::unsigned_abs),
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_shares: self.cpu_shares,
            cgroup_parent: self.cgroup_parent.clone(),
            ..Options::default()
        };
        for text in &self.arguments {
            let (name, value) = pair(text);
            if let Some(value) = value.or_else(|| std::env::var(&name).ok()) {
                options.arguments.insert(name, value);
            }
        }
        // As buildx does, so that whoever exports it has it in every build.
        if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
            options.arguments.entry("SOURCE_DATE_EPOCH".into()).or_insert(epoch);
        }
        for text in &self.labels {
            let (name, value) = pair(text);
            options.labels.insert(name, value.unwrap_or_default());
        }
        for text in &self.hosts {
            let split = text.split_once('=').or_else(|| text.split_once(':'));
            let (name, ip) = split.with_context(|| format!("--add-host {text}: HOST:IP is wanted"))?;
            let ip: IpAddr = ip
                .trim_matches(['[', ']'])
                .parse()
                .ok()
                .with_context(|| format!("--add-host {text}: {ip:?} is no address"))?;
            options.hosts.push((name.to_owned(), ip));
        }
        for text in &self.ulimits {
            options.ulimits.push(Ulimit::parse(text).map_err(|error| anyhow::anyhow!("--ulimit {error}"))?);
        }
        for text in &self.cache_from {
            let place =
                CachePlace::from(&cache_fields(text)).map_err(|error| anyhow::anyhow!("--cache-from {error}"))?;
            options.cache_from.push(absolute(place)?);
        }
        for text in &self.cache_to {
            let fields = cache_fields(text);
            if fields.get("type").is_some_and(|kind| kind == "inline") {
                options.inline_cache = true;
                continue;
            }
            let to = CacheTo::from(&fields).map_err(|error| anyhow::anyhow!("--cache-to {error}"))?;
            options.cache_to.push(CacheTo { place: absolute(to.place)?, ..to });
        }
        for text in self.allowed.iter().flat_map(|text| text.split(',')) {
            match text.trim() {
                "network.host" => options.allow_host_network = true,
                "security.insecure" => options.allow_insecure = true,
                other => bail!("--allow {other}: network.host or security.insecure is wanted"),
            }
        }
        Ok(options)
    }

    /// The main context and the Dockerfile.
    fn context(&self, input: &mut Option<Input>) -> Result<(Context, Dockerfile)> {
        let from_input = self.file.as_deref() == Some("-");
        let in_context = || Dockerfile::Context(self.file.clone().unwrap_or_else(|| "Dockerfile".to_owned()));
        if self.context == "-" {
            if from_input {
                bail!("invalid argument: can't use stdin for both build context and dockerfile");
            }
            let mut head = Vec::new();
            let mut stdin = io::stdin().lock();
            (&mut stdin).take(512).read_to_end(&mut head).context("read standard input")?;
            if head.is_empty() {
                bail!("standard input is empty: a Dockerfile or an archive is wanted");
            }
            if is_archive(&head) {
                *input = Some(Box::new(io::Cursor::new(head).chain(io::stdin())));
                return Ok((Context::Archive, in_context()));
            }
            let text = text(io::Cursor::new(head).chain(stdin), "standard input")?;
            return Ok((Context::Empty, Dockerfile::Text { name: "Dockerfile".into(), text, ignore: None }));
        }
        let dockerfile = |context: Option<&Path>| -> Result<Dockerfile> {
            if from_input {
                let text = text(io::stdin(), "standard input")?;
                return Ok(Dockerfile::Text { name: "Dockerfile".into(), text, ignore: None });
            }
            let Some(context) = context else { return Ok(in_context()) };
            let path = match &self.file {
                Some(file) => PathBuf::from(file),
                None => context.join("Dockerfile"),
            };
            let file =
                File::open(&path).with_context(|| format!("failed to read dockerfile: open {}", path.display()))?;
            let text = text(file, &path.display().to_string())?;
            let beside = PathBuf::from(format!("{}.dockerignore", path.display()));
            let ignore = match std::fs::read_to_string(&beside) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).with_context(|| format!("read {}", beside.display())),
            };
            let name = path.file_name().map_or_else(|| "Dockerfile".into(), |name| name.to_string_lossy().into_owned());
            Ok(Dockerfile::Text { name, text, ignore })
        };
        let path = Path::new(&self.context);
        if !path.exists() && source::is_remote_context(&self.context) {
            return Ok((Context::Remote(self.context.clone()), dockerfile(None)?));
        }
        let context =
            Context::directory(path).with_context(|| format!("unable to prepare context: path {:?}", self.context))?;
        Ok((context, dockerfile(Some(path))?))
    }
}

/// Turns the main context, a directory that the server does not see, into an archive; returns that.
pub fn as_archive(ask: &mut Ask) -> Result<Input> {
    let Context::Directory { path, .. } = std::mem::replace(&mut ask.context, Context::Archive) else {
        bail!("the server does not see a directory that --build-context names, and only the main context can be sent");
    };
    let directory = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let (reader, writer) = io::pipe().context("make a pipe")?;
    // Ends when everything is read, or when the reader is gone.
    std::thread::spawn(move || write_tree(directory.into(), &TreeOptions::default(), io::BufWriter::new(writer)));
    Ok(Box::new(reader))
}

fn text(input: impl Read, name: &str) -> Result<String> {
    let mut text = String::new();
    input.take(LARGEST as u64 + 1).read_to_string(&mut text).with_context(|| format!("read {name}"))?;
    if text.len() > LARGEST {
        bail!("{name}: it has more than {LARGEST} bytes");
    }
    Ok(text)
}

/// Whether what begins like this is an archive rather than a Dockerfile.
fn is_archive(head: &[u8]) -> bool {
    let magic: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0"];
    magic.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar") || head.contains(&0)
}

fn named_context(place: &str) -> Result<Context> {
    if let Some(image) = place.strip_prefix("docker-image://") {
        return Ok(Context::Image(image.to_owned()));
    }
    if let Some((path, which)) = build::wire::layout(place) {
        return Context::layout(&path, &which).with_context(|| format!("--build-context: layout {}", path.display()));
    }
    if !Path::new(place).exists() && source::is_remote_context(place) {
        return Ok(Context::Remote(place.to_owned()));
    }
    Context::directory(Path::new(place)).with_context(|| format!("--build-context: path {place:?}"))
}

/// `id=ID`, with where its bytes are: a file, a variable, or the variable of its name, else the file of its name.
fn secret(text: &str) -> Result<(String, Vec<u8>)> {
    let fields = fields(text);
    let named = |names: &[&str]| names.iter().find_map(|name| fields.get(*name)).filter(|value| !value.is_empty());
    let (file, variable) = (named(&["src", "source"]), named(&["env"]));
    let id = named(&["id"]).or(variable).or(file).with_context(|| format!("--secret {text}: an id is wanted"))?;
    let of_file = |path: &str| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(path).with_context(|| format!("--secret {id}: open {path}"))?;
        file.take(SECRET + 1).read_to_end(&mut bytes).with_context(|| format!("--secret {id}: read {path}"))?;
        if bytes.len() as u64 > SECRET {
            bail!("--secret {id}: {path} has more than {SECRET} bytes");
        }
        Ok(bytes)
    };
    let of_variable = |name: &str| std::env::var(name).ok().map(String::into_bytes);
    let bytes = match (file, variable, fields.get("type").map(String::as_str)) {
        (Some(file), _, Some("env")) => {
            of_variable(file).with_context(|| format!("--secret {id}: variable {file} is not set"))?
        }
        (Some(file), _, _) => of_file(file)?,
        (None, Some(name), _) => {
            of_variable(name).with_context(|| format!("--secret {id}: variable {name} is not set"))?
        }
        (None, None, _) => match of_variable(id) {
            Some(bytes) => bytes,
            None => of_file(id)?,
        },
    };
    Ok((id.clone(), bytes))
}

/// `ID[=SOCKET]` or `ID=KEY[,KEY...]`, as buildx reads it.
fn agent(text: &str, own: Option<&str>) -> Result<(String, Agent)> {
    let (id, paths) = pair(text);
    let id = if id.is_empty() { "default".to_owned() } else { id };
    let paths: Vec<&str> = match (paths.as_deref().unwrap_or_default(), own.unwrap_or_default()) {
        ("", "") => bail!("--ssh {text}: no agent: make sure SSH_AUTH_SOCK is set"),
        ("", own) => vec![own],
        (paths, _) => paths.split(',').collect(),
    };
    let (mut sockets, mut keys) = (Vec::new(), Vec::new());
    for path in paths.into_iter().map(Path::new) {
        let said = || format!("--ssh {text}: {}", path.display());
        let status = path.metadata().with_context(said)?;
        if std::os::unix::fs::FileTypeExt::is_socket(&status.file_type()) {
            // The server looks from elsewhere.
            sockets.push(std::path::absolute(path).with_context(said)?);
            continue;
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).with_context(said)?;
        file.take(KEY).read_to_end(&mut bytes).with_context(said)?;
        let key =
            String::from_utf8(bytes).with_context(|| format!("{}: neither a socket nor a private key", said()))?;
        keys.push(key);
    }
    match (sockets.pop(), sockets.is_empty(), keys.is_empty()) {
        (Some(socket), true, true) => Ok((id, Agent::Socket(socket))),
        (None, _, _) => Ok((id, Agent::Keys(keys))),
        (Some(_), false, _) => bail!("--ssh {text}: only single socket allowed"),
        (Some(_), true, false) => bail!("--ssh {text}: invalid combination of keys and sockets"),
    }
}

/// The hosts that whoever asks knows, for what is fetched with their agent's keys: their own file of them.
fn known_hosts() -> Result<Option<String>> {
    let Some(home) = std::env::var_os("HOME").filter(|home| !home.is_empty()) else { return Ok(None) };
    let path = Path::new(&home).join(".ssh/known_hosts");
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
    };
    let mut bytes = Vec::new();
    file.take(KNOWN_HOSTS).read_to_end(&mut bytes).with_context(|| format!("read {}", path.display()))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The fields of a cache; a name alone is that of an image in a registry.
fn cache_fields(text: &str) -> BTreeMap<String, String> {
    match text.contains('=') {
        true => fields(text),
        false => BTreeMap::from([("ref".to_owned(), text.to_owned())]),
    }
}

/// A place as the server finds it.
fn absolute(place: CachePlace) -> Result<CachePlace> {
    Ok(match place {
        CachePlace::Local { path, tag, digest } => {
            let path = std::path::absolute(&path).with_context(|| format!("cache {}", path.display()))?;
            CachePlace::Local { path, tag, digest }
        }
        place => place,
    })
}

/// A size as docker writes it.
fn bytes(flag: &str, text: &str) -> Result<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let power = match text[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => bail!("{flag} {text}: a number with b, k, m or g is wanted"),
    };
    let number: i64 = text[..digits].parse().ok().with_context(|| format!("{flag} {text}: no number"))?;
    number.checked_mul(1 << power).with_context(|| format!("{flag} {text}: too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, wanted) in [("5", 5), ("5b", 5), ("2k", 2048), ("512m", 512 << 20), ("1G", 1 << 30)] {
            assert_eq!(bytes("--memory", text).unwrap(), wanted, "{text}");
        }
        for text in ["", "m", "5x", "99999999999g"] {
            assert!(bytes("--memory", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_a_file_or_a_variable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "s").unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(secret(&format!("id=a,src={path}")).unwrap(), ("a".to_owned(), b"s".to_vec()));
        assert_eq!(secret(&format!("type=file,id=a,source={path}")).unwrap().0, "a");
        assert_eq!(secret("id=a,env=PATH").unwrap().1, std::env::var("PATH").unwrap().into_bytes());
        assert_eq!(secret("id=PATH").unwrap().0, "PATH");
        assert!(secret("src=").is_err());
        assert!(secret("id=a,src=/none/at/all").is_err());
    }

    #[test]
    fn an_agent_is_a_socket_or_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (socket, key, other) = (path("socket"), path("key"), path("other"));
        let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(&key, "one").unwrap();
        std::fs::write(&other, "two").unwrap();
        let read = |text: &str, own: &str| match agent(text, Some(own)) {
            Ok((id, Agent::Socket(path))) => format!("{id} socket {}", path.display()),
            Ok((id, Agent::Keys(keys))) => format!("{id} keys {}", keys.join(" ")),
            Err(error) => format!("{error:#}"),
        };
        let at = |id: &str| format!("{id} socket {socket}");
        assert_eq!(read("default", &socket), at("default"));
        assert_eq!(read("=", &socket), at("default"));
        assert_eq!(read(&format!("mine={socket}"), "/none"), at("mine"));
        assert_eq!(read(&format!("mine={key},{other}"), ""), "mine keys one two");
        for (text, says) in [
            ("default", "make sure SSH_AUTH_SOCK is set"),
            ("default=/none/at/all", "No such file"),
            (&format!("default={socket},{socket}"), "only single socket allowed"),
            (&format!("default={socket},{key}"), "invalid combination of keys and sockets"),
        ] {
            let said = read(text, "");
            assert!(said.contains(says), "{text}: {said}");
        }
        assert!(agent("default", None).is_err());
    }

    #[test]
    fn archives_are_told_from_dockerfiles() {
        assert!(!is_archive(b"FROM scratch\n"));
        assert!(is_archive(b"\x1f\x8b\x08\x00"));
        assert!(is_archive(&[0; 512]));
    }
}
