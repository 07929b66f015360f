//! Where targets come from.
//!
//! Files, HTTP, DNS, Docker and Kubernetes are asked here, besides targets that are listed. Other mechanisms of Prometheus
//! are read, so that a configuration with them is valid, and told in the log: they find nothing.

use std::path::Path;

use tsdb::labels::Labels;

use super::units::{Address, Span, join};
use crate::{
    http_client::HttpClient,
    yaml::{Fields, Kind, Node, Print, Problems, Record, Stop, Value},
};

/// Targets with labels that they share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Addresses.
    pub targets: Vec<String>,
    /// Their labels.
    pub labels: Labels,
}

impl Record for Group {
    const TYPE: &'static str =
        "struct { Targets []string \"yaml:\\\"targets\\\"\"; Labels model.LabelSet \"yaml:\\\"labels\\\"\" }";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("targets", &mut self.targets);
        fields.field("labels", &mut self.labels);
    }
}

/// Files with groups.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Patterns of their names.
    pub files: Vec<String>,
    /// How often they are looked at even if nobody says that they have changed.
    pub refresh_interval: Span,
}

impl Default for File {
    fn default() -> Self {
        Self { files: Vec::new(), refresh_interval: Span::seconds(300) }
    }
}

impl Record for File {
    const TYPE: &'static str = "file.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("files", &mut self.files);
        fields.field("refresh_interval", &mut self.refresh_interval);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.files.is_empty() {
            return Err("file service discovery config must contain at least one path name".to_owned());
        }
        for file in &self.files {
            let extension = file.rsplit_once('.').map_or("", |parts| parts.1).to_ascii_lowercase();
            let known = matches!(extension.as_str(), "json" | "yml" | "yaml");
            let name = file.rsplit_once('.').map_or("", |parts| parts.0);
            if !known || name.split_once('*').is_some_and(|(_, rest)| rest.contains(['*', '/'])) {
                return Err(format!("path name {} is not valid for file discovery", tsdb::labels::quote(file)));
            }
        }
        Ok(())
    }
}

/// Groups that somebody tells over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// How it is spoken to.
    pub http: HttpClient,
    /// How often.
    pub refresh_interval: Span,
    /// Where.
    pub url: String,
}

impl Default for Http {
    fn default() -> Self {
        Self { http: HttpClient::default(), refresh_interval: Span::seconds(60), url: String::new() }
    }
}

impl Record for Http {
    const TYPE: &'static str = "http.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        self.http.fields(fields);
        fields.field("refresh_interval", &mut self.refresh_interval);
        fields.always("url", &mut self.url);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.url.is_empty() {
            return Err("URL is missing".to_owned());
        }
        let address = Address::parse(&self.url)?;
        if !matches!(address.scheme(), "http" | "https") {
            return Err("URL scheme must be 'http' or 'https'".to_owned());
        }
        if address.host().is_empty() {
            return Err("host is missing in URL".to_owned());
        }
        self.http.validate()
    }
}

/// Names that DNS resolves to targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// The names.
    pub names: Vec<String>,
    /// How often.
    pub refresh_interval: Span,
    /// `SRV`, `A`, `AAAA`, `MX` or `NS`.
    pub kind: String,
    /// The port, where the records say none.
    pub port: i64,
}

impl Default for Dns {
    fn default() -> Self {
        Self { names: Vec::new(), refresh_interval: Span::seconds(30), kind: "SRV".to_owned(), port: 0 }
    }
}

impl Record for Dns {
    const TYPE: &'static str = "dns.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("names", &mut self.names);
        fields.field("refresh_interval", &mut self.refresh_interval);
        fields.always("type", &mut self.kind);
        fields.always("port", &mut self.port);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.names.is_empty() {
            return Err("DNS-SD config must contain at least one SRV record name".to_owned());
        }
        match self.kind.to_uppercase().as_str() {
            "SRV" => Ok(()),
            "A" | "AAAA" | "MX" | "NS" if self.port == 0 => {
                Err("a port is required in DNS-SD configs for all record types except SRV".to_owned())
            }
            "A" | "AAAA" | "MX" | "NS" => Ok(()),
            _ => Err(format!("invalid DNS-SD records type {}", self.kind)),
        }
    }
}

/// What containers must be like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// What is looked at.
    pub name: String,
    /// What it may be.
    pub values: Vec<String>,
}

impl Record for Filter {
    const TYPE: &'static str = "moby.Filter";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("name", &mut self.name);
        fields.always("values", &mut self.values);
    }
}

/// Containers of a Docker engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Docker {
    /// How it is spoken to.
    pub http: HttpClient,
    /// `unix:///...`, `tcp://...` or `http://...`.
    pub host: String,
    /// The port of containers that expose none.
    pub port: i64,
    /// Which containers.
    pub filters: Vec<Filter>,
    /// The host of containers in the host's network.
    pub host_networking_host: String,
    /// How often.
    pub refresh_interval: Span,
    /// Whether only the first network of a container counts.
    pub match_first_network: bool,
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            http: HttpClient::default(),
            host: String::new(),
            port: 80,
            filters: Vec::new(),
            host_networking_host: "localhost".to_owned(),
            refresh_interval: Span::seconds(60),
            match_first_network: true,
        }
    }
}

