//! What a client's attributes mean: `target`, `build-arg:NAME`, `context:NAME` and the like, as options of a build.
//!
//! <https://github.com/moby/buildkit/blob/v0.34.0/frontend/dockerui/config.go>

use std::collections::{BTreeMap, HashMap};

use build::request::{NetworkMode, Options, Ulimit};

use super::wire::{CacheOptionsEntry, Definition, Op, SourceOp};

/// What an attribute's text cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// Attributes of a build.
pub type Attributes = HashMap<String, String>;

/// Where files of a build come from, as attributes say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory of the client, by the name that it has there, in the session of this id if not the build's own.
    Local {
        /// The directory's name.
        name: String,
        /// The session.
        session: Option<String>,
    },
    /// What the client got on its standard input, behind a URL that only it understands.
    Upload(String),
    /// A repository, or the URL of an archive.
    Remote(String),
    /// An image, by its name.
    Image(String),
    /// An image of a layout of the client.
    Layout {
        /// What the client calls its store of blobs.
        store: String,
        /// The manifest or index.
        digest: oci::Digest,
    },
    /// No files.
    Nothing,
}

/// The plain options.
pub fn options(attributes: &Attributes, entitlements: &[String]) -> Result<Options, Invalid> {
    let text = |name: &str| attributes.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let mut options = Options {
        target: text("target").map(str::to_owned),
        arguments: prefixed(attributes, "build-arg:"),
        labels: prefixed(attributes, "label:"),
        allow_insecure: entitlements.iter().any(|name| name == "security.insecure"),
        allow_host_network: entitlements.iter().any(|name| name == "network.host"),
        shm_size: number(attributes, "shm-size")?,
        memory: number(attributes, "memory")?,
        cpu_quota: number(attributes, "cpuquota")?,
        cpu_period: number(attributes, "cpuperiod")?,
        cpu_shares: number(attributes, "cpushares")?,
        cgroup_parent: text("cgroup-parent").unwrap_or_default().to_owned(),
        pull: text("image-resolve-mode") == Some("pull"),
        hosts: hosts(text("add-hosts").unwrap_or_default())?,
        ..Options::default()
    };
    options.platform = text("platform").map(str::to_owned);
    match attributes.get("no-cache").map(String::as_str) {
        None => {}
        Some("") => options.no_cache = true,
        Some(stages) => options.no_cache_filter = stages.split(',').map(str::to_owned).collect(),
    }
    options.network = match text("force-network-mode") {
        None | Some("sandbox" | "default") => NetworkMode::Default,
        Some("none") => NetworkMode::None,
        // Whoever forces it for all steps allows it.
        Some("host") => {
            options.allow_host_network = true;
            NetworkMode::Host
        }
        Some(other) => return Err(Invalid(format!("invalid netmode {other}"))),
    };
    for limit in text("ulimit").unwrap_or_default().split(',').filter(|limit| !limit.is_empty()) {
        options.ulimits.push(Ulimit::parse(limit).map_err(Invalid)?);
    }
    for name in ["cpusetcpus", "cpusetmems", "memswap"] {
        if let Some(value) = text(name) {
            return Err(Invalid(format!("{name}={value}: build steps cannot be given this limit here")));
        }
    }
    let attested = attributes.iter().find(|(name, value)| {
        let off = value.split(',').any(|part| part == "disabled=true");
        name.starts_with("attest:") && !off && !value.contains("inline-only=true")
    });
    if let Some((name, _)) = attested {
        return Err(Invalid(format!("{}: attestations are not made here", name.trim_start_matches("attest:"))));
    }
    Ok(options)
}

/// `cache-imports`: a JSON list, as clients write it for frontends.
pub fn cache_imports(attributes: &Attributes) -> Result<Vec<CacheOptionsEntry>, Invalid> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        #[serde(rename = "Type")]
        kind: String,
        #[serde(default)]
        attrs: HashMap<String, String>,
    }
    let Some(text) = attributes.get("cache-imports").filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    let entries: Vec<Entry> =
        serde_json::from_str(text).map_err(|error| Invalid(format!("failed to unmarshal cache-imports: {error}")))?;
    let entry = |Entry { kind, attrs }| CacheOptionsEntry { kind, attributes: attrs };
    Ok(entries.into_iter().map(entry).collect())
}

