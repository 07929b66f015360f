//! Links in pages that come through a proxy: what is relative to the server's root gets the proxy's path in front.

/// Attributes that hold links.
const ATTRIBUTES: [&str; 12] = [
    "href",
    "src",
    "action",
    "cite",
    "data",
    "longdesc",
    "background",
    "formaction",
    "poster",
    "codebase",
    "classid",
    "usemap",
];

/// Puts `prefix` in front of every link of an HTML page that begins with a single slash.
pub fn rewrite(page: &str, prefix: &str) -> String {
    let mut out = String::with_capacity(page.len() + page.len() / 8);
    let mut left = page;
    while let Some(open) = left.find('<') {
        out.push_str(&left[..open]);
        left = &left[open..];
        if let Some(comment) = left.strip_prefix("<!--") {
            let end = comment.find("-->").map_or(left.len(), |at| at + 7);
            out.push_str(&left[..end]);
            left = &left[end..];
            continue;
        }
        let end = end_of_tag(left);
        tag(&left[..end], prefix, &mut out);
        left = &left[end..];
    }
    out.push_str(left);
    out
}

/// The length of a tag, quoted attribute values taken as one.
fn end_of_tag(text: &str) -> usize {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'>') => return at + 1,
            (None, _) => {}
        }
    }
    text.len()
}

fn tag(text: &str, prefix: &str, out: &mut String) {
    let mut left = text;
    while let Some(equals) = left.find('=') {
        let name_start = left[..equals].rfind([' ', '\t', '\n', '\r', '<', '"', '\'']).map_or(0, |at| at + 1);
        let name = left[name_start..equals].to_ascii_lowercase();
        out.push_str(&left[..=equals]);
        left = &left[equals + 1..];
        let quote = left.chars().next().filter(|letter| matches!(letter, '"' | '\''));
        let (open, value, rest) = match quote {
            Some(quote) => match left[1..].find(quote) {
                Some(end) => (&left[..1], &left[1..1 + end], &left[1 + end..]),
                None => break,
            },
            None => {
                let end = left.find([' ', '\t', '\n', '\r', '>']).unwrap_or(left.len());
                ("", &left[..end], &left[end..])
            }
        };
        out.push_str(open);
        if ATTRIBUTES.contains(&name.as_str()) {
            out.push_str(&link(value, prefix));
        } else {
            out.push_str(value);
        }
        left = rest;
        if quote.is_some() {
            out.push_str(&left[..1]);
            left = &left[1..];
        }
    }
    out.push_str(left);
}

/// One link.
pub fn link(value: &str, prefix: &str) -> String {
    if value.starts_with('/') && !value.starts_with("//") && !value.starts_with(prefix) {
        format!("{prefix}{value}")
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_from_the_root_get_the_proxys_path() {
        let cases = [
            (r#"<a href="/x">t</a>"#, r#"<a href="/p/x">t</a>"#),
            (r#"<a class='b' href='/x'>t</a>"#, r#"<a class='b' href='/p/x'>t</a>"#),
            (r#"<img src=/x.png>"#, r#"<img src=/p/x.png>"#),
            (r#"<a href="x">t</a> a="/b" <b title="/c">"#, r#"<a href="x">t</a> a="/b" <b title="/c">"#),
            (r#"<a href="//other/x"><a href="/p/done">"#, r#"<a href="//other/x"><a href="/p/done">"#),
            (r#"<!-- <a href="/x"> --><form action="/go">"#, r#"<!-- <a href="/x"> --><form action="/p/go">"#),
            (r#"<a title="a > b" href="/x">"#, r#"<a title="a > b" href="/p/x">"#),
            ("<a href=\"/unclosed", "<a href=\"/unclosed"),
            ("plain < text", "plain < text"),
        ];
        for (page, expected) in cases {
            assert_eq!(rewrite(page, "/p"), expected);
        }
    }
}
