//! Text made safe for where it goes: HTML, JavaScript, queries of URLs; and, in HTML templates, wherever a value stands.
//!
//! ```text
//!   text ─ < ─▶ tag ─ name= ─▶ value of an attribute (of a URL, of a style, of an event, or plain)
//!     ▲          │ >
//!     └──────────┴─▶ script, style: until their end tag
//! ```
//!
//! See <https://pkg.go.dev/html/template#hdr-Contexts>.

use super::value::Value;

/// What stands for a value that would be unsafe where it is.
const UNSAFE: &str = "ZgotmplZ";

/// For HTML and its attributes.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// For the inside of a string of JavaScript.
pub(super) fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => {
                out.push('\\');
                out.push(c);
            }
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// For a part of the query of a URL.
pub(super) fn query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Undoes [`query`].
pub(super) fn unquery(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => {
                let digits =
                    text.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                    let end = (at + 1..=at + 3).rev().find(|end| text.is_char_boundary(*end) && *end <= text.len());
                    return Err(format!(
                        "invalid URL escape {}",
                        super::format::quote(&text[at..end.unwrap_or(at + 1)])
                    ));
                };
                out.push(byte);
                at += 2;
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Escapes what a URL may not hold, and leaves what it may.
fn normalized(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, byte) in text.bytes().enumerate() {
        let kept = byte.is_ascii_alphanumeric() || b"-_.~!#$&*+,/:;=?@[]".contains(&byte);
        let escape =
            byte == b'%' && text.as_bytes()[i + 1..].iter().take(2).filter(|b| b.is_ascii_hexdigit()).count() == 2;
        if kept || escape {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

fn has_safe_scheme(url: &str) -> bool {
    match url.split_once(':') {
        Some((scheme, _)) if !scheme.contains('/') => {
            ["http", "https", "mailto"].iter().any(|safe| scheme.eq_ignore_ascii_case(safe))
        }
        _ => true,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    Plain,
    Url,
    Style,
    Script,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Text,
    Comment,
    /// Within a tag; the name of an attribute so far.
    Tag(String),
    /// Behind `=`.
    BeforeValue(Attribute),
    /// Within a value that ends with this character, or with space if there is none; what of a URL there is already.
    Value(Attribute, Option<char>, String),
    /// Within an element whose content is no HTML.
    Raw(&'static str),
}

/// Where in a document the output has come to.
#[derive(Clone, Debug)]
pub(super) struct Document {
    place: Place,
    /// The element whose tag is open.
    element: String,
    /// The end of what was written, where the beginning of something might stand.
    tail: String,
}

const RAW: [&str; 4] = ["script", "style", "textarea", "title"];

impl Default for Document {
    fn default() -> Self {
        Self { place: Place::Text, element: String::new(), tail: String::new() }
    }
}

impl Document {
    /// Follows the text of the template itself.
    pub fn follow(&mut self, text: &str) {
        for c in text.chars() {
            self.step(c);
        }
    }

    fn step(&mut self, c: char) {
        let place = std::mem::replace(&mut self.place, Place::Text);
        self.place = match place {
            Place::Text => {
                if c == '<' {
                    self.tail.clear();
                    self.element.clear();
                    self.tail.push('<');
                } else if self.tail.starts_with('<') {
                    self.tail.push(c);
                }
                match self.tail.as_str() {
                    "<!--" => {
                        self.tail.clear();
                        Place::Comment
                    }
                    tail if tail.len() > 1 && tail.starts_with('<') && !tail.starts_with("<!") => {
                        let name = tail.trim_start_matches(['<', '/']);
                        if c == '>' {
                            self.end_of_tag()
                        } else if c.is_whitespace() {
                            self.element = name.trim().to_ascii_lowercase();
                            if tail.starts_with("</") {
                                self.element.clear();
                            }
                            Place::Tag(String::new())
                        } else {
                            if !name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.is_empty() {
                                self.tail.clear();
                            } else if !tail.starts_with("</") {
                                self.element = name.to_ascii_lowercase();
                            }
                            Place::Text
                        }
                    }
                    _ => Place::Text,
                }
            }
            Place::Comment => {
                self.tail.push(c);
                if self.tail.ends_with("-->") {
                    self.tail.clear();
                    Place::Text
                } else {
                    let start = self.tail.char_indices().rev().nth(2).map_or(0, |(i, _)| i);
                    self.tail.drain(..start);
                    Place::Comment
                }
            }
            Place::Tag(mut name) => match c {
                '>' => self.end_of_tag(),
                '=' => Place::BeforeValue(attribute(&name)),
                c if c.is_whitespace() || c == '/' => Place::Tag(String::new()),
                c => {
                    if name.len() < 64 {
                        name.push(c);
                    }
                    Place::Tag(name)
                }
            },
            Place::BeforeValue(kind) => match c {
                '"' | '\'' => Place::Value(kind, Some(c), String::new()),
                '>' => self.end_of_tag(),
                c if c.is_whitespace() => Place::BeforeValue(kind),
                c => Place::Value(kind, None, c.to_string()),
            },
            Place::Value(_, Some(end), _) if c == end => Place::Tag(String::new()),
            Place::Value(_, None, _) if c == '>' => self.end_of_tag(),
            Place::Value(_, None, _) if c.is_whitespace() => Place::Tag(String::new()),
            Place::Value(kind, end, mut before) => {
                if before.len() < 256 {
                    before.push(c);
                }
                Place::Value(kind, end, before)
            }
            Place::Raw(element) => {
                if c == '<' {
                    self.tail.clear();
                }
                self.tail.push(c.to_ascii_lowercase());
                if self.tail.starts_with("</") && self.tail[2..].starts_with(element) {
                    self.tail.clear();
                    self.element.clear();
                    Place::Tag(String::new())
                } else {
                    if self.tail.len() > 16 {
                        self.tail.clear();
                    }
                    Place::Raw(element)
                }
            }
        };
    }

    fn end_of_tag(&mut self) -> Place {
        self.tail.clear();
        let element = std::mem::take(&mut self.element);
        RAW.iter().find(|raw| **raw == element).map_or(Place::Text, |raw| Place::Raw(raw))
    }

    /// A value as it may stand here.
    pub fn escape(&mut self, value: &Value) -> String {
        let text = match value {
            Value::Nil => String::new(),
            value => value.printed(),
        };
        let safe = matches!(value, Value::Safe(_));
        match &mut self.place {
            Place::Comment => String::new(),
            Place::Text => {
                self.tail.clear();
                if safe { text } else { html(&text) }
            }
            Place::Raw("script") => script(value),
            Place::Raw("style") => style(&text),
            Place::Raw(_) => html(&text),
            Place::Tag(_) => {
                let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
                if plain { text } else { UNSAFE.to_owned() }
            }
            Place::BeforeValue(kind) => {
                let kind = *kind;
                let escaped = in_attribute(kind, "", value, &text);
                self.place = Place::Value(kind, None, escaped.clone());
                // Without quotes, spaces and the like would end it.
                escaped.replace(' ', "&#32;").replace('\t', "&#9;").replace('\n', "&#10;").replace('=', "&#61;")
            }
            Place::Value(kind, _, before) => {
                let escaped = in_attribute(*kind, before, value, &text);
                before.push_str(&escaped);
                escaped
            }
        }
    }
}

fn attribute(name: &str) -> Attribute {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "href" | "src" | "action" | "formaction" | "cite" | "poster" | "background" | "data" | "longdesc"
        | "manifest" | "usemap" | "codebase" | "profile" | "icon" | "classid" | "archive" => Attribute::Url,
        "style" => Attribute::Style,
        name if name.starts_with("on") => Attribute::Script,
        _ => Attribute::Plain,
    }
}

fn in_attribute(kind: Attribute, before: &str, value: &Value, text: &str) -> String {
    match kind {
        Attribute::Plain => html(text),
        Attribute::Script => html(&script(value)),
        Attribute::Style => html(&style(text)),
        Attribute::Url if before.contains(['?', '#']) => html(&query(text).replace('+', "%20")),
        Attribute::Url => {
            let safe = matches!(value, Value::Safe(_)) || !before.is_empty() || has_safe_scheme(text);
            html(&if safe { normalized(text) } else { format!("#{UNSAFE}") })
        }
    }
}

/// As JSON that cannot end the script.
fn script(value: &Value) -> String {
    let json = value.json().map(|json| json.to_string()).unwrap_or_else(|_| "null".to_owned());
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn style(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '#' | '%' | '.' | '-' | '_' | '+'));
    if plain { text.to_owned() } else { UNSAFE.to_owned() }
}
