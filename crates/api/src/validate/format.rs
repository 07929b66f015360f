//! Forms that texts must have: names, label keys and values, ports, paths; with upstream's explanation where one has not.
//!
//! Each check returns explanations, none if all is well. Written as plain loops over bytes, not as regular expressions: they
//! run for every object. Facts from `pkg/util/validation` and `pkg/api/validate/content` of k8s.io/apimachinery.

const DNS_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// Explanations of what is wrong.
pub type Faults = Vec<String>;

/// "must be no more than 63 characters".
pub fn at_most_characters(most: usize) -> String {
    format!("must be no more than {most} characters")
}

fn at_most_bytes(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

/// "must be between 1 and 65535, inclusive".
pub fn between(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// An explanation with examples and the regular expression that describes the form.
pub fn explained(message: &str, expression: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{expression}')");
    }
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{expression}')", examples.join(" or "))
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.iter().all(|byte| is_lower_alphanumeric(*byte) || *byte == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

fn is_dns_subdomain(text: &str) -> bool {
    text.split('.').all(is_dns_label)
}

/// A label of RFC 1123: what Namespaces and containers are named.
pub fn dns_label(text: &str) -> Faults {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(at_most_characters(63));
    }
    if !is_dns_label(text) {
        if is_dns_subdomain(text) {
            faults.push("must not contain dots".to_owned());
        } else {
            faults.push(explained(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character",
                DNS_LABEL,
                &["my-name", "123-abc"],
            ));
        }
    }
    faults
}

fn subdomain_fault() -> String {
    explained(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and \
         end with an alphanumeric character",
        DNS_SUBDOMAIN,
        &["example.com"],
    )
}

/// The same in any case, as drivers are named where newer rules speak.
pub fn dns_subdomain_in_any_case(text: &str) -> Faults {
    if !text.is_empty() && is_dns_subdomain(&text.to_lowercase()) {
        return Faults::new();
    }
    vec![explained(
        "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an \
         alphanumeric character",
        DNS_SUBDOMAIN,
        &["Example.com"],
    )]
}

/// A subdomain of RFC 1123: what most objects are named.
pub fn dns_subdomain(text: &str) -> Faults {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(at_most_characters(253));
    }
    if !is_dns_subdomain(text) {
        faults.push(subdomain_fault());
    }
    faults
}

/// A subdomain of RFC 1123 whose labels may have underscores: a DNS search path.
pub fn dns_subdomain_with_underscore(text: &str) -> Faults {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(at_most_characters(253));
    }
    let is_label = |label: &str| {
        let inner = label.strip_prefix('_').unwrap_or(label).as_bytes();
        let allowed = |byte: &u8| is_lower_alphanumeric(*byte) || matches!(byte, b'-' | b'_');
        !inner.is_empty()
            && inner.iter().all(allowed)
            && is_lower_alphanumeric(inner[0])
            && is_lower_alphanumeric(inner[inner.len() - 1])
    };
    if !text.split('.').all(is_label) {
        faults.push(explained(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must \
             start and end with an alphanumeric character",
            r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    faults
}

/// A label of RFC 1035: what Services are named.
pub fn dns_1035_label(text: &str) -> Faults {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(at_most_characters(63));
    }
    if !is_dns_label(text) || !text.starts_with(|first: char| first.is_ascii_lowercase()) {
        faults.push(explained(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    faults
}

/// `*.` and a subdomain.
pub fn wildcard_dns_subdomain(text: &str) -> Faults {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(at_most_characters(253));
    }
    if !text.strip_prefix("*.").is_some_and(is_dns_subdomain) {
        faults.push(explained(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
             lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            &["*.example.com"],
        ));
    }
    faults
}

fn is_label_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && bytes[0].is_ascii_alphanumeric()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
}

fn label_name_fault() -> String {
    explained(
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        LABEL_KEY,
        &["MyName", "my.name", "123-abc"],
    )
}

/// A name that may have a domain before it and a slash between: label keys, resource names, finalizers.
pub fn qualified_name(text: &str) -> Faults {
    let mut faults = Vec::new();
    let mut parts = text.split('/');
    let (first, second, third) = (parts.next().unwrap_or(""), parts.next(), parts.next());
    let name = match (second, third) {
        (None, _) => first,
        (Some(name), None) => {
            if first.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                if first.len() > 253 {
                    faults.push(format!("prefix part {}", at_most_bytes(253)));
                }
                if !is_dns_subdomain(first) {
                    faults.push(format!("prefix part {}", subdomain_fault()));
                }
            }
            name
        }
        (Some(_), Some(_)) => {
            faults.push(format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                label_name_fault()
            ));
            return faults;
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push(format!("name part {}", at_most_bytes(63)));
    }
    if !is_label_name(name) {
        faults.push(format!("name part {}", label_name_fault()));
    }
    faults
}

/// The value of a label.
pub fn label_value(text: &str) -> Faults {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(at_most_bytes(63));
    }
    if !text.is_empty() && !is_label_name(text) {
        faults.push(explained(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
             and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    faults
}

/// A name that stands in a path of the API.
pub fn path_segment(text: &str) -> Faults {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    path_segment_prefix(text)
}

/// The beginning of a name that stands in a path of the API.
pub fn path_segment_prefix(text: &str) -> Faults {
    ["/", "%"].into_iter().filter(|part| text.contains(part)).map(|part| format!("may not contain '{part}'")).collect()
}

/// An identifier of the C language.
pub fn c_identifier(text: &str) -> Faults {
    let bytes = text.as_bytes();
    let fine = !bytes.is_empty()
        && !bytes[0].is_ascii_digit()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    if fine {
        return Vec::new();
    }
    vec![explained(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters \
         or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// A port's number.
pub fn port_number(port: i64) -> Faults {
    if (1..=65535).contains(&port) { Vec::new() } else { vec![between(1, 65535)] }
}

/// A port's name.
pub fn port_name(text: &str) -> Faults {
    let mut faults = Vec::new();
    if text.len() > 15 {
        faults.push(at_most_characters(15));
    }
    if text.is_empty() || !text.bytes().all(|byte| is_lower_alphanumeric(byte) || byte == b'-') {
        faults.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        faults.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        faults.push("must not begin or end with a hyphen".to_owned());
    }
    faults
}

/// `25%`.
pub fn percent(text: &str) -> Faults {
    let digits = text.strip_suffix('%').unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    let message = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![explained(message, "[0-9]+%", &["1%", "93%"])]
}

/// The name of an HTTP header.
pub fn http_header_name(text: &str) -> Faults {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Vec::new();
    }
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![explained(message, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// The name of an environment variable: printable ASCII without `=`.
pub fn environment_name(text: &str) -> Faults {
    let mut faults = Vec::new();
    if text.is_empty() {
        faults.push("environment variable name must be non-empty".to_owned());
    }
    if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=') {
        faults.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    faults
}

/// A key in a ConfigMap or Secret.
pub fn config_key(text: &str) -> Faults {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(at_most_characters(253));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(allowed) {
        faults.push(explained(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match text {
        "." => faults.push("must not be '.'".to_owned()),
        ".." => faults.push("must not be '..'".to_owned()),
        text if text.starts_with("..") => faults.push("must not start with '..'".to_owned()),
        _ => {}
    }
    faults
}

/// A user's or group's number.
pub fn id_number(id: i64) -> Faults {
    if (0..=i64::from(i32::MAX)).contains(&id) { Vec::new() } else { vec![between(0, i64::from(i32::MAX))] }
}

/// A beginning of a name, in the form that the whole would have: a trailing dash is taken for a letter.
pub fn without_trailing_dash(text: &str) -> String {
    if text.len() > 1 && text.ends_with('-') && text.is_char_boundary(text.len() - 2) {
        format!("{}a", &text[..text.len() - 2])
    } else {
        text.to_owned()
    }
}
