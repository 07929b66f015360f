//! PodSecurity: the three standards that a namespace's labels choose from, and what a pod breaks of them.
//!
//! ```text
//! pod-security.kubernetes.io/enforce: LEVEL    refuse     ─┐
//!                           /audit:   LEVEL    (no log yet) ├─ each with -version: v1.N or latest
//!                           /warn:    LEVEL    tell        ─┘
//! ```
//!
//! `privileged` allows everything, `baseline` refuses what is known to lead out of a container, `restricted` asks for what
//! hardens it. Rules change with versions; a namespace may stay with those of an older one.
//!
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>

use std::fmt;

use serde_json::Value;

use crate::meta::View;

mod rules;

/// The minor version that `latest` means.
const LATEST: u32 = 37;
const LABEL: &str = "pod-security.kubernetes.io/";

/// How much a pod may ask for, from everything to little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Privileged,
    /// Nothing that is known to lead out of a container.
    Baseline,
    /// Only what is hardened.
    Restricted,
}

/// A level with the version of its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standard {
    /// The level.
    pub level: Level,
    /// The minor version; none for `latest`.
    minor: Option<u32>,
}

/// What a namespace asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Pods that break it are refused.
    pub enforce: Standard,
    /// Whoever makes pods that break it is warned.
    pub warn: Standard,
}

/// A label that is not understood: key, value, what it must be.
pub type Fault = (String, String, &'static str);

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.minor {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl Standard {
    const NONE: Standard = Standard { level: Level::Privileged, minor: None };

    /// What a pod, or the template of one, breaks; none if nothing.
    pub fn broken(&self, pod: View<'_>) -> Option<Broken> {
        if self.level == Level::Privileged {
            return None;
        }
        let minor = self.minor.unwrap_or(LATEST).min(LATEST);
        let found = rules::broken(self.level, minor, pod);
        (!found.is_empty()).then_some(Broken(found))
    }
}

/// Rules that a pod breaks, with what of it does.
#[derive(Debug, PartialEq)]
pub struct Broken(Vec<(String, String)>);

impl Broken {
    /// The rules alone.
    pub fn reasons(&self) -> String {
        self.0.iter().map(|(reason, _)| reason.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (reason, detail)) in self.0.iter().enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            match detail.as_str() {
                "" => write!(f, "{comma}{reason}")?,
                detail => write!(f, "{comma}{reason} ({detail})")?,
            }
        }
        Ok(())
    }
}

/// The policy that a namespace's labels ask for. Labels that are not understood count as the strictest for what is enforced,
/// and as nothing for warnings.
pub fn policy(namespace: &Value) -> (Policy, Vec<Fault>) {
    let labels = View::new(namespace).at("metadata").at("labels");
    let label = |name: &str| labels.at(&format!("{LABEL}{name}")).as_str();
    let mut faults = Vec::new();
    let mut standard = |mode: &str, fallback: Level| {
        let (mut standard, mut understood) = (Standard::NONE, false);
        if let Some(text) = label(mode) {
            let level = match text {
                "privileged" => Some(Level::Privileged),
                "baseline" => Some(Level::Baseline),
                "restricted" => Some(Level::Restricted),
                _ => None,
            };
            understood = level.is_some();
            standard.level = level.unwrap_or(fallback);
            if !understood {
                let must = "must be one of privileged, baseline, restricted";
                faults.push((format!("{LABEL}{mode}"), text.to_owned(), must));
            }
        }
        let key = format!("{mode}-version");
        if let Some(text) = label(&key) {
            let minor = text.strip_prefix("v1.").and_then(|minor| minor.parse().ok());
            if minor.is_none() && text != "latest" {
                faults.push((format!("{LABEL}{key}"), text.to_owned(), "must be \"latest\" or \"v1.x\""));
            }
            standard.minor = minor;
        }
        (standard, understood)
    };
    let (enforce, understood) = standard("enforce", Level::Restricted);
    standard("audit", Level::Privileged);
    let (mut warn, _) = standard("warn", Level::Privileged);
    // What is enforced is also told to those who make pods by way of controllers.
    if label("warn").is_none() && understood && enforce.level > warn.level {
        warn.level = enforce.level;
        if label("warn-version").is_none() {
            warn.minor = enforce.minor;
        }
    }
    (Policy { enforce, warn }, faults)
}

/// Whether an update of a pod changes anything that the standards look at: images are all that can change, and ephemeral
/// containers all that can come.
pub fn is_significant(new: &Value, old: &Value) -> bool {
    let spec = |pod| View::new(pod).at("spec");
    let images =
        |pod, list: &str| -> Vec<String> { spec(pod).list(list).map(|item| item.text("image").to_owned()).collect() };
    if ["containers", "initContainers"].iter().any(|list| images(new, list) != images(old, list)) {
        return true;
    }
    spec(new).list("ephemeralContainers").any(|container| {
        let name = container.text("name");
        let same = spec(old).list("ephemeralContainers").find(|other| other.text("name") == name);
        same.is_none_or(|other| other.text("image") != container.text("image"))
    })
}

#[cfg(test)]
mod tests;
