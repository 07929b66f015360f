//! Definitions of kinds that others have made: taken from their Go modules, without descriptions, packed.
//!
//! Facts only: names, types, defaults, bounds, rules. The result is a line of JSON a definition, all of it packed with gzip.

use std::{io::Write, path::Path};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::Value;

/// The Prometheus operator.
pub const OPERATOR: &str = "github.com/prometheus-operator/prometheus-operator@v0.88.0";

/// Gateway API.
pub const GATEWAY: &str = "sigs.k8s.io/gateway-api@v1.6.3";

/// Kinds of one project that are served here.
pub struct Kinds {
    /// Where the files are in the module, with what their names begin with.
    prefix: &'static str,
    plurals: &'static [&'static str],
}

/// Those of the Prometheus operator.
pub const OPERATORS: Kinds = Kinds {
    prefix: "example/prometheus-operator-crd/monitoring.coreos.com_",
    plurals: &["alertmanagerconfigs", "podmonitors", "probes", "prometheusrules", "scrapeconfigs", "servicemonitors"],
};

/// The standard channel of Gateway API.
pub const GATEWAYS: Kinds = Kinds {
    prefix: "config/crd/standard/gateway.networking.k8s.io_",
    plurals: &[
        "backendtlspolicies",
        "gatewayclasses",
        "gateways",
        "grpcroutes",
        "httproutes",
        "listenersets",
        "referencegrants",
        "tcproutes",
        "tlsroutes",
        "udproutes",
    ],
};

/// Reads the definitions in the module at `dir`, and writes them to `out`.
pub fn derive(dir: &Path, kinds: &Kinds, out: &Path) -> Result<()> {
    let mut lines = Vec::new();
    for kind in kinds.plurals {
        let file = dir.join(format!("{}{kind}.yaml", kinds.prefix));
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let mut definition: Value =
            serde_saphyr::from_str(&text).with_context(|| format!("parse {}", file.display()))?;
        if let Some(versions) = definition["spec"]["versions"].as_array_mut() {
            versions.iter_mut().for_each(|version| strip(&mut version["schema"]["openAPIV3Schema"]));
        }
        serde_json::to_writer(&mut lines, &definition)?;
        lines.push(b'\n');
    }
    let mut packed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    packed.write_all(&lines)?;
    let packed = packed.finish()?;
    std::fs::write(out, &packed).with_context(|| format!("write {}", out.display()))?;
    eprintln!("{}: {} bytes of {}", out.display(), packed.len(), lines.len());
    Ok(())
}

/// Takes the descriptions out of a schema; properties of that name stay.
fn strip(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    if fields.get("description").is_some_and(Value::is_string) {
        fields.remove("description");
    }
    for (name, value) in fields.iter_mut() {
        match (name.as_str(), value) {
            ("properties" | "patternProperties", Value::Object(properties)) => properties.values_mut().for_each(strip),
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => schemas.iter_mut().for_each(strip),
            ("items" | "additionalProperties" | "not", schema) => strip(schema),
            _ => {}
        }
    }
}
