//! Changes to the configuration of an image, written as instructions: what imports and commits are given.

use std::collections::BTreeMap;

use build::{
    dockerfile,
    plan::{self, Plan},
    resolve::{self, Base},
};
use oci::index::Machine;
use serde_json::Value;

use crate::error::{Error, Result};

/// Instructions that change a configuration only.
const ALLOWED: [&str; 12] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "SHELL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A configuration with changes, each of which is an instruction of a Dockerfile.
pub(crate) fn changed(config: Value, changes: &[String]) -> Result<Value> {
    let lines: Vec<&str> = changes.iter().flat_map(|change| change.lines()).map(str::trim).collect();
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    for line in &lines {
        let word = line.split_whitespace().next().unwrap_or_default().to_uppercase();
        if !ALLOWED.contains(&word.as_str()) {
            return Err(Error::invalid(format!("{word} is not a valid change command")));
        }
    }
    if lines.is_empty() {
        return Ok(config);
    }
    let invalid = |error: dockerfile::Error| Error::invalid(format!("changes: {error}"));
    let text = format!("FROM scratch\n{}\n", lines.join("\n"));
    let file = dockerfile::parse(&text).map_err(invalid)?;
    let own = Machine::host();
    let platform = plan::Platform { os: own.os, architecture: own.architecture, variant: String::new() };
    let options = plan::Options { target: None, arguments: BTreeMap::new(), build: platform.clone(), platform };
    let plan = Plan::new(&file, &options).map_err(invalid)?;
    let parsed = serde_json::from_value(config.clone());
    let known = build::image::Image {
        config: parsed.map_err(|error| Error::invalid(format!("the configuration of the container: {error}")))?,
        ..build::image::Image::default()
    };
    let had_path = known.config.variable("PATH").is_some();
    let resolved = resolve::resolve(&file, &plan, 0, Base::Image(&known), &BTreeMap::new()).map_err(invalid)?;
    let mut result = resolved.image.config;
    let sets_path = lines.iter().any(|line| line.to_uppercase().starts_with("ENV") && line.contains("PATH"));
    if !had_path && !sets_path {
        // A stage has one by itself; a configuration only if somebody sets it.
        result.env.retain(|pair| !pair.starts_with("PATH="));
    }
    serde_json::to_value(&result).map_err(|error| Error::failed(format!("write a configuration: {error}")))
}