impl Record for Docker {
    const TYPE: &'static str = "moby.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        self.http.fields(fields);
        fields.always("host", &mut self.host);
        fields.always("port", &mut self.port);
        fields.always("filters", &mut self.filters);
        fields.always("host_networking_host", &mut self.host_networking_host);
        fields.always("refresh_interval", &mut self.refresh_interval);
        fields.always("match_first_network", &mut self.match_first_network);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.host.is_empty() {
            return Err("host missing".to_owned());
        }
        Address::parse(&self.host)?;
        self.http.validate()
    }
}

/// Which objects of a cluster are targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Nothing was said, which is wrong.
    #[default]
    Missing,
    /// Nodes.
    Node,
    /// Containers' ports of pods.
    Pod,
    /// Ports of services.
    Service,
    /// Addresses of endpoints.
    Endpoints,
    /// Addresses of endpoint slices.
    EndpointSlice,
    /// Paths of ingresses.
    Ingress,
}

const ROLES: [(&str, Role); 6] = [
    ("node", Role::Node),
    ("pod", Role::Pod),
    ("service", Role::Service),
    ("endpoints", Role::Endpoints),
    ("endpointslice", Role::EndpointSlice),
    ("ingress", Role::Ingress),
];

impl Role {
    /// Its name.
    pub fn name(self) -> &'static str {
        ROLES.iter().find(|known| known.1 == self).map_or("", |known| known.0)
    }

    fn selectable(self) -> &'static [Role] {
        match self {
            Self::Missing => &[],
            Self::Node => &[Self::Node],
            Self::Pod => &[Self::Pod, Self::Node],
            Self::Service => &[Self::Service],
            Self::Endpoints => &[Self::Pod, Self::Service, Self::Endpoints],
            Self::EndpointSlice => &[Self::Pod, Self::Service, Self::EndpointSlice],
            Self::Ingress => &[Self::Ingress],
        }
    }
}

impl Value for Role {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        let Some(text) = node.text() else {
            problems.mismatch(node, "string");
            return Ok(());
        };
        match ROLES.iter().find(|known| known.0 == text) {
            Some((_, role)) => *self = *role,
            None => return Err(format!("unknown Kubernetes SD role {}", tsdb::labels::quote(text)).into()),
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::Missing;
    }

    fn is_empty(&self) -> bool {
        *self == Self::Missing
    }

    fn print(&mut self) -> Print {
        Print::Text(self.name().to_owned())
    }
}

/// Which namespaces; all if nothing is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespaces {
    /// That of this process.
    pub own_namespace: bool,
    /// Those of these names.
    pub names: Vec<String>,
}

impl Record for Namespaces {
    const TYPE: &'static str = "kubernetes.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("own_namespace", &mut self.own_namespace);
        fields.always("names", &mut self.names);
    }
}

/// Which objects of a kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// The kind.
    pub role: Role,
    /// Their labels, in the API's text form.
    pub label: String,
    /// Their fields, in the API's text form.
    pub field: String,
}

impl Record for Selector {
    const TYPE: &'static str = "kubernetes.SelectorConfig";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("role", &mut self.role);
        fields.field("label", &mut self.label);
        fields.field("field", &mut self.field);
    }
}

/// What is said of other objects that belong to a target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attach {
    /// Its node.
    pub node: bool,
    /// Its namespace.
    pub namespace: bool,
    /// The deployment of its pod.
    pub deployment: bool,
    /// The job of its pod.
    pub job: bool,
    /// The cron job of its pod.
    pub cronjob: bool,
}

impl Record for Attach {
    const TYPE: &'static str = "kubernetes.AttachMetadataConfig";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("node", &mut self.node);
        fields.always("namespace", &mut self.namespace);
        fields.always("deployment", &mut self.deployment);
        fields.always("job", &mut self.job);
        fields.always("cronjob", &mut self.cronjob);
    }
}

/// Objects of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kubernetes {
    /// The API server; without one, that of the cluster in which this runs.
    pub api_server: Address,
    /// Which objects.
    pub role: Role,
    /// A kubeconfig that names the API server.
    pub kubeconfig_file: String,
    /// How the API server is spoken to.
    pub http: HttpClient,
    /// Which namespaces.
    pub namespaces: Namespaces,
    /// Which objects.
    pub selectors: Vec<Selector>,
    /// What else is said.
    pub attach_metadata: Attach,
}

