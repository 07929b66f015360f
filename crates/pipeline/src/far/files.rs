//! Files of a workspace: read, written, found, checked out.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value as Json, json};

use super::{Failure, Far, at, directory, failed, flag, path, text};
use crate::{
    ant,
    drive::Drive,
    hand::named,
    pod::WORKSPACE,
    run::world::Ask,
    source::{self, Found, Source},
};

/// Bytes of a document that is read.
const LONGEST: usize = 8 << 20;
/// Files that `findFiles` finds.
const MOST: usize = 10_000;

/// A file of the place where a step is taken.
pub(crate) async fn content(drive: &Drive, ask: &Ask, file: &str) -> Result<Vec<u8>, Failure> {
    if file.is_empty() {
        return Err(failed(format!("{} needs a file", ask.name)));
    }
    Ok(drive.inner.hand.call(&at(drive, ask)?, &["read", &path(ask, file)], None).await?)
}

/// `readFile`
pub(super) async fn read(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let bytes = content(drive, ask, text(ask, "file")).await?;
    Ok(match text(ask, "encoding").to_ascii_lowercase().as_str() {
        "base64" => STANDARD.encode(bytes).into(),
        "iso-8859-1" | "latin1" => bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into(),
        _ => String::from_utf8_lossy(&bytes).into_owned().into(),
    })
}

/// `writeFile`
pub(super) async fn write(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let content = match ask.arguments.get("text") {
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let bytes = match text(ask, "encoding").to_ascii_lowercase().as_str() {
        "base64" => STANDARD.decode(content.trim()).map_err(|error| failed(format!("writeFile: {error}")))?,
        _ => content.into_bytes(),
    };
    put(drive, ask, text(ask, "file"), &bytes).await
}

async fn put(drive: &Drive, ask: &Ask, file: &str, bytes: &[u8]) -> Far {
    if file.is_empty() {
        return Err(failed(format!("{} needs a file", ask.name)));
    }
    drive.inner.hand.call(&at(drive, ask)?, &["write", &path(ask, file)], Some(bytes)).await?;
    Ok(Json::Null)
}

/// `fileExists`
pub(super) async fn exists(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let answer = drive.inner.hand.call(&at(drive, ask)?, &["exists", &path(ask, text(ask, "file"))], None).await?;
    Ok(Json::Bool(answer != b"no"))
}

/// `deleteDir`
pub(super) async fn delete(drive: &Arc<Drive>, ask: &Ask) -> Far {
    drive.inner.hand.call(&at(drive, ask)?, &["delete", &directory(ask)], None).await?;
    Ok(Json::Null)
}

/// `touch`
pub(super) async fn touch(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let file = text(ask, "file");
    let there = drive.inner.hand.call(&at(drive, ask)?, &["exists", &path(ask, file)], None).await?;
    if there == b"no" { put(drive, ask, file, b"").await } else { Ok(Json::Null) }
}

/// `findFiles`
pub(super) async fn find(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let glob = Some(text(ask, "glob")).filter(|glob| !glob.is_empty()).unwrap_or("*");
    let excludes = text(ask, "excludes");
    let rows = drive.inner.hand.call(&at(drive, ask)?, &["list", &directory(ask)], None).await?;
    let mut found = Vec::new();
    for row in rows.split(|byte| *byte == 0).filter(|row| !row.is_empty()) {
        let row = String::from_utf8_lossy(row);
        let mut fields = row.splitn(5, ' ');
        let (kind, _, size, time, name) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next().unwrap_or_default());
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok()).unwrap_or_default();
        if kind != Some("f") || !ant::fits_any(glob, name) || ant::fits_any(excludes, name) {
            continue;
        }
        if found.len() == MOST {
            return Err(failed(format!("findFiles: more than {MOST} files")));
        }
        found.push(json!({
            "name": name.rsplit('/').next().unwrap_or(name), "path": name, "directory": false,
            "length": number(size), "lastModified": number(time) * 1000,
        }));
    }
    Ok(Json::Array(found))
}

/// A document from a file or a text.
async fn document(drive: &Drive, ask: &Ask) -> Result<String, Failure> {
    let given = text(ask, "text");
    if !given.is_empty() {
        return Ok(given.to_owned());
    }
    let bytes = content(drive, ask, text(ask, "file")).await?;
    if bytes.len() > LONGEST {
        return Err(failed(format!("{}: more than {LONGEST} bytes", ask.name)));
    }
    String::from_utf8(bytes).map_err(|_| failed(format!("{}: no UTF-8", ask.name)))
}

/// `readYaml`: one document as it is, several as a list.
pub(super) async fn yaml(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let text = document(drive, ask).await?;
    let parsed: Result<Vec<Json>, _> = serde_saphyr::from_multiple(&text);
    let mut all = parsed.map_err(|error| failed(format!("readYaml: {error}")))?;
    Ok(if all.len() == 1 { all.remove(0) } else { Json::Array(all) })
}

/// `writeYaml`: JSON is YAML, written so that a person can read it.
pub(super) async fn write_yaml(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let value = ask.arguments.get("data").or_else(|| ask.arguments.get("datas")).cloned().unwrap_or_default();
    let out = match (ask.arguments.get("datas"), &value) {
        (Some(_), Json::Array(all)) => all.iter().map(yaml_of).collect::<Result<Vec<_>, _>>()?.join("---\n"),
        _ => yaml_of(&value)?,
    };
    if flag(ask, "returnText") {
        return Ok(out.into());
    }
    let file = text(ask, "file");
    let there = drive.inner.hand.call(&at(drive, ask)?, &["exists", &path(ask, file)], None).await?;
    if there != b"no" && !flag(ask, "overwrite") {
        return Err(failed(format!("writeYaml: {file} exists: say overwrite: true")));
    }
    put(drive, ask, file, out.as_bytes()).await
}

