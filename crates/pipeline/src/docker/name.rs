//! Names of images: `HOST/PATH:TAG@DIGEST`, each part but the path optional.
//! <https://distribution.github.io/reference/>

/// Bytes of a name.
const LONGEST: usize = 512;
/// Bytes of a path that is made from a name.
const LONGEST_PATH: usize = 128;

/// The parts of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    /// The registry; none where the name does not say.
    pub host: Option<String>,
    /// The repository in it.
    pub path: String,
    /// The tag.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<String>,
}

impl Name {
    /// The parts of a name.
    ///
    /// # Errors
    /// It is none; in words for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is no name of an image: {why}");
        if text.is_empty() || text.len() > LONGEST {
            return Err(wrong("it is empty, or too long"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte)) {
            return Err(wrong("it has letters that no name has"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        let last = rest.rfind('/').map_or(0, |at| at + 1);
        let (rest, tag) = match rest[last..].find(':') {
            Some(at) => (&rest[..last + at], Some(rest[last + at + 1..].to_owned())),
            None => (rest, None),
        };
        let (host, path) = match rest.split_once('/') {
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => {
                (Some(first.to_owned()), path.to_owned())
            }
            _ => (None, rest.to_owned()),
        };
        let part = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
        };
        if !path.split('/').all(part) {
            return Err(wrong("a repository is written in small letters and digits"));
        }
        if let Some(tag) = &tag
            && (tag.is_empty() || tag.contains(':') || tag.len() > 128)
        {
            return Err(wrong("the tag is none"));
        }
        if let Some(digest) = &digest
            && !digest.contains(':')
        {
            return Err(wrong("the digest is none"));
        }
        Ok(Self { host, path, tag, digest })
    }

    /// The name with another tag, and without a digest.
    #[must_use]
    pub fn tagged(&self, tag: &str) -> Self {
        Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() }
    }

    /// The name with its tag, which is `latest` where it has neither tag nor digest: two ways to write one name are one.
    #[must_use]
    pub fn whole(&self) -> Self {
        match (&self.tag, &self.digest) {
            (None, None) => self.tagged("latest"),
            _ => self.clone(),
        }
    }

    /// The name in a registry, unless it begins with that registry already.
    #[must_use]
    pub fn within(&self, registry: &str) -> Self {
        if self.host.as_deref() == Some(registry) || registry.is_empty() {
            return self.clone();
        }
        let path = match &self.host {
            Some(host) => format!("{}/{}", host.replace(':', "-"), self.path),
            None => self.path.clone(),
        };
        // Docker's own registry has its official images below a name that nobody writes.
        let path = if registry == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
        Self { host: Some(registry.to_owned()), path, ..self.clone() }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(host) = &self.host {
            write!(out, "{host}/")?;
        }
        out.write_str(&self.path)?;
        if let Some(tag) = &self.tag {
            write!(out, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(out, "@{digest}")?;
        }
        Ok(())
    }
}

/// The registry of an address, as names of images have it: `https://registry.example.org/v2/` is `registry.example.org`.
pub fn registry(url: &str) -> String {
    let rest = url.trim().split_once("://").map_or(url.trim(), |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    match host {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

/// A repository of a run's own in a namespace of the cluster's registry, for an image that nobody has pushed yet.
pub fn staged(registry: &str, namespace: &str, image: &str, run: &str) -> Name {
    let path = Name::parse(image).map_or_else(|_| "image".to_owned(), |name| name.path);
    let path = path.strip_prefix(&format!("{namespace}/")).unwrap_or(&path);
    let path: String = path.chars().take(LONGEST_PATH).collect();
    let path = path.trim_end_matches(['/', '.', '-', '_']);
    let path = if path.is_empty() { "image" } else { path };
    Name {
        host: Some(registry.to_owned()),
        path: format!("{namespace}/{path}/run-{run}"),
        tag: Some("latest".to_owned()),
        digest: None,
    }
}
