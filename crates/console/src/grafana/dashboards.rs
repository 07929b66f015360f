//! Dashboards from three places: built in, files, and ConfigMaps labelled `grafana_dashboard`.
//!
//! Each has a uid: its own, or one made from where it lies. Of several with one uid, a ConfigMap goes before a file, and a file
//! before what is built in, so that people can change what comes with the program.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use task::Task;

use crate::{answer::Refusal, assets::DASHBOARDS, upstream::Upstream};

/// Bytes of all ConfigMaps with dashboards together.
const MAPS: usize = 64 << 20;
/// Bytes of a file.
const FILE: u64 = 4 << 20;
/// Files that are looked at.
const FILES: usize = 1000;
/// The label that makes a ConfigMap's entries dashboards.
const LABEL: &str = "grafana_dashboard";
/// The annotation that names a folder.
const FOLDER: &str = "grafana_folder";
/// Where dashboards are kept that come by upload.
const NAMESPACE: &str = "madang-system";

/// Where a dashboard lies.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    BuiltIn,
    File(String),
    Map { namespace: String, name: String, key: String },
}

#[derive(Debug)]
struct Dashboard {
    origin: Origin,
    folder: String,
    json: Value,
}

impl Dashboard {
    /// A dashboard from its text; `None` if that is none.
    fn parse(origin: Origin, folder: &str, text: &str) -> Option<Self> {
        let mut json: Value = serde_json::from_str(text).ok()?;
        // Exports of the API wrap it.
        if let Some(inner) = json.get_mut("dashboard").filter(|inner| inner.is_object()) {
            json = inner.take();
        }
        if !json.is_object() || !(json["panels"].is_array() || json["rows"].is_array()) {
            return None;
        }
        if json["uid"].as_str().is_none_or(str::is_empty) {
            let named = match &origin {
                Origin::BuiltIn => String::new(),
                Origin::File(name) => format!("file/{name}"),
                Origin::Map { namespace, name, key } => format!("{namespace}/{name}/{key}"),
            };
            json["uid"] = json!(short(&named));
        }
        Some(Self { origin, folder: folder.to_owned(), json })
    }

    fn text(&self, field: &str) -> &str {
        self.json[field].as_str().unwrap_or_default()
    }

    fn tags(&self) -> impl Iterator<Item = &str> {
        self.json["tags"].as_array().into_iter().flatten().filter_map(Value::as_str)
    }

    fn listed(&self, id: usize) -> Value {
        let (uid, title) = (self.text("uid"), self.text("title"));
        let url = format!("/d/{uid}/{}", slug(title));
        json!({
            "id": id, "uid": uid, "title": title, "uri": format!("db/{}", slug(title)), "url": url,
            "slug": "", "type": "dash-db", "tags": self.tags().collect::<Vec<_>>(), "isStarred": false,
            "folderTitle": self.folder, "sortMeta": 0,
        })
    }
}

/// A uid from any text: Grafana's have at most 40 characters.
fn short(text: &str) -> String {
    Sha256::digest(text.as_bytes())[..10].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A title as it stands in addresses.
fn slug(title: &str) -> String {
    let plain =
        title.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>();
    let parts: Vec<&str> = plain.split('-').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "-".into() } else { parts.join("-") }
}

/// What to look for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Search {
    query: String,
    tags: Vec<String>,
    uids: Vec<String>,
    only_folders: bool,
    limit: usize,
    page: usize,
}

impl Search {
    /// Reads the query of an address.
    pub fn of(query: &str) -> Self {
        let mut search = Self { limit: 1000, page: 1, ..Self::default() };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = form(value);
            match name {
                "query" => search.query = value.to_lowercase(),
                "tag" => search.tags.push(value),
                "dashboardUIDs" | "dashboardUID" => search.uids.push(value),
                "type" => search.only_folders = value == "dash-folder",
                "limit" => search.limit = value.parse().unwrap_or(1000).clamp(1, 5000),
                "page" => search.page = value.parse().unwrap_or(1).max(1),
                _ => {}
            }
        }
        search
    }

    fn fits(&self, dashboard: &Dashboard) -> bool {
        !self.only_folders
            && dashboard.text("title").to_lowercase().contains(&self.query)
            && self.tags.iter().all(|tag| dashboard.tags().any(|own| own == tag))
            && (self.uids.is_empty() || self.uids.iter().any(|uid| uid == dashboard.text("uid")))
    }
}

