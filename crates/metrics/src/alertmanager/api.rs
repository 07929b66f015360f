//! Alertmanager's API, version 2, as `amtool`, Grafana and Prometheus speak it.
//!
//! Paths are relative to where it is served. See
//! <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use jiff::Timestamp;
use regex::Regex;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use serve::{Body, body};

use super::{
    alert::{self, Alert, Pairs},
    center::Center,
    counts,
    matcher::{self, Comparison, Matcher},
    silence::{Condition, Refused, Silence, State as SilenceState},
    state::{Muted, State},
};

/// Bytes of a request at most.
const LARGEST: usize = 32 << 20;

/// The version of Alertmanager whose API this is.
const VERSION: &str = "0.34.2";

/// An answer that says what is wrong.
struct Wrong(StatusCode, Value);

type Answer = Result<Response<Body>, Wrong>;

impl Wrong {
    fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, json!(message.into()))
    }

    fn invalid(code: u16, message: impl Into<String>) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, json!({"code": code, "message": message.into()}))
    }

    fn failed(error: &anyhow::Error) -> Self {
        tracing::error!("answer a request of alerts: {error:#}");
        Self(StatusCode::INTERNAL_SERVER_ERROR, json!(format!("{error:#}")))
    }
}

fn answer(status: StatusCode, content: &Value) -> Response<Body> {
    let mut answer = Response::new(body::full(content.to_string() + "\n"));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

fn plain(text: String) -> Response<Body> {
    let mut answer = Response::new(body::full(text));
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn ok(content: &Value) -> Answer {
    Ok(answer(StatusCode::OK, content))
}

/// Answers a request.
pub async fn respond(center: &Center, request: Request<Body>) -> Response<Body> {
    match route(center, request).await {
        Ok(answer) => answer,
        Err(Wrong(status, content)) => answer(status, &content),
    }
}

async fn route(center: &Center, request: Request<Body>) -> Answer {
    let method = request.method().clone();
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let query = Query::of(request.uri().query().unwrap_or_default());
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let get = matches!(method, Method::GET | Method::HEAD);
    match parts.as_slice() {
        ["-", "healthy" | "ready"] if get => Ok(plain("OK".to_owned())),
        ["metrics"] if get => {
            let mut text = String::new();
            counts::write(center, &mut text);
            Ok(plain(text))
        }
        ["api", "v2", "status"] if get => ok(&status(center)),
        ["api", "v2", "receivers"] if get => receivers(center, &query),
        ["api", "v2", "alerts"] if get => alerts(center, &query),
        ["api", "v2", "alerts"] if method == Method::POST => post_alerts(center, read(request).await?).await,
        ["api", "v2", "alerts", "groups"] if get => groups(center, &query),
        ["api", "v2", "silences"] if get => silences(center, &query),
        ["api", "v2", "silences"] if method == Method::POST => post_silence(center, read(request).await?).await,
        ["api", "v2", "silence", id] if get => silence(center, id),
        ["api", "v2", "silence", id] if method == Method::DELETE => expire(center, id).await,
        ["api", "v2", "status" | "receivers" | "alerts" | "silences"]
        | ["api", "v2", "alerts", "groups"]
        | ["api", "v2", "silence", _] => Err(Wrong(
            StatusCode::METHOD_NOT_ALLOWED,
            json!({"code": 405, "message": format!("method {method} is not allowed")}),
        )),
        _ => Err(Wrong(StatusCode::NOT_FOUND, json!({"code": 404, "message": format!("path {path} was not found")}))),
    }
}

/// The parameters of a request.
struct Query(Vec<(String, String)>);

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let escaped = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], escaped) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Query {
    fn of(text: &str) -> Self {
        let pairs = text.split('&').filter(|part| !part.is_empty()).map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decoded(name), decoded(value))
        });
        Self(pairs.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|pair| pair.0 == name).map(|pair| pair.1.as_str())
    }

    /// A boolean that is true unless said otherwise.
    fn flag(&self, name: &str) -> Result<bool, Wrong> {
        match self.get(name) {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(Wrong::invalid(601, format!("{name} in query must be of type boolean: {:?}", other))),
        }
    }

    fn matchers(&self, name: &str) -> Result<Vec<Matcher>, Wrong> {
        let all = self.0.iter().filter(|pair| pair.0 == name);
        all.map(|pair| matcher::parse_one(&pair.1).map_err(Wrong::bad)).collect()
    }

    fn receiver(&self) -> Result<Option<Regex>, Wrong> {
        let compiled = self.get("receiver").map(|text| matcher::compile(text, true)).transpose();
        compiled.map_err(|error| Wrong::bad(format!("failed to parse receiver param: {error}")))
    }
}

