//! One pod: what is known, what to do next, what the API server is told, and the owner that does it.
//!
//! In reading order: [`state`], [`decide`], [`status`], [`backoff`], [`restore`], and then [`owner`],
//! [`certificate`], [`volumes`] and [`work`], which do it.

pub mod state;

pub mod decide;

pub mod status;

pub mod backoff;

pub mod restore;

pub mod owner;

pub mod certificate;

pub mod volumes;

pub mod work;