/// A value of a form, as text.
fn form(value: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), value.as_bytes());
    while let [first, after @ ..] = rest {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = pair.filter(|_| *first == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push(byte.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A call, and as whom it is carried out.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub task: &'a Task,
    pub upstream: &'a Upstream,
    pub token: &'a str,
    pub files: &'a Path,
}

impl Asked<'_> {
    /// All dashboards that the person may read, by title.
    async fn all(&self) -> Result<Vec<Dashboard>, Refusal> {
        let mut found = BTreeMap::new();
        let built_in = DASHBOARDS.iter().filter_map(|(_, text)| Dashboard::parse(Origin::BuiltIn, "Madang", text));
        for dashboard in built_in.chain(in_files(self.files)).chain(self.in_maps().await?) {
            found.insert(dashboard.text("uid").to_owned(), dashboard);
        }
        let mut all: Vec<Dashboard> = found.into_values().collect();
        all.sort_by(|a, b| a.text("title").cmp(b.text("title")));
        Ok(all)
    }

    async fn in_maps(&self) -> Result<Vec<Dashboard>, Refusal> {
        let path = format!("/k8s/api/v1/configmaps?labelSelector={LABEL}");
        let (status, bytes) = self.upstream.ask(self.task, (Method::GET, &path), None, self.token, MAPS).await?;
        if status == StatusCode::FORBIDDEN {
            // Whoever may not read them sees the others.
            return Ok(Vec::new());
        }
        let list = understood(status, &bytes, "list dashboards")?;
        let mut found = Vec::new();
        for map in list["items"].as_array().into_iter().flatten() {
            let text = |field: &str| map["metadata"][field].as_str().unwrap_or_default().to_owned();
            let folder = map["metadata"]["annotations"][FOLDER].as_str().unwrap_or_default();
            for (key, value) in map["data"].as_object().into_iter().flatten() {
                let origin = Origin::Map { namespace: text("namespace"), name: text("name"), key: key.clone() };
                found.extend(value.as_str().and_then(|value| Dashboard::parse(origin, folder, value)));
            }
        }
        Ok(found)
    }

    async fn find(&self, uid: &str) -> Result<(usize, Dashboard), Refusal> {
        let found = self.all().await?.into_iter().enumerate().find(|(_, dashboard)| dashboard.text("uid") == uid);
        found.ok_or_else(|| Refusal::NotFound("Dashboard not found".into()))
    }

    /// `GET /api/search`.
    pub async fn search(&self, search: &Search) -> Result<Vec<Value>, Refusal> {
        let all = self.all().await?;
        let fitting = all.iter().enumerate().filter(|(_, dashboard)| search.fits(dashboard));
        let page = fitting.skip((search.page - 1).saturating_mul(search.limit)).take(search.limit);
        Ok(page.map(|(at, dashboard)| dashboard.listed(at + 1)).collect())
    }

    /// `GET /api/dashboards/tags`.
    pub async fn tags(&self) -> Result<Vec<Value>, Refusal> {
        let mut counts = BTreeMap::<String, usize>::new();
        for dashboard in self.all().await? {
            dashboard.tags().for_each(|tag| *counts.entry(tag.to_owned()).or_default() += 1);
        }
        Ok(counts.into_iter().map(|(term, count)| json!({"term": term, "count": count})).collect())
    }

    /// `GET /api/dashboards/uid/UID`.
    pub async fn read(&self, uid: &str) -> Result<Value, Refusal> {
        let (at, mut dashboard) = self.find(uid).await?;
        let (editable, from) = match &dashboard.origin {
            Origin::BuiltIn => (false, "built in".to_owned()),
            Origin::File(name) => (false, format!("file {name}")),
            Origin::Map { namespace, name, key } => (true, format!("ConfigMap {namespace}/{name}, {key}")),
        };
        dashboard.json["id"] = json!(at + 1);
        let slug = slug(dashboard.text("title"));
        Ok(json!({
            "meta": {
                "type": "db", "canSave": editable, "canEdit": editable, "canDelete": editable, "slug": slug,
                "url": format!("/d/{uid}/{slug}"), "version": dashboard.json["version"].as_u64().unwrap_or(1),
                "folderTitle": dashboard.folder, "provisioned": !editable, "provisionedExternalId": from,
            },
            "dashboard": dashboard.json,
        }))
    }

    /// `POST /api/dashboards/db`: into the ConfigMap it came from, or a new one.
    pub async fn keep(&self, posted: &Value) -> Result<Value, Refusal> {
        let mut json = posted["dashboard"].clone();
        let Some(fields) = json.as_object_mut() else {
            return Err(Refusal::Invalid("the request holds no dashboard".into()));
        };
        let title = fields.get("title").and_then(Value::as_str).unwrap_or_default().to_owned();
        if title.is_empty() {
            return Err(Refusal::Invalid("Dashboard title cannot be empty".into()));
        }
        fields.insert("id".into(), Value::Null);
        let uid = match fields.get("uid").and_then(Value::as_str).filter(|uid| !uid.is_empty()) {
            Some(uid) => uid.to_owned(),
            None => short(&format!("{title}\n{}", jiff::Timestamp::now())),
        };
        if uid.len() > 40 || !uid.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
            return Err(Refusal::Invalid("uid contains illegal characters, or more than 40".into()));
        }
        fields.insert("uid".into(), json!(uid));
        let old = self.all().await?.into_iter().find(|own| own.text("uid") == uid);
        let version = json["version"].as_u64().unwrap_or(0);
        if let Some(old) = &old
            && posted["overwrite"] != json!(true)
            && old.json["version"].as_u64().unwrap_or(0) != version
        {
            return Err(Refusal::Conflict("The dashboard has been changed by someone else".into()));
        }
        json["version"] = json!(version + 1);
        let (namespace, name, key) = match old.map(|old| old.origin) {
            Some(Origin::Map { namespace, name, key }) => (namespace, name, key),
            _ => {
                let namespace = posted["namespace"].as_str().unwrap_or(NAMESPACE).to_owned();
                (namespace, format!("dashboard-{}", short(&uid)), format!("{}.json", slug(&title)))
            }
        };
        let mut metadata = json!({"name": name, "namespace": namespace, "labels": {LABEL: "1"}});
        if let Some(folder) = posted["folderTitle"].as_str().filter(|folder| !folder.is_empty()) {
            metadata["annotations"] = json!({FOLDER: folder});
        }
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {&key: json.to_string()},
        });
        let path = format!("/k8s/api/v1/namespaces/{}/configmaps/{}", plain(&namespace)?, plain(&name)?);
        let path = format!("{path}?fieldManager=madang-console&force=true");
        let sent = ("application/apply-patch+yaml", Bytes::from(map.to_string()));
        let (status, bytes) =
            self.upstream.ask(self.task, (Method::PATCH, &path), Some(sent), self.token, FILE as usize).await?;
        understood(status, &bytes, "keep the dashboard")?;
        let slug = slug(&title);
        Ok(json!({
            "id": 0, "uid": uid, "url": format!("/d/{uid}/{slug}"), "status": "success", "version": version + 1,
            "slug": slug,
        }))
    }

    /// `DELETE /api/dashboards/uid/UID`.
    pub async fn remove(&self, uid: &str) -> Result<Value, Refusal> {
        let (_, dashboard) = self.find(uid).await?;
        let title = dashboard.text("title").to_owned();
        let Origin::Map { namespace, name, key } = dashboard.origin else {
            return Err(Refusal::Invalid("provisioned dashboard cannot be deleted".into()));
        };
        let path = format!("/k8s/api/v1/namespaces/{}/configmaps/{}", plain(&namespace)?, plain(&name)?);
        // Other dashboards of the same ConfigMap stay.
        let patch = json!({"data": {&key: null}});
        let sent = ("application/merge-patch+json", Bytes::from(patch.to_string()));
        let limit = FILE as usize;
        let (status, bytes) =
            self.upstream.ask(self.task, (Method::PATCH, &path), Some(sent), self.token, limit).await?;
        let left = understood(status, &bytes, "remove the dashboard")?;
        let empty = |field: &str| left[field].as_object().is_none_or(serde_json::Map::is_empty);
        if empty("data") && empty("binaryData") {
            let (status, bytes) =
                self.upstream.ask(self.task, (Method::DELETE, &path), None, self.token, limit).await?;
            understood(status, &bytes, "remove the dashboard")?;
        }
        Ok(json!({"title": title, "message": format!("Dashboard {title} deleted"), "id": 0}))
    }
}

