//! Reads single fields out of canonical JSON bytes without parsing the rest.
//!
//! The bytes come from the store, where this server put them, so they are well-formed; on bytes that are not, every function
//! gives `None` or stops, and none panics. Used for selectors: ten thousand pods are filtered by node or label without
//! building ten thousand trees.

/// The raw bytes of the value at `path`, a chain of member names.
pub fn find<'a>(json: &'a [u8], path: &[&str]) -> Option<&'a [u8]> {
    let mut here = json;
    for name in path {
        here = member(here, name)?;
    }
    Some(here)
}

/// The text at `path`; `None` for anything that is no string.
pub fn text(json: &[u8], path: &[&str]) -> Option<String> {
    string(find(json, path)?)
}

/// The members of a JSON object whose values are strings, such as labels.
pub fn strings(json: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, value) in Members::new(json) {
        if let (Some(name), Some(value)) = (string(name), string(value)) {
            found.push((name, value));
        }
    }
    found
}

/// A JSON string literal as text.
pub fn string(literal: &[u8]) -> Option<String> {
    let inner = literal.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !inner.contains(&b'\\') {
        return std::str::from_utf8(inner).ok().map(str::to_owned);
    }
    serde_json::from_slice(literal).ok()
}

fn member<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    Members::new(object).find_map(|(own, value)| {
        let plain = own.len() == name.len() + 2 && &own[1..own.len() - 1] == name.as_bytes();
        (plain || (own.contains(&b'\\') && string(own).as_deref() == Some(name))).then_some(value)
    })
}

/// The members of an object: the literal of each name, and the raw bytes of each value.
pub struct Members<'a> {
    left: &'a [u8],
}

impl<'a> Members<'a> {
    /// Of the object that `json` begins with; none if it is no object.
    pub fn new(json: &'a [u8]) -> Self {
        Self { left: json.strip_prefix(b"{").unwrap_or_default() }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let left = trim(self.left);
        let left = trim(left.strip_prefix(b",").unwrap_or(left));
        if left.first() != Some(&b'"') {
            self.left = &[];
            return None;
        }
        let name = &left[..end_of_string(left)?];
        let left = trim(&left[name.len()..]);
        let left = trim(left.strip_prefix(b":")?);
        let value = &left[..end_of_value(left)?];
        self.left = &left[value.len()..];
        Some((name, value))
    }
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii_start()
}

/// The length of the string literal that `bytes` begins with.
fn end_of_string(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The length of the value that `bytes` begins with.
fn end_of_value(bytes: &[u8]) -> Option<usize> {
    match *bytes.first()? {
        b'"' => end_of_string(bytes),
        b'{' | b'[' => {
            let (mut depth, mut at) = (0usize, 0usize);
            loop {
                match *bytes.get(at)? {
                    b'"' => {
                        at += end_of_string(&bytes[at..])?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
        }
        _ => {
            Some(bytes.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n')).unwrap_or(bytes.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &[u8] = br#"{"kind":"Pod","metadata":{"name":"a","labels":{"app":"we\"b","tier":"x"},"n":1},"spec":{"list":[{"a":"}"},[1,2]],"nodeName":"n1","flag":true}}"#;

    #[test]
    fn fields_are_found_without_parsing_the_rest() {
        assert_eq!(text(POD, &["spec", "nodeName"]).as_deref(), Some("n1"));
        assert_eq!(text(POD, &["kind"]).as_deref(), Some("Pod"));
        assert_eq!(find(POD, &["spec", "flag"]), Some(&b"true"[..]));
        assert_eq!(find(POD, &["metadata", "n"]), Some(&b"1"[..]));
        assert_eq!(find(POD, &["spec", "missing"]), None);
        assert_eq!(find(POD, &["kind", "deeper"]), None);
        let labels = strings(find(POD, &["metadata", "labels"]).unwrap());
        assert_eq!(labels, [("app".to_owned(), "we\"b".to_owned()), ("tier".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn cut_bytes_end_the_search() {
        for end in 0..POD.len() {
            let _ = text(&POD[..end], &["spec", "nodeName"]);
            let _ = strings(&POD[..end]);
        }
    }
}
