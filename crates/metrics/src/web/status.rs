//! What runs here: configuration, flags, versions, features, the data base.

use jiff::Timestamp;
use promql::function;

use super::{
    Asked,
    form::Form,
    json, parameter,
    reply::{Answer, Failure, Kind, Reply},
};
use crate::query::millis;

/// The version of Prometheus whose behaviour this is. Clients ask for it to know what they may use.
pub const VERSION: &str = "3.15.0";
/// Most entries of a list of `status/tsdb`.
const MOST: i64 = 10_000;

/// `/api/v1/status/config`
pub fn config(asked: &Asked<'_>) -> Answer {
    let mut out = b"{\"yaml\":".to_vec();
    json::text(&mut out, &asked.metrics.loaded().text);
    out.push(b'}');
    Ok(Reply::new(out))
}

/// `/api/v1/status/flags`
pub fn flags(asked: &Asked<'_>) -> Answer {
    let flags: std::collections::BTreeMap<_, _> = asked.metrics.settings().flags.iter().cloned().collect();
    Reply::value(&flags)
}

/// `/api/v1/status/buildinfo`
pub fn build() -> Answer {
    Reply::value(&version())
}

/// The fields of a version.
pub fn version() -> serde_json::Value {
    serde_json::json!({
        "version": VERSION,
        "revision": concat!("madang-", env!("CARGO_PKG_VERSION")),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    })
}

/// `/api/v1/status/runtimeinfo`
pub fn runtime(asked: &Asked<'_>) -> Answer {
    let metrics = asked.metrics;
    let bounds = metrics.storage().db().bounds();
    let loaded = metrics.loaded();
    let mut retention = Vec::new();
    if !bounds.retention.is_zero() {
        retention.push(promql::duration::print(millis(bounds.retention)));
    }
    if bounds.retention_bytes > 0 {
        retention.push(bytes(bounds.retention_bytes));
    }
    if bounds.retention_percentage > 0.0 {
        retention.push(format!("{}%", bounds.retention_percentage));
    }
    let host = rustix::system::uname();
    let here = std::env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Reply::value(&serde_json::json!({
        "startTime": metrics.started().to_string(),
        "CWD": here,
        "hostname": host.nodename().to_string_lossy(),
        "serverTime": Timestamp::now().to_string(),
        "reloadConfigSuccess": loaded.successful,
        // Upstream's precision is a second.
        "lastConfigTime": loaded.at.map_or_else(
            || "1970-01-01T00:00:00Z".to_owned(),
            |at| Timestamp::from_second(at.as_second()).unwrap_or(at).to_string(),
        ),
        "corruptionCount": metrics.report().losses.len(),
        "goroutineCount": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        "GOMAXPROCS": processors,
        "GOMEMLIMIT": i64::MAX,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": retention.join(" or "),
    }))
}

/// A size in the largest unit that it is a whole number of, as upstream prints sizes.
fn bytes(size: u64) -> String {
    let units = [("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| size >> shift > 0);
    match unit {
        Some((name, shift)) => format!("{}{name}", size as f64 / (1u64 << shift) as f64),
        None => format!("{size}B"),
    }
}

/// `/api/v1/status/tsdb`
pub async fn tsdb(asked: &Asked<'_>, form: &Form) -> Answer {
    let limit = match form.first("limit") {
        "" => 10,
        text => match parameter::integer(text) {
            Ok(limit) if limit > MOST => return Err(Failure::bad(format!("limit must not exceed {MOST}"))),
            Ok(limit) if limit >= 1 => limit as usize,
            _ => return Err(Failure::bad("limit must be a positive number")),
        },
    };
    let storage = asked.metrics.storage().clone();
    let counted = tokio::task::spawn_blocking(move || storage.db().cardinality(limit)).await;
    let found = counted.map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
    let list = |counts: &[tsdb::status::Count]| {
        counts.iter().map(|count| serde_json::json!({"name": count.name, "value": count.value})).collect::<Vec<_>>()
    };
    Reply::value(&serde_json::json!({
        "headStats": {
            "numSeries": found.series,
            "numLabelPairs": found.pairs,
            "chunkCount": found.chunks,
            "minTime": found.min,
            "maxTime": found.max,
        },
        "seriesCountByMetricName": list(&found.series_by_metric),
        "labelValueCountByLabelName": list(&found.values_by_name),
        "memoryInBytesByLabelName": list(&found.bytes_by_name),
        "seriesCountByLabelValuePair": list(&found.series_by_pair),
    }))
}

/// `/api/v1/status/tsdb/blocks`
pub fn blocks(asked: &Asked<'_>) -> Answer {
    let blocks = asked.metrics.storage().db().block_list();
    let blocks: Vec<_> = blocks
        .iter()
        .map(|block| {
            serde_json::json!({
                "ulid": block.ulid,
                "minTime": block.min,
                "maxTime": block.max,
                "stats": {"numSamples": block.samples, "numSeries": block.series, "numChunks": block.chunks},
                "compaction": {"level": block.level, "sources": [block.ulid]},
                "version": 1,
            })
        })
        .collect();
    Reply::value(&serde_json::json!({ "blocks": blocks }))
}

/// `/api/v1/status/walreplay`: a start reads the log before anybody can ask.
pub fn replay() -> Answer {
    Reply::value(&serde_json::json!({"min": 0, "max": 0, "current": 0}))
}

/// `/api/v1/features`
pub fn features(asked: &Asked<'_>) -> Answer {
    let on = asked.metrics.engine().features();
    let mut functions = serde_json::Map::new();
    for function in function::all() {
        functions.insert(function.name.to_owned(), (!function.experimental || on.functions).into());
    }
    let web = &asked.metrics.settings().web;
    Reply::value(&serde_json::json!({
        "api": {
            "admin": web.admin,
            "exclude_alerts": true,
            "label_values_match": true,
            "lifecycle": web.lifecycle,
            "otlp_write_receiver": web.otlp_receiver,
            "query_stats": true,
            "query_warnings": true,
            "remote_write_receiver": web.remote_write_receiver,
            "time_range_labels": true,
            "time_range_series": true,
        },
        "otlp_receiver": {"delta_conversion": false, "native_delta_ingestion": web.otlp_native_delta},
        "prometheus": {"agent_mode": false, "server_mode": true},
        "promql": {
            "anchored": on.extended_ranges,
            "at_modifier": true,
            "bool": true,
            "by": true,
            "delayed_name_removal": on.delayed_name_removal,
            "duration_expr": on.durations,
            "fill": on.fill,
            "fill_left": on.fill,
            "fill_right": on.fill,
            "group_left": true,
            "group_right": true,
            "ignoring": true,
            "negative_offset": true,
            "offset": true,
            "on": true,
            "per_query_lookback_delta": true,
            "per_step_stats": false,
            "smoothed": on.extended_ranges,
            "subqueries": true,
            "type_and_unit_labels": on.type_and_unit,
            "without": true,
        },
        "promql_functions": functions,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_in_their_largest_unit() {
        for (size, expected) in [(512, "512B"), (1024, "1KiB"), (1536, "1.5KiB"), (1 << 30, "1GiB")] {
            assert_eq!(bytes(size), expected);
        }
    }
}
