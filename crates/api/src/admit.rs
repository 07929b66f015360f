//! What admission decides, as pure functions: the rules that depend on more than the object itself.
//!
//! | module | rule | depends on |
//! |---|---|---|
//! | [`limits`] | defaults, least and most of containers, pods and claims | the LimitRanges of the namespace |
//! | [`quota`] | what objects use of a namespace's share | the ResourceQuotas of the namespace |
//! | [`runtime`] | overhead and scheduling of pods | their RuntimeClass |
//! | [`security`] | what pods may ask of the node | the namespace's labels |
//!
//! The API server looks up what they depend on.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>

pub mod limits;
pub mod quota;
pub mod runtime;
pub mod security;
