//! The one door to the store: Kubernetes' API, for all kinds alike.
//!
//! A request's path is read, the user is found out and checked against roles; then one of a few generic handlers serves it,
//! guided by the kinds table and the schema table of the crate `api`. What is read comes from caches in memory that follow the
//! store; what is written is committed under the condition that nobody else was faster, and reaches the caches, and everyone
//! who watches, from the store.
//!
//! ```text
//!            server ── auth
//!               │
//!   ┌───────────┼────────────┬───────────────┐
//!  read       watch        write           sub, review, connect, plain
//!   │           │        patch delete ── admission, service_ip
//!   └── cache ──┘            │
//!         ▲                  ▼
//!         └──── feed ◄──── store
//! ```

pub mod config;
pub mod server;

pub mod call;
pub mod negotiate;
pub mod options;
pub mod path;
pub mod query;

pub mod admission;
pub mod auth;
pub mod certificate;
pub mod webhook;

pub mod cache;
pub mod crd;
pub mod custom;
pub mod feed;
pub mod object;
pub mod registry;
pub mod selection;

pub mod convert;
pub mod decode;
pub mod encode;
pub mod remote;
pub mod scan;
pub mod wire;

pub mod aggregate;
pub mod apply;
pub mod commit;
pub mod connect;
pub mod delete;
pub mod patch;
pub mod read;
pub mod review;
pub mod service_ip;
pub mod sub;
pub mod watch;
pub mod write;

pub mod bootstrap;
pub mod discovery;
pub mod encryption;
pub mod expiry;
pub mod metrics;
pub mod openapi;
pub mod plain;

pub use auth::User;
pub use config::Config;
pub use server::ApiServer;
