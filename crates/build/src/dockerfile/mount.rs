//! `RUN --mount=type=...`: what a step sees besides its root file system.
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/#run---mount>.

use super::error::suggestion;

/// A mount of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What kind.
    pub kind: MountType,
    /// The stage, image or context a bind or cache comes from.
    pub from: Option<String>,
    /// The path there; a secret's name.
    pub source: Option<String>,
    /// Where in the step.
    pub target: Option<String>,
    /// Whether the step may write.
    pub read_only: bool,
    /// Of a tmpfs, in bytes.
    pub size: Option<u64>,
    /// Names a cache, a secret or an agent.
    pub id: Option<String>,
    /// Whether others may use a cache at the same time.
    pub sharing: Option<Sharing>,
    /// Whether a build without the secret or agent fails.
    pub required: bool,
    /// The variable that gets a secret.
    pub env: Option<String>,
    /// Of a cache, secret or socket.
    pub mode: Option<u32>,
    /// Likewise.
    pub uid: Option<u32>,
    /// Likewise.
    pub gid: Option<u32>,
}

/// The kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountType {
    /// A directory of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that stays between builds.
    Cache,
    /// Memory.
    Tmpfs,
    /// A file that is not in the image.
    Secret,
    /// The socket of an agent.
    Ssh,
}

/// How builds share a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// Each has one of its own while another uses it.
    Private,
    /// One after the other.
    Locked,
}

const TYPES: [(&str, MountType); 5] = [
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("tmpfs", MountType::Tmpfs),
    ("secret", MountType::Secret),
    ("ssh", MountType::Ssh),
];
const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];
const KEYS: [&str; 18] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
];

/// What can be said of a mount before variables are known: the fields can be told apart, and `from` has no variable.
pub(super) fn check(text: &str) -> Result<(), String> {
    for field in fields(text)? {
        if let Some((key, value)) = field.split_once('=')
            && key.eq_ignore_ascii_case("from")
            && value.find('$').is_some_and(|at| at + 1 < value.len())
        {
            return Err("'from' doesn't support variable expansion, define alias stage instead".to_owned());
        }
    }
    Ok(())
}

impl Mount {
    /// The `from` of a mount as written, which never holds variables.
    pub fn origin(text: &str) -> Option<String> {
        let fields = fields(text).ok()?;
        let from =
            fields.iter().filter_map(|field| field.split_once('=')).rfind(|(key, _)| key.eq_ignore_ascii_case("from"));
        from.map(|(_, from)| from.to_owned()).filter(|from| !from.is_empty())
    }

