//! What is done with the samples of a target: labels, times, limits.

use std::sync::Arc;

use tsdb::{batch::Durability, histogram::MAX_SCHEMA, labels::Labels};

use crate::{config::units::Names, format::protobuf, relabel::Rule};

/// What is done with the samples of a target.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The labels of the target.
    pub labels: Labels,
    /// Whether labels of samples win over them.
    pub honor_labels: bool,
    /// Whether times of samples count.
    pub honor_timestamps: bool,
    /// Whether series with times of their own end when they are not exposed any more.
    pub track_staleness: bool,
    /// Rules for samples.
    pub rules: Arc<[Rule]>,
    /// Which names are valid.
    pub names: Names,
    /// Samples at most; without end if 0, like the others.
    pub sample_limit: usize,
    /// Labels of a sample at most.
    pub label_limit: usize,
    /// Bytes of a label's name at most.
    pub name_limit: usize,
    /// Bytes of a label's value at most.
    pub value_limit: usize,
    /// Buckets of a native histogram at most.
    pub bucket_limit: usize,
    /// The highest schema of a native histogram.
    pub max_schema: i32,
    /// Native, classic and converted histograms.
    pub histograms: protobuf::Options,
    /// Whether counters that say when they began get a zero there.
    pub starts: bool,
    /// Whether descriptions are stored with the series.
    pub metadata: bool,
    /// When a commit is done.
    pub durability: Durability,
}

impl Terms {
    /// No rules and no limits, for a target with these labels.
    pub fn new(labels: Labels) -> Self {
        Self {
            labels,
            honor_labels: false,
            honor_timestamps: true,
            track_staleness: false,
            rules: Arc::from([]),
            names: Names::Utf8,
            sample_limit: 0,
            label_limit: 0,
            name_limit: 0,
            value_limit: 0,
            bucket_limit: 0,
            max_schema: MAX_SCHEMA,
            histograms: protobuf::Options::default(),
            starts: false,
            metadata: false,
            durability: Durability::Logged,
        }
    }

    /// Whether a sample may have these labels.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in Prometheus' words.
    pub fn check(&self, labels: &Labels) -> Result<(), String> {
        let metric = labels.metric();
        if metric.is_empty() {
            return Err("missing metric name (__name__ label)".to_owned());
        }
        if !self.names.metric(metric) || !labels.iter().all(|(name, _)| self.names.label(name)) {
            return Err(format!("invalid metric name or label names: {labels}"));
        }
        let short = |text: &str| text.chars().take(50).collect::<String>();
        let shown = short(metric);
        if self.label_limit > 0 && labels.len() > self.label_limit {
            return Err(format!(
                "label_limit exceeded (metric: {shown}, number of labels: {}, limit: {})",
                labels.len(),
                self.label_limit
            ));
        }
        for (name, value) in labels {
            if self.name_limit > 0 && name.len() > self.name_limit {
                return Err(format!(
                    "label_name_length_limit exceeded (metric: {shown}, label name: {}, length: {}, limit: {})",
                    short(name),
                    name.len(),
                    self.name_limit
                ));
            }
            if self.value_limit > 0 && value.len() > self.value_limit {
                return Err(format!(
                    "label_value_length_limit exceeded (metric: {shown}, label name: {}, value: {}, length: {}, limit: {})",
                    short(name),
                    tsdb::labels::quote(&short(value)),
                    value.len(),
                    self.value_limit
                ));
            }
        }
        Ok(())
    }
}
