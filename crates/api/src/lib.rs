//! Kubernetes' objects without any I/O: kinds, defaults, validation, patches, selectors, printing, encodings.
//!
//! Objects are `serde_json::Value`s. Two tables drive what is generic: [`kinds`] says which resources are served and how,
//! [`schema`] says what their fields are. Everything else is functions over those tables.

pub mod amount;
pub mod kinds;
pub mod meta;
pub mod quantity;
pub mod schema;
pub mod span;
pub mod status;

pub mod admit;
pub mod apply;
pub mod crd;
pub mod defaults;
pub mod json;
pub mod openapi;
pub mod patch;
pub mod print;
pub mod proto;
pub mod selector;
pub mod strategy;
pub mod structural;
pub mod validate;
