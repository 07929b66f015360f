//! Selectors: by labels, as text (`app in (a,b),!old`) and as an object; by fields, as text (`spec.nodeName=a`).
//!
//! Both forms of label selector become the same list of requirements, all of which must hold. Which fields can be selected by
//! is a table here, one row a kind, as upstream has it; custom resources name their own.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>,
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/>

mod fields;
mod labels;
#[cfg(test)]
mod tests;

pub use fields::Fields;
pub use labels::{Labels, Operator, Requirement};
