//! Text to nodes, with anchors and merge keys resolved.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

/// Bytes of a file at most.
const LARGEST: usize = 64 << 20;
/// Nodes of a file at most, those of aliases counted each time.
const NODES: usize = 4 << 20;
/// How deep nodes are within each other at most.
const DEPTH: usize = 100;

/// A part of a document and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What stands there.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A single value.
    Scalar {
        /// Its text, without quotes.
        text: String,
        /// Whether it stands without quotes, so that it may be a number, a boolean or null.
        plain: bool,
        /// The last part of its tag, for example `binary`.
        tag: Option<String>,
    },
    /// A list.
    List(Vec<Node>),
    /// Pairs in the order of the text.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// Whether this is null.
    pub fn is_null(&self) -> bool {
        match &self.kind {
            Kind::Scalar { text, plain, tag } => match tag.as_deref() {
                Some("null") => true,
                Some(_) => false,
                None => *plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"),
            },
            _ => false,
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The value of a key, if this is a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(pairs) => pairs.iter().find(|pair| pair.0.text() == Some(key)).map(|pair| &pair.1),
            _ => None,
        }
    }
}

enum Open {
    List(Vec<Node>),
    Map(Vec<(Node, Node)>, Option<Node>),
}

struct Frame {
    line: usize,
    column: usize,
    anchor: usize,
    open: Open,
}

/// The first document of `text`; `None` if there is nothing in it.
pub fn parse(text: &str) -> Result<Option<Node>, String> {
    Ok(documents(text, 1)?.into_iter().next().filter(|node| !node.is_null()))
}

/// All documents of `text` that are not null.
pub fn parse_all(text: &str) -> Result<Vec<Node>, String> {
    Ok(documents(text, usize::MAX)?.into_iter().filter(|node| !node.is_null()).collect())
}

fn documents(text: &str, most: usize) -> Result<Vec<Node>, String> {
    if text.len() > LARGEST {
        return Err(format!("yaml: a file of {} bytes is too large", text.len()));
    }
    let mut anchors: HashMap<usize, (Node, usize)> = HashMap::new();
    let mut stack: Vec<Frame> = Vec::new();
    let mut nodes = 0usize;
    let mut found = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let line = error.marker().line();
            let message = error.to_string();
            let message = message.split(" at byte").next().unwrap_or(&message);
            format!("yaml: line {line}: {message}")
        })?;
        let line = span.start.line();
        let column = span.start.col() + 1;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = matches!(style, ScalarStyle::Plain);
                let tag = tag.as_deref().and_then(short_tag);
                (Node { line, column, kind: Kind::Scalar { text: text.into_owned(), plain, tag } }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                stack.push(Frame { line, column, anchor, open: Open::List(Vec::new()) });
                deep_enough(&stack, line)?;
                continue;
            }
            Event::MappingStart(_, anchor, _) => {
                stack.push(Frame { line, column, anchor, open: Open::Map(Vec::new(), None) });
                deep_enough(&stack, line)?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = stack.pop() else { continue };
                let kind = match frame.open {
                    Open::List(items) => Kind::List(items),
                    Open::Map(pairs, _) => Kind::Map(merged(pairs)?),
                };
                (Node { line: frame.line, column: frame.column, kind }, frame.anchor)
            }
            Event::Alias(id) => {
                let Some((node, size)) = anchors.get(&id) else {
                    return Err(format!("yaml: line {line}: unknown anchor"));
                };
                nodes = nodes.saturating_add(*size);
                (node.clone(), 0)
            }
            Event::DocumentEnd => {
                anchors.clear();
                if found.len() >= most {
                    break;
                }
                continue;
            }
            _ => continue,
        };
        nodes += 1;
        if nodes > NODES {
            return Err(format!("yaml: line {line}: document contains excessive aliasing"));
        }
        if anchor != 0 {
            anchors.insert(anchor, (node.clone(), size(&node)));
        }
        match stack.last_mut().map(|frame| &mut frame.open) {
            None => found.push(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map(pairs, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => pairs.push((key, node)),
            },
        }
    }
    Ok(found)
}

fn deep_enough(stack: &[Frame], line: usize) -> Result<(), String> {
    if stack.len() > DEPTH { Err(format!("yaml: line {line}: exceeded max depth of {DEPTH}")) } else { Ok(()) }
}

fn short_tag(tag: &Tag) -> Option<String> {
    tag.core_suffix().map(str::to_owned).or_else(|| (!tag.suffix().is_empty()).then(|| tag.suffix().to_owned()))
}

fn size(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar { .. } => 1,
        Kind::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Kind::Map(pairs) => 1 + pairs.iter().map(|(key, value)| size(key) + size(value)).sum::<usize>(),
    }
}

/// Pairs with those of `<<` put in where they say nothing themselves.
fn merged(pairs: Vec<(Node, Node)>) -> Result<Vec<(Node, Node)>, String> {
    let is_merge = |key: &Node| matches!(&key.kind, Kind::Scalar { text, plain: true, .. } if text == "<<");
    if !pairs.iter().any(|(key, _)| is_merge(key)) {
        return Ok(pairs);
    }
    let (merges, mut own): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(key, _)| is_merge(key));
    for (key, value) in merges {
        let sources = match value.kind {
            Kind::List(items) => items,
            kind => vec![Node { line: value.line, column: value.column, kind }],
        };
        for source in sources {
            let Kind::Map(pairs) = source.kind else {
                return Err(format!(
                    "yaml: line {}: map merge requires map or sequence of maps as the value",
                    key.line
                ));
            };
            for pair in pairs {
                if !own.iter().any(|have| have.0.text().is_some() && have.0.text() == pair.0.text()) {
                    own.push(pair);
                }
            }
        }
    }
    Ok(own)
}
