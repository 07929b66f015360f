//! Kinds whose pods run to an end: Job and CronJob.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::check::{domain_prefixed_path, faults, not_negative, option};
use super::metadata::{IMMUTABLE, immutable, label_selector};
use super::{Errors, Path, format, pod, schedule};
use crate::meta::View;
use crate::selector::Labels;
use crate::status::quote;

const METADATA: Path<'static> = Path::new("metadata");
const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const MANY_INDEXES: i64 = 100_000;
const MANY_COMPLETIONS_LIMIT: i64 = 10_000;

/// A kind of the group `batch`.
pub fn check(kind: &str, subresource: &str, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    match (kind, subresource, old) {
        ("Job", "status", Some(old)) => status(new, old, errors),
        ("Job", _, None) => {
            generated_selector(new, errors);
            job_spec(new.at("spec"), errors);
            pod_names(new, errors);
        }
        ("Job", "", Some(old)) => {
            job_spec(new.at("spec"), errors);
            job_update(new.at("spec"), old, errors);
            pod_names(new, errors);
        }
        ("CronJob", "", old) => cron_job(new, old, errors),
        _ => {}
    }
}

fn labels_of(spec: View<'_>) -> Map<String, Value> {
    spec.at("template").at("metadata").map("labels").cloned().unwrap_or_default()
}

/// A selector that was made up by the server must not have been mixed with one of the user's.
fn generated_selector(job: View<'_>, errors: &mut Errors) {
    let spec = job.at("spec");
    if spec.is("manualSelector") || !spec.has("selector") {
        return;
    }
    let (uid, name) = (job.at("metadata").text("uid"), job.at("metadata").text("name"));
    if uid.is_empty() {
        errors.required(&METADATA.child("uid"), "");
    }
    let labels = labels_of(spec);
    let at = SPEC.child("template");
    let at = at.child("metadata");
    let at = at.child("labels");
    let mut expected = Map::new();
    for (key, value) in [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ] {
        match labels.get(key) {
            None => errors.required(&at.key(key), format!("must be '{value}'")),
            Some(found) if found != value => {
                errors.invalid(&at.key(key), Value::Object(labels.clone()), format!("must be '{value}'"));
            }
            Some(_) => {}
        }
        expected.insert(key.to_owned(), value.into());
    }
    let selector = spec.at("selector").value();
    if Labels::from_value(selector).is_ok_and(|selector| !selector.matches(&expected)) {
        errors.invalid(&SPEC.child("selector"), selector.clone(), "`selector` not auto-generated");
    }
}

/// Names of pods of an indexed Job must fit into a host name.
fn pod_names(job: View<'_>, errors: &mut Errors) {
    let spec = job.at("spec");
    let Some(completions) = spec.int("completions").filter(|completions| *completions > 0) else { return };
    if spec.text("completionMode") != "Indexed" {
        return;
    }
    let name = job.at("metadata").text("name");
    let last = format!("{name}-{}", completions - 1);
    if !format::dns_label(&last).is_empty() {
        let detail = format!("will not able to create pod with invalid DNS label: {last}");
        errors.invalid(&METADATA.child("name"), name, detail);
    }
}

fn job_spec(spec: View<'_>, errors: &mut Errors) {
    common_spec(spec, &SPEC, errors);
    let selector = spec.at("selector");
    if selector.exists() {
        label_selector(selector, &SPEC.child("selector"), errors);
    } else {
        errors.required(&SPEC.child("selector"), "");
    }
    let labels = labels_of(spec);
    if Labels::from_value(selector.value()).is_ok_and(|selector| !selector.matches(&labels)) {
        let at = SPEC.child("template");
        let at = at.child("metadata");
        errors.invalid(&at.child("labels"), labels, "`selector` does not match template `labels`");
    }
}