impl Record for Kubernetes {
    const TYPE: &'static str = "kubernetes.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("api_server", &mut self.api_server);
        fields.always("role", &mut self.role);
        fields.always("kubeconfig_file", &mut self.kubeconfig_file);
        self.http.fields(fields);
        fields.field("namespaces", &mut self.namespaces);
        fields.field("selectors", &mut self.selectors);
        fields.field("attach_metadata", &mut self.attach_metadata);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.role == Role::Missing {
            return Err("role missing (one of: pod, service, endpoints, endpointslice, node, ingress)".to_owned());
        }
        self.http.validate()?;
        let (server, kubeconfig) = (!self.api_server.0.is_empty(), !self.kubeconfig_file.is_empty());
        let custom = self.http != HttpClient::default();
        if server && kubeconfig {
            return Err("cannot use 'kubeconfig_file' and 'api_server' simultaneously".to_owned());
        }
        if kubeconfig && custom {
            return Err("cannot use a custom HTTP client configuration together with 'kubeconfig_file'".to_owned());
        }
        if !server && custom {
            return Err(
                "to use custom HTTP client configuration please provide the 'api_server' URL explicitly".to_owned()
            );
        }
        if server && self.namespaces.own_namespace {
            return Err("cannot use 'api_server' and 'namespaces.own_namespace' simultaneously".to_owned());
        }
        if kubeconfig && self.namespaces.own_namespace {
            return Err("cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously".to_owned());
        }
        let mut seen = Vec::new();
        for selector in &self.selectors {
            if seen.contains(&selector.role) {
                return Err(format!("duplicated selector role: {}", selector.role.name()));
            }
            seen.push(selector.role);
            let allowed = self.role.selectable();
            if !allowed.contains(&selector.role) {
                let names: Vec<&str> = allowed.iter().map(|role| role.name()).collect();
                return Err(format!("{} role supports only {} selectors", self.role.name(), names.join(", ")));
            }
            for part in selector.field.split(',').filter(|part| !part.is_empty()) {
                if !part.contains('=') {
                    return Err(format!("invalid selector: '{}'; can't understand '{part}'", selector.field));
                }
            }
            api::selector::Labels::parse(&selector.label)?;
        }
        Ok(())
    }
}

/// Mechanisms that are read and find nothing.
const OTHERS: [&str; 26] = [
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "ionos_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "oci_sd_configs",
    "openstack_sd_configs",
    "outscale_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
];

/// Settings of a mechanism that is not there.
#[derive(Clone, Debug, Default, PartialEq)]
struct Opaque(usize);

impl Value for Opaque {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        match &node.kind {
            Kind::List(items) => self.0 = items.len(),
            _ => problems.mismatch(node, "[]*discovery.Config"),
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.0 = 0;
    }

    fn is_empty(&self) -> bool {
        self.0 == 0
    }

    fn print(&mut self) -> Print {
        // Their fields hold secrets that nobody here can tell from the rest.
        Print::List(vec![Print::Map(Vec::new()); self.0])
    }
}

/// Where targets come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Discovery {
    /// Listed ones.
    pub groups: Vec<Group>,
    /// Files.
    pub file: Vec<File>,
    /// HTTP.
    pub http: Vec<Http>,
    /// DNS.
    pub dns: Vec<Dns>,
    /// Docker.
    pub docker: Vec<Docker>,
    /// Kubernetes.
    pub kubernetes: Vec<Kubernetes>,
    others: Vec<(&'static str, Opaque)>,
}

impl Discovery {
    /// Names the fields among those of a surrounding record.
    pub fn fields(&mut self, fields: &mut Fields<'_>) {
        let hole = |name: &str| format!("empty or null section in {name}");
        fields.list("dns_sd_configs", &mut self.dns, &hole("dns_sd_configs"));
        fields.list("docker_sd_configs", &mut self.docker, &hole("docker_sd_configs"));
        fields.list("file_sd_configs", &mut self.file, &hole("file_sd_configs"));
        fields.list("http_sd_configs", &mut self.http, &hole("http_sd_configs"));
        fields.list("kubernetes_sd_configs", &mut self.kubernetes, &hole("kubernetes_sd_configs"));
        for name in OTHERS {
            let mut found =
                self.others.iter().find(|other| other.0 == name).map(|other| other.1.clone()).unwrap_or_default();
            fields.field(name, &mut found);
            if !found.is_empty() && !self.others.iter().any(|other| other.0 == name) {
                self.others.push((name, found));
            }
        }
        fields.list("static_configs", &mut self.groups, &hole("static_configs"));
    }

    /// Mechanisms that are configured and find nothing.
    pub fn unsupported(&self) -> impl Iterator<Item = &'static str> {
        self.others.iter().map(|other| other.0)
    }

    pub(super) fn check_addresses(&self) -> Result<(), String> {
        let wrong = self.groups.iter().flat_map(|group| &group.targets).find(|target| target.contains('/'));
        wrong.map_or(Ok(()), |target| Err(format!("{} is not a valid hostname", tsdb::labels::quote(target))))
    }

    pub(super) fn set_directory(&mut self, dir: &Path) {
        for file in &mut self.file {
            file.files.iter_mut().for_each(|file| join(dir, file));
        }
        self.http.iter_mut().for_each(|http| http.http.set_directory(dir));
        self.docker.iter_mut().for_each(|docker| docker.http.set_directory(dir));
        for kubernetes in &mut self.kubernetes {
            kubernetes.http.set_directory(dir);
            join(dir, &mut kubernetes.kubeconfig_file);
        }
    }
}
