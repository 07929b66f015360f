//! Jobs: which targets are scraped, how, and what is done with their samples.

use std::{collections::BTreeMap, fmt, path::Path};

use super::{
    discovery::Discovery,
    global::Global,
    units::{Names, Size, Span, join},
};
use crate::{
    http_client::HttpClient,
    relabel::{self, Rule},
    yaml::{Fields, Node, Print, Problems, Record, Stop, Value},
};

/// A form in which targets expose samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Nothing was said.
    #[default]
    Unset,
    /// Protocol buffers.
    Protobuf,
    /// Text, version 0.0.4.
    Text004,
    /// Text, version 1.0.0.
    Text100,
    /// OpenMetrics, version 0.0.1.
    OpenMetrics001,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics100,
    /// OpenMetrics, version 2.0.0.
    OpenMetrics200,
    /// One that is not known, which is wrong.
    Unknown(String),
}

/// Name, media type and version of each.
const PROTOCOLS: [(&str, &str, Protocol); 6] = [
    ("OpenMetricsText0.0.1", "application/openmetrics-text;version=0.0.1", Protocol::OpenMetrics001),
    ("OpenMetricsText1.0.0", "application/openmetrics-text;version=1.0.0", Protocol::OpenMetrics100),
    ("OpenMetricsText2.0.0", "application/openmetrics-text;version=2.0.0", Protocol::OpenMetrics200),
    (
        "PrometheusProto",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
        Protocol::Protobuf,
    ),
    ("PrometheusText0.0.4", "text/plain;version=0.0.4", Protocol::Text004),
    ("PrometheusText1.0.0", "text/plain;version=1.0.0", Protocol::Text100),
];

/// What is asked for when nothing is said, the best first.
pub const DEFAULT_PROTOCOLS: [Protocol; 4] =
    [Protocol::OpenMetrics100, Protocol::OpenMetrics001, Protocol::Text100, Protocol::Text004];

impl Protocol {
    /// How it is asked for.
    pub fn header(&self) -> &'static str {
        PROTOCOLS.iter().find(|known| known.2 == *self).map_or("", |known| known.1)
    }

    fn check(&self) -> Result<(), String> {
        if PROTOCOLS.iter().any(|known| known.2 == *self) {
            return Ok(());
        }
        let names: Vec<&str> = PROTOCOLS.iter().map(|known| known.0).collect();
        Err(format!("unknown scrape protocol {self}, supported: [{}]", names.join(" ")))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => f.write_str(name),
            known => f.write_str(PROTOCOLS.iter().find(|one| one.2 == *known).map_or("", |one| one.0)),
        }
    }
}

impl Value for Protocol {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        match node.text() {
            Some(text) => {
                let known = PROTOCOLS.iter().find(|known| known.0 == text);
                *self = known.map_or_else(|| Self::Unknown(text.to_owned()), |known| known.2.clone());
            }
            None => problems.mismatch(node, "config.ScrapeProtocol"),
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::Unset;
    }

    fn is_empty(&self) -> bool {
        *self == Self::Unset
    }

    fn print(&mut self) -> Print {
        Print::Text(self.to_string())
    }
}

pub(super) fn check_protocols(protocols: &[Protocol]) -> Result<(), String> {
    if protocols.is_empty() {
        return Err("scrape_protocols cannot be empty".to_owned());
    }
    for (i, protocol) in protocols.iter().enumerate() {
        let name = protocol.to_string().to_lowercase();
        if protocols.iter().take(i).any(|before| before.to_string().to_lowercase() == name) {
            let names: Vec<String> = protocols.iter().map(Protocol::to_string).collect();
            return Err(format!("duplicated protocol in scrape_protocols, got [{}]", names.join(" ")));
        }
        protocol.check().map_err(|error| format!("scrape_protocols: {error}"))?;
    }
    Ok(())
}

/// How targets are asked to write names that are not plain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Escaping {
    /// As follows from the names that are valid.
    #[default]
    Unset,
    /// As they are.
    AllowUtf8,
    /// With underscores for all that is not plain.
    Underscores,
    /// So that dots can be found again.
    Dots,
    /// So that the name can be found again.
    Values,
    /// One that is not known, which is wrong.
    Unknown(String),
}