/// A Job's spec, be it its own or a CronJob's.
fn common_spec(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    for member in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(spec, member, path, errors);
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.at("managedBy").as_str() {
        domain_prefixed_path(manager, &path.child("managedBy"), errors);
        if manager.len() > 63 {
            errors.too_long(&path.child("managedBy"), 63);
        }
    }
    option(spec, "completionMode", &["NonIndexed", "Indexed"], path, errors);
    if spec.text("completionMode") == "Indexed" {
        indexed(spec, path, errors);
    } else if !spec.has("completionMode") || spec.text("completionMode") == "NonIndexed" {
        for member in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = spec.int(member) {
                errors.invalid(&path.child(member), number, "requires indexed completion mode");
            }
        }
    }
    failure_policy(spec, &path.child("podFailurePolicy"), errors);
    success_policy(spec, &path.child("successPolicy"), errors);
    if spec.has("podFailurePolicy") {
        option(spec, "podReplacementPolicy", &["Failed"], path, errors);
    } else {
        option(spec, "podReplacementPolicy", &["Failed", "TerminatingOrFailed"], path, errors);
    }
    pod::template(spec.at("template"), &path.child("template"), errors);
    let at = path.child("template");
    let at = at.child("spec");
    let at = at.child("restartPolicy");
    match spec.at("template").at("spec").text("restartPolicy") {
        "" | "Always" => errors.required(&at, r#"valid values: "OnFailure", "Never""#),
        "OnFailure" if spec.has("podFailurePolicy") => {
            let detail = r#"only "Never" is supported when podFailurePolicy is specified"#;
            errors.invalid(&at, "OnFailure", detail);
        }
        "OnFailure" | "Never" => {}
        other => errors.not_supported(&at, other, &["OnFailure", "Never"]),
    }
}

fn indexed(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let (completions, parallelism, failed) =
        (spec.int("completions"), spec.int("parallelism"), spec.int("maxFailedIndexes"));
    if completions.is_none() {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    let over = |number: Option<i64>, limit: i64| number.filter(|number| *number > limit);
    if let Some(number) = over(parallelism, MANY_INDEXES) {
        let detail = format!("must be less than or equal to {MANY_INDEXES} when completion mode is Indexed");
        errors.invalid(&path.child("parallelism"), number, detail);
    }
    if let Some(number) = completions.and_then(|completions| over(failed, completions)) {
        errors.invalid(&path.child("maxFailedIndexes"), number, "must be less than or equal to completions");
    }
    if let Some(number) = over(failed, MANY_INDEXES) {
        let detail = format!("must be less than or equal to {MANY_INDEXES}");
        errors.invalid(&path.child("maxFailedIndexes"), number, detail);
    }
    if over(completions, MANY_INDEXES).is_none() || !spec.has("backoffLimitPerIndex") {
        return;
    }
    if failed.is_none() {
        let detail = format!("must be specified when completions is above {MANY_INDEXES}");
        errors.required(&path.child("maxFailedIndexes"), detail);
    }
    for (member, number) in [("parallelism", parallelism), ("maxFailedIndexes", failed)] {
        if let Some(number) = over(number, MANY_COMPLETIONS_LIMIT) {
            let detail = format!(
                "must be less than or equal to {MANY_COMPLETIONS_LIMIT} when completions are above {MANY_INDEXES} and \
                 used with backoff limit per index"
            );
            errors.invalid(&path.child(member), number, detail);
        }
    }
}

/// `valid values: ["a" "b"]`, as Go prints a list of texts.
fn listed(values: &[&str]) -> String {
    let values: Vec<String> = values.iter().map(|value| quote(value)).collect();
    format!("valid values: [{}]", values.join(" "))
}

fn one_of(text: &str, allowed: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, listed(allowed));
    } else if !allowed.contains(&text) {
        errors.not_supported(path, text, allowed);
    }
}

