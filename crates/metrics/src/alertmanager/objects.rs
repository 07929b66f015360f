//! `AlertmanagerConfig` objects as parts of the configuration, as the Prometheus operator puts them in.
//!
//! Routes and inhibition of an object see only alerts of its namespace; names of receivers and times get the namespace and
//! name of the object before them. See
//! <https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1alpha1.AlertmanagerConfig>.

use serde_json::{Map, Value, json};

use super::{
    config::Config,
    matcher::{Comparison, Matcher},
};
use crate::yaml;

/// Looks up a key of a Secret: namespace, name, key.
pub type Secrets<'a> = &'a dyn Fn(&str, &str, &str) -> Option<String>;

/// Adds an object to a configuration; an error leaves it as it was.
pub fn add(config: &mut Config, object: &Value, secrets: Secrets<'_>) -> Result<(), String> {
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or_default();
    let name = metadata["name"].as_str().unwrap_or_default();
    let of = Translation { namespace, prefix: format!("{namespace}/{name}"), secrets };
    let spec = &object["spec"];
    let receivers =
        list(&spec["receivers"]).iter().map(|receiver| of.receiver(receiver)).collect::<Result<Vec<_>, _>>()?;
    let route = if spec["route"].is_object() { Some(of.route(&spec["route"])) } else { None };
    let first = receivers.first().and_then(|receiver| receiver["name"].as_str()).unwrap_or("none");
    let mut all = receivers.clone();
    if receivers.is_empty() {
        all.push(json!({"name": "none"}));
    }
    let document = json!({
        "route": {"receiver": first, "routes": route.iter().collect::<Vec<_>>()},
        "receivers": all,
        "inhibit_rules": list(&spec["inhibitRules"]).iter().map(|rule| of.inhibition(rule)).collect::<Vec<_>>(),
        "time_intervals": list(&spec["muteTimeIntervals"]).iter().map(|times| of.times(times)).collect::<Vec<_>>(),
    });
    let Some(node) = yaml::parse(&document.to_string())? else { return Ok(()) };
    let mut part = Config { global: config.global.clone(), ..Config::default() };
    yaml::read_node(&node, &mut part).map_err(|error| format!("AlertmanagerConfig {}: {error}", of.prefix))?;
    if let (Some(root), Some(mut own)) = (&mut config.route, part.route.and_then(|mut root| root.routes.pop())) {
        let inside = Matcher::new("namespace", Comparison::Equal, namespace)?;
        own.matchers.0.insert(0, inside);
        own.goes_on = true;
        // Objects come before the routes of the file, in their own order.
        let at = root.routes.iter().take_while(|route| route.receiver.contains('/') && route.goes_on).count();
        root.routes.insert(at, own);
    }
    config
        .receivers
        .extend(part.receivers.into_iter().filter(|receiver| !receivers.is_empty() && receiver.name.contains('/')));
    for mut rule in part.inhibit_rules {
        let inside = Matcher::new("namespace", Comparison::Equal, namespace)?;
        rule.source_matchers.0.insert(0, inside.clone());
        rule.target_matchers.0.insert(0, inside);
        config.inhibit_rules.push(rule);
    }
    config.time_intervals.extend(part.time_intervals);
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

struct Translation<'a> {
    namespace: &'a str,
    prefix: String,
    secrets: Secrets<'a>,
}

/// `titleLink` as `title_link`, `apiURL` as `api_url`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut before = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && before {
            out.push('_');
        }
        before = c.is_ascii_lowercase() || c.is_ascii_digit();
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// A condition as a line of text.
fn matcher(value: &Value) -> Value {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    let comparison = match (text("matchType"), value["regex"].as_bool()) {
        ("", Some(true)) => "=~",
        ("", _) => "=",
        (kind, _) => kind,
    };
    json!(format!("{}{comparison}{}", text("name"), tsdb::labels::quote(text("value"))))
}

fn matchers(value: &Value) -> Value {
    Value::Array(list(value).iter().map(matcher).collect())
}

