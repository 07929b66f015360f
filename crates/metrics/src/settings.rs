//! What metrics are started with: where they are kept, for how long, and what may be asked of them.
//!
//! The defaults are Prometheus': <https://prometheus.io/docs/prometheus/latest/command-line/prometheus/>.

use std::{path::PathBuf, time::Duration};

use promql::parse::Features;

/// What metrics are started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of the data base.
    pub dir: PathBuf,
    /// The configuration, a `prometheus.yml`; without one, only what is built in is collected.
    pub config: Option<PathBuf>,
    /// How the data base keeps samples.
    pub storage: tsdb::options::Options,
    /// What queries may cost.
    pub query: Query,
    /// What the HTTP API allows.
    pub web: Web,
    /// Alertmanager's configuration; without one, alerts are kept and shown, and go nowhere.
    pub alertmanager: Option<PathBuf>,
    /// Where the web interface is reached from outside, for links in alerts.
    pub external_url: String,
    /// Flags as they were given, for `/api/v1/status/flags`.
    pub flags: Vec<(String, String)>,
}

/// What queries may cost.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// How far back a selector looks for the newest sample.
    pub lookback: Duration,
    /// Longest time of a query.
    pub timeout: Duration,
    /// Queries at a time; more wait.
    pub concurrency: usize,
    /// Most samples that a query holds at once.
    pub samples: usize,
    /// Parts of the language that are switched on.
    pub features: Features,
    /// Gives memory that a large query has freed back to the kernel.
    pub give_back: Option<fn()>,
}

/// What the HTTP API allows.
#[derive(Clone, Debug)]
pub struct Web {
    /// Whether others may write samples to it.
    pub remote_write_receiver: bool,
    /// Whether others may hand samples over by OpenTelemetry's protocol.
    pub otlp_receiver: bool,
    /// Whether points of OTLP that count since the one before are kept as they are; else they are refused.
    pub otlp_native_delta: bool,
    /// Whether a zero is put where what is written here says that a counter began.
    pub created_zeros: bool,
    /// Whether series can be deleted and snapshots taken.
    pub admin: bool,
    /// Whether it can be reloaded and ended.
    pub lifecycle: bool,
    /// The address of the console, to which pages lead; none where there is no console.
    pub console: Option<String>,
    /// Most samples of a remote read; without end if zero.
    pub remote_read_samples: usize,
    /// Remote reads at a time.
    pub remote_read_concurrency: usize,
    /// Bytes of a frame of a remote read at most.
    pub remote_read_frame_bytes: usize,
}

impl Settings {
    /// The usual bounds.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            config: None,
            storage: tsdb::options::Options::default(),
            query: Query::default(),
            web: Web::default(),
            alertmanager: None,
            external_url: String::new(),
            flags: Vec::new(),
        }
    }
}

impl Default for Query {
    fn default() -> Self {
        Self {
            lookback: Duration::from_mins(5),
            timeout: Duration::from_mins(2),
            concurrency: 20,
            samples: 50_000_000,
            features: Features::default(),
            give_back: None,
        }
    }
}

impl Default for Web {
    fn default() -> Self {
        Self {
            remote_write_receiver: false,
            otlp_receiver: false,
            otlp_native_delta: false,
            created_zeros: false,
            admin: false,
            lifecycle: false,
            console: None,
            remote_read_samples: 50_000_000,
            remote_read_concurrency: 10,
            remote_read_frame_bytes: 1 << 20,
        }
    }
}
