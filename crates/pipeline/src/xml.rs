//! XML from strangers as a tree, with bounds: <https://www.w3.org/TR/xml/>. No entity of a document's own is resolved, and nothing is fetched.

use std::borrow::Cow;

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_xml_entity,
    events::{BytesStart, Event},
};

/// Elements within elements.
const DEPTH: usize = 64;
/// Attributes of one element.
const ATTRIBUTES: usize = 200;

/// What is wrong with a document.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no XML.
    #[error("line {line}: {message}")]
    Malformed {
        /// Where.
        line: usize,
        /// What.
        message: String,
    },
    /// It is larger than what is read.
    #[error("line {line}: more than {most} {what}")]
    TooLarge {
        /// Where.
        line: usize,
        /// How many there may be.
        most: usize,
        /// Of what.
        what: &'static str,
    },
}

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Its name, without a prefix.
    pub name: String,
    /// Names with values.
    pub attributes: Vec<(String, String)>,
    /// Elements in it.
    pub children: Vec<Element>,
    /// Text in it, without that of elements in it.
    pub text: String,
}

impl Element {
    /// An attribute's value.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first element of a name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All elements of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of an element that is there.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// The element below these names, one within the other.
    pub fn below(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |element, name| element.child(name))
    }
}

/// Reads a document of `most` elements at most. Its length is bounded by who has read it.
pub fn read(bytes: &[u8], most: usize) -> Result<Element, Error> {
    let text = decode(bytes);
    let mut reader = Reader::from_str(&text);
    reader.config_mut().check_end_names = true;
    // A document around the one element that a document has.
    let mut open = vec![Element::default()];
    let mut count = 0;
    loop {
        let event = reader.read_event();
        let line = |reader: &Reader<&[u8]>| {
            let end = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX).min(text.len());
            text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count() + 1
        };
        let malformed = |message: String| Error::Malformed { line: line(&reader), message };
        let event = event.map_err(|error| malformed(error.to_string()))?;
        if matches!(event, Event::Start(_) | Event::Empty(_)) {
            count += 1;
            if count > most {
                return Err(Error::TooLarge { line: line(&reader), most, what: "elements" });
            }
            if open.len() > DEPTH {
                return Err(Error::TooLarge { line: line(&reader), most: DEPTH, what: "elements within each other" });
            }
        }
        let inside = open.len() > 1;
        let Some(last) = open.last_mut() else { return Err(malformed("an element ends that did not begin".into())) };
        match event {
            Event::Start(start) => open.push(element(&start).map_err(malformed)?),
            Event::Empty(start) => last.children.push(element(&start).map_err(malformed)?),
            Event::End(_) => {
                let whole = open.pop().unwrap_or_default();
                match open.last_mut() {
                    Some(parent) => parent.children.push(whole),
                    None => return Err(malformed("an element ends that did not begin".into())),
                }
            }
            Event::Text(piece) if inside => {
                last.text.push_str(&piece.decode().map_err(|error| malformed(error.to_string()))?);
            }
            Event::CData(piece) => {
                last.text.push_str(&piece.decode().map_err(|error| malformed(error.to_string()))?);
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|error| malformed(error.to_string()))?;
                match reference.resolve_char_ref() {
                    Ok(Some(letter)) => last.text.push(letter),
                    Ok(None) => match resolve_xml_entity(&name) {
                        Some(text) => last.text.push_str(text),
                        None => return Err(malformed(format!("the entity &{name}; is not resolved"))),
                    },
                    Err(error) => return Err(malformed(error.to_string())),
                }
            }
            Event::Eof => break,
            Event::Text(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    let end = |message: &str| Error::Malformed { line: text.lines().count(), message: message.into() };
    if open.len() > 1 {
        return Err(end("an element has no end"));
    }
    let mut roots = open.pop().unwrap_or_default().children.into_iter();
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root),
        (None, _) => Err(end("there is no element")),
        _ => Err(end("there is more than one element")),
    }
}

fn element(start: &BytesStart<'_>) -> Result<Element, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut element = Element { name: text(start.local_name().as_ref()), ..Element::default() };
    for attribute in start.attributes().take(ATTRIBUTES) {
        let attribute = attribute.map_err(|error| error.to_string())?;
        // Line ends in messages are kept, though a strict reader makes spaces of them.
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
        element.attributes.push((text(attribute.key.local_name().as_ref()), value.into_owned()));
    }
    Ok(element)
}

/// Text of bytes: UTF-8, UTF-16 where marks say so, else Latin-1.
fn decode(bytes: &[u8]) -> Cow<'_, str> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.as_chunks::<2>().0.iter().map(|pair| unit(*pair));
        Cow::Owned(char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
    };
    match bytes {
        [0xFF, 0xFE, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => wide(rest, u16::from_be_bytes),
        bytes => match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text.trim_start_matches('\u{FEFF}')),
            Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
        },
    }
}

/// Text as it stands in an element or an attribute. What no document may hold is left out.
pub fn escaped(text: &str) -> String {
    let allowed = |letter: &char| {
        !letter.is_control() && !matches!(letter, '\u{FFFE}' | '\u{FFFF}') || matches!(letter, '\n' | '\t')
    };
    let mut out = String::with_capacity(text.len());
    for letter in text.chars().filter(allowed) {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests;
