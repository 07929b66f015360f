//! Targets: what is scraped, what was dropped, what targets say of their metrics.

use std::collections::{BTreeMap, BTreeSet};

use promql::parse;
use tsdb::{
    Metadata,
    labels::{Labels, quote},
};

use super::{
    Asked,
    form::Form,
    json, parameter,
    reply::{Answer, Failure, Reply},
};
use crate::shown::{Health, Target};

fn labels_of(text: &str) -> Result<Labels, String> {
    let pairs: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(Labels::from_pairs(pairs.iter().filter(|pair| !pair.1.is_empty())))
}

/// `/api/v1/scrape_pools`
pub fn pools(asked: &Asked<'_>) -> Answer {
    let pools = asked.parts.targets.as_ref().map(|targets| targets.pools()).unwrap_or_default();
    let mut out = b"{\"scrapePools\":".to_vec();
    json::texts(&mut out, pools);
    out.push(b'}');
    Ok(Reply::new(out))
}

fn required<'f>(form: &'f Form, name: &str) -> Result<&'f str, Failure> {
    match form.first(name) {
        "" => Err(Failure::bad(format!("no {name} parameter provided"))),
        value => Ok(value),
    }
}

fn no_pool(pool: &str) -> Failure {
    Failure::bad(format!("error retrieving scrape config: scrape pool {} not found", quote(pool)))
}

/// `/api/v1/scrape_pools/config`
pub fn pool_config(asked: &Asked<'_>, form: &Form) -> Answer {
    let pool = required(form, "scrapePool")?;
    let targets = asked.parts.targets.as_ref();
    let yaml = targets.and_then(|targets| targets.pool_config(pool)).ok_or_else(|| no_pool(pool))?;
    let mut out = b"{\"yaml\":".to_vec();
    json::text(&mut out, &yaml);
    out.push(b'}');
    Ok(Reply::new(out))
}

/// `/api/v1/targets/relabel_steps`
pub fn relabel(asked: &Asked<'_>, form: &Form) -> Answer {
    let pool = required(form, "scrapePool")?;
    let labels =
        labels_of(required(form, "labels")?).map_err(|error| Failure::bad(format!("error parsing labels: {error}")))?;
    let targets = asked.parts.targets.as_ref();
    let steps = targets.and_then(|targets| targets.relabel(pool, &labels)).ok_or_else(|| no_pool(pool))?;
    let mut out = b"{\"steps\":[".to_vec();
    for (nth, step) in steps.iter().enumerate() {
        out.extend_from_slice(if nth == 0 { b"{\"rule\":" } else { b",{\"rule\":" });
        out.extend_from_slice(step.rule.to_string().as_bytes());
        out.extend_from_slice(b",\"output\":");
        json::labels(&mut out, &step.output);
        out.extend_from_slice(format!(",\"keep\":{}}}", step.keep).as_bytes());
    }
    out.extend_from_slice(b"]}");
    Ok(Reply::new(out))
}

