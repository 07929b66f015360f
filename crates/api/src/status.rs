//! The answers of an API server that are no objects: every reason for a refusal, with upstream's code, words and details.
//!
//! One builder a reason. A [`Status`] is an error type, so that functions of the API server return `Result<_, Status>` and the
//! mapping from cause to answer stands in one place. Facts from `pkg/api/errors` of k8s.io/apimachinery.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>

use std::fmt::{self, Write as _};

use serde_json::{Map, Value, json};

use crate::meta::{Qualified, View};
use crate::validate::{FieldError, aggregate};

#[cfg(test)]
mod tests;

/// Machine-readable reason of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "upstream's reasons speak for themselves")]
pub enum Reason {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    AlreadyExists,
    Conflict,
    Gone,
    Expired,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    InternalError,
    ServerTimeout,
    StoreReadError,
    ServiceUnavailable,
    Timeout,
    /// No reason is given.
    Unknown,
}

impl Reason {
    const ALL: [Reason; 20] = [
        Reason::BadRequest,
        Reason::Unauthorized,
        Reason::Forbidden,
        Reason::NotFound,
        Reason::MethodNotAllowed,
        Reason::NotAcceptable,
        Reason::AlreadyExists,
        Reason::Conflict,
        Reason::Gone,
        Reason::Expired,
        Reason::RequestEntityTooLarge,
        Reason::UnsupportedMediaType,
        Reason::Invalid,
        Reason::TooManyRequests,
        Reason::InternalError,
        Reason::ServerTimeout,
        Reason::StoreReadError,
        Reason::ServiceUnavailable,
        Reason::Timeout,
        Reason::Unknown,
    ];

    /// As it stands in the `reason` field; "" for [`Reason::Unknown`].
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::BadRequest => "BadRequest",
            Reason::Unauthorized => "Unauthorized",
            Reason::Forbidden => "Forbidden",
            Reason::NotFound => "NotFound",
            Reason::MethodNotAllowed => "MethodNotAllowed",
            Reason::NotAcceptable => "NotAcceptable",
            Reason::AlreadyExists => "AlreadyExists",
            Reason::Conflict => "Conflict",
            Reason::Gone => "Gone",
            Reason::Expired => "Expired",
            Reason::RequestEntityTooLarge => "RequestEntityTooLarge",
            Reason::UnsupportedMediaType => "UnsupportedMediaType",
            Reason::Invalid => "Invalid",
            Reason::TooManyRequests => "TooManyRequests",
            Reason::InternalError => "InternalError",
            Reason::ServerTimeout => "ServerTimeout",
            Reason::StoreReadError => "StorageReadError",
            Reason::ServiceUnavailable => "ServiceUnavailable",
            Reason::Timeout => "Timeout",
            Reason::Unknown => "",
        }
    }

    fn parse(text: &str) -> Reason {
        Reason::ALL.into_iter().find(|reason| reason.as_str() == text).unwrap_or(Reason::Unknown)
    }
}

/// One of several causes of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    /// Machine-readable reason; may be empty.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Path of the field; may be empty.
    pub field: String,
}

/// What a Status is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// Name of the object, or of the operation for [`Reason::ServerTimeout`].
    pub name: String,
    /// API group.
    pub group: String,
    /// Plural of the resource, or the kind for [`Reason::Invalid`].
    pub kind: String,
    /// Uid of the object.
    pub uid: String,
    /// Every single cause.
    pub causes: Vec<Cause>,
    /// After how many seconds a client may try again; 0 says nothing. Servers also send it as the header `Retry-After`.
    pub retry_after_seconds: u32,
}

impl Details {
    fn about(resource: Qualified<'_>, name: &str) -> Details {
        Details {
            name: name.to_owned(),
            group: resource.group.to_owned(),
            kind: resource.name.to_owned(),
            ..Details::default()
        }
    }

    fn retry(seconds: u32) -> Details {
        Details { retry_after_seconds: seconds, ..Details::default() }
    }

    fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (key, text) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)] {
            if !text.is_empty() {
                map.insert(key.to_owned(), text.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            let causes: Vec<Value> = self.causes.iter().map(Cause::to_value).collect();
            map.insert("causes".to_owned(), causes.into());
        }
        if self.retry_after_seconds != 0 {
            map.insert("retryAfterSeconds".to_owned(), self.retry_after_seconds.into());
        }
        map.into()
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (key, text) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                map.insert(key.to_owned(), text.as_str().into());
            }
        }
        map.into()
    }
}

