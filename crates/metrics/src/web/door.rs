//! Who may come in: on loopback anybody whom a browser's page has not sent, elsewhere users with rights.
//!
//! Rights are RBAC's over the resource `samples` of the group `metrics.madang.dev`: `get` to read, `create` to write
//! samples, `delete` for what changes or ends something. Tokens are Kubernetes' own, as a bearer's.

use access::{
    gate::{Gate, Refusal},
    origin,
};
use http::{StatusCode, request::Parts};
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use serve::Peer;

/// The API group of the resource `samples`.
pub const GROUP: &str = "metrics.madang.dev";

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Ask.
    Read,
    /// Hand samples over.
    Write,
    /// Delete, reload, end.
    Change,
}

/// A way in.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// Asks the API server who somebody is and what they may; none where there is no cluster.
    pub gate: Option<Gate>,
    /// Whether nobody needs to say who they are.
    pub open: bool,
    /// Whether only programs on this machine may ask: `Host` and `Origin` are checked.
    pub local_only: bool,
}

impl Door {
    /// Whether a request may come in; else with which status and words it does not.
    pub async fn admit(&self, parts: &Parts, right: Right) -> Result<(), (StatusCode, String)> {
        if self.local_only && !origin::is_local(&parts.headers, &parts.uri) {
            let message = "this port answers programs on this machine only: Host and Origin must name it".to_owned();
            return Err((StatusCode::FORBIDDEN, message));
        }
        if self.open {
            return Ok(());
        }
        let refuse = |refusal: Refusal| (refusal.status(), refusal.to_string());
        let gate = self.gate.as_ref().ok_or_else(|| refuse(Refusal::Unauthorized))?;
        let user = gate.who(parts.extensions.get::<Peer>(), &parts.headers).await.map_err(refuse)?;
        let verb = match right {
            Right::Read => "get",
            Right::Write => "create",
            Right::Change => "delete",
        };
        let attributes = ResourceAttributes {
            group: Some(GROUP.to_owned()),
            resource: Some("samples".to_owned()),
            verb: Some(verb.to_owned()),
            ..ResourceAttributes::default()
        };
        gate.may_do(&user, attributes).await.map_err(refuse)
    }
}
