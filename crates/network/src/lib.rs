//! Links, addresses, routes and service tables of one node; netlink only, no host tools.
//!
//! ```text
//!            pod a                         pod b                    the world
//!        eth0 10.42.0.5                eth0 10.42.0.6                   │
//!             │ default via 169.254.1.1     │                         uplink
//!   ──────────┼─────────────────────────────┼───────────────────────────┼──────── namespaces
//!        md….  10.42.0.5/32            md….  10.42.0.6/32                │
//!             └──────────── routing ────────┴───────────────────────────┘
//!                 prerouting, output: service address → endpoint (DNAT)
//!                 forward, input, output: services without endpoints are refused
//!                 postrouting: masquerade what leaves the cluster, and hairpins
//! ```
//!
//! Every pod has a veth pair and a /32 route, and there is no bridge: pods reach each other, the node and the world by
//! routing alone. All rules of one instance live in one nf_tables table, so that two instances on one machine do not
//! meet and removing one is one delete.
//!
//! In reading order: what is asked for, what the kernel is told, and who tells it.

mod address;

mod service;

mod error;

mod netlink;

mod link;

mod nft;

mod table;

mod desired;

mod conntrack;

mod keeper;

mod names;

mod firewall;

mod pod;

mod leftover;

mod network;

mod bridge;

mod queue;

pub use address::{Cidr, Cidr6, Cidr6Error, CidrError, Protocol};
pub use bridge::{Bridge, Bridge4, Bridge6, Bridges, Forward, Place};
pub use error::Error;
pub use leftover::Leftover;
pub use network::{Config, Network};
pub use pod::{HostPort, Pod, SandboxNet};
pub use queue::unread;
pub use service::{Change, ServicePort, Services};
