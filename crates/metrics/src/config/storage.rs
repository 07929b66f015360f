//! What is kept, what comes by OTLP, traces of the process itself, and the process.

use std::collections::BTreeMap;

use super::{
    remote::check_headers,
    units::{Names, Size, Span},
};
use crate::{
    http_client::settings::Tls,
    yaml::{Fields, Record},
};

/// How long samples are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retention {
    /// How long.
    pub time: Span,
    /// How many bytes.
    pub size: Size,
    /// How much of the disk, in percent.
    pub percentage: f64,
}

impl Record for Retention {
    const TYPE: &'static str = "config.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("time", &mut self.time);
        fields.field("size", &mut self.size);
        fields.field("percentage", &mut self.percentage);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.size.0 < 0 {
            return Err(format!("'storage.tsdb.retention.size' must be greater than or equal to 0, got {}", self.size));
        }
        if !(0.0..=100.0).contains(&self.percentage) {
            return Err(format!(
                "'storage.tsdb.retention.percentage' must be in the range [0, 100], got {}",
                self.percentage
            ));
        }
        Ok(())
    }
}

/// How chunks are encoded in blocks of Prometheus; read and printed, and without effect here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChunkEncoding {
    /// `xor`, `xor2` or nothing.
    pub floats: String,
}

impl Record for ChunkEncoding {
    const TYPE: &'static str = "config.ChunkEncodingConfig";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("floats", &mut self.floats);
    }
}

/// The data base.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tsdb {
    /// How late samples may come.
    pub out_of_order_time_window: Span,
    /// Which part of the series may have ended before they are put away.
    pub stale_series_compaction_threshold: f64,
    /// How chunks are encoded.
    pub chunk_encoding: ChunkEncoding,
    /// How long samples are kept.
    pub retention: Option<Retention>,
}

impl Record for Tsdb {
    const TYPE: &'static str = "config.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("out_of_order_time_window", &mut self.out_of_order_time_window);
        fields.field("stale_series_compaction_threshold", &mut self.stale_series_compaction_threshold);
        fields.field("chunk_encoding", &mut self.chunk_encoding);
        fields.field("retention", &mut self.retention);
    }

    fn check(&mut self) -> Result<(), String> {
        let floats = &self.chunk_encoding.floats;
        if !matches!(floats.as_str(), "" | "xor" | "xor2") {
            let got = tsdb::labels::quote(floats);
            return Err(format!(
                "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be omitted entirely, got {got}"
            ));
        }
        self.retention.get_or_insert_default();
        Ok(())
    }
}

/// Exemplars.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exemplars {
    /// How many are kept; none if 0 or less.
    pub max_exemplars: i64,
}

impl Record for Exemplars {
    const TYPE: &'static str = "config.ExemplarsConfig";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("max_exemplars", &mut self.max_exemplars);
    }
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Storage {
    /// Samples.
    pub tsdb: Option<Tsdb>,
    /// Exemplars.
    pub exemplars: Option<Exemplars>,
}

impl Record for Storage {
    const TYPE: &'static str = "config.StorageConfig";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("tsdb", &mut self.tsdb);
        fields.field("exemplars", &mut self.exemplars);
    }
}

impl Storage {
    /// What holds of the data base: what is configured, else what it was started with.
    pub fn bounds(&self, started: &tsdb::options::Options) -> tsdb::options::Bounds {
        let mut bounds = started.bounds();
        if let Some(tsdb) = &self.tsdb {
            bounds.out_of_order = tsdb.out_of_order_time_window.0;
            if let Some(retention) = tsdb.retention.as_ref().filter(|given| **given != Retention::default()) {
                bounds.retention = retention.time.0;
                bounds.retention_bytes = u64::try_from(retention.size.0).unwrap_or(0);
                bounds.retention_percentage = retention.percentage;
            }
        }
        if let Some(exemplars) = &self.exemplars {
            bounds.exemplars = usize::try_from(exemplars.max_exemplars).unwrap_or(0);
        }
        bounds
    }

    pub(super) fn complete(&mut self) {
        self.tsdb.get_or_insert_with(|| Tsdb { retention: Some(Retention::default()), ..Tsdb::default() });
    }
}

/// What comes by OTLP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Otlp {
    /// Whether all attributes of a resource become labels.
    pub promote_all_resource_attributes: bool,
    /// Which do.
    pub promote_resource_attributes: Vec<String>,
    /// Which do not.
    pub ignore_resource_attributes: Vec<String>,
    /// How names are translated.
    pub translation_strategy: String,
    /// Whether identifying attributes stay.
    pub keep_identifying_resource_attributes: bool,
    /// Whether histograms become native ones with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Whether name and version of the scope become labels.
    pub promote_scope_metadata: bool,
    /// Whether names with an underscore in front get `key_` before it.
    pub label_name_underscore_sanitization: bool,
    /// Whether several underscores stay several.
    pub label_name_preserve_multiple_underscores: bool,
}

impl Otlp {
    /// What holds when nothing is said.
    pub fn standard() -> Self {
        Self {
            translation_strategy: "UnderscoreEscapingWithSuffixes".to_owned(),
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
            ..Self::default()
        }
    }

