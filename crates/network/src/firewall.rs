//! Other programs' rules that would stop pods.
//!
//! Docker and ufw let the machine drop whatever it forwards, by the policy of the chain `FORWARD` in the table `filter`
//! of iptables, and no rule of ours elsewhere can undo that. So the chain gets two rules at its head, for what comes from
//! pods and what goes to them, in just the form in which iptables writes and reads them. They are looked for whenever a
//! pod is attached, because the other program may come later than we do. Where the chain accepts, it is left alone.
//!
//! The older iptables, which is not made of nf_tables, is not reached, and neither is firewalld, which wants to be told
//! of zones.

use crate::{
    Error,
    error::kernel,
    names::Names,
    netlink::Socket,
    nft::{self, Batch, Family, Reg, Verdict},
};

const TABLE: &str = "filter";
const CHAIN: &str = "FORWARD";

/// Lets pods through where another program would drop what they send or get.
pub(crate) fn let_through(socket: &mut Socket, family: Family, names: &Names) -> Result<(), Error> {
    let look = || format!("look at chain {CHAIN} of table {TABLE}");
    if nft::drops(socket, family, TABLE, CHAIN).map_err(kernel(look()))? != Some(true)
        || !rules(socket, family, names)?.is_empty()
    {
        return Ok(());
    }
    tracing::info!("the machine drops what it forwards; pods are let through");
    let mut batch = Batch::of(family, TABLE);
    for coming in [true, false] {
        batch.insert_rule(CHAIN, &comment(names), |rule| {
            if coming {
                rule.input_name(Reg(0));
            } else {
                rule.output_name(Reg(0));
            }
            rule.is(Reg(0), names.link_prefix.as_bytes()).counter().verdict(&Verdict::Accept);
        });
    }
    batch.commit(socket).map_err(|nft::Refused { what, source }| Error::Kernel { what, source })
}

/// What [`let_through`] put there.
pub(crate) fn rules(socket: &mut Socket, family: Family, names: &Names) -> Result<Vec<nft::Handle>, Error> {
    nft::rules(socket, family, TABLE, CHAIN, &comment(names))
        .map_err(kernel(format!("list chain {CHAIN} of table {TABLE}")))
}

/// Takes it away.
pub(crate) fn remove(socket: &mut Socket, names: &Names) -> Result<(), Error> {
    for family in [Family::V4, Family::V6] {
        let mut batch = Batch::of(family, TABLE);
        for rule in rules(socket, family, names)? {
            batch.remove_rule(CHAIN, rule);
        }
        batch.commit(socket).map_err(|nft::Refused { what, source }| Error::Kernel { what, source })?;
    }
    Ok(())
}

fn comment(names: &Names) -> String {
    format!("pods of {}", names.instance)
}