async fn read<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Wrong> {
    let bytes: Bytes = body::read(request.into_body(), LARGEST).await.map_err(|error| {
        let status = match error {
            body::ReadError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            body::ReadError::Broken(_) => StatusCode::BAD_REQUEST,
        };
        Wrong(status, json!({"code": status.as_u16(), "message": error.to_string()}))
    })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("parsing body failed, because {error}");
        Wrong(StatusCode::BAD_REQUEST, json!({"code": 400, "message": message}))
    })
}

/// A time as the API writes it, with milliseconds.
fn time(millis: i64) -> Value {
    let time = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    json!(time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

/// A time as others write it; nothing for Go's zero time.
fn parse_time(text: Option<&str>, name: &str) -> Result<Option<i64>, Wrong> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    let parsed: Result<Timestamp, _> = text.parse();
    let parsed =
        parsed.map_err(|_| Wrong::invalid(601, format!("{name} in body must be of type date-time: {text:?}")))?;
    Ok(Some(parsed.as_millisecond()))
}

fn status(center: &Center) -> Value {
    let config = center.look(|state| state.config.print());
    json!({
        "cluster": {"status": "disabled", "peers": []},
        "config": {"original": config},
        "uptime": time(center.started()),
        "versionInfo": {
            "branch": "", "buildDate": "", "buildUser": "madang", "goVersion": "", "revision": "", "version": VERSION,
        },
    })
}

/// Whether labels fulfil filters: an absent label is not the same as an empty one here.
fn filtered(matchers: &[Matcher], labels: &Pairs) -> bool {
    matchers.iter().all(|matcher| {
        let value = labels.get(&matcher.name);
        let negative = matches!(matcher.comparison, Comparison::NotEqual | Comparison::MatchesNot);
        (matcher.value.is_empty() && value.is_some() == negative) || matcher.matches(value.map_or("", String::as_str))
    })
}

fn receivers(center: &Center, query: &Query) -> Answer {
    let matchers = query.matchers("receiver_matchers")?;
    let list = center.look(|state| {
        let wanted = state.config.receivers.iter().filter(|receiver| filtered(&matchers, &receiver.labels));
        wanted.map(|receiver| json!({"name": receiver.name, "labels": receiver.labels})).collect::<Vec<_>>()
    });
    ok(&Value::Array(list))
}

fn shown(alert: &Alert, muted: &Muted, receivers: &[String], muted_by: &[String]) -> Value {
    let suppressed = muted.is_muted() || !muted_by.is_empty();
    let inhibited: Vec<String> = muted.inhibited_by.iter().map(ToString::to_string).collect();
    let mut shown = json!({
        "annotations": alert.annotations,
        "endsAt": time(alert.ends_at),
        "fingerprint": alert.fingerprint().to_string(),
        "receivers": receivers.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "startsAt": time(alert.starts_at),
        "status": {
            "inhibitedBy": inhibited,
            "mutedBy": muted_by,
            "silencedBy": muted.silenced_by,
            "state": if suppressed { "suppressed" } else { "active" },
        },
        "updatedAt": time(alert.updated_at),
        "labels": alert.labels,
    });
    if !alert.generator_url.is_empty() {
        shown["generatorURL"] = json!(alert.generator_url);
    }
    shown
}

/// What alerts are asked for.
struct Wanted {
    matchers: Vec<Matcher>,
    receiver: Option<Regex>,
    receiver_matchers: Vec<Matcher>,
    active: bool,
    silenced: bool,
    inhibited: bool,
}

impl Wanted {
    fn of(query: &Query) -> Result<Self, Wrong> {
        Ok(Self {
            matchers: query.matchers("filter")?,
            receiver: query.receiver()?,
            receiver_matchers: query.matchers("receiver_matchers")?,
            active: query.flag("active")?,
            silenced: query.flag("silenced")?,
            inhibited: query.flag("inhibited")?,
        })
    }

    fn takes_receiver(&self, state: &State, name: &str) -> bool {
        let labels = state.config.receiver(name).map(|receiver| &receiver.labels);
        self.receiver.as_ref().is_none_or(|regex| regex.is_match(name))
            && (self.receiver_matchers.is_empty()
                || labels.is_some_and(|labels| filtered(&self.receiver_matchers, labels)))
    }

    /// Whether an alert is wanted, and why it is mute.
    fn takes(&self, state: &State, alert: &Alert, now: i64) -> Option<Muted> {
        if alert.is_resolved(now) || !filtered(&self.matchers, &alert.labels) {
            return None;
        }
        let muted = state.muted(&alert.labels, now);
        let wanted = (self.active || muted.is_muted())
            && (self.silenced || muted.silenced_by.is_empty())
            && (self.inhibited || muted.inhibited_by.is_none());
        wanted.then_some(muted)
    }
}

fn receivers_of(state: &State, labels: &Pairs) -> Vec<String> {
    let routes = state.routes.find(labels);
    routes.into_iter().filter_map(|at| state.routes.get(at)).map(|route| route.options.receiver.clone()).collect()
}

fn alerts(center: &Center, query: &Query) -> Answer {
    let wanted = Wanted::of(query)?;
    let now = center.now();
    let list: Vec<Value> = center.look(|state| {
        let found = state.alerts.values().filter_map(|alert| {
            let receivers = receivers_of(state, &alert.labels);
            if !receivers.iter().any(|name| wanted.takes_receiver(state, name)) {
                return None;
            }
            let muted = wanted.takes(state, alert, now)?;
            Some((alert.fingerprint(), shown(alert, &muted, &receivers, &[])))
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(|(fingerprint, _)| fingerprint.to_string());
        found.into_iter().map(|(_, alert)| alert).collect()
    });
    ok(&Value::Array(list))
}

fn groups(center: &Center, query: &Query) -> Answer {
    let wanted = Wanted::of(query)?;
    let with_muted = query.flag("muted")?;
    let now = center.now();
    let list: Vec<Value> = center.look(|state| {
        let mut found = Vec::new();
        for (id, group) in &state.groups {
            let Some(route) = state.route(id) else { continue };
            let receiver = &route.options.receiver;
            if !wanted.takes_receiver(state, receiver) || !with_muted && !group.muted_by.is_empty() {
                continue;
            }
            let mut alerts: Vec<&Alert> = group.alerts.iter().filter_map(|one| state.alerts.get(one)).collect();
            alerts.sort_by(|a, b| alert::order(a, b));
            let alerts: Vec<Value> = alerts
                .into_iter()
                .filter_map(|alert| {
                    let mut receivers = receivers_of(state, &alert.labels);
                    receivers.sort();
                    let muted = wanted.takes(state, alert, now)?;
                    Some(shown(alert, &muted, &receivers, &group.muted_by))
                })
                .collect();
            if !alerts.is_empty() {
                let shown = json!({
                    "alerts": alerts,
                    "labels": id.1,
                    "receiver": {"name": receiver},
                    "routeLabels": route.options.labels,
                });
                found.push(((id.1.clone(), receiver.clone()), shown));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found.into_iter().map(|(_, group)| group).collect()
    });
    ok(&Value::Array(list))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedAlert {
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<String>,
}

async fn post_alerts(center: &Center, posted: Vec<PostedAlert>) -> Answer {
    let now = center.now();
    let timeout = center.look(|state| state.config.resolve_timeout());
    let mut alerts = Vec::new();
    let mut problems = Vec::new();
    for (i, posted) in posted.into_iter().enumerate() {
        let Some(mut labels) = posted.labels else {
            return Err(Wrong::invalid(602, format!("{i}.labels in body is required")));
        };
        let starts_at = parse_time(posted.starts_at.as_deref(), &format!("{i}.startsAt"))?;
        let ends_at = parse_time(posted.ends_at.as_deref(), &format!("{i}.endsAt"))?;
        labels.retain(|_, value| !value.is_empty());
        let alert = Alert {
            labels,
            annotations: posted.annotations.unwrap_or_default(),
            starts_at: starts_at.or(ends_at).unwrap_or(now),
            ends_at: ends_at.unwrap_or(now + timeout),
            updated_at: now,
            generator_url: posted.generator_url.unwrap_or_default(),
            timeout: ends_at.is_none(),
        };
        center.counts().received(alert.is_resolved(now));
        match alert.problem() {
            Some(problem) => {
                center.counts().invalid();
                problems.push(problem);
            }
            None => alerts.push(alert),
        }
    }
    let taken = center.put(alerts).await.map_err(|error| Wrong::failed(&error))?;
    problems.extend(taken.err());
    if problems.is_empty() { ok(&json!({})) } else { Err(Wrong::bad(problems.join("\n"))) }
}

fn shown_silence(silence: &Silence, now: i64) -> Value {
    json!({
        "id": silence.id,
        "status": {"state": silence.state(now).name()},
        "updatedAt": time(silence.updated_at),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "endsAt": time(silence.ends_at),
        "matchers": silence.matchers,
        "startsAt": time(silence.starts_at),
        "annotations": silence.annotations,
    })
}

fn silences(center: &Center, query: &Query) -> Answer {
    let matchers = query.matchers("filter")?;
    let states = [
        (SilenceState::Active, query.flag("active")?),
        (SilenceState::Expired, query.flag("expired")?),
        (SilenceState::Pending, query.flag("pending")?),
    ];
    let now = center.now();
    let list: Vec<Value> = center.look(|state| {
        let has = |silence: &Silence| {
            matchers.iter().all(|matcher| {
                silence.matchers.iter().any(|condition| {
                    let comparison = Comparison::of(condition.is_regex, condition.is_equal);
                    (&condition.name, comparison, &condition.value)
                        == (&matcher.name, matcher.comparison, &matcher.value)
                })
            })
        };
        let wanted = |silence: &&Silence| states.contains(&(silence.state(now), true)) && has(silence);
        let mut found: Vec<&Silence> = state.silences.all().filter(wanted).collect();
        found.sort_by_key(|silence| {
            let state = silence.state(now);
            let time = match state {
                SilenceState::Active => silence.ends_at,
                SilenceState::Pending => silence.starts_at,
                SilenceState::Expired => -silence.ends_at,
            };
            (state, time)
        });
        found.into_iter().map(|silence| shown_silence(silence, now)).collect()
    });
    ok(&Value::Array(list))
}

/// Whether a text is an id, so that others are told so.
fn check_id(id: &str) -> Result<(), Wrong> {
    let sound = id.len() == 36
        && id.char_indices().all(|(i, c)| if matches!(i, 8 | 13 | 18 | 23) { c == '-' } else { c.is_ascii_hexdigit() });
    if sound { Ok(()) } else { Err(Wrong::invalid(601, format!("silenceID in path must be of type uuid: {id:?}"))) }
}

fn silence(center: &Center, id: &str) -> Answer {
    check_id(id)?;
    let now = center.now();
    let found = center.look(|state| state.silences.get(id).map(|silence| shown_silence(silence, now)));
    match found {
        Some(silence) => ok(&silence),
        None => Ok(without_content(StatusCode::NOT_FOUND)),
    }
}

fn without_content(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(body::empty());
    *answer.status_mut() = status;
    answer
}

async fn expire(center: &Center, id: &str) -> Answer {
    check_id(id)?;
    match center.expire(id.to_owned()).await.map_err(|error| Wrong::failed(&error))? {
        Ok(()) => Ok(without_content(StatusCode::OK)),
        Err(_) => Ok(without_content(StatusCode::NOT_FOUND)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedSilence {
    #[serde(default)]
    id: Option<String>,
    matchers: Option<Vec<Condition>>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// A random id (UUID version 4).
fn fresh_id() -> Result<String, Wrong> {
    let mut bytes = [0u8; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Wrong::failed(&anyhow::anyhow!("make an id for a silence: no randomness")))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

async fn post_silence(center: &Center, posted: PostedSilence) -> Answer {
    let required = |name: &str| Wrong::invalid(602, format!("{name} in body is required"));
    let now = center.now();
    let starts_at = posted.starts_at.as_deref().ok_or_else(|| required("startsAt"))?;
    let ends_at = posted.ends_at.as_deref().ok_or_else(|| required("endsAt"))?;
    let starts_at = parse_time(Some(starts_at), "startsAt")?.unwrap_or(now);
    let ends_at = parse_time(Some(ends_at), "endsAt")?.unwrap_or(0);
    let wish = Silence {
        id: posted.id.unwrap_or_default(),
        matchers: posted.matchers.ok_or_else(|| required("matchers"))?,
        starts_at,
        ends_at,
        updated_at: now,
        created_by: posted.created_by.ok_or_else(|| required("createdBy"))?,
        comment: posted.comment.ok_or_else(|| required("comment"))?,
        annotations: posted.annotations.unwrap_or_default(),
    };
    if starts_at >= ends_at {
        return Err(Wrong::bad("Failed to create silence: start time must be before end time"));
    }
    if ends_at < now {
        return Err(Wrong::bad("Failed to create silence: end time can't be in the past"));
    }
    match center.silence(wish, fresh_id()?).await.map_err(|error| Wrong::failed(&error))? {
        Ok(id) => ok(&json!({"silenceID": id})),
        Err(Refused::NotFound) => Err(Wrong(StatusCode::NOT_FOUND, json!(Refused::NotFound.to_string()))),
        Err(Refused::Invalid(message)) => Err(Wrong::bad(message)),
    }
}