const ESCAPINGS: [(&str, Escaping); 4] = [
    ("allow-utf-8", Escaping::AllowUtf8),
    ("underscores", Escaping::Underscores),
    ("dots", Escaping::Dots),
    ("values", Escaping::Values),
];

impl fmt::Display for Escaping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => f.write_str(name),
            known => f.write_str(ESCAPINGS.iter().find(|one| one.1 == *known).map_or("", |one| one.0)),
        }
    }
}

impl Value for Escaping {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        match node.text() {
            Some("") => *self = Self::Unset,
            Some(text) => {
                let known = ESCAPINGS.iter().find(|known| known.0 == text);
                *self = known.map_or_else(|| Self::Unknown(text.to_owned()), |known| known.1.clone());
            }
            None => problems.mismatch(node, "string"),
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::Unset;
    }

    fn is_empty(&self) -> bool {
        *self == Self::Unset
    }

    fn print(&mut self) -> Print {
        Print::Text(self.to_string())
    }
}

/// Jobs of a further file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScrapeFile {
    /// Jobs.
    pub scrape_configs: Vec<Scrape>,
}

impl Record for ScrapeFile {
    const TYPE: &'static str = "config.ScrapeConfigs";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.list("scrape_configs", &mut self.scrape_configs, "empty or null scrape config section");
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq)]
pub struct Scrape {
    /// Its name, and that of its pool of targets.
    pub job_name: String,
    /// Whether labels of the samples win over those of the target.
    pub honor_labels: bool,
    /// Whether times of the samples count.
    pub honor_timestamps: bool,
    /// Whether a series with times of its own ends when it is not exposed any more.
    pub track_timestamps_staleness: bool,
    /// Parameters of the request.
    pub params: BTreeMap<String, Vec<String>>,
    /// How often targets are scraped.
    pub scrape_interval: Span,
    /// How long a scrape may take.
    pub scrape_timeout: Span,
    /// What is asked for, the best first.
    pub scrape_protocols: Vec<Protocol>,
    /// What an answer is taken for that does not say what it is.
    pub fallback_scrape_protocol: Protocol,
    /// Whether native histograms are taken.
    pub scrape_native_histograms: Option<bool>,
    /// Whether classic histograms are taken beside native ones.
    pub always_scrape_classic_histograms: Option<bool>,
    /// Whether classic histograms become native ones with custom buckets.
    pub convert_classic_histograms_to_nhcb: Option<bool>,
    /// Where failed scrapes are logged.
    pub scrape_failure_log_file: String,
    /// The path.
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Whether compressed answers are asked for.
    pub enable_compression: bool,
    /// Bytes of an answer at most, decompressed; without end if 0.
    pub body_size_limit: Size,
    /// Samples of a scrape at most; without end if 0, like the others.
    pub sample_limit: u64,
    /// Targets at most.
    pub target_limit: u64,
    /// Labels of a sample at most.
    pub label_limit: u64,
    /// Bytes of a label's name at most.
    pub label_name_length_limit: u64,
    /// Bytes of a label's value at most.
    pub label_value_length_limit: u64,
    /// Buckets of a native histogram at most, above which they are merged.
    pub native_histogram_bucket_limit: u64,
    /// The least growth from one bucket to the next, below which they are merged.
    pub native_histogram_min_bucket_factor: f64,
    /// Dropped targets that are remembered at most.
    pub keep_dropped_targets: u64,
    /// Which names are valid.
    pub metric_name_validation_scheme: Names,
    /// How targets are asked to write other names.
    pub metric_name_escaping_scheme: Escaping,
    /// Whether limits are written down as samples.
    pub extra_scrape_metrics: Option<bool>,
    /// Where targets come from.
    pub discovery: Discovery,
    /// How targets are spoken to.
    pub http: HttpClient,
    /// Rules for targets.
    pub relabel_configs: Vec<Rule>,
    /// Rules for samples.
    pub metric_relabel_configs: Vec<Rule>,
}