fn prefixed(attributes: &Attributes, prefix: &str) -> BTreeMap<String, String> {
    let with = attributes.iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value)));
    with.map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

fn number<T: std::str::FromStr>(attributes: &Attributes, name: &str) -> Result<Option<T>, Invalid> {
    let Some(text) = attributes.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Invalid(format!("invalid {name} value: {text}")))
}

/// `NAME=ADDRESS,...`.
fn hosts(text: &str) -> Result<Vec<(String, std::net::IpAddr)>, Invalid> {
    let fields = text.split(',').map(|field| field.trim().trim_matches('"')).filter(|field| !field.is_empty());
    let read = |field: &str| {
        let (name, address) =
            field.split_once('=').ok_or_else(|| Invalid(format!("invalid key-value pair {field}")))?;
        let address = address.parse().map_err(|_| Invalid(format!("failed to parse IP {address}")))?;
        Ok((name.to_ascii_lowercase(), address))
    };
    fields.map(read).collect()
}

/// The session that a client's directory is in, if it is not the build's own.
fn session_of(attributes: &Attributes, name: &str) -> Option<String> {
    attributes.get(&format!("local-sessionid:{name}")).cloned()
}

/// A directory of the client.
pub fn local(attributes: &Attributes, name: &str) -> Place {
    Place::Local { name: name.to_owned(), session: session_of(attributes, name) }
}

/// Where the main context is.
pub fn main_context(attributes: &Attributes, inputs: &HashMap<String, Definition>) -> Result<Place, Invalid> {
    let key = attributes.get("contextkey").map_or("context", String::as_str);
    if let Some(text) = attributes.get(key).filter(|text| !text.is_empty()) {
        return Ok(elsewhere(text));
    }
    match inputs.get("context") {
        Some(definition) => source(definition),
        None => Ok(local(attributes, "context")),
    }
}

/// A place that is no directory of the client.
fn elsewhere(text: &str) -> Place {
    match text.strip_prefix("http://buildkit-session/") {
        Some(_) => Place::Upload(text.to_owned()),
        None => Place::Remote(text.to_owned()),
    }
}

/// Where the Dockerfile is: a directory of the client, or none for the main context.
pub fn dockerfile_place(attributes: &Attributes, inputs: &HashMap<String, Definition>, main: &Place) -> Option<Place> {
    if let Some(name) = attributes.get("dockerfilekey") {
        return Some(local(attributes, name));
    }
    match main {
        Place::Local { .. } => Some(local(attributes, "dockerfile")),
        // A definition's own directory is where it lies, unless the client sent one beside it.
        _ if inputs.contains_key("context") && !inputs.contains_key("dockerfile") => {
            Some(local(attributes, "dockerfile"))
        }
        _ => None,
    }
}

/// `context:NAME`: contexts by name, `NAME::PLATFORM` for all platforms.
pub fn named_contexts(
    attributes: &Attributes,
    inputs: &HashMap<String, Definition>,
) -> Result<BTreeMap<String, Place>, Invalid> {
    let mut named = BTreeMap::new();
    for (name, value) in attributes.iter().filter_map(|(name, value)| Some((name.strip_prefix("context:")?, value))) {
        let plain = name.split("::").next().unwrap_or(name);
        let invalid = || Invalid(format!("invalid context specifier {value} for {name}"));
        let (kind, rest) = value.split_once(':').ok_or_else(invalid)?;
        let place = match kind {
            "docker-image" => match rest.trim_start_matches("//") {
                "scratch" => Place::Nothing,
                image => Place::Image(image.to_owned()),
            },
            "local" => local(attributes, rest),
            "input" => {
                let definition = inputs.get(rest);
                source(definition.ok_or_else(|| Invalid(format!("invalid input {rest} for {name}")))?)?
            }
            "git" | "http" | "https" | "ssh" => elsewhere(value),
            kind if kind.starts_with("git@") => elsewhere(value),
            "oci-layout" => {
                // `//STORE[:TAG]@DIGEST`: the client has looked the tag up.
                let (named, digest) = rest
                    .trim_start_matches("//")
                    .rsplit_once('@')
                    .ok_or_else(|| Invalid(format!("oci-layout reference {rest:?} of context {name} has no digest")))?;
                let digest = digest.parse().map_err(|_| invalid())?;
                let store = named.split(':').next().unwrap_or_default().to_owned();
                if store.is_empty() {
                    return Err(Invalid(format!("oci-layout reference {rest:?} of context {name} has no name")));
                }
                Place::Layout { store, digest }
            }
            _ => return Err(Invalid(format!("unsupported context source {kind} for {name}"))),
        };
        named.insert(plain.to_owned(), place);
    }
    Ok(named)
}

