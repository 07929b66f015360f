//! PromQL, the language of Prometheus 3.15: reads queries and evaluates them.
//!
//! In reading order:
//!
//! - [`number`], [`duration`], [`position`]: what is written in queries and results
//! - [`lex`]: text to tokens
//! - [`pattern`], [`matcher`]: conditions on labels
//! - [`ast`], [`function`]: what a query says
//! - [`parse`]: tokens to a tree, and its types
//! - [`print`], [`tree`]: a tree to text and to JSON
//! - [`value`], [`storage`]: samples, and where they come from
//! - [`calendar`], [`histogram_text`], [`annotation`], [`limit`]: what evaluation needs and tells
//! - [`eval`]: evaluates a query
//! - [`database`]: the data base of `tsdb` as storage
//! - [`series`], [`memory`]: series as rule tests describe them, and where they are put

pub mod number;

pub mod duration;

pub mod position;

pub mod lex;

pub mod pattern;

pub mod matcher;

pub mod ast;

pub mod function;

pub mod parse;

pub mod print;

pub mod tree;

pub mod value;

pub mod storage;

pub mod calendar;

pub mod histogram_text;

pub mod annotation;

pub mod limit;

mod quantile;

mod trim;

mod sampling;

pub mod eval;

pub mod database;

pub mod series;

pub mod memory;
