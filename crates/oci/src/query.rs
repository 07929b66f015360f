//! Values in queries, as clients of registries and engines write them.
//!
//! <https://www.rfc-editor.org/rfc/rfc3986#section-2.3>

/// A value, percent-encoded but for what is reserved nowhere.
pub fn encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            byte => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_elsewhere_is_encoded() {
        assert_eq!(encoded("a-b.c_d~e9"), "a-b.c_d~e9");
        assert_eq!(encoded("a b/c&ü=%"), "a%20b%2Fc%26%C3%BC%3D%25");
    }
}