fn failure_policy(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
    let policy = spec.at("podFailurePolicy");
    if !policy.exists() {
        return;
    }
    let path = path.child("rules");
    let rules = policy.slice("rules");
    if rules.len() > 20 {
        errors.too_many(&path, rules.len(), 20);
    }
    let template = spec.at("template").at("spec");
    let names: BTreeSet<&str> = template
        .list("containers")
        .chain(template.list("initContainers"))
        .map(|container| container.text("name"))
        .collect();
    for (position, rule) in rules.iter().map(View::new).enumerate() {
        let at = path.index(position);
        let action = rule.text("action");
        if action == "FailIndex" {
            if !spec.has("backoffLimitPerIndex") {
                errors.invalid(&at.child("action"), action, "requires the backoffLimitPerIndex to be set");
            }
        } else {
            one_of(action, ACTIONS, &at.child("action"), errors);
        }
        let (codes, conditions) = (rule.at("onExitCodes"), rule.slice("onPodConditions"));
        if codes.exists() {
            exit_codes(codes, &names, &at.child("onExitCodes"), errors);
        }
        pod_conditions(conditions, &at.child("onPodConditions"), errors);
        let detail = match (codes.exists(), conditions.is_empty()) {
            (true, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, true) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        without_value(&at, detail, errors);
    }
}

fn without_value(path: &Path<'_>, detail: impl Into<String>, errors: &mut Errors) {
    errors.push(super::FieldError::new(super::FieldErrorKind::Invalid, path, None, detail));
}

fn pod_conditions(conditions: &[Value], path: &Path<'_>, errors: &mut Errors) {
    if conditions.len() > 20 {
        errors.too_many(path, conditions.len(), 20);
    }
    for (position, condition) in conditions.iter().map(View::new).enumerate() {
        let at = path.index(position);
        let kind = condition.text("type");
        faults(format::qualified_name(kind), kind, &at.child("type"), errors);
        one_of(condition.text("status"), &["False", "True", "Unknown"], &at.child("status"), errors);
    }
}

fn exit_codes(codes: View<'_>, names: &BTreeSet<&str>, path: &Path<'_>, errors: &mut Errors) {
    let operator = codes.text("operator");
    one_of(operator, &["In", "NotIn"], &path.child("operator"), errors);
    if let Some(name) = codes.at("containerName").as_str().filter(|name| !names.contains(name)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&path.child("containerName"), name, detail);
    }
    let values: Vec<i64> = codes.list("values").filter_map(View::as_int).collect();
    let at = path.child("values");
    if values.is_empty() {
        errors.invalid(&at, codes.at("values").value().clone(), "at least one value is required");
    } else if values.len() > 255 {
        errors.too_many(&at, values.len(), 255);
    }
    let mut seen = BTreeSet::new();
    for (position, code) in values.iter().enumerate() {
        if operator == "In" && *code == 0 {
            errors.invalid(&at.index(position), 0, "must not be 0 for the In operator");
        }
        if !seen.insert(*code) {
            errors.duplicate(&at.index(position), *code);
        }
    }
    if !values.is_sorted() {
        errors.invalid(&at, values, "must be ordered");
    }
}

