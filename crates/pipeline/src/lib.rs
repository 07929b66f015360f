//! From a push to a release.
//!
//! ```text
//! git push ─► repositories ─► a Repository's status says what was pushed
//! Jenkinsfile ── groovy ─► tree ── read ─► model ── run ─► asks ([`run::world::World`]): agents, steps, credentials
//!                                                     └──► events: stages, log, results
//! ```
//!
//! Loops watch objects and write objects; nothing is run here: scripts are interpreted in a confined process, steps run in Pods.
//!
//! [`read`] finds the sections of a declarative pipeline and refuses what does not belong, each error with its place. A script without
//! `pipeline { }` is a scripted one, and has no model. [`run`] carries a script out: it knows the order of things, and asks its world for
//! whatever touches one. Each ask has a key that is the same whenever the same script is run again, so that a world can answer from its
//! records what was done before a restart.
//!
//! In reading order:
//!
//! - [`repositories`]: Git repositories that are objects
//! - [`kind`]: the kinds `Pipeline` and `PipelineRun`
//! - [`record`]: what a run leaves on disk
//! - [`model`]: what a declarative pipeline says
//! - [`catalogue`]: steps, options, parameters, triggers, conditions that are known, with their arguments
//! - [`read`]: a script's tree to a model
//! - [`result`]: how runs and stages end
//! - [`ant`]: patterns of files and branches
//! - [`mask`]: secrets in a log
//! - [`run`]: a run from its beginning to its end
//! - [`xml`]: documents of others as trees
//! - [`left`]: what a run leaves
//! - [`trigger`]: what starts runs
//! - [`jenkins`]: Jenkins' remote API
//! - [`interpreter`]: the process that it is interpreted in
//! - [`story`]: what a run's status tells
//! - [`book`]: a run's log while it is written
//! - [`web`], `login`, [`source`]: repositories, here and elsewhere
//! - [`docker`]: what scripts say to `docker`
//! - [`pod`]: the Pod that an agent is
//! - [`reach`]: nodes and the registry, over HTTP
//! - [`hand`]: the step runner in it, reached through `exec`
//! - [`far`]: the far ends of steps
//! - [`drive`]: one run on its way
//! - [`operate`]: the loop over all runs
//! - [`counted`]: what is counted of runs
//! - [`door`]: logs over HTTP

pub mod repositories;

pub mod kind;

pub mod record;

pub mod model;

pub mod catalogue;

pub mod read;

pub mod result;

pub mod ant;

pub mod mask;

pub mod run;

pub mod xml;

pub mod left;

pub mod trigger;

pub mod interpreter;
pub mod jenkins;

pub mod story;

pub mod book;

pub mod web;

mod login;

pub mod source;

pub mod docker;

pub mod pod;

pub mod reach;

pub mod hand;

pub mod far;

pub mod drive;

pub mod operate;

pub mod counted;

pub mod door;
