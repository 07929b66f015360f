//! The HTTP API over a data base of its own: what is asked and what must come, as data.

mod api;
mod place;
mod remote;
