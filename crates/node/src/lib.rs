//! The node: pods, probes, volumes, service tables, DNS, status, stats.