fn success_policy(spec: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    let policy = spec.at("successPolicy");
    if !policy.exists() {
        return;
    }
    if spec.text("completionMode") != "Indexed" {
        errors.invalid(path, policy.value().clone(), "requires indexed completion mode");
        return;
    }
    let path = path.child("rules");
    let rules = policy.slice("rules");
    if rules.is_empty() {
        errors.required(&path, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > 20 {
        errors.too_many(&path, rules.len(), 20);
    }
    let completions = spec.int("completions").unwrap_or(0);
    for (position, rule) in rules.iter().map(View::new).enumerate() {
        let at = path.index(position);
        let (indexes, count) = (rule.at("succeededIndexes").as_str(), rule.int("succeededCount"));
        if indexes.is_none() && count.is_none() {
            errors.required(&at, "at least one of succeededCount or succeededIndexes must be specified");
        }
        let mut total = 0;
        if let Some(indexes) = indexes {
            let here = at.child("succeededIndexes");
            match index_count(indexes, completions) {
                Ok(count) => total = count,
                Err(fault) => errors.invalid(&here, indexes, format!("error parsing succeededIndexes: {fault}")),
            }
        }
        let Some(count) = count else { continue };
        let here = at.child("succeededCount");
        not_negative(rule, "succeededCount", &at, errors);
        if count > completions {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.invalid(&here, count, detail);
        }
        if indexes.is_some() && count > total {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.invalid(&here, count, detail);
        }
    }
}

/// How many indexes a text such as `1,3-5` names, or what is wrong with it.
fn index_count(text: &str, completions: i64) -> Result<i64, String> {
    Ok(intervals(text, completions)?
        .iter()
        .map(|(first, last)| last.saturating_sub(*first).saturating_add(1))
        .fold(0, i64::saturating_add))
}

fn intervals(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut found: Vec<(i64, i64)> = Vec::new();
    if text.is_empty() {
        return Ok(found);
    }
    let index = |part: &str| match part.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {}", quote(part))),
        Ok(number) if number >= completions => Err(format!("too large index: {}", quote(part))),
        Ok(number) => Ok(number),
    };
    let order = |before: i64, now: i64| format!("non-increasing order, previous: {before}, current: {now}");
    for part in text.split(',') {
        let bounds: Vec<&str> = part.split('-').collect();
        if bounds.len() > 2 {
            return Err(format!(
                "the fragment {} violates the requirement that an index interval can have at most two parts separated \
                 by '-'",
                quote(part)
            ));
        }
        let first = index(bounds[0])?;
        let last = if bounds.len() > 1 { index(bounds[1])? } else { first };
        if bounds.len() > 1 && first >= last {
            return Err(order(first, last));
        }
        if let Some((_, before)) = found.last().filter(|(_, before)| *before >= first) {
            return Err(order(*before, first));
        }
        found.push((first, last));
    }
    Ok(found)
}

fn is_true(job: View<'_>, condition: &str) -> bool {
    job.at("status").list("conditions").any(|found| found.text("type") == condition && found.text("status") == "True")
}

fn job_update(spec: View<'_>, old: View<'_>, errors: &mut Errors) {
    let before = old.at("spec");
    let at = SPEC.child("completions");
    if spec.text("completionMode") == "Indexed" {
        let (completions, parallelism) = (spec.int("completions"), spec.int("parallelism"));
        if completions.is_some() && completions != before.int("completions") && completions != parallelism {
            let detail = "can only be modified in tandem with spec.parallelism";
            errors.invalid(&at, spec.at("completions").value().clone(), detail);
        }
    } else {
        immutable(spec.at("completions"), before.at("completions"), &at, errors);
    }
    immutable(spec.at("selector"), before.at("selector"), &SPEC.child("selector"), errors);
    template_update(spec, old, errors);
    for member in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        immutable(spec.at(member), before.at(member), &SPEC.child(member), errors);
    }
}

