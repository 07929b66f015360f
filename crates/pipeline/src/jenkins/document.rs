//! Answers as XML, for whoever asks `api/xml`: made of the same answers as JSON, the way Jenkins' Stapler does.
//!
//! A list becomes as many elements as it has entries, each with the list's name in the singular; what is null is left out; a class stands in
//! the attribute `_class`, and the root is named by it. Of XPath there is what scripts with `curl` use: `/*/a/b`, `//a`, `*`, and `text()` at
//! the end. <https://www.jenkins.io/doc/book/using/remote-access-api/>

use serde_json::{Map, Value as Json};

use crate::xml::{Element, escaped};

/// Bytes of a path.
const LONGEST: usize = 1024;

/// A list's name as that of one of its entries.
fn singular(name: &str) -> String {
    match name.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => name.strip_suffix('s').unwrap_or(name).to_owned(),
    }
}

/// The name of an answer's root: its class' own, which begins small.
fn root_name(value: &Json) -> String {
    let class = value.get("_class").and_then(Json::as_str).unwrap_or_default();
    let simple = class.rsplit(['.', '$']).next().unwrap_or_default();
    let mut letters = simple.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => "object".to_owned(),
    }
}

/// An answer as a tree.
pub fn tree(value: &Json) -> Element {
    let mut root = Element { name: root_name(value), ..Element::default() };
    fill(&mut root, value);
    root
}

fn fill(element: &mut Element, value: &Json) {
    match value {
        Json::Object(fields) => fields.iter().for_each(|(name, value)| add(element, name, value)),
        Json::Array(all) => all.iter().for_each(|value| add(element, "item", value)),
        Json::Null => {}
        Json::String(text) => element.text.clone_from(text),
        other => element.text = other.to_string(),
    }
}

fn add(parent: &mut Element, name: &str, value: &Json) {
    match value {
        Json::Null => {}
        Json::String(class) if name == "_class" => parent.attributes.push((name.to_owned(), class.clone())),
        Json::Array(all) => {
            let name = singular(name);
            all.iter().for_each(|value| add(parent, &name, value));
        }
        value => {
            let mut element = Element { name: element_name(name), ..Element::default() };
            fill(&mut element, value);
            parent.children.push(element);
        }
    }
}

/// A field's name as an element may have it.
fn element_name(name: &str) -> String {
    let plain = |letter: char| if letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.') { letter } else { '-' };
    let name: String = name.chars().map(plain).collect();
    match name.chars().next() {
        Some(first) if first.is_alphabetic() || first == '_' => name,
        _ => format!("_{name}"),
    }
}

/// A tree as text.
pub fn write(element: &Element, out: &mut String) {
    out.push('<');
    out.push_str(&element.name);
    for (name, value) in &element.attributes {
        out.push_str(&format!(" {name}='{}'", escaped(value).replace('\'', "&apos;")));
    }
    if element.children.is_empty() && element.text.is_empty() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    out.push_str(&escaped(&element.text));
    element.children.iter().for_each(|child| write(child, out));
    out.push_str(&format!("</{}>", element.name));
}

/// What a query is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A document.
    Xml(String),
    /// A text.
    Text(String),
}

/// What of a tree a path leads to, in a root of the name `wrapper` where there is one.
///
/// # Errors
/// The path is none that is understood here, or leads nowhere, or to several without a wrapper.
pub fn answer(root: &Element, path: Option<&str>, wrapper: Option<&str>) -> Result<Answer, String> {
    let mut out = String::new();
    let Some(path) = path else {
        write(root, &mut out);
        return Ok(Answer::Xml(out));
    };
    let (found, text) = select(root, path)?;
    match (wrapper, found.as_slice()) {
        (Some(name), found) => {
            let name = element_name(name);
            found.iter().for_each(|element| match text {
                true => out.push_str(&escaped(&element.text)),
                false => write(element, &mut out),
            });
            Ok(Answer::Xml(format!("<{name}>{out}</{name}>")))
        }
        (None, []) => Err(format!("XPath {path} didn't match")),
        (None, [one]) if text => Ok(Answer::Text(one.text.clone())),
        (None, [one]) => {
            write(one, &mut out);
            Ok(Answer::Xml(out))
        }
        (None, several) => Err(format!(
            "XPath {path} matched {} nodes: name one that only matches one, or use the wrapper query parameter",
            several.len()
        )),
    }
}

