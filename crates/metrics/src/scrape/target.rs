//! What a target is: labels of discovery and configuration, relabelled and checked.

use std::{collections::BTreeMap, time::Duration};

use tsdb::labels::{Builder, Labels};

use crate::{
    config::{scrape::Scrape, units::Span},
    http_client::token::escape,
    relabel,
};

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const PATH: &str = "__metrics_path__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const CONVERT: &str = "__convert_classic_histograms_to_nhcb__";
const CLASSIC: &str = "__always_scrape_classic_histograms__";
const NATIVE: &str = "__scrape_native_histograms__";
const PARAMETER: &str = "__param_";

/// Targets that were found together, with labels that they share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// What names the group within its job.
    pub source: String,
    /// The labels of each target, its address among them.
    pub targets: Vec<Labels>,
    /// Labels that they share.
    pub labels: Labels,
}

/// What becomes of a target.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It is scraped.
    Scraped(Box<Plan>),
    /// Relabelling dropped it.
    Dropped(Labels),
}

/// How a target is scraped.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Labels before relabelling.
    pub discovered: Labels,
    /// Labels of its series.
    pub labels: Labels,
    /// Where.
    pub url: String,
    /// How often.
    pub interval: Duration,
    /// How long a scrape may take.
    pub timeout: Duration,
    /// Whether native histograms are taken.
    pub native: bool,
    /// Whether classic histograms are taken beside native ones.
    pub classic: bool,
    /// Whether classic histograms become native ones.
    pub convert: bool,
}

impl Plan {
    /// When the next scrape is due: as long from `now` (since 1970) as a hash of the target says, within the interval.
    pub fn offset(&self, now: Duration, seed: u64) -> Duration {
        let interval = self.interval.as_nanos().max(1);
        let due = u128::from(self.hash() ^ seed) % interval;
        let passed = now.as_nanos() % interval;
        let wait = if due >= passed { due - passed } else { due + interval - passed };
        Duration::from_nanos(u64::try_from(wait).unwrap_or(0))
    }

    fn hash(&self) -> u64 {
        let bytes = self.labels.as_key().bytes().chain([0xff]).chain(self.url.bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

/// Labels before relabelling: those of the target, of its group, and of the job where nobody says otherwise.
pub fn discovered(target: &Labels, shared: &Labels, job: &Scrape) -> Builder {
    let mut builder = Builder::new(target);
    for (name, value) in shared {
        if !target.has(name) {
            builder.set(name, value);
        }
    }
    let truth = |value: Option<bool>| value.unwrap_or(false).to_string();
    let usual = [
        ("job", job.job_name.clone()),
        (INTERVAL, job.scrape_interval.to_string()),
        (TIMEOUT, job.scrape_timeout.to_string()),
        (PATH, job.metrics_path.clone()),
        (SCHEME, job.scheme.clone()),
        (CONVERT, truth(job.convert_classic_histograms_to_nhcb)),
        (CLASSIC, truth(job.always_scrape_classic_histograms)),
        (NATIVE, truth(job.scrape_native_histograms)),
    ];
    for (name, value) in usual {
        if builder.get(name).is_empty() {
            builder.set(name, &value);
        }
    }
    for (name, values) in &job.params {
        let name = format!("{PARAMETER}{name}");
        if let Some(first) = values.first()
            && builder.get(&name).is_empty()
        {
            builder.set(&name, first);
        }
    }
    builder
}

/// What becomes of a target of a job.
pub fn decide(target: &Labels, shared: &Labels, job: &Scrape) -> Result<Fate, String> {
    let mut builder = discovered(target, shared, job);
    let before = builder.labels();
    if !relabel::apply(&job.relabel_configs, &mut builder) {
        return Ok(Fate::Dropped(before));
    }
    let address = builder.get(ADDRESS).to_owned();
    if address.is_empty() {
        return Err("no address".to_owned());
    }
    if address.contains('/') {
        return Err(format!("{} is not a valid hostname", tsdb::labels::quote(&address)));
    }
    let span = |name: &str, what: &str| {
        let span = Span::parse(builder.get(name)).map_err(|error| format!("error parsing scrape {what}: {error}"))?;
        if span.is_zero() { Err(format!("scrape {what} cannot be 0")) } else { Ok(span.0) }
    };
    let interval = span(INTERVAL, "interval")?;
    let timeout = span(TIMEOUT, "timeout")?;
    if timeout > interval {
        let (timeout, interval) = (builder.get(TIMEOUT), builder.get(INTERVAL));
        return Err(format!("scrape timeout cannot be greater than scrape interval ({timeout:?} > {interval:?})"));
    }
    let truth = |name: &str, what: &str| match builder.get(name) {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        other => Err(format!(
            "error parsing {what}: strconv.ParseBool: parsing {}: invalid syntax",
            tsdb::labels::quote(other)
        )),
    };
    let convert = truth(CONVERT, "convert classic histograms to nhcb")?;
    let classic = truth(CLASSIC, "always scrape classic histograms")?;
    let native = truth(NATIVE, "scrape native histograms")?;
    let url = url(&builder.labels(), &address, job);
    if builder.get("instance").is_empty() {
        builder.set("instance", &address);
    }
    builder.retain(|name| !name.starts_with("__"));
    Ok(Fate::Scraped(Box::new(Plan {
        discovered: before,
        labels: builder.labels(),
        url,
        interval,
        timeout,
        native,
        classic,
        convert,
    })))
}

fn url(labels: &Labels, address: &str, job: &Scrape) -> String {
    let mut parameters: BTreeMap<&str, Vec<&str>> =
        job.params.iter().map(|(name, values)| (name.as_str(), values.iter().map(String::as_str).collect())).collect();
    for (name, value) in labels {
        if let Some(name) = name.strip_prefix(PARAMETER) {
            let values = parameters.entry(name).or_default();
            match values.first_mut() {
                Some(first) => *first = value,
                None => values.push(value),
            }
        }
    }
    let query: Vec<String> = parameters
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| format!("{}={}", escape(name), escape(value))))
        .collect();
    let path = labels.get(PATH);
    let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
    let mut url = format!("{}://{address}{slash}{}", labels.get(SCHEME), escape_path(path));
    if !query.is_empty() {
        url.push('?');
        url.push_str(&query.join("&"));
    }
    url
}

/// A path as an address holds it.
fn escape_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'/' | b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b':' | b';' | b'=' | b'@' | b'!' | b'\''
            | b'(' | b')' | b'*' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
