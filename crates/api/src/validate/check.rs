//! Checks that many kinds share, each a line at the place of use.

use serde_json::Value;

use super::format::{self, Faults};
use super::metadata::NEGATIVE;
use super::{Errors, Path};
use crate::meta::View;
use crate::quantity::Quantity;

/// What is said of a number that must be above zero.
pub const NOT_POSITIVE: &str = "must be greater than zero";

/// Reports each fault of a text.
pub fn faults(faults: Faults, text: &str, path: &Path<'_>, errors: &mut Errors) {
    for fault in faults {
        errors.invalid(path, text, fault);
    }
}

/// A text that must be there and one of those allowed, which are listed in the order given.
pub fn choice(text: &str, allowed: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
    } else if !allowed.contains(&text) {
        errors.not_supported(path, text, allowed);
    }
}

/// A member that, if it is there, must be one of those allowed.
pub fn option(holder: View<'_>, member: &str, allowed: &[&str], path: &Path<'_>, errors: &mut Errors) {
    if let Some(text) = holder.at(member).as_str().filter(|text| !allowed.contains(text)) {
        errors.not_supported(&path.child(member), text, allowed);
    }
}

/// A member that must not be empty.
pub fn require(holder: View<'_>, member: &str, path: &Path<'_>, errors: &mut Errors) {
    if holder.text(member).is_empty() {
        errors.required(&path.child(member), "");
    }
}

/// A number that must not be below zero, if it is there.
pub fn not_negative(holder: View<'_>, member: &str, path: &Path<'_>, errors: &mut Errors) {
    if let Some(number) = holder.int(member).filter(|number| *number < 0) {
        errors.invalid(&path.child(member), number, NEGATIVE);
    }
}

/// A quantity that must be above zero.
pub fn positive(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let quantity = Quantity::of(value);
    if quantity.sign() <= 0 {
        errors.invalid(path, quantity.to_string(), NOT_POSITIVE);
    }
}

/// A quantity that must not be below zero, in the words that volumes and quotas use.
pub fn basic_amount(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let number = Quantity::of(value).value();
    if number < 0 {
        errors.invalid(path, number, "must be a valid resource quantity");
    }
}

/// A number or a percentage: neither malformed nor below zero.
pub fn number_or_percent(value: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    if let Some(text) = value.as_str() {
        for fault in format::percent(text) {
            errors.invalid(path, text, fault);
        }
    } else if let Some(number) = value.as_int().filter(|number| *number < 0) {
        errors.invalid(path, number, NEGATIVE);
    }
}

/// The number before `%`.
pub fn percentage(value: View<'_>) -> Option<i64> {
    let text = value.as_str()?;
    if !format::percent(text).is_empty() {
        return None;
    }
    text.trim_end_matches('%').parse().ok()
}

/// A percentage must not exceed 100.
pub fn at_most_whole(value: View<'_>, path: &Path<'_>, errors: &mut Errors) {
    if percentage(value).is_some_and(|number| number > 100) {
        errors.invalid(path, value.value().clone(), "must not be greater than 100%");
    }
}

/// A condition's machine-readable reason.
pub fn condition_reason(reason: &str) -> Faults {
    let bytes = reason.as_bytes();
    let first = bytes.first().is_some_and(u8::is_ascii_alphabetic);
    let last = bytes.last().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let inner = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b',' | b':'));
    if first && last && inner {
        return Faults::new();
    }
    let message = "a condition reason must start with alphabetic character, optionally followed by a string of \
                   alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
    vec![format::explained(
        message,
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
    )]
}

/// `example.com/name`.
pub fn domain_prefixed_path(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((domain, rest)) = text.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        errors.invalid(path, text, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    };
    faults(format::dns_subdomain(domain), domain, path, errors);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(plain) {
        let detail = format::explained("Invalid path", "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+", &[]);
        errors.invalid(path, rest, detail);
    }
}

/// A member that must be there and can stand in a URL's path.
pub fn path_segment(holder: View<'_>, member: &str, path: &Path<'_>, errors: &mut Errors) {
    let text = holder.text(member);
    if text.is_empty() {
        errors.required(&path.child(member), "");
    } else {
        faults(format::path_segment(text), text, &path.child(member), errors);
    }
}
