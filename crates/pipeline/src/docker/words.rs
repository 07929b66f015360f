//! A line of arguments as words, as a shell divides it: quotes, and backslashes outside of single ones. Nothing is expanded.
//! <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_02>

/// Bytes of a line.
const LONGEST: usize = 64 << 10;

/// The words of a line.
///
/// # Errors
/// A quote has no end, or the line is too long.
pub fn words(line: &str) -> Result<Vec<String>, String> {
    if line.len() > LONGEST {
        return Err(format!("arguments have at most {LONGEST} bytes"));
    }
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\n' | '\r' => found.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        None => return Err(format!("a quote in {line:?} has no end")),
                        Some(end) if end == letter => break,
                        Some('\\') if letter == '"' => match letters.next() {
                            Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                            Some('\n') => {}
                            Some(other) => word.extend(['\\', other]),
                            None => return Err(format!("a quote in {line:?} has no end")),
                        },
                        Some(inner) => word.push(inner),
                    }
                }
            }
            '\\' => match letters.next() {
                // A line that goes on.
                Some('\n') => {}
                escaped => word.get_or_insert_default().extend(escaped),
            },
            letter => word.get_or_insert_default().push(letter),
        }
    }
    found.extend(word);
    Ok(found)
}

/// Words as options with their values.
pub(super) struct Options {
    words: std::vec::IntoIter<String>,
    what: &'static str,
}

/// One of them.
pub(super) enum Word {
    /// `--name`, `-n`, with what stands after a `=`.
    Option(String, Option<String>),
    /// Anything else.
    Plain(String),
}

impl Options {
    pub fn new(line: &str, what: &'static str) -> Result<Self, String> {
        let words = words(line).map_err(|error| format!("{what}: {error}"))?;
        Ok(Self { words: words.into_iter(), what })
    }

    pub fn next(&mut self) -> Option<Word> {
        let word = self.words.next()?;
        if !word.starts_with('-') || word == "-" {
            return Some(Word::Plain(word));
        }
        Some(match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => Word::Option(name.to_owned(), Some(value.to_owned())),
            _ => Word::Option(word, None),
        })
    }

    /// The value of an option.
    pub fn value(&mut self, name: &str, given: Option<String>) -> Result<String, String> {
        given.or_else(|| self.words.next()).ok_or_else(|| format!("{}: {name} needs a value", self.what))
    }
}
