//! The HTTP API over a data base of its own: what is asked and what must come, as data. Rules and alerts against what
//! upstream ships: its fixtures and programs.

mod alerts;
mod api;
mod otlp;
mod peer;
mod place;
mod reading;
mod remote;
mod rules;
mod sending;
