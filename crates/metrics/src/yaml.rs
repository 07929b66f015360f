//! YAML as the programs read it whose configuration this is: a tree with line numbers, and records that say their fields
//! once for reading and for printing.
//!
//! ```text
//! text ── parse ──▶ Node ── Value::read ──▶ settings ── Value::print ──▶ Print ── text
//! ```
//!
//! Those programs read with Go's `yaml.v2`, so the rules are its: unknown fields are errors, a null puts a field back to
//! nothing, a number may stand where a string is wanted, `yes` and `off` are booleans. All type errors of a file are told at
//! once; the first wrong setting ends the reading. Size, depth and aliases are bounded.
//!
//! In reading order:
//!
//! - `tree`: text to nodes
//! - `value`: what can be read and printed
//! - `record`: fields of records
//! - `print`: text from values
//!
//! See <https://yaml.org/spec/1.1/> and <https://pkg.go.dev/go.yaml.in/yaml/v2>.

mod tree;

mod value;

mod record;

mod print;

pub use print::Print;
pub use record::{Fields, Record};
pub use tree::{Kind, Node, parse, parse_all};
pub use value::{Problems, Stop, Value, read_into, string};

/// Reads a record from `text`; an empty text leaves what `start` is.
pub fn read<T: Value>(text: &str, start: &mut T) -> Result<(), String> {
    let Some(node) = parse(text)? else { return Ok(()) };
    read_node(&node, start)
}

/// Reads a value from a node.
pub fn read_node<T: Value>(node: &Node, start: &mut T) -> Result<(), String> {
    let mut problems = Problems::default();
    let stopped = read_into(start, node, &mut problems);
    match stopped {
        Err(Stop(error)) => Err(error),
        Ok(()) => problems.finish(),
    }
}

/// The text of a value.
pub fn print<T: Value + Clone>(value: &T) -> String {
    value.clone().print().text()
}

#[cfg(test)]
mod tests;