    /// Reads one; `expand` gives the value of what holds variables.
    pub fn parse(text: &str, expand: &dyn Fn(&str) -> Result<String, String>) -> Result<Self, String> {
        let (mut mount, mut read_only) = (Self::default(), None);
        for field in fields(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), Some(expand(value)?)),
                None => (field.to_ascii_lowercase(), None),
            };
            let switch = |value: &Option<String>| match value.as_deref() {
                None => Ok(true),
                Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
                Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
                Some(value) => Err(format!("invalid value for {key}: {value}")),
            };
            let unexpected = |kind| format!("unexpected key '{key}' for mount type '{}'", type_name(kind));
            match key.as_str() {
                "readonly" | "ro" => read_only = Some(switch(&value)?),
                "readwrite" | "rw" => read_only = Some(!switch(&value)?),
                "required" if matches!(mount.kind, MountType::Secret | MountType::Ssh) => {
                    mount.required = switch(&value)?
                }
                "required" => return Err(unexpected(mount.kind)),
                _ => {
                    let value = value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
                    match key.as_str() {
                        "type" => mount.kind = choice("mount type", &value, &TYPES)?,
                        "from" => mount.from = Some(value),
                        "source" | "src" => mount.source = Some(value),
                        "target" | "dst" | "destination" => mount.target = Some(value),
                        "id" => mount.id = Some(value),
                        "env" => mount.env = Some(value),
                        "sharing" => mount.sharing = Some(choice("sharing value", &value, &SHARINGS)?),
                        "size" if mount.kind == MountType::Tmpfs => {
                            mount.size = Some(bytes(&value).ok_or_else(|| format!("invalid value for size: {value}"))?);
                        }
                        "size" => return Err(unexpected(mount.kind)),
                        "mode" => mount.mode = Some(number(&key, &value, 8)?),
                        "uid" => mount.uid = Some(number(&key, &value, 10)?),
                        "gid" => mount.gid = Some(number(&key, &value, 10)?),
                        _ => {
                            let near = suggestion(&key, KEYS);
                            return Err(format!("unexpected key '{key}' in '{field}'{near}"));
                        }
                    }
                }
            }
        }
        mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountType::Cache | MountType::Tmpfs));
        mount.agrees().map(|()| mount)
    }

    /// Whether its parts go together.
    fn agrees(&self) -> Result<(), String> {
        let kind = type_name(self.kind);
        if matches!(self.kind, MountType::Bind | MountType::Tmpfs) {
            let given = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
            if let Some((name, _)) = given.iter().find(|(_, value)| value.is_some()) {
                return Err(format!("{name} not allowed for {kind:?} type mounts"));
            }
        }
        if self.kind == MountType::Secret {
            if self.from.is_some() {
                return Err("secret mount should not have a from".to_owned());
            }
            if self.sharing.is_some() {
                return Err("secret mount should not define sharing".to_owned());
            }
            if self.source.is_none() && self.target.is_none() && self.id.is_none() {
                return Err("invalid secret mount. one of source, target required".to_owned());
            }
            if self.source.is_some() && self.id.is_some() {
                return Err("both source and id can't be set".to_owned());
            }
        }
        if self.sharing.is_some() && self.kind != MountType::Cache {
            return Err(format!("invalid cache sharing set for {kind} mount"));
        }
        Ok(())
    }
}

fn type_name(kind: MountType) -> &'static str {
    TYPES.iter().find(|(_, known)| *known == kind).map_or("bind", |(name, _)| name)
}

fn choice<T: std::marker::Copy>(what: &str, value: &str, known: &[(&'static str, T)]) -> Result<T, String> {
    let lower = value.to_ascii_lowercase();
    known.iter().find(|(name, _)| *name == lower).map(|(_, choice)| *choice).ok_or_else(|| {
        format!("unsupported {what} {value:?}{}", suggestion(value, known.iter().map(|(name, _)| *name)))
    })
}

fn number(key: &str, value: &str, radix: u32) -> Result<u32, String> {
    u32::from_str_radix(value, radix).map_err(|_| format!("invalid value {value} for {key}"))
}

/// A size as docker writes it: `64m`, `1.5GiB`, powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let power = match text[digits..].trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let size = number * 1024_f64.powi(power);
    // Sizes beyond 2^53 are no longer exact, and larger than any machine's memory.
    (size.is_finite() && size < 9e15).then_some(size as u64)
}

/// The fields of one line of comma-separated values; a field in double quotes may hold commas.
fn fields(text: &str) -> Result<Vec<String>, String> {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let end = quoted
                    .find('"')
                    .ok_or_else(|| format!("failed to parse csv mounts: {text}: a quote does not end"))?;
                field.push_str(&quoted[..end]);
                quoted = &quoted[end + 1..];
                // A doubled quote is a quote.
                match quoted.strip_prefix('"') {
                    Some(after) => quoted = after,
                    None => break,
                }
                field.push('"');
            }
            rest = quoted;
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(format!("failed to parse csv mounts: {text}: text follows a quoted field"));
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            if field.contains('"') {
                return Err(format!("failed to parse csv mounts: {text}: bare \" in a field that is not quoted"));
            }
            rest = &rest[end..];
        }
        found.push(field);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => return Ok(found),
        }
    }
}
