//! What holds for all jobs that say nothing else.

use tsdb::labels::Labels;

use super::{
    scrape::{Escaping, Protocol, check_protocols},
    units::{Names, Size, Span},
};
use crate::yaml::{Fields, Record};

/// What holds for all jobs that say nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Global {
    /// How often targets are scraped.
    pub scrape_interval: Span,
    /// How long a scrape may take.
    pub scrape_timeout: Span,
    /// What is asked for, the best first.
    pub scrape_protocols: Vec<Protocol>,
    /// How often rules are evaluated.
    pub evaluation_interval: Span,
    /// How long before the moment of their evaluation rules look.
    pub rule_query_offset: Span,
    /// Where queries are logged.
    pub query_log_file: String,
    /// Where failed scrapes are logged.
    pub scrape_failure_log_file: String,
    /// Labels for all that leaves: alerts, remote write, federation.
    pub external_labels: Labels,
    /// Bytes of an answer at most, decompressed; without end if 0.
    pub body_size_limit: Size,
    /// Samples of a scrape at most; without end if 0, like the others.
    pub sample_limit: u64,
    /// Targets of a job at most.
    pub target_limit: u64,
    /// Labels of a sample at most.
    pub label_limit: u64,
    /// Bytes of a label's name at most.
    pub label_name_length_limit: u64,
    /// Bytes of a label's value at most.
    pub label_value_length_limit: u64,
    /// Dropped targets of a job that are remembered at most.
    pub keep_dropped_targets: u64,
    /// Which names are valid.
    pub metric_name_validation_scheme: Names,
    /// How targets are asked to write other names.
    pub metric_name_escaping_scheme: Escaping,
    /// Whether native histograms are taken.
    pub scrape_native_histograms: Option<bool>,
    /// Whether classic histograms become native ones with custom buckets.
    pub convert_classic_histograms_to_nhcb: bool,
    /// Whether classic histograms are taken beside native ones.
    pub always_scrape_classic_histograms: bool,
    /// Whether limits are written down as samples.
    pub extra_scrape_metrics: Option<bool>,
}

impl Global {
    /// What holds when nothing is said.
    pub fn standard() -> Self {
        Self {
            scrape_interval: Span::seconds(60),
            scrape_timeout: Span::seconds(10),
            evaluation_interval: Span::seconds(60),
            scrape_native_histograms: Some(false),
            extra_scrape_metrics: Some(false),
            metric_name_validation_scheme: Names::Utf8,
            metric_name_escaping_scheme: Escaping::AllowUtf8,
            ..Self::default()
        }
    }
}

impl Record for Global {
    const TYPE: &'static str = "config.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("scrape_interval", &mut self.scrape_interval);
        fields.field("scrape_timeout", &mut self.scrape_timeout);
        fields.field("scrape_protocols", &mut self.scrape_protocols);
        fields.field("evaluation_interval", &mut self.evaluation_interval);
        fields.field("rule_query_offset", &mut self.rule_query_offset);
        fields.field("query_log_file", &mut self.query_log_file);
        fields.field("scrape_failure_log_file", &mut self.scrape_failure_log_file);
        fields.field("external_labels", &mut self.external_labels);
        fields.field("body_size_limit", &mut self.body_size_limit);
        fields.field("sample_limit", &mut self.sample_limit);
        fields.field("target_limit", &mut self.target_limit);
        fields.field("label_limit", &mut self.label_limit);
        fields.field("label_name_length_limit", &mut self.label_name_length_limit);
        fields.field("label_value_length_limit", &mut self.label_value_length_limit);
        fields.field("keep_dropped_targets", &mut self.keep_dropped_targets);
        fields.field("metric_name_validation_scheme", &mut self.metric_name_validation_scheme);
        fields.field("metric_name_escaping_scheme", &mut self.metric_name_escaping_scheme);
        fields.field("scrape_native_histograms", &mut self.scrape_native_histograms);
        fields.field("convert_classic_histograms_to_nhcb", &mut self.convert_classic_histograms_to_nhcb);
        fields.field("always_scrape_classic_histograms", &mut self.always_scrape_classic_histograms);
        fields.field("extra_scrape_metrics", &mut self.extra_scrape_metrics);
    }

    fn check(&mut self) -> Result<(), String> {
        let standard = Self::standard();
        if self.metric_name_validation_scheme == Names::Unset {
            self.metric_name_validation_scheme = Names::Utf8;
        }
        for (name, _) in &self.external_labels {
            if !self.metric_name_validation_scheme.label(name) {
                return Err(format!("{} is not a valid label name", tsdb::labels::quote(name)));
            }
        }
        if self.scrape_interval.is_zero() {
            self.scrape_interval = standard.scrape_interval;
        }
        if self.scrape_timeout > self.scrape_interval {
            return Err("global scrape timeout greater than scrape interval".to_owned());
        }
        if self.scrape_timeout.is_zero() {
            self.scrape_timeout = standard.scrape_timeout.min(self.scrape_interval);
        }
        if self.evaluation_interval.is_zero() {
            self.evaluation_interval = standard.evaluation_interval;
        }
        self.scrape_native_histograms.get_or_insert(false);
        self.extra_scrape_metrics.get_or_insert(false);
        if !self.scrape_protocols.is_empty() {
            check_protocols(&self.scrape_protocols).map_err(|error| format!("{error} for global config"))?;
        }
        Ok(())
    }
}
