//! Gateway API's kinds: their definitions, which are installed in the cluster at start, and what of their objects is read.
//!
//! `cargo xtask schema` derives the definitions from the Go module sigs.k8s.io/gateway-api (v1.6.3, standard channel).
//!
//! See <https://gateway-api.sigs.k8s.io/reference/spec/>.

use std::{borrow::Cow, fmt::Debug, io::Read};

use flate2::read::GzDecoder;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// The group of the kinds.
pub const GROUP: &str = "gateway.networking.k8s.io";

const PACKED: &[u8] = include_bytes!("kinds/gateway.json.gz");

/// The definitions, ordered by the names of the kinds.
pub fn definitions() -> Vec<Value> {
    let mut text = String::new();
    // What is packed was packed by our own hand, and a test reads it.
    let read = GzDecoder::new(PACKED).read_to_string(&mut text);
    debug_assert!(read.is_ok(), "definitions of kinds are damaged");
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The specification of a kind, which names it.
pub trait Spec: Clone + Debug + Default + DeserializeOwned + Send + Sync + 'static {
    /// The kind.
    const KIND: &'static str;
    /// Its name in paths.
    const PLURAL: &'static str;
    /// The version that is read.
    const VERSION: &'static str;
}

/// An object of one of the kinds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(bound = "", default)]
pub struct Object<S: Spec> {
    /// Name, namespace, generation.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: S,
    /// What was found, by whoever looks after it.
    pub status: Value,
}

impl<S: Spec> Object<S> {
    /// The name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The namespace; empty where the kind has none.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The generation of the specification.
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    /// What orders objects where nothing else does: the older first, then by name.
    pub fn age(&self) -> (i64, String) {
        let created = self.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second());
        (created, format!("{}/{}", self.namespace(), self.name()))
    }
}

impl<S: Spec> kube::Resource for Object<S> {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        S::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        S::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        S::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A class of gateways.
pub type GatewayClass = Object<ClassSpec>;
/// A gateway.
pub type Gateway = Object<GatewaySpec>;
/// Routes of HTTP.
pub type HttpRoute = Object<RouteSpec>;
/// Leave to refer to objects of another namespace.
pub type ReferenceGrant = Object<GrantSpec>;

/// Who looks after a class.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClassSpec {
    /// The controller's name.
    pub controller_name: String,
    /// Settings of the controller's own.
    pub parameters_ref: Option<Reference>,
}

impl Spec for ClassSpec {
    const KIND: &'static str = "GatewayClass";
    const PLURAL: &'static str = "gatewayclasses";
    const VERSION: &'static str = "v1";
}

/// A reference to an object; what is missing is as the place says where it stands.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Reference {
    /// The group.
    pub group: Option<String>,
    /// The kind.
    pub kind: Option<String>,
    /// The namespace.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl Reference {
    /// Whether it is to that kind, where nothing said means `kind` of `group` itself.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group.as_deref().unwrap_or(group) == group && self.kind.as_deref().unwrap_or(kind) == kind
    }
}

/// What a gateway is to be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewaySpec {
    /// Its class.
    pub gateway_class_name: String,
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// Addresses asked for.
    pub addresses: Vec<Address>,
    /// Settings of its own.
    pub infrastructure: Option<Infrastructure>,
}

impl Spec for GatewaySpec {
    const KIND: &'static str = "Gateway";
    const PLURAL: &'static str = "gateways";
    const VERSION: &'static str = "v1";
}

/// What is beside a gateway.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Infrastructure {
    /// Settings of the controller's own.
    pub parameters_ref: Option<Reference>,
}

/// An address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Address {
    /// `IPAddress` unless said otherwise.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The address itself; empty for any.
    pub value: String,
}

/// Where a gateway listens.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listener {
    /// Its name within the gateway.
    pub name: String,
    /// Which hosts; all when missing.
    pub hostname: Option<String>,
    /// The port.
    pub port: u16,
    /// `HTTP`, `HTTPS`, others.
    pub protocol: String,
    /// Certificates.
    pub tls: Option<Tls>,
    /// Which routes may attach.
    pub allowed_routes: Option<AllowedRoutes>,
}

/// A listener's TLS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tls {
    /// `Terminate` unless said otherwise.
    pub mode: Option<String>,
    /// Secrets with certificate and key.
    pub certificate_refs: Vec<Reference>,
}

/// Which routes may attach to a listener.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AllowedRoutes {
    /// Those of which namespaces.
    pub namespaces: Option<RouteNamespaces>,
    /// Those of which kinds; empty for those of the protocol.
    pub kinds: Vec<RouteKind>,
}

/// Namespaces of routes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RouteNamespaces {
    /// `All`, `Same` (unless said otherwise) or `Selector`.
    pub from: Option<String>,
    /// With `Selector`.
    pub selector: Option<LabelSelector>,
}

/// A kind of routes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct RouteKind {
    /// Gateway API's own unless said otherwise.
    pub group: Option<String>,
    /// The kind.
    pub kind: String,
}

/// Routes of HTTP.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteSpec {
    /// What they attach to.
    pub parent_refs: Vec<Parent>,
    /// Which hosts; all of the listener's when empty.
    pub hostnames: Vec<String>,
    /// In their order.
    pub rules: Vec<Rule>,
}

impl Spec for RouteSpec {
    const KIND: &'static str = "HTTPRoute";
    const PLURAL: &'static str = "httproutes";
    const VERSION: &'static str = "v1";
}

