//! The configuration file, `prometheus.yml`: read, checked, printed as Prometheus does it.
//!
//! ```text
//! text ── yaml ──▶ records with defaults ── check ──▶ Config ── scrape_configs() ──▶ jobs of it and of its files
//! ```
//!
//! Wrong fields, durations and combinations are refused with Prometheus' own messages. [`Config::print`] gives what
//! `/api/v1/status/config` shows: defaults filled in, secrets hidden.
//!
//! In reading order:
//!
//! - [`units`]: durations, sizes, secrets, addresses
//! - [`global`]: what holds for all jobs
//! - [`scrape`]: what is scraped, and how
//! - [`discovery`]: where targets come from
//! - [`alerting`]: where alerts go to
//! - [`remote`]: remote write and read
//! - [`storage`]: storage, OTLP, tracing, process
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/configuration/>.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use tsdb::labels::Labels;

use crate::yaml::{self, Fields, Record};

pub mod units;

pub mod global;

pub mod scrape;

pub mod discovery;

pub mod alerting;

pub mod remote;

pub mod storage;

use alerting::Alerting;
use global::Global;
use remote::{RemoteRead, RemoteWrite};
use scrape::{Scrape, ScrapeFile};
use storage::{Otlp, Runtime, Storage, Tracing};

/// Files that a pattern may find at most.
const FILES: usize = 10_000;

/// All of the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What holds for all jobs.
    pub global: Global,
    /// The process.
    pub runtime: Runtime,
    /// Where alerts go to.
    pub alerting: Alerting,
    /// Patterns of files with rules.
    pub rule_files: Vec<String>,
    /// Patterns of files with further jobs.
    pub scrape_config_files: Vec<String>,
    /// Jobs.
    pub scrape_configs: Vec<Scrape>,
    /// What is kept.
    pub storage: Storage,
    /// Traces of the process itself.
    pub tracing: Tracing,
    /// Where samples are sent on to.
    pub remote_write: Vec<RemoteWrite>,
    /// Where samples are read from too.
    pub remote_read: Vec<RemoteRead>,
    /// Samples that come by OTLP.
    pub otlp: Otlp,
}

impl Record for Config {
    const TYPE: &'static str = "config.plain";

    fn start() -> Option<Self> {
        Some(Self {
            global: Global::standard(),
            runtime: Runtime::standard(),
            otlp: Otlp::standard(),
            ..Self::default()
        })
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("global", &mut self.global);
        fields.field("runtime", &mut self.runtime);
        fields.field("alerting", &mut self.alerting);
        fields.field("rule_files", &mut self.rule_files);
        fields.field("scrape_config_files", &mut self.scrape_config_files);
        fields.list("scrape_configs", &mut self.scrape_configs, "empty or null scrape config section");
        fields.field("storage", &mut self.storage);
        fields.field("tracing", &mut self.tracing);
        fields.list("remote_write", &mut self.remote_write, "empty or null remote write config section");
        fields.list("remote_read", &mut self.remote_read, "empty or null remote read config section");
        fields.field("otlp", &mut self.otlp);
    }

    fn check(&mut self) -> Result<(), String> {
        // A block that is there but empty means what no block means.
        if self.global == Global::default() {
            self.global = Global::standard();
        }
        if self.runtime == Runtime::default() {
            self.runtime = Runtime::standard();
        }
        for (patterns, what) in [(&self.rule_files, "rule file"), (&self.scrape_config_files, "scrape config file")] {
            if let Some(wrong) = patterns.iter().find(|pattern| !is_pattern(pattern)) {
                return Err(format!("invalid {what} path {}", tsdb::labels::quote(wrong)));
            }
        }
        let mut names: Vec<&str> = Vec::new();
        for job in &mut self.scrape_configs {
            job.complete(&self.global)?;
            if names.contains(&job.job_name.as_str()) {
                let name = tsdb::labels::quote(&job.job_name);
                return Err(format!("found multiple scrape configs with job name {name}"));
            }
            names.push(&job.job_name);
        }
        let validation = self.global.metric_name_validation_scheme;
        self.alerting.validate(validation)?;
        unique(self.remote_write.iter().map(|remote| &remote.name), "remote write")?;
        for remote in &mut self.remote_write {
            crate::relabel::validate(&mut remote.write_relabel_configs, validation)?;
        }
        unique(self.remote_read.iter().map(|remote| &remote.name), "remote read")
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a String>, what: &str) -> Result<(), String> {
    let mut seen = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        if seen.contains(&name) {
            let name = tsdb::labels::quote(name);
            return Err(format!("found multiple {what} configs with job name {name}"));
        }
        seen.push(name);
    }
    Ok(())
}

