//! Patterns and matchers.

use std::sync::Arc;

use super::{index_of, text_of};
use crate::{
    fault::Outcome,
    interpret::Strand,
    pattern::{Matcher, Pattern},
    value::{Value, show},
};

pub(crate) fn call(
    strand: &mut Strand,
    matcher: &Arc<Matcher>,
    name: &str,
    arguments: &[Value],
) -> Outcome<Option<Value>> {
    Ok(Some(match name {
        "matches" => Value::Bool(matcher.whole()?),
        "find" => Value::Bool(matcher.next()?),
        "lookingAt" => {
            matcher.reset();
            Value::Bool(matcher.next()? && matcher.place(0)?.is_some_and(|(start, _)| start == 0))
        }
        "reset" => {
            matcher.reset();
            Value::Matcher(matcher.clone())
        }
        "group" => {
            let group = match arguments.first() {
                None => 0,
                Some(Value::Text(name)) => match matcher.pattern.group(name) {
                    Some(group) => group,
                    None => {
                        let message = format!("No group with name <{name}>");
                        return Err(crate::fault::throw("IllegalArgumentException", message));
                    }
                },
                Some(_) => index_of(name, arguments, 0)?,
            };
            matcher.group(group)?.map_or(Value::Null, Value::from)
        }
        "groupCount" => Value::count(matcher.pattern.groups()),
        "hasGroup" => Value::Bool(matcher.pattern.groups() > 0),
        "start" | "end" => {
            let group = if arguments.is_empty() { 0 } else { index_of(name, arguments, 0)? };
            match matcher.place(group)? {
                Some((start, end)) => {
                    let at = if name == "start" { start } else { end };
                    Value::count(matcher.text[..at].chars().count())
                }
                None => Value::Int(-1),
            }
        }
        "getCount" | "size" => {
            matcher.reset();
            let mut count = 0;
            while matcher.next()? {
                strand.tick()?;
                count += 1;
            }
            matcher.reset();
            Value::count(count)
        }
        "replaceAll" | "replaceFirst" => {
            let replacement = text_of(name, arguments, 0)?;
            let text =
                super::text::replaced(strand, &matcher.pattern, &matcher.text, &replacement, name == "replaceAll")?;
            strand.text(text)?
        }
        _ => {
            // Everything else is asked of all places found, as a list.
            if !matches!(name, "each" | "collect" | "find" | "findAll" | "any" | "every" | "toList" | "eachWithIndex") {
                return Ok(None);
            }
            let items = strand.items(&Value::Matcher(matcher.clone()))?;
            return super::call(strand, &Value::from(items), name, arguments);
        }
    }))
}

pub(crate) fn call_pattern(
    strand: &mut Strand,
    pattern: &Arc<Pattern>,
    name: &str,
    arguments: &[Value],
) -> Outcome<Option<Value>> {
    Ok(Some(match name {
        "matcher" => {
            let text = text_of(name, arguments, 0)?;
            Value::Matcher(Arc::new(Matcher::new(pattern.clone(), text.into())))
        }
        "pattern" | "toString" => Value::from(pattern.source()),
        "split" => {
            let text = text_of(name, arguments, 0)?;
            Value::from(super::text::split(strand, pattern, &text)?)
        }
        "isCase" | "matches" => Value::Bool(pattern.fits(&show::text(super::one(name, arguments, 0)?))?),
        _ => return Ok(None),
    }))
}