    pub(super) fn check_strategy(&self, names: Names) -> Result<(), String> {
        let strategy = &self.translation_strategy;
        let shown = || tsdb::labels::quote(strategy);
        match strategy.as_str() {
            "" | "UnderscoreEscapingWithSuffixes" | "UnderscoreEscapingWithoutSuffixes" => Ok(()),
            "NoTranslation" | "NoUTF8EscapingWithSuffixes" if names == Names::Legacy => {
                Err(format!("OTLP translation strategy {} is not allowed when UTF8 is disabled", shown()))
            }
            "NoTranslation" | "NoUTF8EscapingWithSuffixes" => Ok(()),
            _ => Err(format!("unsupported OTLP translation strategy {}", shown())),
        }
    }
}

fn tidy(attributes: &mut [String], adjective: &str) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for attribute in attributes.iter_mut() {
        let trimmed = attribute.trim().to_owned();
        if trimmed.is_empty() {
            wrong.push(format!("empty {adjective} OTel resource attribute"));
        } else if seen.contains(&trimmed) {
            wrong.push(format!("duplicated {adjective} OTel resource attribute {}", tsdb::labels::quote(&trimmed)));
        } else {
            seen.push(trimmed.clone());
            *attribute = trimmed;
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

impl Record for Otlp {
    const TYPE: &'static str = "config.plain";

    fn start() -> Option<Self> {
        Some(Self::standard())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("promote_all_resource_attributes", &mut self.promote_all_resource_attributes);
        fields.field("promote_resource_attributes", &mut self.promote_resource_attributes);
        fields.field("ignore_resource_attributes", &mut self.ignore_resource_attributes);
        fields.field("translation_strategy", &mut self.translation_strategy);
        fields.field("keep_identifying_resource_attributes", &mut self.keep_identifying_resource_attributes);
        fields.field("convert_histograms_to_nhcb", &mut self.convert_histograms_to_nhcb);
        fields.field("promote_scope_metadata", &mut self.promote_scope_metadata);
        fields.field("label_name_underscore_sanitization", &mut self.label_name_underscore_sanitization);
        fields.field("label_name_preserve_multiple_underscores", &mut self.label_name_preserve_multiple_underscores);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.promote_all_resource_attributes {
            if !self.promote_resource_attributes.is_empty() {
                return Err("'promote_all_resource_attributes' and 'promote_resource_attributes' cannot be configured simultaneously".to_owned());
            }
            return tidy(&mut self.ignore_resource_attributes, "ignored")
                .map_err(|error| format!("invalid 'ignore_resource_attributes': {error}"));
        }
        if !self.ignore_resource_attributes.is_empty() {
            return Err(
                "'ignore_resource_attributes' cannot be configured unless 'promote_all_resource_attributes' is true"
                    .to_owned(),
            );
        }
        tidy(&mut self.promote_resource_attributes, "promoted")
            .map_err(|error| format!("invalid 'promote_resource_attributes': {error}"))
    }
}

/// Traces of the process itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tracing {
    /// `grpc` or `http`.
    pub client_type: String,
    /// Where they are sent to.
    pub endpoint: String,
    /// Which part of them.
    pub sampling_fraction: f64,
    /// Whether TLS is left out.
    pub insecure: bool,
    /// TLS.
    pub tls_config: Tls,
    /// Additional headers.
    pub headers: BTreeMap<String, String>,
    /// `gzip` or nothing.
    pub compression: String,
    /// How long sending may take.
    pub timeout: Span,
}

impl Record for Tracing {
    const TYPE: &'static str = "config.plain";

    fn start() -> Option<Self> {
        Some(Self { client_type: "grpc".to_owned(), ..Self::default() })
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("client_type", &mut self.client_type);
        fields.field("endpoint", &mut self.endpoint);
        fields.field("sampling_fraction", &mut self.sampling_fraction);
        fields.field("insecure", &mut self.insecure);
        fields.field("tls_config", &mut self.tls_config);
        fields.field("headers", &mut self.headers);
        fields.field("compression", &mut self.compression);
        fields.field("timeout", &mut self.timeout);
    }

    fn check(&mut self) -> Result<(), String> {
        if !matches!(self.client_type.as_str(), "grpc" | "http") {
            return Err(format!("expected tracing client type to be to be http or grpc, but got {}", self.client_type));
        }
        check_headers(&self.headers, "custom authorization header configuration is not yet supported")?;
        if self.endpoint.is_empty() {
            return Err("tracing endpoint must be set".to_owned());
        }
        if !matches!(self.compression.as_str(), "" | "gzip") {
            return Err(format!("invalid compression type {} provided, valid options: gzip", self.compression));
        }
        Ok(())
    }
}

/// The process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runtime {
    /// Read and printed, and without effect here: there is no garbage to collect.
    pub gogc: i64,
    /// The least severity that is logged.
    pub log_level: String,
}

impl Runtime {
    /// What holds when nothing is said.
    pub fn standard() -> Self {
        Self { gogc: 75, log_level: "info".to_owned() }
    }
}

impl Record for Runtime {
    const TYPE: &'static str = "config.RuntimeConfig";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("gogc", &mut self.gogc);
        fields.field("log_level", &mut self.log_level);
    }

    fn check(&mut self) -> Result<(), String> {
        self.log_level = self.log_level.to_lowercase();
        match self.log_level.as_str() {
            "" | "debug" | "info" | "warn" | "error" => Ok(()),
            other => Err(format!("unrecognized log level {other}")),
        }
    }
}
