//! Listeners, TLS, HTTP/1 and HTTP/2, upgrades, drain: what every part that answers requests shares.
//!
//! ```text
//! socket ─ tls ─ http ─ handler(Request<Body>) -> Response<Body>
//!                         ├─ tunnel   the rest of the connection goes to another server, byte by byte
//!                         └─ stream   the rest of the connection is terminated here: WebSocket or SPDY
//! ```
//!
//! Nothing here knows what is served. `trust` is for the other side: whom a client believes.

pub mod body;
pub mod file;
pub mod handed;
pub mod http;
pub mod inlet;
pub mod lanes;
pub mod stream;
pub mod tls;
pub mod trust;
pub mod tunnel;

pub use body::Body;
pub use http::Peer;
