//! The gateway: Gateway API and Ingress in front of the cluster's Services.
//!
//! ```text
//! objects ─ caches ─ plan ─┬─► table ────────► proxy ◄── requests ── listen
//!                          ├─► certificates ───────────────────────────┘
//!                          └─► statuses ─► API server
//! slices ──────────────────► backends ◄── endpoint, connection ── proxy
//! ```
//!
//! `plan` is a pure function of the objects; what it makes is put in place at once, and a request that has begun goes on
//! with what it has found. What follows which specification says each module; as a whole:
//! <https://gateway-api.sigs.k8s.io/> and <https://kubernetes.io/docs/concepts/services-networking/ingress/>.
//!
//! In reading order:
//!
//! - [`kinds`]: Gateway API's kinds
//! - [`hosts`], [`path`], [`headers`], [`cors`]: parts of requests
//! - [`rule`]: what becomes of a request
//! - [`table`]: which rule a request gets
//! - [`balance`]: which endpoint gets a request
//! - [`backend`], [`pool`]: endpoints and their connections
//! - [`tally`]: what is counted
//! - [`proxy`]: the path of a request
//! - [`listen`]: where requests come in
//! - [`plan`]: what is to be served and said
//! - [`run`]: the loop
//! - [`builtin`]: what every cluster has

pub mod kinds;

pub mod hosts;

pub mod path;

pub mod headers;

pub mod cors;

pub mod rule;

pub mod table;

pub mod balance;

pub mod backend;

pub mod pool;

pub mod tally;

pub mod proxy;

pub mod listen;

pub mod plan;

pub mod run;

pub mod builtin;
