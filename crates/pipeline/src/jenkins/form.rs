//! Fields of queries and forms, `a=b&c=d`, and of forms in parts (<https://www.rfc-editor.org/rfc/rfc7578>).

use crate::trigger::hook::unescape;

/// Fields of one form.
const MOST: usize = 1000;

/// Fields with their values; what is no text has signs in place of what is none.
pub(super) fn read(text: &[u8]) -> Vec<(String, String)> {
    let fields = text.split(|byte| *byte == b'&').filter(|field| !field.is_empty());
    let plain = |bytes: &[u8]| String::from_utf8_lossy(&unescape(bytes)).into_owned();
    fields
        .take(MOST)
        .map(|field| match field.iter().position(|byte| *byte == b'=') {
            Some(at) => (plain(&field[..at]), plain(&field[at + 1..])),
            None => (plain(field), String::new()),
        })
        .collect()
}

/// A field's value.
pub(super) fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Fields of a body of a type; none where it is no form.
pub(super) fn of_body(kind: &str, body: &[u8]) -> Vec<(String, String)> {
    if kind.starts_with("application/x-www-form-urlencoded") {
        return read(body);
    }
    let boundary = kind.split(';').find_map(|part| part.trim().strip_prefix("boundary="));
    match boundary.filter(|_| kind.starts_with("multipart/form-data")) {
        Some(boundary) => parts(boundary.trim_matches('"'), &String::from_utf8_lossy(body)),
        None => Vec::new(),
    }
}

fn parts(boundary: &str, body: &str) -> Vec<(String, String)> {
    if boundary.is_empty() {
        return Vec::new();
    }
    let mut fields = Vec::new();
    for part in body.split(&format!("--{boundary}")).skip(1).take(MOST) {
        let Some((head, value)) = part.trim_start_matches("\r\n").split_once("\r\n\r\n") else { continue };
        let name = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"));
        let name = name.and_then(|line| line.split(';').find_map(|word| word.trim().strip_prefix("name=")));
        if let Some(name) = name {
            let value = value.strip_suffix("\r\n").unwrap_or(value);
            fields.push((name.trim_matches('"').to_string(), value.to_string()));
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_from_queries_and_forms() {
        let fields = read(b"a=1%202&b=x+y&c&=d&a=3");
        assert_eq!(value(&fields, "a"), Some("1 2"));
        assert_eq!((value(&fields, "b"), value(&fields, "c"), value(&fields, "e")), (Some("x y"), Some(""), None));
        assert_eq!(read(&b"a=1&".repeat(5000)).len(), MOST);
        let body = "--XX\r\nContent-Disposition: form-data; name=\"jenkinsfile\"; filename=\"a\"\r\n\r\nnode {\r\n}\r\n--XX--\r\n";
        let fields = of_body("multipart/form-data; boundary=XX", body.as_bytes());
        assert_eq!(value(&fields, "jenkinsfile"), Some("node {\r\n}"));
        assert!(of_body("text/xml", b"a=1").is_empty());
        assert!(of_body("multipart/form-data; boundary=", body.as_bytes()).is_empty());
    }
}
