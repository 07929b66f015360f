//! The Groovy that Jenkinsfiles use: text to tokens, tokens to a tree, and an interpreter that walks it.
//!
//! ```text
//! text ── lex ─► tokens ── parse ─► tree ── interpret ─► values
//!                                              │   ▲
//!                                   steps, variables of the host ([`host::Host`])
//! ```
//!
//! There is no file system, process or network here: a script can do what its [`host::Host`] lets it, and nothing else. Text is
//! not trusted: nesting, steps, depth of calls, memory and time are bounded by [`limit::Limits`].
//!
//! The language: <https://groovy-lang.org/syntax.html>, as far as pipelines are written in it
//! (<https://www.jenkins.io/doc/book/pipeline/syntax/>). What differs is listed in `docs/decisions/groovy.md`.
//!
//! In reading order:
//!
//! - [`source`]: text, places in it, and errors that show them
//! - [`lex`]: text to tokens
//! - [`tree`]: what a script consists of
//! - [`parse`]: tokens to a tree
//! - [`limit`]: bounds, and how much of them is used
//! - [`value`]: what scripts compute with
//! - [`fault`]: exceptions, and other reasons for leaving a block
//! - [`host`]: what is around a script
//! - [`interpret`]: walks the tree
//! - [`operator`]: arithmetic, comparison, conversion
//! - [`pattern`]: regular expressions
//! - [`method`]: what values can be asked

pub mod source;

pub mod lex;

pub mod tree;

pub mod parse;

pub mod limit;

pub mod value;

pub mod fault;

pub mod host;

pub mod interpret;

pub mod operator;

pub mod pattern;

pub mod method;
