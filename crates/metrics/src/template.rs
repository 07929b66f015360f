//! Templates of alerts and notifications: Go's `text/template`, as far as annotations, labels and receivers use it.
//!
//! ```text
//!   text ─ lex ─▶ tokens ─ parse ─▶ trees, one a `define` ─ run (dot, functions) ─▶ text
//! ```
//!
//! Actions, pipelines, variables, `if`, `with`, `range` with `break` and `continue`, `define`, `template` and `block`,
//! trimming and comments; functions and methods as Prometheus and Alertmanager have them. What Go leaves to its types is
//! kept apart here too, so that errors are the same, with the same positions. In HTML, what is inserted is escaped for its
//! place. Steps, depth and output are bounded. Not there: complex numbers and functions as values.
//!
//! See <https://pkg.go.dev/text/template>, <https://prometheus.io/docs/prometheus/latest/configuration/template_reference/>
//! and <https://prometheus.io/docs/alerting/latest/notifications/>.
//!
//! In reading order:
//!
//! - [`value`], [`calendar`]: what templates work on
//! - `format`, `escape`: strings
//! - `lex`, `tree`, `parse`: text to trees
//! - [`call`], `method`: functions that all templates have, methods of values
//! - `run`: carries a template out
//! - [`prometheus`]: functions and data of rules
//! - [`notification`]: functions and data of receivers

use std::{collections::BTreeMap, sync::Arc};

pub mod value;

pub mod calendar;

mod format;

mod escape;

mod lex;

mod tree;

mod parse;

pub mod call;

mod method;

mod run;

pub mod prometheus;

pub mod notification;

#[cfg(test)]
mod tests;

use call::Functions;
use parse::Tree;
use value::Value;

/// Most bytes that a template may write.
pub(crate) const MOST_OUTPUT: usize = 1 << 20;

/// Longest text of a template.
const MOST_TEXT: usize = 1 << 20;

/// What is wrong with a template, with its place, as Go words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// What a string of Go says, in double quotes or back quotes.
pub(crate) fn unquote(text: &str) -> Option<String> {
    format::unquote(text)
}

/// What a template writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Plain text.
    Text,
    /// HTML: what is inserted is escaped for its place.
    Html,
}

/// Templates that may use each other.
#[derive(Clone, Debug)]
pub struct Templates {
    mode: Mode,
    /// Whether a missing key is an error.
    strict: bool,
    trees: BTreeMap<String, Arc<Tree>>,
}

impl Templates {
    /// No templates yet.
    pub fn new(mode: Mode) -> Self {
        Self { mode, strict: false, trees: BTreeMap::new() }
    }

    /// Lets a missing key be an error.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Adds a text under a name, and all that it defines in place of those before.
    pub fn add(&mut self, name: &str, text: &str, functions: &dyn Functions) -> Result<(), Error> {
        if text.len() > MOST_TEXT {
            return Err(Error(format!("template: {name}: text is longer than {MOST_TEXT} bytes")));
        }
        let known = |name: &str| functions.signature(name).is_some() || call::signature(name).is_some();
        for (name, tree) in parse::parse(name, text, &known)? {
            let kept = tree.root.is_empty() && self.trees.contains_key(&name);
            if !kept {
                self.trees.insert(name, tree);
            }
        }
        Ok(())
    }

    /// Carries out the template of this name.
    pub fn run(&self, name: &str, dot: &Value, functions: &dyn Functions) -> Result<String, Error> {
        run::run(self, functions, name, dot)
    }
}
