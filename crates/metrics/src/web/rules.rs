//! Rules, alerts, and where alerts are sent to.

use std::fmt::Write;

use ring::digest;
use tsdb::labels::quote;

use super::{
    Asked,
    form::Form,
    json, parameter,
    reply::{Answer, Failure, Reply},
};
use crate::shown::{Alert, Health, Rule, RuleGroup};

/// Which rules are asked for.
struct Wanted<'f> {
    names: Vec<&'f str>,
    groups: Vec<&'f str>,
    files: Vec<&'f str>,
    alerting: bool,
    recording: bool,
    alerts: bool,
    most: Option<usize>,
    from: &'f str,
}

impl<'f> Wanted<'f> {
    fn read(form: &'f Form) -> Result<Self, Failure> {
        let kind = form.in_address("type").to_ascii_lowercase();
        if !matches!(kind.as_str(), "" | "alert" | "record") {
            return Err(Failure::parameter("type", format!("not supported value {}", quote(&kind))));
        }
        let exclude = match form.in_address("exclude_alerts").to_ascii_lowercase().as_str() {
            "" => false,
            text => parameter::truth(text).map_err(|error| {
                Failure::parameter("exclude_alerts", format!("error converting exclude_alerts: {error}"))
            })?,
        };
        let (most, from) = (form.in_address("group_limit"), form.in_address("group_next_token"));
        if !from.is_empty() && most.is_empty() {
            let wrong = "group_limit needs to be present in order to paginate over the groups";
            return Err(Failure::parameter("group_next_token", wrong));
        }
        Ok(Self {
            names: form.all("rule_name[]"),
            groups: form.all("rule_group[]"),
            files: form.all("file[]"),
            alerting: kind != "record",
            recording: kind != "alert",
            alerts: !exclude,
            most: if most.is_empty() { None } else { Some(page(most)?) },
            from,
        })
    }

    fn takes(&self, rule: &Rule) -> bool {
        let kind = if rule.alerting.is_some() { self.alerting } else { self.recording };
        kind && (self.names.is_empty() || self.names.contains(&rule.name.as_str()))
    }
}

fn page(text: &str) -> Result<usize, Failure> {
    let wrong = |wrong: String| Failure::parameter("group_limit", wrong);
    let number = text.parse::<i32>().map_err(|_| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let numeric = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        let why = if numeric { "value out of range" } else { "invalid syntax" };
        wrong(format!("group_limit needs to be a valid number: strconv.ParseInt: parsing {}: {why}", quote(text)))
    })?;
    match usize::try_from(number) {
        Ok(most) if most > 0 => Ok(most),
        _ => Err(wrong("group_limit needs to be greater than 0".to_owned())),
    }
}

/// What names the group that the next page begins with.
fn token(group: &RuleGroup) -> String {
    let sum = digest::digest(&digest::SHA256, format!("{};{}", group.file, group.name).as_bytes());
    sum.as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `/api/v1/rules`
pub fn rules(asked: &Asked<'_>, form: &Form) -> Answer {
    form.checked().map_err(Failure::bad)?;
    let matchers = parameter::selectors(form).map_err(Failure::bad)?;
    let wanted = Wanted::read(form)?;
    let groups = asked.parts.rules.as_ref().map(|rules| rules.groups(&matchers)).unwrap_or_default();
    let paged = wanted.most.is_some() && !wanted.from.is_empty();
    let mut found = !paged;
    let mut next = None;
    let mut count = 0;
    let mut out = b"{\"groups\":[".to_vec();
    for group in &groups {
        found = found || token(group) == wanted.from;
        let named = |list: &[&str], name: &str| list.is_empty() || list.contains(&name);
        if !found || !named(&wanted.groups, &group.name) || !named(&wanted.files, &group.file) {
            continue;
        }
        let rules: Vec<&Rule> = group.rules.iter().filter(|rule| wanted.takes(rule)).collect();
        if rules.is_empty() {
            continue;
        }
        if wanted.most == Some(count) {
            next = Some(token(group));
            break;
        }
        if count > 0 {
            out.push(b',');
        }
        count += 1;
        write_group(&mut out, group, &rules, wanted.alerts);
    }
    if !found {
        let wrong = format!("invalid group_next_token '{}'. were rule groups changed?", wanted.from);
        return Err(Failure::parameter("group_next_token", wrong));
    }
    out.push(b']');
    if let Some(next) = next {
        out.extend_from_slice(b",\"groupNextToken\":");
        json::text(&mut out, &next);
    }
    out.push(b'}');
    Ok(Reply::new(out))
}

fn write_group(out: &mut Vec<u8>, group: &RuleGroup, rules: &[&Rule], alerts: bool) {
    out.extend_from_slice(b"{\"name\":");
    json::text(out, &group.name);
    out.extend_from_slice(b",\"file\":");
    json::text(out, &group.file);
    out.extend_from_slice(b",\"rules\":[");
    for (nth, rule) in rules.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        write_rule(out, rule, alerts);
    }
    out.extend_from_slice(b"],\"interval\":");
    json::plain(out, group.interval.as_secs_f64());
    out.extend_from_slice(format!(",\"limit\":{},\"evaluationTime\":", group.limit).as_bytes());
    json::plain(out, group.evaluation.as_secs_f64());
    out.extend_from_slice(b",\"lastEvaluation\":");
    json::moment(out, group.last_evaluation);
    out.push(b'}');
}

