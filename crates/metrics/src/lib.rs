//! Prometheus' job: collects samples, keeps them, answers queries, evaluates rules and sends alerts.
//!
//! ```text
//!   targets ──▶ scrape ──┐                        ┌──▶ web: the HTTP API, federation, remote read
//!   remote write ────────┼──▶ storage (tsdb) ──▶ query (promql)
//!   rules ◀──────────────┼────────┘               └──▶ rules ──▶ alerts ──▶ receivers
//!                        └──▶ remote: what others are to have too
//! ```
//!
//! [`Metrics`] owns the data base and puts the parts together; each runs as tasks below one [`task::Task`] and gets what it
//! needs handed in. Parts know [`storage`], [`query`] and [`shown`], never each other. What users see is Prometheus 3.15's:
//! <https://prometheus.io/docs/prometheus/latest/querying/api/>.
//!
//! In reading order:
//!
//! - [`metrics`]: what it is made of; starting and draining
//! - [`start`]: the parts put together
//! - [`settings`]: what it is started with
//! - [`storage`]: where samples go to and come from
//! - [`query`]: queries with their bounds
//! - [`shown`]: what parts show of themselves
//! - [`summary`]: durations that are shown
//! - [`proto`]: protocol buffers on the wire
//! - [`remote`]: samples from and to others
//! - [`web`]: the HTTP API
//! - [`front`]: what stands before it where a file says so: TLS, users, headers
//! - [`adapter`]: Kubernetes' metrics APIs
//! - [`rule`]: rules that record and alert
//! - [`alertmanager`]: groups alerts and tells receivers of them
//! - [`notify`]: alerts of rules to Alertmanagers
//! - [`alerting`]: rules, notifier and Alertmanager put together
//! - [`template`]: texts of alerts and notifications
//! - [`kube_state`]: what the cluster's objects say of themselves
//! - [`yaml`]: how configuration is read and printed
//! - [`config`]: the file `prometheus.yml`
//! - [`http_client`]: requests to others, as configured
//! - [`relabel`]: rules that rewrite, keep and drop label sets
//! - [`format`]: the forms in which targets expose samples
//! - [`discover`]: where targets come from
//! - [`scrape`]: asks targets for their samples
//! - [`kinds`]: kinds of the Prometheus operator
//! - [`operator`]: their objects as jobs
//! - [`builtin`]: what is collected without configuration

pub mod metrics;

pub mod start;

pub mod settings;

pub mod storage;

pub mod query;

pub mod shown;

pub mod summary;

pub mod proto;

pub mod remote;

pub mod web;

pub mod front;

pub mod adapter;

pub mod rule;

pub mod alertmanager;

pub mod notify;

pub mod alerting;

pub mod template;

pub mod yaml;

pub mod config;

pub mod http_client;

pub mod relabel;

pub mod kube_state;

pub mod format;

pub mod discover;

pub mod scrape;

pub mod kinds;

pub mod operator;

pub mod builtin;

pub use metrics::Metrics;
