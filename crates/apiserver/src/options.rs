//! The options of a request, from its query or, for deletions, its body; with upstream's answers to values that make no sense.
//!
//! Values that cannot be read are answered with 400, values that are read but not allowed with 422, as upstream does.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/>

use api::{
    meta::{Qualified, View},
    print::Include,
    status::Status,
    validate::FieldError,
};
use serde_json::Value;

use crate::query::Query;

/// How a list or a watch relates to its resourceVersion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// Exactly that revision.
    Exact,
    /// That revision or a later one.
    NotOlderThan,
}

/// Options of lists, watches and deletions of collections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// `labelSelector`, unparsed.
    pub labels: String,
    /// `fieldSelector`, unparsed.
    pub fields: String,
    /// `watch`
    pub watch: bool,
    /// `allowWatchBookmarks`
    pub bookmarks: bool,
    /// `resourceVersion`, unparsed.
    pub resource_version: String,
    /// `resourceVersionMatch`
    pub resource_version_match: Option<Match>,
    /// `timeoutSeconds`
    pub timeout_seconds: Option<u64>,
    /// `limit`; 0 for none.
    pub limit: usize,
    /// `continue`
    pub continuation: String,
    /// `sendInitialEvents`
    pub initial_events: Option<bool>,
}

fn kind(name: &'static str) -> Qualified<'static> {
    Qualified { group: "meta.k8s.io", name }
}

fn flag(query: &Query, name: &str) -> Option<bool> {
    query.get(name).map(|value| !(value == "0" || value.eq_ignore_ascii_case("false")))
}

fn number(query: &Query, name: &str) -> Result<Option<i64>, Status> {
    let Some(text) = query.get(name) else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(value) => Ok(Some(value)),
        Err(_) => {
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            let syntax = digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit());
            let why = if syntax { "invalid syntax" } else { "value out of range" };
            Err(Status::bad_request(format!("strconv.ParseInt: parsing {}: {why}", quote(text))))
        }
    }
}

/// Text in double quotes with escapes, as Go's `%q` writes it.
pub fn quote(text: &str) -> String {
    format!("{text:?}")
}

fn text(query: &Query, name: &str) -> String {
    query.get(name).unwrap_or_default().to_owned()
}

fn checked(name: &'static str, errors: Vec<FieldError>) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(kind(name), "", &errors)) }
}

impl ListOptions {
    /// Reads and checks them. `watch` is set where the path alone says so.
    pub fn parse(query: &Query, watch: bool) -> Result<Self, Status> {
        let timeout = number(query, "timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
        let limit = number(query, "limit")?.unwrap_or(0);
        let mut options = Self {
            labels: text(query, "labelSelector"),
            fields: text(query, "fieldSelector"),
            watch: watch || flag(query, "watch").unwrap_or(false),
            bookmarks: flag(query, "allowWatchBookmarks").unwrap_or(false),
            resource_version: text(query, "resourceVersion"),
            resource_version_match: None,
            timeout_seconds: timeout,
            limit: usize::try_from(limit).unwrap_or(0),
            continuation: text(query, "continue"),
            initial_events: flag(query, "sendInitialEvents"),
        };
        let wanted = query.get("resourceVersionMatch").unwrap_or_default();
        let mut errors = Vec::new();
        options.check(wanted, &mut errors);
        checked("ListOptions", errors)?;
        Ok(options)
    }

    fn check(&mut self, wanted: &str, errors: &mut Vec<FieldError>) {
        const FIELD: &str = "resourceVersionMatch";
        self.resource_version_match = match wanted {
            "Exact" => Some(Match::Exact),
            "NotOlderThan" => Some(Match::NotOlderThan),
            _ => None,
        };
        if self.watch {
            // Upstream fills this in for old clients of the legacy initial state.
            if self.initial_events.is_some() && self.resource_version_match != Some(Match::NotOlderThan) {
                let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                errors.push(FieldError::forbidden(FIELD, detail));
            }
            if !wanted.is_empty() {
                if self.initial_events.is_none() {
                    let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                    errors.push(FieldError::forbidden(FIELD, detail));
                }
                if self.resource_version_match != Some(Match::NotOlderThan) {
                    errors.push(FieldError::not_supported(FIELD, wanted, &["NotOlderThan"]));
                }
                if !self.continuation.is_empty() {
                    let detail = "resourceVersionMatch is forbidden when continue is provided";
                    errors.push(FieldError::forbidden(FIELD, detail));
                }
            }
            return;
        }
        if !wanted.is_empty() {
            if self.resource_version.is_empty() {
                let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.push(FieldError::forbidden(FIELD, detail));
            }
            if !self.continuation.is_empty() {
                let detail = "resourceVersionMatch is forbidden when continue is provided";
                errors.push(FieldError::forbidden(FIELD, detail));
            }
            match self.resource_version_match {
                None => errors.push(FieldError::not_supported(FIELD, wanted, &["Exact", "NotOlderThan", ""])),
                Some(Match::Exact) if self.resource_version == "0" => {
                    let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                    errors.push(FieldError::forbidden(FIELD, detail));
                }
                Some(_) => {}
            }
        }
        if self.initial_events.is_some() {
            errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
    }
}

/// Reads a `resourceVersion`: `None` for an empty one.
pub fn revision(text: &str) -> Result<Option<u64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let why = if text.bytes().all(|byte| byte.is_ascii_digit()) { "value out of range" } else { "invalid syntax" };
        let detail = format!("strconv.ParseUint: parsing {}: {why}", quote(text));
        Status::bad_request(format!("resourceVersion: Invalid value: {}: {detail}", quote(text)))
    })
}

