//! What parts count of their own doing, and how counts are written down for Prometheus.
//!
//! ```text
//! work ─ add, took, set ─▶ counter::Counts ─┐
//! /proc/self ─▶ process ────────────────────┼─▶ page::Page ─▶ GET /metrics
//! whatever is read when somebody asks ──────┘
//! ```
//!
//! Names, labels and types are upstream's wherever upstream has them, so that the dashboards and rules that people have go on
//! working. Nothing is kept but sums: series are written when somebody asks.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

pub mod page;

pub mod counter;

pub mod process;