impl Default for Scrape {
    fn default() -> Self {
        Self {
            job_name: String::new(),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            params: BTreeMap::new(),
            scrape_interval: Span::default(),
            scrape_timeout: Span::default(),
            scrape_protocols: Vec::new(),
            fallback_scrape_protocol: Protocol::Unset,
            scrape_native_histograms: None,
            always_scrape_classic_histograms: None,
            convert_classic_histograms_to_nhcb: None,
            scrape_failure_log_file: String::new(),
            metrics_path: "/metrics".to_owned(),
            scheme: "http".to_owned(),
            enable_compression: true,
            body_size_limit: Size(0),
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            native_histogram_bucket_limit: 0,
            native_histogram_min_bucket_factor: 0.0,
            keep_dropped_targets: 0,
            metric_name_validation_scheme: Names::Unset,
            metric_name_escaping_scheme: Escaping::Unset,
            extra_scrape_metrics: None,
            discovery: Discovery::default(),
            http: HttpClient::default(),
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
        }
    }
}

impl Record for Scrape {
    const TYPE: &'static str = "config.ScrapeConfig";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("job_name", &mut self.job_name);
        fields.field("honor_labels", &mut self.honor_labels);
        fields.always("honor_timestamps", &mut self.honor_timestamps);
        fields.always("track_timestamps_staleness", &mut self.track_timestamps_staleness);
        fields.field("params", &mut self.params);
        fields.field("scrape_interval", &mut self.scrape_interval);
        fields.field("scrape_timeout", &mut self.scrape_timeout);
        fields.field("scrape_protocols", &mut self.scrape_protocols);
        fields.field("fallback_scrape_protocol", &mut self.fallback_scrape_protocol);
        fields.field("scrape_native_histograms", &mut self.scrape_native_histograms);
        fields.field("always_scrape_classic_histograms", &mut self.always_scrape_classic_histograms);
        fields.field("convert_classic_histograms_to_nhcb", &mut self.convert_classic_histograms_to_nhcb);
        fields.field("scrape_failure_log_file", &mut self.scrape_failure_log_file);
        fields.field("metrics_path", &mut self.metrics_path);
        fields.field("scheme", &mut self.scheme);
        fields.always("enable_compression", &mut self.enable_compression);
        fields.field("body_size_limit", &mut self.body_size_limit);
        fields.field("sample_limit", &mut self.sample_limit);
        fields.field("target_limit", &mut self.target_limit);
        fields.field("label_limit", &mut self.label_limit);
        fields.field("label_name_length_limit", &mut self.label_name_length_limit);
        fields.field("label_value_length_limit", &mut self.label_value_length_limit);
        fields.field("native_histogram_bucket_limit", &mut self.native_histogram_bucket_limit);
        fields.field("native_histogram_min_bucket_factor", &mut self.native_histogram_min_bucket_factor);
        fields.field("keep_dropped_targets", &mut self.keep_dropped_targets);
        fields.field("metric_name_validation_scheme", &mut self.metric_name_validation_scheme);
        fields.field("metric_name_escaping_scheme", &mut self.metric_name_escaping_scheme);
        fields.field("extra_scrape_metrics", &mut self.extra_scrape_metrics);
        self.http.fields(fields);
        fields.list(
            "relabel_configs",
            &mut self.relabel_configs,
            "empty or null target relabeling rule in scrape config",
        );
        fields.list(
            "metric_relabel_configs",
            &mut self.metric_relabel_configs,
            "empty or null metric relabeling rule in scrape config",
        );
        self.discovery.fields(fields);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.job_name.is_empty() {
            return Err("job_name is empty".to_owned());
        }
        self.http.validate()?;
        if self.relabel_configs.is_empty() { self.discovery.check_addresses() } else { Ok(()) }
    }
}