/// The elements that a path leads to, and whether their text is wanted.
fn select<'a>(root: &'a Element, path: &str) -> Result<(Vec<&'a Element>, bool), String> {
    let unknown =
        || format!("the XPath {path:?} is not understood here: /*/a/b, //a, text(); or name fields with tree");
    if path.len() > LONGEST || !path.starts_with('/') {
        return Err(unknown());
    }
    let (path_of, text) = match path.strip_suffix("/text()") {
        Some(rest) => (rest, true),
        None => (path, false),
    };
    let mut at: Option<Vec<&Element>> = None;
    let mut rest = path_of;
    while !rest.is_empty() {
        let (deep, after) = match rest.strip_prefix("//") {
            Some(after) => (true, after),
            None => (false, rest.strip_prefix('/').ok_or_else(unknown)?),
        };
        let end = after.find('/').unwrap_or(after.len());
        let name = &after[..end];
        let plain = name == "*"
            || !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if !plain {
            return Err(unknown());
        }
        let fits = |element: &&Element| name == "*" || element.name == name;
        let mut next = Vec::new();
        match (&at, deep) {
            (None, false) => next.extend(Some(root).filter(fits)),
            (None, true) => {
                below(root, &mut next);
                next.insert(0, root);
                next.retain(fits);
            }
            (Some(all), false) => next.extend(all.iter().flat_map(|element| &element.children).filter(fits)),
            (Some(all), true) => {
                all.iter().for_each(|element| below(element, &mut next));
                next.retain(fits);
            }
        }
        at = Some(next);
        rest = &after[end..];
    }
    Ok((at.ok_or_else(unknown)?, text))
}

/// All elements in one.
fn below<'a>(element: &'a Element, found: &mut Vec<&'a Element>) {
    for child in &element.children {
        found.push(child);
        below(child, found);
    }
}

/// The fields of an answer in XML that are not one of an object: nothing is left out.
pub fn of(value: &Json) -> Element {
    match value {
        Json::Object(_) => tree(value),
        other => tree(&Json::Object(Map::from_iter([("value".to_owned(), other.clone())]))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run() -> Element {
        of(&json!({
            "_class": "org.jenkinsci.plugins.workflow.job.WorkflowRun", "number": 7, "result": "SUCCESS", "building": false, "description": null,
            "displayName": "#7 <it's>", "artifacts": [{"fileName": "a"}, {"fileName": "b"}], "culprits": [], "properties": [1],
        }))
    }

    #[test]
    fn an_answer_is_written_as_jenkins_writes_it() {
        let Ok(Answer::Xml(text)) = answer(&run(), None, None) else { panic!("no document") };
        let read = crate::xml::read(text.as_bytes(), 100).unwrap();
        assert_eq!(read.name, "workflowRun");
        assert_eq!(read.text_of("displayName"), Some("#7 <it's>"));
        assert_eq!(read.all("artifact").count(), 2);
        assert!(read.child("description").is_none() && read.child("property").is_some());
        assert!(text.starts_with("<workflowRun _class='org.jenkinsci.plugins.workflow.job.WorkflowRun'>"), "{text}");
        assert!(
            text.contains("<artifact><fileName>a</fileName></artifact><artifact><fileName>b</fileName></artifact>"),
            "{text}"
        );
    }

    #[test]
    fn paths_that_scripts_use_lead_somewhere() {
        let found = |path: &str, wrapper: Option<&str>| answer(&run(), Some(path), wrapper);
        assert_eq!(found("/*/result/text()", None), Ok(Answer::Text("SUCCESS".into())));
        assert_eq!(found("//result/text()", None), Ok(Answer::Text("SUCCESS".into())));
        assert_eq!(found("/workflowRun/number", None), Ok(Answer::Xml("<number>7</number>".into())));
        let both = "<all><fileName>a</fileName><fileName>b</fileName></all>";
        assert_eq!(found("//fileName", Some("all")), Ok(Answer::Xml(both.into())));
        assert_eq!(found("/*/artifact/fileName", Some("all")), Ok(Answer::Xml(both.into())));
        for wrong in ["//fileName", "/*/none", "result", "//a[1]", "count(//a)", "/", "//", "/a|/b", "//@x"] {
            assert!(found(wrong, None).is_err(), "{wrong}");
        }
    }
}
