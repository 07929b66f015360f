//! Groups as files and servers write them: `[{"targets": ["host:port"], "labels": {"name": "value"}}]`.

use std::collections::BTreeMap;

use tsdb::labels::Labels;

use crate::{
    config::discovery,
    scrape::target::Group,
    yaml::{self, Kind},
};

/// Targets of a source at most.
const TARGETS: usize = 200_000;

/// Reads groups from JSON or YAML; their sources are `source:0`, `source:1` and so on.
pub fn read(text: &str, json: bool, source: &str) -> Result<Vec<Group>, String> {
    let found: Vec<discovery::Group> = if json { read_json(text)? } else { read_yaml(text)? };
    if found.iter().map(|group| group.targets.len()).sum::<usize>() > TARGETS {
        return Err(format!("more than {TARGETS} targets"));
    }
    let group = |(i, group): (usize, discovery::Group)| Group {
        source: format!("{source}:{i}"),
        targets: group.targets.iter().map(|target| Labels::from_pairs([("__address__", target)])).collect(),
        labels: group.labels,
    };
    Ok(found.into_iter().enumerate().map(group).collect())
}

fn read_yaml(text: &str) -> Result<Vec<discovery::Group>, String> {
    let Some(node) = yaml::parse(text)? else { return Ok(Vec::new()) };
    if let Kind::List(items) = &node.kind
        && let Some(hole) = items.iter().position(yaml::Node::is_null)
    {
        return Err(format!("nil target group item found (index {hole})"));
    }
    let mut found: Vec<discovery::Group> = Vec::new();
    yaml::read_node(&node, &mut found)?;
    Ok(found)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    #[serde(default)]
    targets: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

fn read_json(text: &str) -> Result<Vec<discovery::Group>, String> {
    let found: Option<Vec<Option<Listed>>> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let group = |(i, listed): (usize, Option<Listed>)| {
        let listed = listed.ok_or_else(|| format!("nil target group item found (index {i})"))?;
        let labels = listed.labels.unwrap_or_default();
        if labels.keys().any(String::is_empty) {
            return Err("\"\" is not a valid label name".to_owned());
        }
        Ok(discovery::Group { targets: listed.targets.unwrap_or_default(), labels: Labels::from_pairs(labels) })
    };
    found.unwrap_or_default().into_iter().enumerate().map(group).collect()
}
