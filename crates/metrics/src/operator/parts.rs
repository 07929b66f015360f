//! What the kinds have in common: credentials, TLS, proxies, limits, relabelling.

use serde_json::{Map, Value, json};

use super::{Context, Reference};
use crate::discover::label_name;

/// A job on its way, in the shape of the configuration.
pub type Job = Map<String, Value>;

/// A field of the object under the name that the configuration gives it, where it is there.
pub fn copy(job: &mut Job, name: &str, value: &Value) {
    let empty = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    if !empty {
        job.insert(name.to_owned(), value.clone());
    }
}

/// `metricsPath` as `metrics_path`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

impl Context<'_> {
    /// The text of a key.
    fn key(&mut self, selector: &Value, secret: bool) -> Result<Option<String>, String> {
        let (Some(name), Some(key)) = (selector["name"].as_str(), selector["key"].as_str()) else { return Ok(None) };
        let reference =
            Reference { secret, namespace: self.namespace.to_owned(), name: name.to_owned(), key: key.to_owned() };
        match self.known.get(&reference) {
            Some(Ok(text)) => Ok(Some(text.clone())),
            Some(Err(error)) if selector["optional"] == true => {
                tracing::debug!(error, "an optional key is absent");
                Ok(None)
            }
            Some(Err(error)) => Err(error.clone()),
            None => {
                self.wanted.insert(reference);
                Ok(Some(String::new()))
            }
        }
    }

    fn secret(&mut self, selector: &Value) -> Result<Option<String>, String> {
        self.key(selector, true)
    }

    fn either(&mut self, choice: &Value) -> Result<Option<String>, String> {
        match (&choice["secret"], &choice["configMap"]) {
            (Value::Null, Value::Null) => Ok(None),
            (Value::Null, map) => self.key(map, false),
            (secret, _) => self.key(secret, true),
        }
    }

    /// TLS.
    pub fn tls(&mut self, spec: &Value) -> Result<Option<Value>, String> {
        if spec.is_null() {
            return Ok(None);
        }
        for file in ["caFile", "certFile", "keyFile"] {
            if spec[file].as_str().is_some_and(|file| !file.is_empty()) {
                return Err(format!("tlsConfig.{file}: objects may not name files; use a Secret or a ConfigMap"));
            }
        }
        let mut tls = Job::new();
        let parts = [
            ("ca", self.either(&spec["ca"])?),
            ("cert", self.either(&spec["cert"])?),
            ("key", self.secret(&spec["keySecret"])?),
        ];
        for (name, text) in parts {
            if let Some(text) = text {
                tls.insert(name.to_owned(), text.into());
            }
        }
        copy(&mut tls, "server_name", &spec["serverName"]);
        copy(&mut tls, "insecure_skip_verify", &spec["insecureSkipVerify"]);
        copy(&mut tls, "min_version", &spec["minVersion"]);
        copy(&mut tls, "max_version", &spec["maxVersion"]);
        Ok(Some(tls.into()))
    }

    /// Credentials, TLS, proxy and the like.
    pub fn http(&mut self, job: &mut Job, spec: &Value) -> Result<(), String> {
        if spec["bearerTokenFile"].as_str().is_some_and(|file| !file.is_empty()) {
            return Err("bearerTokenFile: objects may not name files; use authorization with a Secret".to_owned());
        }
        if let Some(tls) = self.tls(&spec["tlsConfig"])? {
            job.insert("tls_config".to_owned(), tls);
        }
        if !spec["basicAuth"].is_null() {
            let username = self.secret(&spec["basicAuth"]["username"])?;
            let password = self.secret(&spec["basicAuth"]["password"])?;
            job.insert("basic_auth".to_owned(), json!({"username": username, "password": password}));
        }
        if !spec["authorization"].is_null() {
            let credentials = self.secret(&spec["authorization"]["credentials"])?;
            let kind = spec["authorization"]["type"].as_str().unwrap_or_default();
            job.insert("authorization".to_owned(), json!({"type": kind, "credentials": credentials}));
        } else if let Some(token) = self.secret(&spec["bearerTokenSecret"])?
            && !token.is_empty()
        {
            job.insert("authorization".to_owned(), json!({"type": "Bearer", "credentials": token}));
        }
        if !spec["oauth2"].is_null() {
            let asked = &spec["oauth2"];
            let mut oauth2 = Job::new();
            oauth2.insert("client_id".to_owned(), self.either(&asked["clientId"])?.into());
            oauth2.insert("client_secret".to_owned(), self.secret(&asked["clientSecret"])?.into());
            copy(&mut oauth2, "token_url", &asked["tokenUrl"]);
            copy(&mut oauth2, "scopes", &asked["scopes"]);
            copy(&mut oauth2, "endpoint_params", &asked["endpointParams"]);
            if let Some(tls) = self.tls(&asked["tlsConfig"])? {
                oauth2.insert("tls_config".to_owned(), tls);
            }
            self.proxy(&mut oauth2, asked)?;
            job.insert("oauth2".to_owned(), oauth2.into());
        }
        self.proxy(job, spec)?;
        copy(job, "follow_redirects", &spec["followRedirects"]);
        let http2 = if spec["enableHttp2"].is_null() { &spec["enableHTTP2"] } else { &spec["enableHttp2"] };
        copy(job, "enable_http2", http2);
        Ok(())
    }

    fn proxy(&mut self, job: &mut Job, spec: &Value) -> Result<(), String> {
        copy(job, "proxy_url", &spec["proxyUrl"]);
        copy(job, "no_proxy", &spec["noProxy"]);
        copy(job, "proxy_from_environment", &spec["proxyFromEnvironment"]);
        let mut headers = Job::new();
        for (name, values) in spec["proxyConnectHeader"].as_object().into_iter().flatten() {
            let mut texts = Vec::new();
            for value in values.as_array().into_iter().flatten() {
                texts.extend(self.secret(value)?);
            }
            headers.insert(name.clone(), texts.into());
        }
        copy(job, "proxy_connect_header", &headers.into());
        Ok(())
    }
}

