//! What there is of an instance in the kernel, and its removal.

use std::{io, net::Ipv4Addr};

use crate::{
    Cidr, Error,
    error::{is, kernel},
    firewall, link,
    names::Names,
    netlink::{Request, Socket},
    nft::{self, Batch, Family},
};

/// Something of an instance that is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// A table of nf_tables, or one of either family.
    Table(String),
    /// Rules that let pods through another program's chain.
    Rules(String),
    /// A link.
    Link(String),
    /// A route, by its destination.
    Route(Cidr),
    /// An address of the loopback link.
    Address(Ipv4Addr),
}

/// All there is of an instance.
pub(crate) fn find(route: &mut Socket, netfilter: &mut Socket, names: &Names) -> Result<Vec<Leftover>, Error> {
    let mut found = Vec::new();
    let mut has = |family| {
        let found = nft::comment(netfilter, family, &names.instance);
        found.map_err(kernel(format!("find table {}", names.instance))).map(|found| found.is_some())
    };
    if has(Family::V4)? || has(Family::V6)? {
        found.push(Leftover::Table(names.instance.clone()));
    }
    let mut let_through = |family| firewall::rules(netfilter, family, names).map(|rules| !rules.is_empty());
    if let_through(Family::V4)? || let_through(Family::V6)? {
        found.push(Leftover::Rules(names.instance.clone()));
    }
    let links = link::links(route).map_err(kernel("list links"))?;
    let ours = links.into_iter().filter(|link| link.name.starts_with(&names.link_prefix));
    found.extend(ours.map(|link| Leftover::Link(link.name)));
    let routes = link::routes(route).map_err(kernel("list routes"))?;
    let ours = routes.iter().filter(|listed| listed.ours && listed.route.metric == Some(names.metric));
    found.extend(ours.map(|listed| Leftover::Route(listed.route.to)));
    let addresses = link::labelled(route, &names.label).map_err(kernel("list addresses"))?;
    found.extend(addresses.into_iter().map(Leftover::Address));
    Ok(found)
}

/// Removes something that [`find`] found.
pub(crate) fn remove(
    route: &mut Socket,
    netfilter: &mut Socket,
    names: &Names,
    leftover: &Leftover,
) -> Result<(), Error> {
    let mut request = Request::default();
    match leftover {
        Leftover::Table(name) => {
            for family in [Family::V4, Family::V6] {
                if nft::comment(netfilter, family, name).map_err(kernel(format!("find table {name}")))?.is_none() {
                    continue;
                }
                let mut batch = Batch::of(family, name);
                batch.remove_table();
                match batch.commit(netfilter) {
                    Err(refused) if refused.source.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::Kernel { what: refused.what, source: refused.source });
                    }
                    _ => {}
                }
            }
            return Ok(());
        }
        Leftover::Rules(_) => return firewall::remove(netfilter, names),
        Leftover::Link(name) => link::remove(&mut request, name),
        Leftover::Address(ip) => link::remove_address(&mut request, link::LOOPBACK, *ip),
        Leftover::Route(to) => {
            let listed = link::routes(route).map_err(kernel("list routes"))?;
            let ours = listed.iter().filter(|found| found.ours && found.route.metric == Some(names.metric));
            for found in ours.filter(|found| found.route.to == *to) {
                link::remove_route(&mut request, &found.route);
            }
        }
    }
    match route.all(request) {
        // It went by itself in the meantime, as the route of a link that is gone does.
        Err(error) if [libc::ENODEV, libc::ESRCH, libc::EADDRNOTAVAIL].iter().any(|code| is(&error, *code)) => Ok(()),
        other => other.map(drop).map_err(kernel(format!("remove {leftover:?}"))),
    }
}