/// A suspended Job's pods may still be directed elsewhere and given other resources.
fn template_update(spec: View<'_>, old: View<'_>, errors: &mut Errors) {
    let (template, before) = (spec.at("template"), old.at("spec").at("template"));
    let suspended = old.at("spec").is("suspend")
        && (!old.at("status").has("startTime") || is_true(old, "Suspended"))
        && old.at("status").int("active").unwrap_or(0) == 0;
    if !suspended {
        pod::immutable_template(template, before, &SPEC.child("template"), errors);
        return;
    }
    let mut compared = before.value().clone();
    // Takes a member over as it is in the new template, be it there or not.
    let mut copy = |path: &[&str]| {
        let mut source = template;
        let mut target = &mut compared;
        let Some((last, steps)) = path.split_last() else { return };
        for step in steps {
            source = source.at(step);
            let Some(map) = target.as_object_mut() else { return };
            if !source.exists() && !map.contains_key(*step) {
                return;
            }
            target = map.entry(*step).or_insert_with(|| Value::Object(Map::new()));
        }
        let Some(map) = target.as_object_mut() else { return };
        if source.has(last) {
            map.insert((*last).to_owned(), source.at(last).value().clone());
        } else {
            map.remove(*last);
        }
    };
    for member in ["nodeSelector", "tolerations", "schedulingGates"] {
        copy(&["spec", member]);
    }
    copy(&["spec", "affinity", "nodeAffinity"]);
    if let Some(spec) = compared.get_mut("spec").and_then(Value::as_object_mut)
        && !template.at("spec").has("affinity")
        && spec.get("affinity").and_then(Value::as_object).is_some_and(Map::is_empty)
    {
        spec.remove("affinity");
    }
    for list in ["containers", "initContainers"] {
        let now = template.at("spec").slice(list);
        let Some(old) = compared.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut) else { continue };
        if old.len() != now.len() {
            continue;
        }
        for (old, now) in old.iter_mut().zip(now.iter().map(View::new)) {
            if View::new(old).text("name") == now.text("name")
                && let Some(map) = old.as_object_mut()
                && now.has("resources")
            {
                map.insert("resources".to_owned(), now.at("resources").value().clone());
            }
        }
    }
    if !template.at("spec").same(View::new(&compared).at("spec")) {
        errors.invalid(&SPEC.child("template.spec"), template.at("spec").value().clone(), IMMUTABLE);
    }
}

