//! Which rule a request gets: by port, listener, host, and then by what matches it best.
//!
//! ```text
//! port ─ the listener whose host is the most exact ─ rules of routes, those of the most exact host first,
//!                                                     of one host in the order of their precedence
//! ```
//!
//! A table is made whole and never changed: what a request has found stays as it is until the request is over.
//!
//! See <https://gateway-api.sigs.k8s.io/reference/spec/#httproutematch>.

use std::{collections::BTreeMap, sync::Arc};

use http::request::Parts;

use crate::{
    hosts::{Hosts, Pattern},
    rule::{Conditions, Rule},
};

/// All that is served.
#[derive(Debug, Default)]
pub struct Table {
    ports: BTreeMap<u16, Site>,
}

/// What is served at one port.
#[derive(Debug, Default)]
struct Site {
    listeners: Hosts<Hosts<Vec<Entry>>>,
}

/// What orders rules whose matches are alike: those of a gateway that came too late for the shared address are last; then the older
/// route, then its name, then its place in the route.
pub type Order = (bool, (i64, String), usize, usize);

/// A match of a rule.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What the request must be.
    pub conditions: Conditions,
    /// What goes first among equals.
    pub order: Order,
    /// What becomes of the request.
    pub rule: Arc<Rule>,
}

impl Table {
    /// Says that there is a listener, for these hosts.
    pub fn listen(&mut self, port: u16, host: &Pattern) {
        self.ports.entry(port).or_default().listeners.entry(host.clone(), Hosts::default);
    }

    /// Adds a match for hosts of a listener.
    pub fn add(&mut self, port: u16, listener: &Pattern, host: Pattern, entry: Entry) {
        let site = self.ports.entry(port).or_default();
        site.listeners.entry(listener.clone(), Hosts::default).entry(host, Vec::new).push(entry);
    }

    /// Orders all that was added: to be called once, last.
    pub fn order(&mut self) {
        let lists = self.ports.values_mut().flat_map(|site| site.listeners.values_mut()).flat_map(Hosts::values_mut);
        for entries in lists {
            entries.sort_by(|a, b| b.conditions.rank().cmp(&a.conditions.rank()).then_with(|| a.order.cmp(&b.order)));
        }
    }

    /// The match that a request gets which came in at `port`. `host` is bare and in lower case, `path` resolved.
    pub fn find(&self, port: u16, host: &str, path: &str, parts: &Parts) -> Option<&Entry> {
        let listener = self.ports.get(&port)?.listeners.matching(host).next()?;
        listener.matching(host).flatten().find(|entry| entry.conditions.match_request(path, parts))
    }
}

#[cfg(test)]
mod tests;