/// An answer of kind `Status`: a refusal, or a success that has no object to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    success: bool,
    code: u16,
    reason: Reason,
    message: String,
    details: Option<Details>,
    continuation: String,
}

/// Who wanted to do what, for a refusal by the authorizer.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Name of the user.
    pub user: &'a str,
    /// Verb of the API (`list`), or the HTTP method in lower case for a path.
    pub verb: &'a str,
    /// On what.
    pub on: AttemptOn<'a>,
    /// Why the authorizer refused; may be empty.
    pub reason: &'a str,
}

/// What somebody wanted to act on.
#[derive(Debug, Clone, Copy)]
pub enum AttemptOn<'a> {
    /// A path that is no resource, `/metrics`.
    Path(&'a str),
    /// A resource.
    Resource {
        /// Group and plural.
        resource: Qualified<'a>,
        /// Sub-resource, or "".
        subresource: &'a str,
        /// Namespace, or "" for cluster scope and all namespaces.
        namespace: &'a str,
        /// Name of the object, or "".
        name: &'a str,
    },
}

/// What is said of an update whose resourceVersion is old.
pub const OPTIMISTIC_LOCK: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl Status {
    /// Any refusal. The named builders are to be preferred.
    pub fn new(code: u16, reason: Reason, message: impl Into<String>, details: Option<Details>) -> Status {
        Status(Box::new(Inner {
            success: false,
            code,
            reason,
            message: message.into(),
            details,
            continuation: String::new(),
        }))
    }

    /// 404: there is no such object.
    pub fn not_found(resource: Qualified<'_>, name: &str) -> Status {
        let message = format!("{resource} {} not found", quote(name));
        Status::new(404, Reason::NotFound, message, Some(Details::about(resource, name)))
    }

    /// 404: the path names no resource that is served.
    pub fn no_such_resource() -> Status {
        Status::new(404, Reason::NotFound, "the server could not find the requested resource", Some(Details::default()))
    }

    /// 409: an object of that name is there already.
    pub fn already_exists(resource: Qualified<'_>, name: &str) -> Status {
        let message = format!("{resource} {} already exists", quote(name));
        Status::new(409, Reason::AlreadyExists, message, Some(Details::about(resource, name)))
    }

    /// 409: no free name was found for a `generateName`.
    pub fn generate_name_conflict(resource: Qualified<'_>, name: &str, retry_after_seconds: u32) -> Status {
        let message = format!(
            "{resource} {} already exists, the server was not able to generate a unique name for the object",
            quote(name)
        );
        let details = Details { retry_after_seconds, ..Details::about(resource, name) };
        Status::new(409, Reason::AlreadyExists, message, Some(details))
    }

    /// 409: the object cannot be changed in this way now.
    pub fn conflict(resource: Qualified<'_>, name: &str, why: &str) -> Status {
        let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", quote(name));
        Status::new(409, Reason::Conflict, message, Some(Details::about(resource, name)))
    }

    /// 409: the update carries a resourceVersion that is no longer the latest.
    pub fn stale(resource: Qualified<'_>, name: &str) -> Status {
        Status::conflict(resource, name, OPTIMISTIC_LOCK)
    }

    /// 409: the uid that an update was made for is not the object's.
    pub fn update_precondition(resource: Qualified<'_>, name: &str, wanted: &str, found: &str) -> Status {
        let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
        Status::conflict(resource, name, &why)
    }

    /// 409: the uid in DeleteOptions' preconditions is not the object's.
    pub fn delete_uid_precondition(resource: Qualified<'_>, name: &str, wanted: &str, found: &str) -> Status {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({found}). The object might have \
             been deleted and then recreated"
        );
        Status::conflict(resource, name, &why)
    }

    /// 409: the resourceVersion in DeleteOptions' preconditions is not the object's.
    pub fn delete_version_precondition(resource: Qualified<'_>, name: &str, wanted: &str, found: &str) -> Status {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({found}). \
             The object might have been modified"
        );
        Status::conflict(resource, name, &why)
    }

    /// 409: server-side apply found fields that others own.
    pub fn apply_conflict(message: &str, causes: Vec<Cause>) -> Status {
        Status::new(409, Reason::Conflict, message, Some(Details { causes, ..Details::default() }))
    }

    /// 422: the object breaks rules. `kind` is the object's group and kind, not its resource.
    pub fn invalid(kind: Qualified<'_>, name: &str, errors: &[FieldError]) -> Status {
        let causes = errors
            .iter()
            .map(|error| Cause {
                reason: error.kind.reason().to_owned(),
                message: error.body(),
                field: error.path.clone(),
            })
            .collect();
        let mut message = format!("{kind} {} is invalid", quote(name));
        if !errors.is_empty() {
            let _ = write!(message, ": {}", aggregate(errors));
        }
        Status::new(422, Reason::Invalid, message, Some(Details { causes, ..Details::about(kind, name) }))
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, Reason::BadRequest, message, None)
    }

    /// 401: nobody knows who asks. An empty message gives the usual one.
    pub fn unauthorized(message: &str) -> Status {
        let message = if message.is_empty() { "Unauthorized" } else { message };
        Status::new(401, Reason::Unauthorized, message, None)
    }

    /// 403: who asks may not do this, in the words of upstream's authorization.
    pub fn forbidden(attempt: Attempt<'_>) -> Status {
        let Attempt { user, verb, on, reason } = attempt;
        let mut why = match on {
            AttemptOn::Path(path) => format!("User {} cannot {verb} path {}", quote(user), quote(path)),
            AttemptOn::Resource { resource, subresource, namespace, .. } => {
                let slash = if subresource.is_empty() { "" } else { "/" };
                let whole = quote(&format!("{}{slash}{subresource}", resource.name));
                let group = quote(resource.group);
                let scope = match namespace {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {}", quote(namespace)),
                };
                format!("User {} cannot {verb} resource {whole} in API group {group} {scope}", quote(user))
            }
        };
        why = why.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        if !reason.is_empty() {
            let _ = write!(why, ": {reason}");
        }
        match on {
            AttemptOn::Path(_) => Status::refused(Qualified { group: "", name: "" }, "", &why),
            AttemptOn::Resource { resource, name, .. } => Status::refused(resource, name, &why),
        }
    }

    /// 403: an admission rule or the object itself forbids this; `why` in one's own words.
    pub fn refused(resource: Qualified<'_>, name: &str, why: &str) -> Status {
        let message = match (resource.name, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{resource} is forbidden: {why}"),
            _ => format!("{resource} {} is forbidden: {why}", quote(name)),
        };
        Status::new(403, Reason::Forbidden, message, Some(Details::about(resource, name)))
    }

    /// 410: what was asked for is gone for ever.
    pub fn gone(message: impl Into<String>) -> Status {
        Status::new(410, Reason::Gone, message, None)
    }

    /// 410: the revision asked for is compacted away.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, Reason::Expired, message, None)
    }

    /// 410: a watch wants to start before the oldest revision that is known.
    pub fn too_old(wanted: u64, oldest: u64) -> Status {
        Status::expired(format!("too old resource version: {wanted} ({oldest})"))
    }

    /// 504: a revision is asked for that is not there yet.
    pub fn too_large_resource_version(wanted: u64, current: u64, retry_after_seconds: u32) -> Status {
        let message = format!("Too large resource version: {wanted}, current: {current}");
        let mut status = Status::timeout(&message, retry_after_seconds);
        if let Some(details) = &mut status.0.details {
            details.causes.push(Cause {
                reason: "ResourceVersionTooLarge".to_owned(),
                message: "Too large resource version".to_owned(),
                field: String::new(),
            });
        }
        status
    }

    /// 405: the resource is there, the verb is not.
    pub fn method_not_supported(resource: Qualified<'_>, verb: &str) -> Status {
        let message = format!("{verb} is not supported on resources of kind {}", quote(&resource.to_string()));
        Status::new(405, Reason::MethodNotAllowed, message, Some(Details::about(resource, "")))
    }

    /// 405 where no resource is known.
    pub fn method_not_allowed() -> Status {
        let message = "the server does not allow this method on the requested resource";
        Status::new(405, Reason::MethodNotAllowed, message, Some(Details::default()))
    }

    /// 406: none of the media types in `Accept` is offered.
    pub fn not_acceptable(offered: &[&str]) -> Status {
        let message = format!("only the following media types are accepted: {}", offered.join(", "));
        Status::new(406, Reason::NotAcceptable, message, None)
    }

    /// 406: the object cannot be shown as the type (`Table`) that `Accept` asks for.
    pub fn not_acceptable_conversion(target: &str, offered: &[&str]) -> Status {
        let message =
            format!("only the following media types are accepted when converting to {target}: {}", offered.join(", "));
        Status::new(406, Reason::NotAcceptable, message, None)
    }

    /// 415: the body is in a format that is not understood.
    pub fn unsupported_media_type(understood: &[&str]) -> Status {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            understood.join(", ")
        );
        Status::new(415, Reason::UnsupportedMediaType, message, None)
    }

    /// 413: the body is too large.
    pub fn too_large(message: &str) -> Status {
        let message = format!("Request entity too large: {message}");
        Status::new(413, Reason::RequestEntityTooLarge, message, None)
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn body_too_large(limit: usize) -> Status {
        Status::too_large(&format!("limit is {limit}"))
    }

    /// 500: the server is at fault.
    pub fn internal(error: impl fmt::Display) -> Status {
        let error = error.to_string();
        let message = format!("Internal error occurred: {error}");
        let cause = Cause { message: error, ..Cause::default() };
        let details = Details { causes: vec![cause], ..Details::default() };
        Status::new(500, Reason::InternalError, message, Some(details))
    }

    /// 500: the operation could not be completed now; the client should try again.
    pub fn server_timeout(resource: Qualified<'_>, operation: &str, retry_after_seconds: u32) -> Status {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        let details = Details { retry_after_seconds, ..Details::about(resource, operation) };
        Status::new(500, Reason::ServerTimeout, message, Some(details))
    }

    /// 504: the request took too long; it may still be carried out.
    pub fn timeout(message: &str, retry_after_seconds: u32) -> Status {
        let message = format!("Timeout: {message}");
        Status::new(504, Reason::Timeout, message, Some(Details::retry(retry_after_seconds)))
    }

    /// 429: the client must wait, be it for its own requests or for what it asked for (evictions).
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        Status::new(429, Reason::TooManyRequests, message, Some(Details::retry(retry_after_seconds)))
    }

    /// 503: what is needed to answer is not there now.
    pub fn service_unavailable(message: impl Into<String>) -> Status {
        Status::new(503, Reason::ServiceUnavailable, message, None)
    }

    /// Any HTTP code of an answer that was no Status (a proxied server's, say), as upstream's clients put it.
    ///
    /// `method` is the HTTP method; `message` the text that came with the code.
    pub fn generic(code: u16, method: &str, resource: Qualified<'_>, name: &str, message: &str) -> Status {
        let default = format!("the server responded with the status code {code} but did not return more information");
        let (reason, mut text) = match code {
            409 if method == "POST" => (Reason::AlreadyExists, "the server reported a conflict".to_owned()),
            409 => (Reason::Conflict, "the server reported a conflict".to_owned()),
            404 => (Reason::NotFound, "the server could not find the requested resource".to_owned()),
            400 => (Reason::BadRequest, "the server rejected our request for an unknown reason".to_owned()),
            401 => (Reason::Unauthorized, "the server has asked for the client to provide credentials".to_owned()),
            403 => (Reason::Forbidden, message.to_owned()),
            406 if message.is_empty() || message == "unknown" => (
                Reason::NotAcceptable,
                "the server was unable to respond with a content type that the client supports".to_owned(),
            ),
            406 => (Reason::NotAcceptable, message.to_owned()),
            415 => (Reason::UnsupportedMediaType, message.to_owned()),
            405 => {
                (Reason::MethodNotAllowed, "the server does not allow this method on the requested resource".to_owned())
            }
            422 => (Reason::Invalid, "the server rejected our request due to an error in our request".to_owned()),
            503 => (Reason::ServiceUnavailable, "the server is currently unable to handle the request".to_owned()),
            504 => (
                Reason::Timeout,
                "the server was unable to return a response in the time allotted, but may still be processing the \
                 request"
                    .to_owned(),
            ),
            429 => (
                Reason::TooManyRequests,
                "the server has received too many requests and has asked us to try again later".to_owned(),
            ),
            500.. => (
                Reason::InternalError,
                format!("an error on the server ({}) has prevented the request from succeeding", quote(message)),
            ),
            _ => (Reason::Unknown, default),
        };
        let verb = method.to_ascii_lowercase();
        if !resource.name.is_empty() && !name.is_empty() {
            let _ = write!(text, " ({verb} {resource} {name})");
        } else if !resource.name.is_empty() {
            let _ = write!(text, " ({verb} {resource})");
        }
        let cause =
            Cause { reason: "UnexpectedServerResponse".to_owned(), message: message.to_owned(), field: String::new() };
        let details = Details { causes: vec![cause], ..Details::about(resource, name) };
        Status::new(code, reason, text, Some(details))
    }

    /// 200 for what leaves no object to show: an object deleted at once.
    pub fn deleted(resource: Qualified<'_>, name: &str, uid: &str) -> Status {
        let details = Details { uid: uid.to_owned(), ..Details::about(resource, name) };
        Status(Box::new(Inner {
            success: true,
            code: 200,
            reason: Reason::Unknown,
            message: String::new(),
            details: Some(details),
            continuation: String::new(),
        }))
    }

    /// 201 for a sub-resource that was carried out: a binding or an eviction.
    pub fn created() -> Status {
        Status(Box::new(Inner {
            success: true,
            code: 201,
            reason: Reason::Unknown,
            message: String::new(),
            details: None,
            continuation: String::new(),
        }))
    }

    /// From an object of kind Status; `None` if it is none.
    pub fn from_value(value: &Value) -> Option<Status> {
        let view = View::new(value);
        if view.text("kind") != "Status" {
            return None;
        }
        let details = view.at("details");
        let success = view.text("status") == "Success";
        let code = view.int("code").and_then(|code| u16::try_from(code).ok());
        Some(Status(Box::new(Inner {
            success,
            code: code.filter(|code| (100..1000).contains(code)).unwrap_or(if success { 200 } else { 500 }),
            reason: Reason::parse(view.text("reason")),
            message: view.text("message").to_owned(),
            details: details.exists().then(|| Details {
                name: details.text("name").to_owned(),
                group: details.text("group").to_owned(),
                kind: details.text("kind").to_owned(),
                uid: details.text("uid").to_owned(),
                causes: details
                    .list("causes")
                    .map(|cause| Cause {
                        reason: cause.text("reason").to_owned(),
                        message: cause.text("message").to_owned(),
                        field: cause.text("field").to_owned(),
                    })
                    .collect(),
                retry_after_seconds: details
                    .int("retryAfterSeconds")
                    .and_then(|seconds| u32::try_from(seconds).ok())
                    .unwrap_or(0),
            }),
            continuation: view.at("metadata").text("continue").to_owned(),
        })))
    }

    /// The same with other details.
    pub fn with_details(mut self, details: Details) -> Status {
        self.0.details = Some(details);
        self
    }

    /// The same with one more cause.
    pub fn with_cause(mut self, cause: Cause) -> Status {
        self.0.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// The same with a token by which an expired list can be continued.
    pub fn with_continue(mut self, token: &str) -> Status {
        token.clone_into(&mut self.0.continuation);
        self
    }

    /// HTTP code.
    pub fn code(&self) -> u16 {
        self.0.code
    }

    /// Machine-readable reason.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// For people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What it is about.
    pub fn details(&self) -> Option<&Details> {
        self.0.details.as_ref()
    }

    /// After how many seconds a client may try again; for the header `Retry-After`.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.details().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0)
    }

    /// The object that is sent.
    pub fn to_value(&self) -> Value {
        let inner = &self.0;
        let mut value = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": if inner.success { "Success" } else { "Failure" },
        });
        if !inner.continuation.is_empty() {
            value["metadata"] = json!({ "continue": inner.continuation });
        }
        if !inner.message.is_empty() {
            value["message"] = inner.message.as_str().into();
        }
        if inner.reason != Reason::Unknown {
            value["reason"] = inner.reason.as_str().into();
        }
        if let Some(details) = &inner.details {
            value["details"] = details.to_value();
        }
        if !inner.success || inner.code != 200 {
            value["code"] = inner.code.into();
        }
        value
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Status {}

/// Text in double quotes with escapes, as Go's `%q` shows it in all of upstream's messages.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            ' ' => quoted.push(' '),
            letter if (letter as u32) < 0x20 || letter as u32 == 0x7f => {
                let _ = write!(quoted, "\\x{:02x}", letter as u32);
            }
            letter if letter.is_control() || letter.is_whitespace() || letter == '\u{feff}' || letter == '\u{ad}' => {
                let _ = write!(quoted, "\\u{:04x}", letter as u32);
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