/// How unknown and duplicate fields of a body are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Dropped in silence.
    Ignore,
    /// Dropped, with a warning each.
    #[default]
    Warn,
    /// Refused.
    Strict,
}

/// Options of creations, updates and patches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// `dryRun=All`
    pub dry_run: bool,
    /// `fieldManager`
    pub field_manager: String,
    /// `fieldValidation`
    pub field_validation: FieldValidation,
    /// `force`, for applying.
    pub force: bool,
}

impl WriteOptions {
    /// Reads and checks them; `name` is that of the options' type, which errors show.
    pub fn parse(query: &Query, name: &'static str) -> Result<Self, Status> {
        Self::read(query, name, false)
    }

    /// The same for a patch; `apply` when it is a server-side apply.
    pub fn parse_patch(query: &Query, apply: bool) -> Result<Self, Status> {
        Self::read(query, "PatchOptions", apply)
    }

    fn read(query: &Query, name: &'static str, apply: bool) -> Result<Self, Status> {
        let mut errors = Vec::new();
        let field_manager = text(query, "fieldManager");
        if name == "PatchOptions" {
            if apply && field_manager.is_empty() {
                errors.push(FieldError::required("fieldManager", "is required for apply patch"));
            } else if !apply && query.get("force").is_some() {
                errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
            }
        }
        if field_manager.len() > 128 {
            errors.push(FieldError::too_long("fieldManager", 128));
        }
        for (at, letter) in field_manager.char_indices().filter(|(_, letter)| letter.is_control()) {
            let detail = format!("invalid character U+{:04X} (at position {at})", letter as u32);
            errors.push(FieldError::invalid("fieldManager", field_manager.as_str(), detail));
        }
        let values: Vec<&str> = query.all("dryRun").collect();
        let dry_run = dry_run(&values, &mut errors);
        let wanted = query.get("fieldValidation").unwrap_or_default();
        let field_validation = match wanted {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            _ => {
                errors.push(FieldError::not_supported("fieldValidation", wanted, &["Ignore", "Strict", "Warn"]));
                FieldValidation::Warn
            }
        };
        checked(name, errors)?;
        Ok(Self { dry_run, field_manager, field_validation, force: flag(query, "force").unwrap_or(false) })
    }
}

fn dry_run(values: &[&str], errors: &mut Vec<FieldError>) -> bool {
    if values.iter().any(|value| *value != "All") {
        errors.push(FieldError::not_supported("dryRun", serde_json::json!(values), &["All"]));
    }
    !values.is_empty()
}

/// What becomes of an object's dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They lose their owner and stay.
    Orphan,
    /// The garbage collector deletes them afterwards.
    Background,
    /// They are deleted first.
    Foreground,
}