/// Pairs of a list of keys and values.
fn pairs(value: &Value) -> Value {
    let pairs = list(value).iter().filter_map(|pair| Some((pair["key"].as_str()?.to_owned(), pair["value"].clone())));
    Value::Object(pairs.collect())
}

impl Translation<'_> {
    fn named(&self, name: &Value) -> Value {
        match name.as_str().unwrap_or_default() {
            "" => json!(""),
            name => json!(format!("{}/{name}", self.prefix)),
        }
    }

    fn names(&self, names: &Value) -> Value {
        Value::Array(list(names).iter().map(|name| self.named(name)).collect())
    }

    fn route(&self, route: &Value) -> Value {
        let mut out = json!({
            "receiver": self.named(&route["receiver"]),
            "matchers": matchers(&route["matchers"]),
            "continue": route["continue"].as_bool().unwrap_or(false),
            "mute_time_intervals": self.names(&route["muteTimeIntervals"]),
            "active_time_intervals": self.names(&route["activeTimeIntervals"]),
            "routes": list(&route["routes"]).iter().map(|child| self.route(child)).collect::<Vec<_>>(),
        });
        for (from, to) in [
            ("groupBy", "group_by"),
            ("groupWait", "group_wait"),
            ("groupInterval", "group_interval"),
            ("repeatInterval", "repeat_interval"),
        ] {
            if !route[from].is_null() {
                out[to] = route[from].clone();
            }
        }
        out
    }

    fn inhibition(&self, rule: &Value) -> Value {
        json!({
            "source_matchers": matchers(&rule["sourceMatch"]),
            "target_matchers": matchers(&rule["targetMatch"]),
            "equal": rule["equal"].as_array().cloned().unwrap_or_default(),
        })
    }

    fn times(&self, times: &Value) -> Value {
        let span = |day: &Value| {
            let (start, end) = (day["start"].as_i64().unwrap_or(0), day["end"].as_i64().unwrap_or(0));
            json!(if end == 0 || end == start { start.to_string() } else { format!("{start}:{end}") })
        };
        let intervals = list(&times["timeIntervals"]).iter().map(|interval| {
            let hours = |hours: &Value| json!({"start_time": hours["startTime"], "end_time": hours["endTime"]});
            let lower = |values: &Value| {
                let lower = list(values).iter().map(|value| json!(value.as_str().unwrap_or_default().to_lowercase()));
                lower.collect::<Vec<_>>()
            };
            json!({
                "times": list(&interval["times"]).iter().map(hours).collect::<Vec<_>>(),
                "weekdays": lower(&interval["weekdays"]),
                "days_of_month": list(&interval["daysOfMonth"]).iter().map(span).collect::<Vec<_>>(),
                "months": lower(&interval["months"]),
                "years": lower(&interval["years"]),
            })
        });
        json!({"name": self.named(&times["name"]), "time_intervals": intervals.collect::<Vec<_>>()})
    }

    fn secret(&self, selector: &Value) -> Result<Value, String> {
        let (name, key) = (selector["name"].as_str().unwrap_or_default(), selector["key"].as_str().unwrap_or_default());
        match (self.secrets)(self.namespace, name, key) {
            Some(text) => Ok(json!(text.trim_end_matches('\n'))),
            None if selector["optional"].as_bool() == Some(true) => Ok(json!("")),
            None => Err(format!(
                "AlertmanagerConfig {}: no key {key} in Secret {name} of namespace {}",
                self.prefix, self.namespace
            )),
        }
    }

    fn receiver(&self, receiver: &Value) -> Result<Value, String> {
        let mut out = Map::new();
        out.insert("name".to_owned(), self.named(&receiver["name"]));
        let kinds = receiver.as_object().into_iter().flatten().filter(|(key, _)| key.ends_with("Configs"));
        for (key, places) in kinds {
            let places = list(places).iter().map(|place| self.place(place)).collect::<Result<Vec<_>, _>>()?;
            out.insert(snake(key), Value::Array(places));
        }
        Ok(Value::Object(out))
    }

    fn place(&self, place: &Value) -> Result<Value, String> {
        let mut out = Map::new();
        for (key, value) in place.as_object().into_iter().flatten() {
            let (name, value) = match key.as_str() {
                "urlSecret" => ("url".to_owned(), self.secret(value)?),
                "apiURL" | "routingKey" | "serviceKey" | "authPassword" | "authSecret" if value.is_object() => {
                    (snake(key), self.secret(value)?)
                }
                "details" | "headers" => (key.clone(), pairs(value)),
                "pagerDutyImageConfigs" => ("images".to_owned(), value.clone()),
                "pagerDutyLinkConfigs" => {
                    let links = list(value).iter().map(|link| json!({"href": link["href"], "text": link["alt"]}));
                    ("links".to_owned(), Value::Array(links.collect()))
                }
                "httpConfig" => ("http_config".to_owned(), self.http(value)?),
                "tlsConfig" => ("tls_config".to_owned(), self.tls(value)?),
                "actions" | "fields" => (key.clone(), self.snaked(value)),
                _ => (snake(key), value.clone()),
            };
            if !value.is_null() {
                out.insert(name, value);
            }
        }
        Ok(Value::Object(out))
    }

    /// A value with all its keys as configurations write them.
    fn snaked(&self, value: &Value) -> Value {
        match value {
            Value::Array(items) => Value::Array(items.iter().map(|item| self.snaked(item)).collect()),
            Value::Object(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| {
                    let key = if key == "confirmField" { "confirm".to_owned() } else { snake(key) };
                    (key, self.snaked(value))
                });
                Value::Object(pairs.collect())
            }
            other => other.clone(),
        }
    }

    fn http(&self, http: &Value) -> Result<Value, String> {
        let mut out = Map::new();
        for (key, value) in http.as_object().into_iter().flatten() {
            match key.as_str() {
                "authorization" => {
                    let kind = value["type"].as_str().unwrap_or("Bearer");
                    let credentials = self.secret(&value["credentials"])?;
                    out.insert(key.clone(), json!({"type": kind, "credentials": credentials}));
                }
                "basicAuth" => {
                    let (name, password) = (self.secret(&value["username"])?, self.secret(&value["password"])?);
                    out.insert("basic_auth".to_owned(), json!({"username": name, "password": password}));
                }
                "bearerTokenSecret" => {
                    let credentials = self.secret(value)?;
                    out.insert("authorization".to_owned(), json!({"type": "Bearer", "credentials": credentials}));
                }
                "tlsConfig" => {
                    out.insert("tls_config".to_owned(), self.tls(value)?);
                }
                "proxyURL" | "proxyUrl" => {
                    out.insert("proxy_url".to_owned(), value.clone());
                }
                "followRedirects" | "enableHttp2" | "noProxy" | "proxyFromEnvironment" => {
                    out.insert(snake(key), value.clone());
                }
                other => {
                    return Err(format!("AlertmanagerConfig {}: httpConfig.{other} is not supported", self.prefix));
                }
            }
        }
        Ok(Value::Object(out))
    }

    fn tls(&self, tls: &Value) -> Result<Value, String> {
        let mut out = Map::new();
        for (from, to) in [
            ("insecureSkipVerify", "insecure_skip_verify"),
            ("serverName", "server_name"),
            ("minVersion", "min_version"),
        ] {
            if !tls[from].is_null() {
                out.insert(to.to_owned(), tls[from].clone());
            }
        }
        for (from, to) in [("ca", "ca"), ("cert", "cert")] {
            if tls[from]["secret"].is_object() {
                out.insert(to.to_owned(), self.secret(&tls[from]["secret"])?);
            }
        }
        if tls["keySecret"].is_object() {
            out.insert("key".to_owned(), self.secret(&tls["keySecret"])?);
        }
        Ok(Value::Object(out))
    }
}
