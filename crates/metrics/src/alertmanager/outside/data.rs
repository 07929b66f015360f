//! What templates of notifications are given, and webhooks are sent.
//!
//! See <https://prometheus.io/docs/alerting/latest/notifications/#data-structures>.

use crate::{
    alertmanager::{
        alert::{Alert, Pairs},
        center::Notification,
    },
    template::{
        calendar::Moment,
        value::{ListKind, MapKind, Value},
    },
};

fn labels(pairs: &Pairs) -> Value {
    Value::strings(MapKind::Labels, pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// Pairs that all alerts have.
fn common<'a>(alerts: &'a [Alert], of: impl Fn(&'a Alert) -> &'a Pairs) -> Pairs {
    let Some((first, others)) = alerts.split_first() else { return Pairs::new() };
    let mut common = of(first).clone();
    common.retain(|name, value| others.iter().all(|alert| of(alert).get(name) == Some(value)));
    common
}

/// A name as an expression that matches it only, as upstream hands receivers to templates.
fn literal(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn alert(alert: &Alert, now: i64) -> Value {
    let resolved = alert.is_resolved(now);
    let ends_at = if resolved { Moment::from_millis(alert.ends_at) } else { Moment::zero() };
    Value::record(
        "template.Alert",
        vec![
            ("Status", "status", if resolved { "resolved" } else { "firing" }.into()),
            ("Labels", "labels", labels(&alert.labels)),
            ("Annotations", "annotations", labels(&alert.annotations)),
            ("StartsAt", "startsAt", Value::Time(Moment::from_millis(alert.starts_at))),
            ("EndsAt", "endsAt", Value::Time(ends_at)),
            ("GeneratorURL", "generatorURL", Value::text(alert.generator_url.as_str())),
            ("Fingerprint", "fingerprint", Value::text(alert.fingerprint().to_string())),
        ],
    )
}

/// Whether any alert fires.
pub fn is_firing(notification: &Notification) -> bool {
    notification.job.alerts.iter().any(|alert| !alert.is_resolved(notification.flush.now))
}

/// The data of a notification, with all its alerts.
pub fn of(notification: &Notification, external_url: &str) -> Value {
    with(notification, external_url, usize::MAX)
}

/// The data of a notification, with so many alerts at most.
pub fn with(notification: &Notification, external_url: &str, most: usize) -> Value {
    let (flush, job) = (&notification.flush, &notification.job);
    let alerts = &job.alerts[..job.alerts.len().min(most)];
    let firing = alerts.iter().any(|alert| !alert.is_resolved(flush.now));
    let listed = alerts.iter().map(|one| alert(one, flush.now)).collect();
    Value::record(
        "*template.Data",
        vec![
            ("Receiver", "receiver", Value::text(literal(&flush.options.receiver))),
            ("Status", "status", if firing { "firing" } else { "resolved" }.into()),
            ("Alerts", "alerts", Value::list(ListKind::Alerts, listed)),
            ("NotificationReason", "notification_reason", job.reason.name().into()),
            ("GroupLabels", "groupLabels", labels(&flush.id.1)),
            ("CommonLabels", "commonLabels", labels(&common(alerts, |alert| &alert.labels))),
            ("CommonAnnotations", "commonAnnotations", labels(&common(alerts, |alert| &alert.annotations))),
            ("RouteLabels", "routeLabels", labels(&flush.options.labels)),
            ("ExternalURL", "externalURL", Value::text(external_url)),
        ],
    )
}

/// The name of a group as a key that others keep: SHA-256, in hexadecimal digits.
pub fn hash(key: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