/// Options of deletions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// `gracePeriodSeconds`
    pub grace_period_seconds: Option<i64>,
    /// `preconditions.uid`
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`
    pub resource_version: Option<String>,
    /// `orphanDependents`, deprecated.
    pub orphan_dependents: Option<bool>,
    /// `propagationPolicy`
    pub propagation: Option<Propagation>,
    /// `dryRun`
    pub dry_run: bool,
}

impl DeleteOptions {
    /// From the query of a request without a body.
    pub fn from_query(query: &Query) -> Result<Self, Status> {
        let dry: Vec<&str> = query.all("dryRun").collect();
        Self::checked(
            number(query, "gracePeriodSeconds")?,
            flag(query, "orphanDependents"),
            query.get("propagationPolicy"),
            &dry,
            View::nothing(),
        )
    }

    /// From a body, already known to be DeleteOptions.
    pub fn from_body(body: &Value) -> Result<Self, Status> {
        let view = View::new(body);
        let dry: Vec<&str> = view.list("dryRun").map(View::string).collect();
        Self::checked(
            view.int("gracePeriodSeconds"),
            view.bool("orphanDependents"),
            view.at("propagationPolicy").as_str(),
            &dry,
            view.at("preconditions"),
        )
    }

    fn checked(
        grace_period_seconds: Option<i64>,
        orphan_dependents: Option<bool>,
        policy: Option<&str>,
        dry: &[&str],
        preconditions: View<'_>,
    ) -> Result<Self, Status> {
        let mut errors = Vec::new();
        if let (Some(_), Some(policy)) = (orphan_dependents, policy) {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid("propagationPolicy", policy, detail));
        }
        let propagation = match policy {
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                let allowed = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported("propagationPolicy", other, &allowed));
                None
            }
            None => None,
        };
        let dry_run = dry_run(dry, &mut errors);
        checked("DeleteOptions", errors)?;
        let own = |name| preconditions.at(name).as_str().map(str::to_owned);
        Ok(Self {
            grace_period_seconds,
            uid: own("uid"),
            resource_version: own("resourceVersion"),
            orphan_dependents,
            propagation,
            dry_run,
        })
    }
}

/// `includeObject` of tables.
pub fn row_object(query: &Query) -> Result<Include, Status> {
    Include::parse(query.get("includeObject").unwrap_or_default())
        .map_err(|error| Status::bad_request(format!("Unable to convert to Table as requested: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_options_get_upstreams_answers() {
        let list = |text: &str| ListOptions::parse(&Query::parse(text), false).map(|_| ());
        let write = |text: &str| WriteOptions::parse(&Query::parse(text), "CreateOptions").map(|_| ());
        let delete = |text: &str| DeleteOptions::from_query(&Query::parse(text)).map(|_| ());
        let cases = [
            (list("limit=abc"), 400, "strconv.ParseInt: parsing \"abc\": invalid syntax"),
            (list("limit=99999999999999999999"), 400, "value out of range"),
            (
                list("resourceVersionMatch=Exact"),
                422,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            (list("resourceVersionMatch=x&resourceVersion=1"), 422, "Unsupported value: \"x\""),
            (list("resourceVersionMatch=Exact&resourceVersion=0"), 422, "forbidden for resourceVersion \"0\""),
            (list("sendInitialEvents=true"), 422, "sendInitialEvents is forbidden for list"),
            (list("watch=1&sendInitialEvents=true"), 422, "requires setting resourceVersionMatch to NotOlderThan"),
            (write("dryRun=Some"), 422, "Unsupported value"),
            (write("fieldValidation=Loose"), 422, "supported values: \"Ignore\", \"Strict\", \"Warn\""),
            (write("fieldManager=a%07b"), 422, "invalid character U+0007 (at position 1)"),
            (delete("propagationPolicy=Sideways"), 422, "Unsupported value: \"Sideways\""),
            (delete("propagationPolicy=Orphan&orphanDependents=true"), 422, "cannot be both set"),
            (delete("gracePeriodSeconds=x"), 400, "invalid syntax"),
        ];
        for (result, code, text) in cases {
            let status = result.expect_err(text);
            assert_eq!(status.code(), code, "{text}");
            assert!(status.message().contains(text), "{} lacks {text}", status.message());
        }
    }

    #[test]
    fn good_options_are_read() {
        let query = Query::parse("limit=5&watch=false&allowWatchBookmarks=true&resourceVersion=7&timeoutSeconds=9");
        let options = ListOptions::parse(&query, false).unwrap();
        assert_eq!(
            (options.limit, options.watch, options.bookmarks, options.timeout_seconds),
            (5, false, true, Some(9))
        );
        let body = serde_json::json!({
            "gracePeriodSeconds": 0, "propagationPolicy": "Foreground", "preconditions": {"uid": "u"}, "dryRun": ["All"]
        });
        let options = DeleteOptions::from_body(&body).unwrap();
        assert_eq!(options.propagation, Some(Propagation::Foreground));
        assert_eq!((options.uid.as_deref(), options.grace_period_seconds, options.dry_run), (Some("u"), Some(0), true));
        assert_eq!(revision("12").unwrap(), Some(12));
        assert_eq!(revision("x").unwrap_err().code(), 400);
    }
}
