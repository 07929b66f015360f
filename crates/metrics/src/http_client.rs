//! Requests to others as their configuration asks: credentials, TLS, proxies, redirects, HTTP/2, additional headers.
//!
//! ```text
//! HttpClient (settings) ── Client ── request ── headers and credentials (files are read again each time)
//!                                       │ 401? a new token                       ▲
//!                                       ├── redirects ───────────────────────────┘
//!                                       └── connect: direct, or through a proxy; TLS made anew when its files change
//! ```
//!
//! Used by scraping, discovery, remote write and read, and alerting. A [`Client`] keeps connections open.
//!
//! In reading order:
//!
//! - [`settings`]: what can be configured
//! - [`tls`]: who is believed, and who we are
//! - [`proxy`]: which way
//! - [`connect`]: how connections are made
//! - [`token`]: OAuth 2
//! - [`client`]: the requests themselves
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#http_config>.

pub mod settings;

pub mod tls;

pub mod proxy;

pub mod connect;

pub mod token;

pub mod client;

pub use client::{Client, Failure};
pub use settings::HttpClient;

#[cfg(test)]
mod tests;
