//! The values of string tokens: escapes as in Go.

/// The value of a string token, whose escapes the lexer has checked. Bytes that are no UTF-8 become replacement
/// characters.
pub(crate) fn unquote(text: &str) -> String {
    String::from_utf8(unquote_bytes(text))
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The value of a string token as it was written.
pub(crate) fn unquote_bytes(text: &str) -> Vec<u8> {
    let mut chars = text.chars();
    let delimiter = chars.next();
    chars.next_back();
    let body = chars.as_str();
    if delimiter == Some('`') || !body.contains('\\') {
        return body.as_bytes().to_vec();
    }
    let mut out = Vec::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let mut code = |digits: &mut dyn Iterator<Item = char>, base: u32, byte: bool| {
            let value =
                digits.filter_map(|c| c.to_digit(base)).fold(0u32, |value, digit| value.wrapping_mul(base) + digit);
            match char::from_u32(value) {
                _ if byte => out.push(value as u8),
                Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                None => out.extend_from_slice("\u{fffd}".as_bytes()),
            }
        };
        match chars.next() {
            Some('x') => code(&mut chars.by_ref().take(2), 16, true),
            Some('u') => code(&mut chars.by_ref().take(4), 16, false),
            Some('U') => code(&mut chars.by_ref().take(8), 16, false),
            Some(first @ '0'..='7') => code(&mut std::iter::once(first).chain(chars.by_ref().take(2)), 8, true),
            Some('a') => out.push(7),
            Some('b') => out.push(8),
            Some('f') => out.push(12),
            Some('n') => out.push(b'\n'),
            Some('r') => out.push(b'\r'),
            Some('t') => out.push(b'\t'),
            Some('v') => out.push(11),
            Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            None => {}
        }
    }
    out
}
