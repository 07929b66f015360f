//! How the text after an instruction's name falls into flags, words, JSON arrays and pairs.

/// Splits `NAME --flag=value ... rest`; returns name, flags and rest.
pub(super) fn command(line: &str, escape: char) -> (&str, Vec<String>, &str) {
    let line = line.trim();
    let Some(end) = line.find(blank) else { return (line, Vec::new(), "") };
    let (flags, rest) = flags(line[end..].trim_start_matches(blank), escape);
    (&line[..end], flags, rest.trim())
}

/// The words that begin with `--`, quotes and escapes resolved, and what follows them.
fn flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (found, rest);
        }
        let (mut word, mut quote, mut end) = (String::new(), None, rest.len());
        let mut characters = rest.char_indices();
        while let Some((at, c)) = characters.next() {
            match quote {
                None if c.is_whitespace() => {
                    end = at;
                    break;
                }
                None if c == '\'' || c == '"' => quote = Some(c),
                Some(open) if c == open => quote = None,
                _ if c == escape => word.extend(characters.next().map(|(_, escaped)| escaped)),
                _ => word.push(c),
            }
        }
        rest = &rest[end..];
        if word == "--" {
            return (found, rest);
        }
        found.push(word);
    }
}

/// Words as `ENV`, `LABEL` and `ARG` take them: quotes and escapes keep blanks together and stay in the word.
pub(super) fn words(text: &str, escape: char) -> Vec<String> {
    let (mut found, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        if c == escape && quote != Some('\'') {
            // An escape character at the very end is dropped.
            let Some(escaped) = characters.next() else { break };
            word.push(c);
            word.push(escaped);
            continue;
        }
        word.push(c);
    }
    if !word.is_empty() {
        found.push(word);
    }
    found
}

/// Words between blanks, quotes meaning nothing.
pub(super) fn fields(text: &str) -> Vec<String> {
    text.split(blank).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The strings of a JSON array; none where the text is no JSON array.
pub(super) fn json(text: &str) -> Result<Option<Vec<String>>, String> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(array) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
    let strings = array.into_iter().map(|item| match item {
        serde_json::Value::String(text) => Ok(text),
        _ => Err("when using JSON array syntax, arrays must be comprised of strings only".to_owned()),
    });
    strings.collect::<Result<_, _>>().map(Some)
}

/// A name and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub name: String,
    /// The value, not expanded.
    pub value: String,
}

/// The pairs of `ENV` and `LABEL`: `name=value ...`, or the old form `name value with blanks`.
pub(super) fn pairs(instruction: &str, text: &str, escape: char) -> Result<Vec<Pair>, String> {
    let words = words(text, escape);
    let Some(first) = words.first() else { return Err(format!("{instruction} requires at least one argument")) };
    if !first.contains('=') {
        let (name, value) = text.split_once(blank).ok_or_else(|| format!("{instruction} must have two arguments"))?;
        return Ok(vec![Pair { name: name.to_owned(), value: value.trim_start_matches(blank).to_owned() }]);
    }
    let pair = |word: &String| {
        let (name, value) = word
            .split_once('=')
            .ok_or_else(|| format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value"))?;
        if name.is_empty() {
            return Err(format!("{instruction} names can not be blank"));
        }
        Ok(Pair { name: name.to_owned(), value: value.to_owned() })
    };
    words.iter().map(pair).collect()
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}