/// The one source that a definition consists of.
pub fn source(definition: &Definition) -> Result<Place, Invalid> {
    use prost::Message as _;
    let op = |bytes: &Vec<u8>| {
        Op::decode(bytes.as_slice()).map_err(|error| Invalid(format!("failed to parse llb: {error}")))
    };
    let Some(last) = definition.ops.last() else { return Ok(Place::Nothing) };
    let wanted = match op(last)?.inputs.as_slice() {
        [input] => input.digest.clone(),
        _ => return Err(Invalid("a definition has to end with its one result".to_owned())),
    };
    let found = definition.ops.iter().find(|bytes| oci::Digest::sha256(bytes).as_str() == wanted);
    let found = op(found.ok_or_else(|| Invalid(format!("a definition lacks its operation {wanted}")))?)?;
    let Some(SourceOp { identifier, attributes }) = found.source else {
        return Err(Invalid(
            "definitions (LLB) of more than one source are not carried out here: only Dockerfiles are built".to_owned(),
        ));
    };
    let (kind, rest) = identifier.split_once("://").unwrap_or(("", &identifier));
    match kind {
        "docker-image" => Ok(Place::Image(rest.to_owned())),
        "local" => Ok(Place::Local { name: rest.to_owned(), session: attributes.get("local.session").cloned() }),
        "git" => {
            // `git://HOST/PATH#REF`, with the URL as it was written beside it.
            let fragment = rest.split_once('#').map(|(_, fragment)| format!("#{fragment}")).unwrap_or_default();
            let url = attributes.get("git.fullurl").map_or(identifier.as_str(), String::as_str);
            let url = url.split('#').next().unwrap_or(url);
            Ok(Place::Remote(format!("{url}{fragment}")))
        }
        "http" | "https" => Ok(elsewhere(&identifier)),
        _ => Err(Invalid(format!("source {identifier} cannot be fetched here"))),
    }
}

/// The definition of an image: what a client hands on as the input of another build.
pub fn of_image(name: &str) -> Definition {
    use super::wire::{Input, OpMetadata};
    use prost::Message as _;
    let source = SourceOp { identifier: format!("docker-image://{name}"), attributes: HashMap::new() };
    let source = Op { source: Some(source), ..Op::default() }.encode_to_vec();
    let digest = oci::Digest::sha256(&source).to_string();
    let end = Op { inputs: vec![Input { digest: digest.clone(), index: 0 }], ..Op::default() }.encode_to_vec();
    let end_digest = oci::Digest::sha256(&end).to_string();
    let metadata = [digest, end_digest].map(|digest| (digest, OpMetadata::default()));
    Definition { ops: vec![source, end], metadata: HashMap::from(metadata) }
}

/// Patterns of a `.dockerignore` as clients expect them.
pub fn excludes(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
    let pattern = |line: &str| {
        let (mark, rest) = line.strip_prefix('!').map_or(("", line), |rest| ("!", rest.trim()));
        let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        (!parts.is_empty()).then(|| format!("{mark}{}", parts.join("/")))
    };
    lines.filter_map(pattern).collect()
}

#[cfg(test)]
mod tests;
