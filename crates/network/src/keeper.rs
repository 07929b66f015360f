//! Keeps the kernel's table in step with what is desired.
//!
//! ```text
//!             a change fails        renew
//! in step ───────────────────▶ out ───────▶ in step
//!    └─ start: what a former process left, until the services are given for the first time
//! ```
//!
//! A change is one transaction of the elements that differ. If the kernel's table turns out to be another than was left,
//! because someone flushed the ruleset, say, the whole table is made anew, which is one transaction too.

use std::{collections::HashSet, io, net::Ipv4Addr};

use crate::{
    Error, Protocol, Services,
    conntrack::{self, Flow},
    desired::{Desired, Plan},
    error::kernel,
    netlink::Socket,
    nft::{self, Batch, Family},
    service::{Change, Key},
    table::{self, Base, Element, Place, Value, endpoint_bytes},
};

/// The table and what it shall hold.
#[derive(Debug)]
pub(crate) struct Keeper {
    name: String,
    base: Base,
    socket: Socket,
    desired: Desired,
    /// Whether the kernel's table holds just what is desired.
    in_step: bool,
    /// Whether all services were given once; until then those of a former process are left in the table.
    complete: bool,
}

impl Keeper {
    /// Looks at what a former process left in the table `name`.
    pub(crate) fn new(name: &str, base: Base, mut socket: Socket) -> Result<Self, Error> {
        let comment = nft::comment(&mut socket, Family::V4, name).map_err(kernel(format!("find table {name}")))?;
        let in_step = comment == Some(base.comment());
        Ok(Self { name: name.into(), base, socket, desired: Desired::default(), in_step, complete: false })
    }

    /// The elements in the kernel's table that are of no service, if the table's rules are those we would make.
    pub(crate) fn others(&mut self) -> io::Result<Vec<Element>> {
        let mut found = Vec::new();
        if !self.in_step {
            return Ok(found);
        }
        for place in [Place::Own, Place::Hairpin, Place::HostPorts] {
            for (bytes, data) in nft::elements(&mut self.socket, &self.name, place.set().name)? {
                let mut key = [0; 20];
                if let Some(key) = key.get_mut(..bytes.len()) {
                    key.copy_from_slice(&bytes);
                }
                let value = <[u8; 8]>::try_from(data).map_or(Value::Nothing, Value::Endpoint);
                found.push(Element { place, key, value });
            }
        }
        Ok(found)
    }

    /// Takes up a table with the elements that were found in it, or makes one with those that there must be.
    pub(crate) fn begin(&mut self, found: Vec<Element>, must: Vec<Element>) -> Result<(), Error> {
        if self.in_step {
            self.desired.adopt(found);
            return self.exchange(Vec::new(), must);
        }
        self.desired.adopt(must);
        self.renew()
    }

    /// The socket, for what is no change of the table's contents.
    pub(crate) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Makes `services` all services there are.
    pub(crate) fn services(&mut self, services: &Services) -> Result<(), Error> {
        let differences = self.desired.differences(services);
        self.change(differences)
    }

    /// Sets or removes some services.
    pub(crate) fn change(&mut self, services: Vec<Change>) -> Result<(), Error> {
        // What a former process left is of use only until we know better.
        if !self.complete {
            self.complete = true;
            self.in_step = false;
        }
        self.apply(services, Vec::new(), Vec::new())
    }

    /// Takes out and puts in elements that are of no service.
    pub(crate) fn exchange(&mut self, remove: Vec<Element>, add: Vec<Element>) -> Result<(), Error> {
        self.apply(Vec::new(), remove, add)
    }

    /// Knows of nothing any more; the table is gone.
    pub(crate) fn forget(&mut self) {
        self.desired = Desired::default();
        self.in_step = false;
    }

    fn apply(&mut self, services: Vec<Change>, remove: Vec<Element>, add: Vec<Element>) -> Result<(), Error> {
        let plan = self.desired.plan(services, remove, add);
        if plan.is_empty() && self.in_step {
            return Ok(());
        }
        let udp: HashSet<Key> = plan.keys().filter(|key| key.protocol == Protocol::Udp).collect();
        if !self.in_step {
            self.desired.commit(plan);
            self.renew()?;
            let all: HashSet<Key> = self.desired.keys().filter(|key| key.protocol == Protocol::Udp).collect();
            self.forget_stale(&all.union(&udp).copied().collect());
            return Ok(());
        }
        let done = self.write(&plan);
        self.desired.commit(plan);
        match done {
            Ok(()) => {}
            Err(refused) if refused.is_out_of_step() => {
                tracing::warn!(table = %self.name, what = %refused.what, error = %refused.source,
                    "the table is not as it was left, and is made anew");
                self.in_step = false;
                self.renew()?;
            }
            Err(nft::Refused { what, source }) => {
                self.in_step = false;
                return Err(Error::Kernel { what, source });
            }
        }
        self.forget_stale(&udp);
        Ok(())
    }

    fn write(&mut self, plan: &Plan) -> Result<(), nft::Refused> {
        let mut batch = Batch::new(&self.name);
        for chain in &plan.new_chains {
            chain.write(&mut batch);
        }
        plan.changes.write(&mut batch);
        for chain in &plan.old_chains {
            chain.remove(&mut batch);
        }
        batch.commit(&mut self.socket)
    }

    /// Makes the table anew with all it shall hold, in one transaction.
    fn renew(&mut self) -> Result<(), Error> {
        let (changes, chains) = self.desired.all();
        let mut batch = Batch::new(&self.name);
        table::write(&mut batch, &self.base);
        for chain in chains {
            chain.write(&mut batch);
        }
        changes.write(&mut batch);
        batch.commit(&mut self.socket).map_err(|nft::Refused { what, source }| Error::Kernel { what, source })?;
        self.in_step = true;
        Ok(())
    }

    /// Forgets UDP flows to `keys` that lead elsewhere than they now should.
    fn forget_stale(&mut self, keys: &HashSet<Key>) {
        if keys.is_empty() {
            return;
        }
        let Self { desired, socket, .. } = self;
        let stale = |flow: &Flow| {
            let exact = Key { address: *flow.to.ip(), protocol: Protocol::Udp, port: flow.to.port() };
            let wild = Key { address: Ipv4Addr::UNSPECIFIED, ..exact };
            let Some(key) = [exact, wild].into_iter().find(|key| keys.contains(key)) else { return false };
            match desired.front(key) {
                Some(front) => !front.leads_to(flow.answered_by),
                None => flow.to != flow.answered_by,
            }
        };
        // A host port has its own life, and the same port on other addresses is none of ours.
        let host_ports: HashSet<[u8; 8]> = desired
            .others()
            .iter()
            .filter_map(|element| match element.value {
                Value::Endpoint(bytes) => Some(bytes),
                _ => None,
            })
            .collect();
        let stale = |flow: &Flow| stale(flow) && !host_ports.contains(&endpoint_bytes(flow.answered_by));
        if let Err(error) = conntrack::forget(socket, stale) {
            tracing::warn!(table = %self.name, %error, "stale udp flows were not forgotten");
        }
    }

    /// Forgets the UDP flows for which `stale` holds. That it fails is logged: flows end by themselves, too.
    pub(crate) fn forget_flows(&mut self, stale: impl Fn(&Flow) -> bool) {
        if let Err(error) = conntrack::forget(&mut self.socket, stale) {
            tracing::warn!(table = %self.name, %error, "stale udp flows were not forgotten");
        }
    }
}