fn write_rule(out: &mut Vec<u8>, rule: &Rule, alerts: bool) {
    out.push(b'{');
    if let Some(alerting) = &rule.alerting {
        out.extend_from_slice(b"\"state\":");
        json::text(out, alerting.state);
        out.extend_from_slice(b",\"duration\":");
        json::plain(out, alerting.hold.as_secs_f64());
        out.extend_from_slice(b",\"keepFiringFor\":");
        json::plain(out, alerting.keep_firing.as_secs_f64());
        out.extend_from_slice(b",\"annotations\":");
        json::labels(out, &alerting.annotations);
        out.extend_from_slice(b",\"alerts\":");
        if alerts {
            write_alerts(out, &alerting.alerts);
        } else {
            out.extend_from_slice(b"null");
        }
        out.push(b',');
    }
    out.extend_from_slice(b"\"name\":");
    json::text(out, &rule.name);
    out.extend_from_slice(b",\"query\":");
    json::text(out, &rule.query);
    out.extend_from_slice(b",\"labels\":");
    json::labels(out, &rule.labels);
    let health = match rule.health {
        Health::Unknown => "unknown",
        Health::Good => "ok",
        Health::Bad => "err",
    };
    out.extend_from_slice(b",\"health\":");
    json::text(out, health);
    if !rule.last_error.is_empty() {
        out.extend_from_slice(b",\"lastError\":");
        json::text(out, &rule.last_error);
    }
    out.extend_from_slice(b",\"evaluationTime\":");
    json::plain(out, rule.evaluation.as_secs_f64());
    out.extend_from_slice(b",\"lastEvaluation\":");
    json::moment(out, rule.last_evaluation);
    out.extend_from_slice(b",\"type\":");
    json::text(out, if rule.alerting.is_some() { "alerting" } else { "recording" });
    out.push(b'}');
}

fn write_alerts<'a>(out: &mut Vec<u8>, alerts: impl IntoIterator<Item = &'a Alert>) {
    out.push(b'[');
    for (nth, alert) in alerts.into_iter().enumerate() {
        out.extend_from_slice(if nth == 0 { b"{\"labels\":" } else { b",{\"labels\":" });
        json::labels(out, &alert.labels);
        out.extend_from_slice(b",\"annotations\":");
        json::labels(out, &alert.annotations);
        out.extend_from_slice(b",\"state\":");
        json::text(out, alert.state);
        out.extend_from_slice(b",\"activeAt\":");
        json::moment(out, Some(alert.active_at));
        if let Some(since) = alert.keep_firing_since {
            out.extend_from_slice(b",\"keepFiringSince\":");
            json::moment(out, Some(since));
        }
        out.extend_from_slice(b",\"value\":");
        json::text(out, &json::exponential(alert.value));
        out.push(b'}');
    }
    out.push(b']');
}

/// `/api/v1/alerts`
pub fn alerts(asked: &Asked<'_>) -> Answer {
    let groups = asked.parts.rules.as_ref().map(|rules| rules.groups(&[])).unwrap_or_default();
    let rules = groups.iter().flat_map(|group| &group.rules);
    let alerts = rules.filter_map(|rule| rule.alerting.as_ref()).flat_map(|alerting| &alerting.alerts);
    let mut out = b"{\"alerts\":".to_vec();
    write_alerts(&mut out, alerts);
    out.push(b'}');
    Ok(Reply::new(out))
}

/// `/api/v1/alertmanagers`
pub fn alertmanagers(asked: &Asked<'_>) -> Answer {
    let notifiers = asked.parts.notifiers.as_ref();
    let active = notifiers.map(|notifiers| notifiers.alertmanagers()).unwrap_or_default();
    let dropped = notifiers.map(|notifiers| notifiers.dropped()).unwrap_or_default();
    let urls = |list: Vec<String>| list.into_iter().map(|url| serde_json::json!({"url": url})).collect::<Vec<_>>();
    Reply::value(&serde_json::json!({
        "activeAlertmanagers": urls(active),
        "droppedAlertmanagers": urls(dropped),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_as_large_as_said() {
        assert_eq!(page("3").unwrap(), 3);
        let message = |text| page(text).unwrap_err().message;
        assert_eq!(message("0"), "invalid parameter \"group_limit\": group_limit needs to be greater than 0");
        assert_eq!(
            message("x"),
            "invalid parameter \"group_limit\": group_limit needs to be a valid number: strconv.ParseInt: parsing \"x\": invalid syntax"
        );
    }
}