/// `/api/v1/targets`
pub fn targets(asked: &Asked<'_>, form: &Form) -> Answer {
    let pool = Some(form.in_address("scrapePool")).filter(|pool| !pool.is_empty());
    let state = form.in_address("state").to_ascii_lowercase();
    let any = state.is_empty() || state == "any";
    let source = asked.parts.targets.as_ref();
    let mut out = b"{\"activeTargets\":[".to_vec();
    if any || state == "active" {
        let active = source.map(|source| source.active(pool)).unwrap_or_default();
        for (nth, target) in active.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            write(&mut out, target);
        }
    }
    out.extend_from_slice(b"],\"droppedTargets\":[");
    let dropped = any || state == "dropped";
    if dropped {
        let dropped = source.map(|source| source.dropped(pool)).unwrap_or_default();
        for (nth, target) in dropped.iter().enumerate() {
            out.extend_from_slice(if nth == 0 { b"{\"discoveredLabels\":" } else { b",{\"discoveredLabels\":" });
            json::labels(&mut out, &target.discovered);
            out.extend_from_slice(b",\"scrapePool\":");
            json::text(&mut out, &target.pool);
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"],\"droppedTargetCounts\":");
    if dropped {
        let counts = source.map(|source| source.dropped_counts()).unwrap_or_default();
        out.extend_from_slice(serde_json::json!(counts).to_string().as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
    out.push(b'}');
    Ok(Reply::new(out))
}

fn write(out: &mut Vec<u8>, target: &Target) {
    out.extend_from_slice(b"{\"discoveredLabels\":");
    json::labels(out, &target.discovered);
    out.extend_from_slice(b",\"labels\":");
    json::labels(out, &target.labels);
    let health = match target.health {
        Health::Unknown => "unknown",
        Health::Good => "up",
        Health::Bad => "down",
    };
    // Nothing here is served under another address than its own: both addresses are the same.
    let texts = [
        ("scrapePool", target.pool.as_str()),
        ("scrapeUrl", &target.url),
        ("globalUrl", &target.url),
        ("lastError", &target.last_error),
        ("health", health),
        ("scrapeInterval", &target.interval),
        ("scrapeTimeout", &target.timeout),
    ];
    for (name, value) in texts {
        out.push(b',');
        json::key(out, name);
        json::text(out, value);
    }
    out.extend_from_slice(b",\"lastScrape\":");
    json::moment(out, target.last_scrape);
    out.extend_from_slice(b",\"lastScrapeDuration\":");
    json::plain(out, target.last_duration.as_secs_f64());
    out.push(b'}');
}

fn bound(form: &Form, name: &str) -> Result<Option<i64>, Failure> {
    match form.first(name) {
        "" => Ok(None),
        text => parameter::integer(text).map(Some).map_err(|_| Failure::bad(format!("{name} must be a number"))),
    }
}

fn described(out: &mut Vec<u8>, metadata: &Metadata) {
    for (nth, (name, value)) in
        [("type", &metadata.kind), ("help", &metadata.help), ("unit", &metadata.unit)].into_iter().enumerate()
    {
        if nth > 0 {
            out.push(b',');
        }
        json::key(out, name);
        json::text(out, value);
    }
}

/// `/api/v1/targets/metadata`
pub fn target_metadata(asked: &Asked<'_>, form: &Form) -> Answer {
    let limit = bound(form, "limit")?.filter(|limit| *limit >= 0);
    let matchers = match form.first("match_target") {
        "" => Vec::new(),
        text => parse::parse_selector(text).map_err(|error| Failure::parameter("match_target", error))?,
    };
    let metric = Some(form.first("metric")).filter(|metric| !metric.is_empty());
    let mut out = b"[".to_vec();
    let mut count = 0;
    if let Some(targets) = &asked.parts.targets {
        // The bound is looked at before each target, as upstream does.
        let mut current: Option<Labels> = None;
        targets.each_metadata(metric, &mut |labels, name, metadata| {
            if current.as_ref() != Some(labels) {
                if limit.is_some_and(|limit| count >= limit) {
                    return false;
                }
                current = Some(labels.clone());
            }
            if !matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name))) {
                return true;
            }
            if count > 0 {
                out.push(b',');
            }
            count += 1;
            out.extend_from_slice(b"{\"target\":");
            json::labels(&mut out, labels);
            out.push(b',');
            if metric.is_none() {
                json::key(&mut out, "metric");
                json::text(&mut out, name);
                out.push(b',');
            }
            described(&mut out, metadata);
            out.push(b'}');
            true
        });
    }
    out.push(b']');
    Ok(Reply::new(out))
}

/// `/api/v1/metadata`
pub fn metadata(asked: &Asked<'_>, form: &Form) -> Answer {
    let limit = bound(form, "limit")?.filter(|limit| *limit >= 0);
    let each = bound(form, "limit_per_metric")?.filter(|limit| *limit > 0);
    let metric = Some(form.first("metric")).filter(|metric| !metric.is_empty());
    let mut found: BTreeMap<String, BTreeSet<(String, String, String)>> = BTreeMap::new();
    if let Some(targets) = &asked.parts.targets {
        targets.each_metadata(metric, &mut |_, name, metadata| {
            let room = |have: usize| each.is_none_or(|each| (have as i64) < each);
            if let Some(known) = found.get_mut(name) {
                if room(known.len()) {
                    known.insert((metadata.kind.clone(), metadata.help.clone(), metadata.unit.clone()));
                }
                return true;
            }
            let first = (metadata.kind.clone(), metadata.help.clone(), metadata.unit.clone());
            found.insert(name.to_owned(), BTreeSet::from([first]));
            true
        });
    }
    let most = limit.map_or(usize::MAX, |limit| limit as usize);
    let mut out = b"{".to_vec();
    for (nth, (name, set)) in found.into_iter().take(most).enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        json::text(&mut out, &name);
        out.extend_from_slice(b":[");
        for (nth, (kind, help, unit)) in set.into_iter().enumerate() {
            out.extend_from_slice(if nth == 0 { b"{" } else { b",{" });
            described(&mut out, &Metadata { kind, unit, help });
            out.push(b'}');
        }
        out.push(b']');
    }
    out.push(b'}');
    Ok(Reply::new(out))
}