/// A name that changes no path.
fn plain(name: &str) -> Result<&str, Refusal> {
    let fits =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c));
    if fits { Ok(name) } else { Err(Refusal::Invalid(format!("{name:?} is no name"))) }
}

/// The answer of the API server, or what it said instead.
fn understood(status: StatusCode, bytes: &[u8], doing: &str) -> Result<Value, Refusal> {
    let answer: Value =
        serde_json::from_slice(bytes).map_err(|error| Refusal::Unavailable(format!("{doing}: {error}")))?;
    if status.is_success() {
        return Ok(answer);
    }
    let message = format!("{doing}: {}", answer["message"].as_str().unwrap_or(status.as_str()));
    Err(match status {
        StatusCode::FORBIDDEN => Refusal::Forbidden(message),
        StatusCode::NOT_FOUND => Refusal::NotFound(message),
        _ => Refusal::Invalid(message),
    })
}

/// Dashboards in files `NAME.json` of a directory; what is no dashboard is told and left out.
fn in_files(dir: &Path) -> Vec<Dashboard> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let mut found = Vec::new();
    for path in paths.iter().take(FILES) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let read = match fs::metadata(path) {
            Ok(metadata) if metadata.len() > FILE => Err(std::io::Error::other("too large")),
            _ => fs::read_to_string(path),
        };
        match read.map(|text| Dashboard::parse(Origin::File(name), "", &text)) {
            Ok(Some(dashboard)) => found.push(dashboard),
            Ok(None) => tracing::warn!(path = %path.display(), "no dashboard"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "dashboard"),
        }
    }
    found
}

#[cfg(test)]
mod tests;