/// A path whose last part alone may hold one `*`.
fn is_pattern(path: &str) -> bool {
    path.split_once('*').is_none_or(|(_, rest)| !rest.contains('/'))
}

impl Config {
    /// What holds without any file.
    pub fn standard() -> Self {
        Self::parse("", |_| None).unwrap_or_default()
    }

    /// Reads a configuration; `environment` gives the variables that external labels name.
    pub fn parse(text: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut config = <Self as Record>::start().unwrap_or_default();
        yaml::read(text, &mut config)?;
        config.storage.complete();
        let labels = config.global.external_labels.iter();
        let labels: Vec<(String, String)> =
            labels.map(|(name, value)| (name.to_owned(), expand(value, &environment))).collect();
        config.global.external_labels = Labels::from_pairs(labels);
        config.otlp.check_strategy(config.global.metric_name_validation_scheme)?;
        Ok(config)
    }

    /// Reads the file; relative names in it are below its directory.
    pub fn load(file: &Path) -> Result<Self, String> {
        let text = read_file(file)?;
        let mut config = Self::parse(&text, |name| std::env::var(name).ok())
            .map_err(|error| format!("parsing YAML file {}: {error}", file.display()))?;
        config.set_directory(file.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    fn set_directory(&mut self, dir: &Path) {
        units::join(dir, &mut self.global.query_log_file);
        units::join(dir, &mut self.global.scrape_failure_log_file);
        self.alerting.set_directory(dir);
        self.tracing.tls_config.set_directory(dir);
        for file in self.rule_files.iter_mut().chain(&mut self.scrape_config_files) {
            units::join(dir, file);
        }
        self.scrape_configs.iter_mut().for_each(|job| job.set_directory(dir));
        self.remote_write.iter_mut().for_each(|remote| remote.http.set_directory(dir));
        self.remote_read.iter_mut().for_each(|remote| remote.http.set_directory(dir));
    }

    /// The jobs of this file and of those that it names.
    pub fn all_scrape_configs(&self) -> Result<Vec<Scrape>, String> {
        let mut jobs = self.scrape_configs.clone();
        let mut names: HashMap<String, String> =
            jobs.iter().map(|job| (job.job_name.clone(), "main config file".to_owned())).collect();
        for pattern in &self.scrape_config_files {
            for file in glob(pattern)? {
                let shown = tsdb::labels::quote(&file.to_string_lossy());
                let wrong = |error: String| format!("{shown}: {error}");
                let mut found = ScrapeFile::default();
                yaml::read(&read_file(&file).map_err(wrong)?, &mut found).map_err(wrong)?;
                for mut job in found.scrape_configs {
                    job.complete(&self.global).map_err(wrong)?;
                    if let Some(first) = names.get(&job.job_name) {
                        let name = tsdb::labels::quote(&job.job_name);
                        return Err(wrong(format!(
                            "found multiple scrape configs with job name {name}, first found in {first}"
                        )));
                    }
                    names.insert(job.job_name.clone(), shown.clone());
                    job.set_directory(file.parent().unwrap_or(Path::new("")));
                    jobs.push(job);
                }
            }
        }
        Ok(jobs)
    }

    /// The files with rules, in order of patterns and names.
    pub fn all_rule_files(&self) -> Result<Vec<PathBuf>, String> {
        let mut files = Vec::new();
        for pattern in &self.rule_files {
            files.extend(glob(pattern)?);
        }
        Ok(files)
    }

    /// The configuration as YAML, defaults filled in, secrets hidden.
    pub fn print(&self) -> String {
        yaml::print(self)
    }
}

/// Bytes of a configuration file at most.
const LARGEST: u64 = 64 << 20;

fn read_file(file: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        format!("open {}: {reason}", file.display())
    };
    if std::fs::metadata(file).map_err(unreadable)?.len() > LARGEST {
        return Err(format!("open {}: larger than {LARGEST} bytes", file.display()));
    }
    std::fs::read_to_string(file).map_err(unreadable)
}

/// `$name` and `${name}` with variables; `$$` is a dollar.
fn expand(text: &str, environment: &impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, after) = if let Some(inner) = after.strip_prefix('{') {
            match inner.split_once('}') {
                Some(parts) => parts,
                None => ("", inner),
            }
        } else if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        } else {
            let end = after.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(after.len());
            if end == 0 {
                out.push('$');
            }
            after.split_at(end)
        };
        match environment(name).filter(|value| !value.is_empty()) {
            Some(value) => out.push_str(&value),
            None if name.is_empty() => {}
            None if name == "$" => out.push('$'),
            None => tracing::warn!(name, "an external label names an environment variable that is empty"),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The files that a pattern names, sorted; its last part may hold `*`, `?` and `[...]`.
pub fn glob(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let special = |text: &str| text.contains(['*', '?', '[', '\\']);
    if !special(pattern) {
        return Ok(if Path::new(pattern).exists() { vec![PathBuf::from(pattern)] } else { Vec::new() });
    }
    let mut found = vec![PathBuf::from(if pattern.starts_with('/') { "/" } else { "" })];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for dir in found {
            if !special(part) {
                let path = dir.join(part);
                if path.exists() {
                    next.push(path);
                }
                continue;
            }
            let listed = if dir.as_os_str().is_empty() { Path::new(".") } else { &dir };
            let Ok(entries) = std::fs::read_dir(listed) else { continue };
            let mut names: Vec<String> = entries
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(|name| matches(part.as_bytes(), name.as_bytes()).unwrap_or(false))
                .collect();
            matches(part.as_bytes(), b"")
                .map_err(|_| format!("error retrieving files for {pattern:?}: syntax error in pattern"))?;
            names.sort();
            next.extend(names.into_iter().map(|name| dir.join(name)));
        }
        if next.len() > FILES {
            return Err(format!("pattern {pattern:?} finds more than {FILES} files"));
        }
        found = next;
    }
    Ok(found)
}