impl Scrape {
    /// Fills in what holds for all jobs, and checks what follows.
    pub fn complete(&mut self, global: &Global) -> Result<(), String> {
        let job = tsdb::labels::quote(&self.job_name);
        if self.scrape_interval.is_zero() {
            self.scrape_interval = global.scrape_interval;
        }
        if self.scrape_timeout > self.scrape_interval {
            return Err(format!("scrape timeout greater than scrape interval for scrape config with job name {job}"));
        }
        if self.scrape_timeout.is_zero() {
            self.scrape_timeout = global.scrape_timeout.min(self.scrape_interval);
        }
        if self.body_size_limit.0 == 0 {
            self.body_size_limit = global.body_size_limit;
        }
        let limits = [
            (&mut self.sample_limit, global.sample_limit),
            (&mut self.target_limit, global.target_limit),
            (&mut self.label_limit, global.label_limit),
            (&mut self.label_name_length_limit, global.label_name_length_limit),
            (&mut self.label_value_length_limit, global.label_value_length_limit),
            (&mut self.keep_dropped_targets, global.keep_dropped_targets),
        ];
        for (own, general) in limits {
            if *own == 0 {
                *own = general;
            }
        }
        if self.scrape_failure_log_file.is_empty() {
            self.scrape_failure_log_file.clone_from(&global.scrape_failure_log_file);
        }
        self.scrape_native_histograms = self.scrape_native_histograms.or(global.scrape_native_histograms);
        self.extra_scrape_metrics = self.extra_scrape_metrics.or(global.extra_scrape_metrics);
        self.convert_classic_histograms_to_nhcb.get_or_insert(global.convert_classic_histograms_to_nhcb);
        self.always_scrape_classic_histograms.get_or_insert(global.always_scrape_classic_histograms);
        if self.scrape_protocols.is_empty() {
            if global.scrape_protocols.is_empty() {
                let first = (self.scrape_native_histograms == Some(true)).then_some(Protocol::Protobuf);
                self.scrape_protocols = first.into_iter().chain(DEFAULT_PROTOCOLS).collect();
            } else {
                self.scrape_protocols.clone_from(&global.scrape_protocols);
            }
        }
        check_protocols(&self.scrape_protocols)
            .map_err(|error| format!("{error} for scrape config with job name {job}"))?;
        if self.fallback_scrape_protocol != Protocol::Unset {
            self.fallback_scrape_protocol.check().map_err(|error| {
                format!("invalid fallback_scrape_protocol for scrape config with job name {job}: {error}")
            })?;
        }
        self.complete_names(global)?;
        relabel::validate(&mut self.relabel_configs, self.metric_name_validation_scheme)?;
        relabel::validate(&mut self.metric_relabel_configs, self.metric_name_validation_scheme)
    }

    fn complete_names(&mut self, global: &Global) -> Result<(), String> {
        let unset = self.metric_name_validation_scheme == Names::Unset;
        if unset {
            self.metric_name_validation_scheme = global.metric_name_validation_scheme;
        }
        let follows = |names: Names| if names == Names::Legacy { Escaping::Underscores } else { Escaping::AllowUtf8 };
        let known = "must be one of 'allow-utf-8', 'underscores', 'dots', or 'values'";
        let general = match &global.metric_name_escaping_scheme {
            Escaping::Unset => follows(global.metric_name_validation_scheme),
            Escaping::Unknown(name) => {
                let name = tsdb::labels::quote(name);
                return Err(format!("unknown global name escaping method specified, {known}, got {name}"));
            }
            escaping => escaping.clone(),
        };
        if self.metric_name_escaping_scheme == Escaping::Unset {
            self.metric_name_escaping_scheme =
                if unset { general } else { follows(self.metric_name_validation_scheme) };
        }
        match &self.metric_name_escaping_scheme {
            Escaping::AllowUtf8 if self.metric_name_validation_scheme != Names::Utf8 => {
                Err("utf8 metric names requested but validation scheme is not set to UTF8".to_owned())
            }
            Escaping::Unknown(name) => {
                let name = tsdb::labels::quote(name);
                Err(format!("unknown scrape config name escaping method specified, {known}, got {name}"))
            }
            _ => Ok(()),
        }
    }

    /// Relative names are below `dir` from now on.
    pub fn set_directory(&mut self, dir: &Path) {
        self.discovery.set_directory(dir);
        self.http.set_directory(dir);
        join(dir, &mut self.scrape_failure_log_file);
    }
}