fn status(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    let (status, before, spec) = (new.at("status"), old.at("status"), new.at("spec"));
    for member in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(status, member, &STATUS, errors);
    }
    uncounted(status, errors);
    let changed = |member: &str| !status.at(member).same(before.at(member));
    let turned = |condition: &str| is_true(new, condition) != is_true(old, condition);
    let (complete, failed) = (is_true(new, "Complete"), is_true(new, "Failed"));
    let (met, target) = (is_true(new, "SuccessCriteriaMet"), is_true(new, "FailureTarget"));
    let finished = complete || failed;
    let ended = finished != (is_true(old, "Complete") || is_true(old, "Failed"));
    let conditions = STATUS.child("conditions");
    let mut condition = |wrong: bool, detail: &str| {
        if wrong {
            without_value(&conditions, detail, errors);
        }
    };
    let either = turned("Complete") || turned("Failed");
    condition(either && complete && failed, "cannot set Complete=True and Failed=true conditions");
    let either = turned("Complete") || turned("FailureTarget");
    condition(either && complete && target, "cannot set Complete=True and FailureTarget=true conditions");
    times(status, before, complete, turned("Complete"), errors);
    let mut condition = |wrong: bool, detail: &str| {
        if wrong {
            without_value(&conditions, detail, errors);
        }
    };
    let asked = turned("Failed") || changed("failedIndexes");
    let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
    condition(asked && failed && !target, detail);
    let asked = turned("Complete") || turned("SuccessCriteriaMet");
    let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
    condition(asked && complete && !met, detail);
    let number = |member: &str| status.int(member).unwrap_or(0);
    if finished && (ended || changed("active")) && number("active") > 0 {
        errors.invalid(&STATUS.child("active"), number("active"), "active>0 is invalid for finished job");
    }
    let idle = spec.is("suspend") && spec.int("completions") == Some(0);
    if finished && (ended || changed("startTime")) && !idle && !status.has("startTime") {
        errors.required(&STATUS.child("startTime"), "startTime is required for finished job");
    }
    let left = status.at("uncountedTerminatedPods");
    let any_left = !left.slice("failed").is_empty() || !left.slice("succeeded").is_empty();
    if finished && any_left && (ended || changed("uncountedTerminatedPods")) {
        let detail = "must be empty for finished job";
        errors.invalid(&STATUS.child("uncountedTerminatedPods"), left.value().clone(), detail);
    }
    indexes(status, spec, changed("completedIndexes"), changed("failedIndexes"), errors);
    if finished && number("terminating") > 0 && (ended || changed("terminating")) {
        let detail = "terminating>0 is invalid for finished job";
        errors.invalid(&STATUS.child("terminating"), number("terminating"), detail);
    }
    if (changed("ready") || changed("active")) && number("ready") > number("active") {
        errors.invalid(&STATUS.child("ready"), number("ready"), "cannot set more ready pods than active");
    }
    let mut condition = |wrong: bool, detail: &str| {
        if wrong {
            without_value(&conditions, detail, errors);
        }
    };
    condition(met && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    condition(met && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    let detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
    condition(spec.has("successPolicy") && !met && complete, detail);
    for name in ["Failed", "Complete", "FailureTarget"] {
        let detail = format!("cannot disable the terminal {name}=True condition");
        condition(is_true(old, name) && !is_true(new, name), &detail);
    }
    let scalable = spec.text("completionMode") == "Indexed" && spec.int("completions") == spec.int("parallelism");
    for member in ["failed", "succeeded"] {
        if number(member) < before.int(member).unwrap_or(0) && !(member == "succeeded" && scalable) {
            errors.invalid(&STATUS.child(member), number(member), format!("cannot decrease the {member} counter"));
        }
    }
    unchanging_times(new, old, errors);
    let was_met = is_true(old, "SuccessCriteriaMet");
    if was_met && !met {
        without_value(&conditions, "cannot disable the SuccessCriteriaMet=True condition", errors);
    }
    if is_true(old, "Complete") && !was_met && met {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        without_value(&conditions, detail, errors);
    }
}

fn uncounted(status: View<'_>, errors: &mut Errors) {
    let path = STATUS.child("uncountedTerminatedPods");
    let mut seen = BTreeSet::new();
    for list in ["succeeded", "failed"] {
        let at = path.child(list);
        for (position, uid) in status.at("uncountedTerminatedPods").list(list).map(View::string).enumerate() {
            if uid.is_empty() {
                errors.invalid(&at.index(position), uid, "must not be empty");
            } else if !seen.insert(uid) {
                errors.duplicate(&at.index(position), uid);
            }
        }
    }
}

fn times(status: View<'_>, before: View<'_>, complete: bool, turned: bool, errors: &mut Errors) {
    let at = STATUS.child("completionTime");
    let changed = |member: &str| !status.at(member).same(before.at(member));
    let completed = status.at("completionTime");
    if turned || changed("completionTime") {
        if completed.exists() && !complete {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.invalid(&at, completed.value().clone(), detail);
        }
        if !completed.exists() && complete {
            errors.required(&at, "completionTime is required for Complete jobs");
        }
    }
    if !changed("startTime") && !changed("completionTime") {
        return;
    }
    let moment = |view: View<'_>| view.string().parse::<jiff::Timestamp>().ok();
    if let (Some(started), Some(ended)) = (moment(status.at("startTime")), moment(completed))
        && ended < started
    {
        errors.invalid(&at, completed.value().clone(), "must be equal to or after `startTime`");
    }
}

fn unchanging_times(new: View<'_>, old: View<'_>, errors: &mut Errors) {
    let (status, before) = (new.at("status"), old.at("status"));
    let (now, was) = (status.at("completionTime"), before.at("completionTime"));
    if now.exists() && was.exists() && !now.same(was) {
        errors.invalid(&STATUS.child("completionTime"), now.value().clone(), IMMUTABLE);
    }
    let (now, was) = (status.at("startTime"), before.at("startTime"));
    let resuming = is_true(old, "Suspended") && !is_true(new, "Suspended");
    if was.exists() && !now.same(was) && !new.at("spec").is("suspend") && !resuming {
        let detail = "field is immutable for unsuspended job once set";
        errors.invalid(&STATUS.child("startTime"), now.value().clone(), detail);
    }
}

fn indexes(status: View<'_>, spec: View<'_>, completed_changed: bool, failed_changed: bool, errors: &mut Errors) {
    let (completed, failed) = (status.text("completedIndexes"), status.at("failedIndexes").as_str());
    let (completed_at, failed_at) = (STATUS.child("completedIndexes"), STATUS.child("failedIndexes"));
    let completions = spec.int("completions");
    if let Some(completions) = completions {
        if completed_changed && let Err(fault) = intervals(completed, completions) {
            errors.invalid(&completed_at, completed, format!("error parsing completedIndexes: {fault}"));
        }
        if let Some(failed) = failed.filter(|_| failed_changed && spec.has("backoffLimitPerIndex"))
            && let Err(fault) = intervals(failed, completions)
        {
            errors.invalid(&failed_at, failed, format!("error parsing failedIndexes: {fault}"));
        }
    }
    if completed_changed && !completed.is_empty() && spec.text("completionMode") != "Indexed" {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(&completed_at, completed, detail);
    }
    let Some(failed) = failed else { return };
    if failed_changed && !spec.has("backoffLimitPerIndex") {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid(&failed_at, failed, detail);
    }
    let Some(completions) = completions.filter(|_| failed_changed || completed_changed) else { return };
    let (Ok(one), Ok(other)) = (intervals(completed, completions), intervals(failed, completions)) else { return };
    let shared = one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
    if let Some((a, b)) = shared.into_iter().find(|(a, b)| a.0 <= b.1 && b.0 <= a.1) {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {}", a.0.max(b.0));
        errors.invalid(&failed_at, failed, detail);
    }
}

fn cron_job(new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    const LONGEST_NAME: usize = 52;
    let spec = new.at("spec");
    let text = spec.text("schedule");
    let at = SPEC.child("schedule");
    if text.is_empty() {
        errors.required(&at, "");
    } else {
        if let Some(fault) = schedule::fault(text) {
            errors.invalid(&at, text, fault);
        }
        let had_zone = old.is_some_and(|old| old.at("spec").text("schedule").contains("TZ"));
        if text.contains("TZ") {
            if !had_zone {
                let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
                errors.invalid(&at, text, detail);
            } else if spec.has("timeZone") {
                errors.invalid(&at, text, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
            }
        }
    }
    not_negative(spec, "startingDeadlineSeconds", &SPEC, errors);
    if !old.is_some_and(|old| old.at("spec").at("timeZone").same(spec.at("timeZone"))) {
        time_zone(spec.at("timeZone"), errors);
    }
    let policies = &["Allow", "Forbid", "Replace"];
    super::check::choice(spec.text("concurrencyPolicy"), policies, &SPEC.child("concurrencyPolicy"), errors);
    let at = SPEC.child("jobTemplate");
    let at = at.child("spec");
    let job = spec.at("jobTemplate").at("spec");
    common_spec(job, &at, errors);
    if job.has("selector") {
        let shown = job.at("selector").value().clone();
        errors.invalid(&at.child("selector"), shown, "`selector` will be auto-generated");
    }
    if job.is("manualSelector") {
        errors.not_supported(&at.child("manualSelector"), true, &["nil", "false"]);
    }
    not_negative(spec, "successfulJobsHistoryLimit", &SPEC, errors);
    not_negative(spec, "failedJobsHistoryLimit", &SPEC, errors);
    let name = new.at("metadata").text("name");
    if old.is_none() && name.len() > LONGEST_NAME {
        errors.invalid(&METADATA.child("name"), name, "must be no more than 52 characters");
    }
}

/// The form of a time zone's name; whether it is known shows when the next run is worked out.
fn time_zone(zone: View<'_>, errors: &mut Errors) {
    let Some(zone) = zone.as_str() else { return };
    let at = SPEC.child("timeZone");
    if zone.is_empty() {
        errors.invalid(&at, zone, "timeZone must be nil or non-empty string");
        return;
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    let fine = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.starts_with('-') && part.len() <= 14 && part.bytes().all(allowed)
    };
    if !zone.split('/').all(fine) {
        errors.invalid(&at, zone, format!("unknown time zone {zone}"));
        return;
    }
    if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(&at, zone, detail);
    }
}
