//! The web interface: serves the pages built from `ui/`, signs people in, and passes what their browsers ask on to the
//! API server and to Prometheus, with their own rights and no others.
//!
//! ```text
//! browser ─ door (Host, Origin) ─┬─ assets                        what Vite has built
//!                                ├─ session     token or link ─► sealed cookie
//!                                ├─ upstream    /k8s, /prometheus, /alertmanager: cookie ─► bearer token
//!                                └─ grafana     /api/...: dashboards and queries as Grafana's clients ask for them
//! ```
//!
//! Nothing is kept for anybody: a session is a cookie that only this server can open, and everything shown comes from the API
//! when it is asked for. Decisions: `docs/decisions/console.md`; pages: `docs/console.md`.

pub mod console;

pub mod session;

mod answer;
mod assets;
mod door;
mod grafana;
mod upstream;