/// What a route attaches to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Parent {
    /// Gateway API's own unless said otherwise.
    pub group: Option<String>,
    /// `Gateway` unless said otherwise.
    pub kind: Option<String>,
    /// The route's own unless said otherwise.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// One listener of it.
    pub section_name: Option<String>,
    /// Listeners of that port.
    pub port: Option<u16>,
}

/// Requests that match, and what becomes of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Its name within the route.
    pub name: Option<String>,
    /// Any of these; all requests when empty.
    pub matches: Vec<Match>,
    /// In their order.
    pub filters: Vec<Filter>,
    /// Where requests go, by weight.
    pub backend_refs: Vec<BackendRef>,
    /// How long they may take.
    pub timeouts: Option<Timeouts>,
    /// When they are sent again (experimental channel).
    pub retry: Option<Retry>,
}

/// Bounds of a request's time, as durations in Gateway API's form.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// Of the whole.
    pub request: Option<String>,
    /// Of each attempt.
    pub backend_request: Option<String>,
}

/// When requests are sent again.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// Statuses that are not final.
    pub codes: Vec<u16>,
    /// How often at most.
    pub attempts: Option<u32>,
    /// The least time between two attempts.
    pub backoff: Option<String>,
}

/// What a request must be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Match {
    /// Its path; any when missing.
    pub path: Option<PathMatch>,
    /// Its headers, all of them.
    pub headers: Vec<NamedMatch>,
    /// Its query parameters, all of them.
    pub query_params: Vec<NamedMatch>,
    /// Its method; any when missing.
    pub method: Option<String>,
}

/// What a path must be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PathMatch {
    /// `PathPrefix` unless said otherwise.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `/` unless said otherwise.
    pub value: Option<String>,
}

/// What something with a name must be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NamedMatch {
    /// `Exact` unless said otherwise.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The name.
    pub name: String,
    /// The value, or a regular expression.
    pub value: String,
}

/// Something done to a request or its answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Filter {
    /// Which of the following.
    #[serde(rename = "type")]
    pub kind: String,
    /// Changes the request's headers.
    pub request_header_modifier: Option<HeaderChange>,
    /// Changes the answer's headers.
    pub response_header_modifier: Option<HeaderChange>,
    /// Sends a copy elsewhere.
    pub request_mirror: Option<Mirror>,
    /// Answers with a redirection.
    pub request_redirect: Option<Redirect>,
    /// Changes host and path.
    pub url_rewrite: Option<Rewrite>,
    /// Lets pages of other origins ask.
    pub cors: Option<Cors>,
}

/// A change of headers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HeaderChange {
    /// In the place of what there is.
    pub set: Vec<Header>,
    /// Beside what there is.
    pub add: Vec<Header>,
    /// Names of those that go.
    pub remove: Vec<String>,
}

/// A header.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Where copies go.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mirror {
    /// To whom.
    pub backend_ref: BackendRef,
    /// Of how many in a hundred requests.
    pub percent: Option<u32>,
    /// Of how many.
    pub fraction: Option<Fraction>,
}

/// A part.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Fraction {
    /// So many
    pub numerator: u32,
    /// of so many; of a hundred when missing.
    pub denominator: Option<u32>,
}

/// A redirection.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Redirect {
    /// `http` or `https`; as it was when missing.
    pub scheme: Option<String>,
    /// As it was when missing.
    pub hostname: Option<String>,
    /// As it was when missing.
    pub path: Option<PathChange>,
    /// The scheme's, or the listener's, when missing.
    pub port: Option<u16>,
    /// 302 unless said otherwise.
    pub status_code: Option<u16>,
}

/// A change of the path.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathChange {
    /// `ReplaceFullPath` or `ReplacePrefixMatch`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The new path.
    pub replace_full_path: Option<String>,
    /// What the matched part becomes.
    pub replace_prefix_match: Option<String>,
}

/// A change of host and path on the way to the backend.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Rewrite {
    /// The new host.
    pub hostname: Option<String>,
    /// The new path.
    pub path: Option<PathChange>,
}

/// What pages of other origins may ask.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cors {
    /// Which pages.
    pub allow_origins: Vec<String>,
    /// With credentials.
    pub allow_credentials: Option<bool>,
    /// With which methods.
    pub allow_methods: Vec<String>,
    /// With which headers.
    pub allow_headers: Vec<String>,
    /// Which headers of the answer they see.
    pub expose_headers: Vec<String>,
    /// For how many seconds this holds.
    pub max_age: Option<u32>,
}

/// Where requests go.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct BackendRef {
    /// The core group unless said otherwise.
    pub group: Option<String>,
    /// `Service` unless said otherwise.
    pub kind: Option<String>,
    /// The route's own unless said otherwise.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The Service's port.
    pub port: Option<u16>,
    /// Its part; one unless said otherwise.
    pub weight: Option<u32>,
    /// For requests that go there.
    pub filters: Vec<Filter>,
}

/// Leave to refer to objects of this namespace.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GrantSpec {
    /// Who may refer.
    pub from: Vec<GrantFrom>,
    /// To what.
    pub to: Vec<GrantTo>,
}

impl Spec for GrantSpec {
    const KIND: &'static str = "ReferenceGrant";
    const PLURAL: &'static str = "referencegrants";
    const VERSION: &'static str = "v1";
}

/// Who may refer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GrantFrom {
    /// The group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
}

/// What may be referred to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GrantTo {
    /// The group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// One object; all when missing.
    pub name: Option<String>,
}

#[cfg(test)]
mod tests;
