//! `--output`, `--push`, `--load` and `--tag`: what is made, and where it goes.

use std::{
    fs::File,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use build::{request::Compression, wire::Made};

use super::ask::fields;

/// An output, and what is left to do once the server has made it.
pub struct Wanted {
    /// What the server makes.
    pub made: Made,
    /// What goes to standard output.
    pipe: Option<tempfile::TempPath>,
}

impl Wanted {
    fn plain(made: Made) -> Self {
        Self { made, pipe: None }
    }

    /// Writes what was asked for on standard output.
    pub fn deliver(self) -> Result<()> {
        let Some(path) = self.pipe else { return Ok(()) };
        let mut file = File::open(&path).context("open what was made")?;
        io::copy(&mut file, &mut io::stdout()).context("write to standard output")?;
        Ok(())
    }
}

/// All outputs; an image of the store where nothing is said.
pub fn outputs(given: &[String], tags: &[String], push: bool, load: bool) -> Result<Vec<Wanted>> {
    let mut outputs = given.iter().map(|text| output(text, tags)).collect::<Result<Vec<_>>>()?;
    if outputs.is_empty() || load {
        let made = Made::Image { names: tags.to_vec(), push, compression: Compression::default() };
        outputs.insert(0, Wanted::plain(made));
    } else if push {
        bail!("--push and --output cannot both be given: say type=registry");
    }
    Ok(outputs)
}

fn output(text: &str, tags: &[String]) -> Result<Wanted> {
    if text == "-" {
        return to_stdout(|to| Made::Files { to, directory: false });
    }
    if !text.contains('=') {
        return Ok(Wanted::plain(Made::Files { to: absolute(text)?, directory: true }));
    }
    let fields = fields(text);
    let field = |name: &str| fields.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let switch = |name: &str| matches!(field(name), Some("true" | "1"));
    let names = match field("name") {
        Some(names) => names.split(',').map(str::to_owned).collect(),
        None => tags.to_vec(),
    };
    let compression = match field("compression") {
        None | Some("uncompressed") => Compression::Uncompressed,
        Some("gzip") => Compression::Gzip,
        Some("zstd") => Compression::Zstd,
        Some(other) => bail!("--output {text}: compression {other:?}: uncompressed, gzip or zstd is wanted"),
    };
    let destination = field("dest");
    match field("type") {
        Some(kind @ ("image" | "registry")) => {
            let push = kind == "registry" || switch("push");
            Ok(Wanted::plain(Made::Image { names, push, compression }))
        }
        Some("docker") if destination.is_none() => Ok(Wanted::plain(Made::Image { names, push: false, compression })),
        Some(kind @ ("docker" | "oci")) => {
            let docker = kind == "docker";
            let directory = fields.get("tar").is_some_and(|tar| tar == "false");
            let made = |to| Made::Archive { docker, names, compression, to, directory };
            match destination {
                None | Some("-") if directory => bail!("--output {text}: a directory is wanted: dest=DIR"),
                None | Some("-") => to_stdout(made),
                Some(path) => Ok(Wanted::plain(made(absolute(path)?))),
            }
        }
        Some("tar") => match destination {
            None | Some("-") => to_stdout(|to| Made::Files { to, directory: false }),
            Some(path) => Ok(Wanted::plain(Made::Files { to: absolute(path)?, directory: false })),
        },
        Some("local") => {
            let path = destination.with_context(|| format!("--output {text}: dest=DIR is wanted"))?;
            Ok(Wanted::plain(Made::Files { to: absolute(path)?, directory: true }))
        }
        Some("cacheonly") => Ok(Wanted::plain(Made::Nothing)),
        Some(other) => bail!("--output {text}: type {other:?}: image, registry, docker, oci, tar, local or cacheonly"),
        None => bail!("--output {text}: type=... is wanted"),
    }
}

fn to_stdout(made: impl FnOnce(PathBuf) -> Made) -> Result<Wanted> {
    if io::stdout().is_terminal() {
        bail!("an archive is not written to a terminal: say dest=FILE");
    }
    let file = tempfile::NamedTempFile::new().context("make a temporary file")?.into_temp_path();
    Ok(Wanted { made: made(file.to_path_buf()), pipe: Some(file) })
}

fn absolute(path: &str) -> Result<PathBuf> {
    std::path::absolute(Path::new(path)).with_context(|| format!("output {path:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(given: &[&str], push: bool) -> Result<Vec<String>> {
        let given: Vec<String> = given.iter().map(|&text| text.to_owned()).collect();
        let outputs = outputs(&given, &["app:1".to_owned()], push, false)?;
        Ok(outputs.iter().map(|output| serde_json::to_string(&output.made).unwrap()).collect())
    }

    #[test]
    fn outputs_are_those_of_buildx() {
        let image =
            |push: bool| format!(r#"{{"image":{{"names":["app:1"],"push":{push},"compression":"uncompressed"}}}}"#);
        assert_eq!(made(&[], false).unwrap(), [image(false)]);
        assert_eq!(made(&[], true).unwrap(), [image(true)]);
        assert_eq!(made(&["type=registry"], false).unwrap(), [image(true)]);
        assert_eq!(made(&["type=docker"], false).unwrap(), [image(false)]);
        assert_eq!(made(&["/out"], false).unwrap(), [r#"{"files":{"to":"/out","directory":true}}"#]);
        assert_eq!(made(&["type=tar,dest=/x.tar"], false).unwrap(), [r#"{"files":{"to":"/x.tar","directory":false}}"#]);
        assert_eq!(made(&["type=cacheonly"], false).unwrap(), [r#""nothing""#]);
        let archive = made(&["type=oci,dest=/d,tar=false,compression=zstd,name=n:2"], false).unwrap();
        let wanted = r#"{"archive":{"docker":false,"names":["n:2"],"compression":"zstd","to":"/d","directory":true}}"#;
        assert_eq!(archive, [wanted]);
        for wrong in ["type=none", "type=local", "type=oci,compression=lz4,dest=/x", "dest=/x"] {
            assert!(made(&[wrong], false).is_err(), "{wrong}");
        }
    }
}