/// Limits and forms.
pub fn limits(job: &mut Job, spec: &Value) {
    for name in [
        "sampleLimit",
        "targetLimit",
        "labelLimit",
        "labelNameLengthLimit",
        "labelValueLengthLimit",
        "keepDroppedTargets",
    ] {
        copy(job, &snake(name), &spec[name]);
    }
    copy(job, "body_size_limit", &spec["bodySizeLimit"]);
    copy(job, "scrape_protocols", &spec["scrapeProtocols"]);
    copy(job, "fallback_scrape_protocol", &spec["fallbackScrapeProtocol"]);
    copy(job, "native_histogram_bucket_limit", &spec["nativeHistogramBucketLimit"]);
    // The kind writes it as a quantity.
    let factor = &spec["nativeHistogramMinBucketFactor"];
    match factor.as_str().and_then(|text| {
        text.strip_suffix('m').map_or_else(|| text.parse().ok(), |milli| milli.parse::<f64>().ok().map(|m| m / 1000.0))
    }) {
        Some(factor) => {
            job.insert("native_histogram_min_bucket_factor".to_owned(), factor.into());
        }
        None => copy(job, "native_histogram_min_bucket_factor", factor),
    }
    copy(job, "always_scrape_classic_histograms", &spec["scrapeClassicHistograms"]);
    copy(job, "scrape_native_histograms", &spec["scrapeNativeHistograms"]);
    copy(job, "convert_classic_histograms_to_nhcb", &spec["convertClassicHistogramsToNHCB"]);
}

/// A rule of the object as the configuration writes it.
fn rule(spec: &Value) -> Value {
    let mut rule = Job::new();
    for name in ["sourceLabels", "separator", "targetLabel", "regex", "modulus", "replacement"] {
        // An empty replacement or separator means just that.
        if !spec[name].is_null() {
            rule.insert(snake(name), spec[name].clone());
        }
    }
    if let Some(action) = spec["action"].as_str().filter(|action| !action.is_empty()) {
        rule.insert("action".to_owned(), action.to_lowercase().into());
    }
    rule.into()
}

/// Rules of the object.
pub fn rules(specs: &Value) -> impl Iterator<Item = Value> {
    specs.as_array().into_iter().flatten().map(rule)
}

/// `source_labels` to a target by an expression.
pub fn replace(sources: &[&str], regex: Option<&str>, target: &str, replacement: Option<&str>) -> Value {
    let mut rule = Job::new();
    rule.insert("source_labels".to_owned(), sources.to_vec().into());
    rule.insert("target_label".to_owned(), target.into());
    if let Some(regex) = regex {
        rule.insert("regex".to_owned(), regex.into());
    }
    if let Some(replacement) = replacement {
        rule.insert("replacement".to_owned(), replacement.into());
    }
    rule.into()
}

/// Keeps or drops by an expression.
pub fn sieve(action: &str, sources: &[String], regex: &str) -> Value {
    json!({"action": action, "source_labels": sources, "regex": regex})
}

/// Keeps what a label selector selects, by the labels of objects of a role.
pub fn select(selector: &Value, role: &str) -> Result<Vec<Value>, String> {
    let prefix = format!("__meta_kubernetes_{role}");
    let labels = |name: &str| {
        let name = label_name(name);
        [format!("{prefix}_label_{name}"), format!("{prefix}_labelpresent_{name}")]
    };
    let mut rules = Vec::new();
    for (name, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        rules.push(sieve("keep", &labels(name), &format!("({});true", regex::escape(value))));
    }
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let name = expression["key"].as_str().unwrap_or_default();
        let values: Vec<String> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(regex::escape)
            .collect();
        let any = format!("({});true", values.join("|"));
        let [_, present] = labels(name);
        rules.push(match expression["operator"].as_str() {
            Some("In") => sieve("keep", &labels(name), &any),
            Some("NotIn") => sieve("drop", &labels(name), &any),
            Some("Exists") => sieve("keep", &[present], "true"),
            Some("DoesNotExist") => sieve("drop", &[present], "true"),
            other => return Err(format!("selector: unknown operator {other:?}")),
        });
    }
    Ok(rules)
}

/// Discovery in the namespaces that a selector names; that of the object if it names none.
pub fn discovery(role: &str, selector: &Value, namespace: &str, attach: &Value) -> Value {
    let mut discovery = json!({"role": role});
    let names = selector["matchNames"].as_array().filter(|names| !names.is_empty());
    if selector["any"] != true {
        let names = names.cloned().unwrap_or_else(|| vec![namespace.into()]);
        discovery["namespaces"] = json!({"names": names});
    }
    if attach["node"] == true {
        discovery["attach_metadata"] = json!({"node": true});
    }
    json!([discovery])
}
