//! Where alerts go to.

use std::path::Path;

use super::{
    discovery::Discovery,
    remote::SigV4,
    units::{Names, Span},
};
use crate::{
    http_client::HttpClient,
    relabel::{self, Rule},
    yaml::{Fields, Record},
};

/// Where alerts go to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alerting {
    /// Rules for alerts.
    pub alert_relabel_configs: Vec<Rule>,
    /// Alertmanagers.
    pub alertmanagers: Vec<Alertmanager>,
}

impl Record for Alerting {
    const TYPE: &'static str = "config.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.list("alert_relabel_configs", &mut self.alert_relabel_configs, "empty or null alert relabeling rule");
        fields.field("alertmanagers", &mut self.alertmanagers);
    }
}

impl Alerting {
    pub(super) fn validate(&mut self, names: Names) -> Result<(), String> {
        relabel::validate(&mut self.alert_relabel_configs, names)?;
        for manager in &mut self.alertmanagers {
            relabel::validate(&mut manager.alert_relabel_configs, names)?;
            relabel::validate(&mut manager.relabel_configs, names)?;
        }
        Ok(())
    }

    pub(super) fn set_directory(&mut self, dir: &Path) {
        for manager in &mut self.alertmanagers {
            manager.discovery.set_directory(dir);
            manager.http.set_directory(dir);
        }
    }
}

/// Alertmanagers of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Alertmanager {
    /// How they are spoken to.
    pub http: HttpClient,
    /// Signatures for Amazon.
    pub sigv4: Option<SigV4>,
    /// `http` or `https`.
    pub scheme: String,
    /// What stands before the path.
    pub path_prefix: String,
    /// How long sending may take.
    pub timeout: Span,
    /// The version of the API, `v2`.
    pub api_version: String,
    /// Rules for their addresses.
    pub relabel_configs: Vec<Rule>,
    /// Rules for alerts that they get.
    pub alert_relabel_configs: Vec<Rule>,
    /// Where their addresses come from.
    pub discovery: Discovery,
}

impl Default for Alertmanager {
    fn default() -> Self {
        Self {
            http: HttpClient::default(),
            sigv4: None,
            scheme: "http".to_owned(),
            path_prefix: String::new(),
            timeout: Span::seconds(10),
            api_version: "v2".to_owned(),
            relabel_configs: Vec::new(),
            alert_relabel_configs: Vec::new(),
            discovery: Discovery::default(),
        }
    }
}

impl Record for Alertmanager {
    const TYPE: &'static str = "config.AlertmanagerConfig";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        self.http.fields(fields);
        fields.field("sigv4", &mut self.sigv4);
        fields.field("scheme", &mut self.scheme);
        fields.field("path_prefix", &mut self.path_prefix);
        fields.field("timeout", &mut self.timeout);
        fields.always("api_version", &mut self.api_version);
        fields.list("relabel_configs", &mut self.relabel_configs, "empty or null Alertmanager target relabeling rule");
        fields.list(
            "alert_relabel_configs",
            &mut self.alert_relabel_configs,
            "empty or null Alertmanager alert relabeling rule",
        );
        self.discovery.fields(fields);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.api_version != "v2" {
            return Err(format!("expected Alertmanager api version to be one of [v2] but got {}", self.api_version));
        }
        self.http.validate()?;
        let authenticated =
            self.http.basic_auth.is_some() || self.http.authorization.is_some() || self.http.oauth2.is_some();
        if authenticated && self.sigv4.is_some() {
            return Err("at most one of basic_auth, authorization, oauth2, & sigv4 must be configured".to_owned());
        }
        if self.relabel_configs.is_empty() { self.discovery.check_addresses() } else { Ok(()) }
    }
}
