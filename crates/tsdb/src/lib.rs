//! Keeps samples of time series: appends them, finds them again.
//!
//! In reading order:
//!
//! - [`labels`]: what names a series
//! - [`sample`]: values at times, exemplars, the stale marker
//! - [`histogram`]: native histograms and their arithmetic

pub mod labels;

pub mod sample;

pub mod histogram;
