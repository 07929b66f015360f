//! What templates of receivers are given: Alertmanager's functions, and the templates that configurations refer to.
//!
//! See <https://prometheus.io/docs/alerting/latest/notifications/> and
//! <https://prometheus.io/docs/alerting/latest/configuration/#notification-template>.

use std::{cell::RefCell, collections::BTreeMap};

use base64::{Engine as _, engine::general_purpose::URL_SAFE};

use super::{
    Error, Mode, Templates,
    calendar::Moment,
    call::{Called, Functions, Param, Signature, takes, takes_rest},
    escape,
    prometheus::{humanize_duration, pattern, title},
    value::{ListKind, MapKind, Value, to_float},
};

/// The templates that are there without being configured.
pub const DEFAULT: &str = include_str!("default.tmpl");

/// A notification's templates, its data and time.
#[derive(Debug)]
pub struct Notification<'a> {
    templates: &'a Templates,
    /// When it is sent, in nanoseconds since 1970.
    now: i128,
    dot: &'a Value,
    /// Labels of the route, whose values may be templates too.
    route_labels: &'a BTreeMap<String, String>,
    /// Those that are being expanded: a cycle must end.
    open: RefCell<Vec<String>>,
}

/// Makes the set of templates that receivers use: the default ones, then others in order, each with a name for errors.
pub fn load<'a>(mode: Mode, others: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Templates, Error> {
    let none = BTreeMap::new();
    let empty = Templates::new(mode);
    let functions = Notification::new(&empty, 0, &Value::Nil, &none);
    let mut templates = Templates::new(mode);
    templates.add("", DEFAULT, &functions)?;
    for (name, text) in others {
        templates.add(name, text, &functions)?;
    }
    Ok(templates)
}

impl<'a> Notification<'a> {
    /// Expansion of texts for one notification.
    pub fn new(
        templates: &'a Templates,
        now: i128,
        dot: &'a Value,
        route_labels: &'a BTreeMap<String, String>,
    ) -> Self {
        Self { templates, now, dot, route_labels, open: RefCell::default() }
    }

    /// Expands a text.
    pub fn expand(&self, text: &str) -> Result<String, Error> {
        // Most texts are none, or name one template.
        if !text.contains("{{") && self.templates.mode == Mode::Text {
            return Ok(text.to_owned());
        }
        let mut templates = self.templates.clone();
        templates.trees.remove("");
        templates.add("", text, self)?;
        templates.run("", self.dot, self)
    }

    fn route_label(&self, name: &str) -> Result<String, String> {
        let Some(text) = self.route_labels.get(name) else { return Ok(String::new()) };
        let mut chain = self.open.borrow().clone();
        if chain.iter().any(|open| open == name) {
            chain.push(name.to_owned());
            return Err(format!("route label cycle detected: {}", chain.join(" -> ")));
        }
        self.open.borrow_mut().push(name.to_owned());
        let expanded = self.expand(text);
        self.open.borrow_mut().pop();
        expanded.map_err(|error| error.to_string())
    }
}

impl Functions for Notification<'_> {
    fn signature(&self, name: &str) -> Option<Signature> {
        Some(match name {
            "toUpper" | "toLower" | "title" | "trimSpace" | "safeHtml" | "safeUrl" | "urlUnescape" | "routeLabels"
            | "base64encode" | "base64decode" => takes(&[Param::Text]),
            "join" => takes(&[Param::Text, Param::Texts]),
            "match" | "toDate" | "mustToDate" => takes(&[Param::Text, Param::Text]),
            "reReplaceAll" => takes(&[Param::Text, Param::Text, Param::Text]),
            "stringSlice" => takes_rest(&[], Param::Text),
            "date" | "tz" => takes(&[Param::Text, Param::Time]),
            "now" => takes(&[]),
            "since" => takes(&[Param::Time]),
            "humanizeDuration" | "toJson" => takes(&[Param::Any]),
            "list" | "dict" => takes_rest(&[], Param::Any),
            "append" => takes_rest(&[Param::Anys], Param::Any),
            _ => return None,
        })
    }

    fn call(&self, name: &str, args: Vec<Value>) -> Result<Called, String> {
        let text = |i: usize| args.get(i).and_then(Value::as_text).unwrap_or_default();
        let time = |i: usize| match args.get(i) {
            Some(Value::Time(time)) => time.clone(),
            _ => Moment::zero(),
        };
        let value = match name {
            "toUpper" => Value::text(text(0).to_uppercase()),
            "toLower" => Value::text(text(0).to_lowercase()),
            "title" => Value::text(title(text(0), true)),
            "trimSpace" => Value::text(text(0).trim()),
            "safeHtml" | "safeUrl" => Value::Safe(text(0).into()),
            "urlUnescape" => Value::text(escape::unquery(text(0))?),
            "routeLabels" => Value::text(self.route_label(text(0))?),
            "base64encode" => Value::text(URL_SAFE.encode(text(0))),
            "base64decode" => {
                let bytes = URL_SAFE.decode(text(0)).map_err(|error| format!("illegal base64 data: {error}"))?;
                Value::text(String::from_utf8_lossy(&bytes))
            }
            "join" => match args.get(1) {
                Some(Value::List(list)) => {
                    let texts: Vec<String> = list.items.iter().map(Value::printed).collect();
                    Value::text(texts.join(text(0)))
                }
                _ => Value::text(""),
            },
            "match" => Value::Bool(pattern(text(0))?.is_match(text(1))),
            "reReplaceAll" => Value::text(pattern(text(0))?.replace_all(text(2), text(1))),
            "stringSlice" => Value::list(ListKind::Strings, args),
            "date" => Value::text(time(1).format(text(0))),
            "tz" => Value::Time(time(1).in_zone(text(0))?),
            "now" => Value::Time(Moment::from_nanos(self.now)),
            "since" => Value::Duration((self.now - time(0).nanos()).clamp(i64::MIN.into(), i64::MAX.into()) as i64),
            "humanizeDuration" => Value::text(humanize_duration(to_float(args.first().unwrap_or(&Value::Nil))?)),
            "toDate" => Value::Time(Moment::parse(text(0), text(1)).unwrap_or_else(|_| Moment::zero())),
            "mustToDate" => Value::Time(Moment::parse(text(0), text(1))?),
            "toJson" => Value::text(args.first().unwrap_or(&Value::Nil).json()?.to_string()),
            "list" => Value::list(ListKind::Any, args),
            "append" => {
                let mut items = match args.first() {
                    Some(Value::List(list)) => list.items.clone(),
                    _ => Vec::new(),
                };
                items.extend(args.into_iter().skip(1));
                Value::list(ListKind::Any, items)
            }
            "dict" => {
                if !args.len().is_multiple_of(2) {
                    return Err("dict requires an even number of arguments".to_owned());
                }
                let pairs = args.chunks_exact(2).map(|pair| {
                    let key = pair[0].as_text().ok_or("dict keys must be strings")?;
                    Ok((key.to_owned(), pair[1].clone()))
                });
                Value::map(MapKind::Any, pairs.collect::<Result<BTreeMap<_, _>, String>>()?)
            }
            _ => return Err(format!("no function {name}")),
        };
        Ok(Called::Value(value))
    }
}
