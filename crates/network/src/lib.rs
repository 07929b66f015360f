//! Links, addresses, routes, service tables; netlink only.
