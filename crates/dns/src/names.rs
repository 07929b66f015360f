//! Names that depend on who asks: those of containers, which only others in the same network see.

use std::net::IpAddr;

/// Who knows such names. They come before the zone and before servers outside.
pub trait Names: std::fmt::Debug + Send + Sync {
    /// Addresses of a name, which is in lower case and without its last dot; `None` where it is not known to `client`.
    fn addresses(&self, client: IpAddr, name: &str) -> Option<Vec<IpAddr>>;

    /// The name of an address; `None` where it is not known to `client`.
    fn name(&self, client: IpAddr, address: IpAddr) -> Option<String>;
}
