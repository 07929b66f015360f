//! Who asks, and whether they may.
//!
//! ```text
//! in process ─────────┐
//! client certificate ─┤
//! bearer token ───────┼─> User ─> impersonation ─> node authorizer ─> RBAC ─> admission ...
//! nothing ─> anonymous┘
//! ```
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/>

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub mod aggregation;
pub mod certificate;
pub mod impersonate;
pub mod node;
pub mod rbac;
pub mod token;

/// A user as authorization and admission see them. In-process callers put one into the extensions of their requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Name, such as `system:serviceaccount:web:default`.
    pub name: String,
    /// Uid; may be empty.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Whatever the authenticator added.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The group whose members may do everything.
pub const MASTERS: &str = "system:masters";
/// Everyone who was recognised.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everyone who was not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of those.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of all nodes.
pub const NODES: &str = "system:nodes";

impl User {
    /// Somebody with these groups, and [`AUTHENTICATED`].
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut user = Self {
            name: name.into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..Self::default()
        };
        user.recognised();
        user
    }

    /// Who shows no credentials.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// The server itself, for what it does of its own accord.
    pub fn server() -> Self {
        Self::new("system:apiserver", &[MASTERS])
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let mut user = Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: uid.to_owned(),
            groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
            extra: BTreeMap::new(),
        };
        user.recognised();
        user
    }

    /// Adds [`AUTHENTICATED`], unless the user is anonymous.
    pub fn recognised(&mut self) {
        if self.name != ANONYMOUS && !self.is_in(AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
    }

    /// Whether the user belongs to `group`.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The node whose kubelet this is.
    pub fn node(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
        self.is_in(NODES).then_some(name)
    }

    /// Namespace and name of the service account that this is.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }

    /// As `UserInfo` of reviews and webhooks.
    pub fn to_value(&self) -> Value {
        let mut value = json!({ "username": self.name, "groups": self.groups });
        if !self.uid.is_empty() {
            value["uid"] = self.uid.as_str().into();
        }
        if !self.extra.is_empty() {
            value["extra"] = json!(self.extra);
        }
        value
    }
}