/// A pattern of names that ends within its brackets or behind a backslash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Whether `name` is what a pattern without `/` says.
pub fn matches(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    // The last star and how much of the name it takes, so that a mismatch tries again with one byte more.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            None if n == name.len() => return Ok(true),
            None => None,
            Some(b'?') => name.get(n).map(|_| p + 1),
            Some(b'[') => {
                let close =
                    pattern.iter().skip(p + 2).position(|b| *b == b']').map(|at| at + p + 2).ok_or(BadPattern)?;
                let (negated, set) = match &pattern[p + 1..close] {
                    [b'^', rest @ ..] => (true, rest),
                    set => (false, set),
                };
                name.get(n).filter(|byte| in_set(set, **byte) != negated).map(|_| close + 1)
            }
            Some(b'\\') => {
                let wanted = pattern.get(p + 1).ok_or(BadPattern)?;
                name.get(n).filter(|byte| *byte == wanted).map(|_| p + 2)
            }
            Some(wanted) => name.get(n).filter(|byte| *byte == wanted).map(|_| p + 1),
        };
        match (step, star) {
            (Some(next), _) => (p, n) = (next, n + 1),
            (None, Some((after, taken))) if taken < name.len() => {
                star = Some((after, taken + 1));
                (p, n) = (after, taken + 1);
            }
            (None, _) => return Ok(false),
        }
    }
}

fn in_set(set: &[u8], byte: u8) -> bool {
    let mut rest = set;
    while let Some(first) = rest.first() {
        if let [from, b'-', to, after @ ..] = rest {
            if (*from..=*to).contains(&byte) {
                return true;
            }
            rest = after;
        } else {
            if *first == byte {
                return true;
            }
            rest = &rest[1..];
        }
    }
    false
}

#[cfg(test)]
mod tests;