fn yaml_of(value: &Json) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(|error| failed(format!("writeYaml: {error}")))
}

/// `readProperties`: lines `NAME=value`, as Java has them in their simple form.
pub(super) async fn properties(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let mut all = match ask.arguments.get("defaults") {
        Some(Json::Object(defaults)) => defaults.clone(),
        _ => Map::new(),
    };
    let text = document(drive, ask).await?;
    for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with(['#', '!'])) {
        let (name, value) = line.split_once(['=', ':']).unwrap_or((line, ""));
        all.insert(name.trim_end().to_owned(), value.trim_start().into());
    }
    Ok(Json::Object(all))
}

/// `sha256`
pub(super) async fn sha256(drive: &Arc<Drive>, ask: &Ask) -> Far {
    use sha2::Digest as _;
    let file = Some(text(ask, "file")).filter(|file| !file.is_empty()).unwrap_or_else(|| text(ask, "value"));
    let bytes = content(drive, ask, file).await?;
    let sum = sha2::Sha256::digest(&bytes);
    Ok(sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}

/// The run's own sources.
pub(super) async fn sources(drive: &Drive) -> Result<(Source, Found), Failure> {
    let name = &drive.object().borrow().spec.pipeline_ref.name.clone();
    let key = client::cache::Key::new(&drive.key.namespace, name);
    let pipeline = drive.inner.pipelines.get(&key).ok_or_else(|| failed(format!("there is no Pipeline {key}")))?;
    let source = source::of(&drive.inner, &drive.key.namespace, &pipeline.spec).await?;
    let source = source.ok_or_else(|| failed("'checkout scm' is for scripts that come from a repository"))?;
    let found = source.resolve(drive.begun.commit.as_deref().unwrap_or_default()).await?;
    Ok((source, found))
}

/// A text of the run's own sources.
pub(super) async fn of_sources(drive: &Drive, file: &str) -> Result<String, Failure> {
    let (source, found) = sources(drive).await?;
    let scratch = drive.record.dir().join(format!("read-{}", named(file)));
    Ok(source.file(&found, file, &scratch, LONGEST).await?)
}

/// `readTrusted`
pub(super) async fn trusted(drive: &Arc<Drive>, ask: &Ask) -> Far {
    Ok(of_sources(drive, text(ask, "path")).await?.into())
}

/// `checkout scm`, `checkout([$class: 'GitSCM', ...])`, `checkout scmGit(...)`
pub(super) async fn check_out(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let scm = ask.arguments.get("scm").cloned().unwrap_or_default();
    if scm.get("own").and_then(Json::as_bool).unwrap_or_default() || scm.is_null() {
        let (source, found) = sources(drive).await?;
        return bring(drive, ask, &source, &found, drive.begun.branch.as_deref()).await;
    }
    let first = |list: &str, field: &str| {
        let one = scm.get(list).and_then(Json::as_array).and_then(|all| all.first());
        one.and_then(|one| one.get(field)).and_then(Json::as_str).map(str::to_owned)
    };
    let url = first("userRemoteConfigs", "url").ok_or_else(|| failed("checkout: userRemoteConfigs has no url"))?;
    let branch = first("branches", "name").unwrap_or_default();
    from(drive, ask, &url, &branch, first("userRemoteConfigs", "credentialsId").as_deref()).await
}

/// `git url: ..., branch: ...`
pub(super) async fn git(drive: &Arc<Drive>, ask: &Ask) -> Far {
    from(drive, ask, text(ask, "url"), text(ask, "branch"), Some(text(ask, "credentialsId"))).await
}

async fn from(drive: &Arc<Drive>, ask: &Ask, url: &str, branch: &str, credentials: Option<&str>) -> Far {
    let source = source::at(&drive.inner, &drive.key.namespace, url, credentials).await?;
    let name = branch.strip_prefix("*/").or_else(|| branch.strip_prefix("origin/")).unwrap_or(branch);
    let found = source.resolve(name).await?;
    let branch = found.branch.clone();
    bring(drive, ask, &source, &found, branch.as_deref()).await
}

/// Brings a commit's files into the workspace.
async fn bring(drive: &Arc<Drive>, ask: &Ask, source: &Source, found: &Found, branch: Option<&str>) -> Far {
    let scratch = drive.record.dir().join(format!("checkout-{}", named(&ask.key)));
    let at = at(drive, ask)?;
    let place = directory(ask);
    let (pieces, archive) = source.archive(found, &scratch).await?;
    // What was there before, of another commit perhaps, does not stay.
    if place != WORKSPACE {
        drive.inner.hand.call(&at, &["delete", &place], None).await?;
    }
    let fed = drive.inner.hand.feed(&at, &["unpack", &place], pieces).await;
    let archived = archive.await.map_err(|error| failed(error.to_string()))?;
    source::remove(&scratch).await?;
    fed?;
    archived?;
    let branch = branch.map(|name| name.strip_prefix("refs/heads/").unwrap_or(name)).unwrap_or_default();
    let writer = format!("checkout {}", ask.key);
    let text = format!("Checked out {} of {}\n", found.commit, source.url);
    drive.book.text(&writer, 1, ask.place.stage_id.as_deref(), &text)?;
    let mut answer = json!({"GIT_COMMIT": found.commit, "GIT_URL": source.url});
    if !branch.is_empty() {
        answer["GIT_BRANCH"] = branch.into();
        answer["GIT_LOCAL_BRANCH"] = branch.into();
    }
    Ok(answer)
}
