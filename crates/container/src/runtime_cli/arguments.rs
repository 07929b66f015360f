//! Options and words of a command line.

use crate::child::Failure;

/// An option that a command knows.
#[derive(Clone, Copy, Debug)]
pub struct Option {
    name: &'static str,
    short: std::option::Option<char>,
    value: bool,
}

impl Option {
    /// One without a value.
    pub const fn flag(name: &'static str, short: std::option::Option<char>) -> Self {
        Self { name, short, value: false }
    }

    /// One with a value: `--name VALUE`, `--name=VALUE`, `-n VALUE`.
    pub const fn value(name: &'static str, short: std::option::Option<char>) -> Self {
        Self { name, short, value: true }
    }
}

/// What was given: options up to the first word, then words.
#[derive(Debug)]
pub struct Arguments {
    options: Vec<(&'static str, std::option::Option<String>)>,
    rest: Vec<String>,
}

impl Arguments {
    /// Parses; `--` ends the options.
    pub fn parse(words: &[String], known: &[Option]) -> Result<Self, Failure> {
        let mut options = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.as_slice().first() {
            if word == "--" {
                words.next();
                break;
            }
            let Some(dashed) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else { break };
            words.next();
            // One dash or two, as Go's programs have it.
            let long = dashed.strip_prefix('-').unwrap_or(dashed);
            let (name, attached) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let is =
                |option: &&Option| option.name == name || option.short.is_some_and(|short| name.chars().eq([short]));
            let option = known.iter().find(is).ok_or_else(|| Failure::new(format!("no option {word}")))?;
            let value = match (option.value, attached) {
                (true, None) => {
                    let value = words.next().ok_or_else(|| Failure::new(format!("option {word} wants a value")))?;
                    Some(value.clone())
                }
                (true, attached) => attached,
                (false, None) => None,
                (false, Some(value)) if value == "true" => None,
                (false, Some(value)) if value == "false" => continue,
                (false, Some(_)) => return Err(Failure::new(format!("option {word} takes no value"))),
            };
            options.push((option.name, value));
        }
        Ok(Self { options, rest: words.cloned().collect() })
    }

    /// Whether an option was given.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(given, _)| *given == name)
    }

    /// An option's value, the last given.
    pub fn value(&self, name: &str) -> std::option::Option<&str> {
        self.values(name).last()
    }

    /// All values of an option.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.options.iter().filter(move |(given, _)| *given == name).filter_map(|(_, value)| value.as_deref())
    }

    /// An option's value as a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<std::option::Option<T>, Failure> {
        let parse = |text: &str| text.parse().map_err(|_| Failure::new(format!("--{name}: {text:?} is not a number")));
        self.value(name).map(parse).transpose()
    }

    /// The words after the options.
    pub fn rest(&self) -> &[String] {
        &self.rest
    }

    /// The first word, which is a container's name.
    pub fn id(&self) -> Result<&str, Failure> {
        match self.rest.first() {
            Some(id) if super::state::is_id(id) => Ok(id),
            Some(id) => Err(Failure::new(format!("{id:?} is not a container's name"))),
            None => Err(Failure::new("a container's name is missing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Option] = &[Option::value("bundle", Some('b')), Option::flag("detach", Some('d'))];

    fn parse(words: &[&str]) -> Result<(std::option::Option<String>, bool, Vec<String>), String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let parsed = Arguments::parse(&words, KNOWN).map_err(|failure| failure.message)?;
        Ok((parsed.value("bundle").map(str::to_owned), parsed.has("detach"), parsed.rest().to_vec()))
    }

    #[test]
    fn options_come_in_their_usual_forms() {
        for words in
            [&["--bundle", "x", "-d", "id"][..], &["-b", "x", "--detach", "id"], &["--bundle=x", "-d=true", "id"]]
        {
            assert_eq!(parse(words), Ok((Some("x".into()), true, vec!["id".into()])), "{words:?}");
        }
        assert_eq!(parse(&["id", "-d"]), Ok((None, false, vec!["id".into(), "-d".into()])));
        assert_eq!(parse(&["--", "-d"]), Ok((None, false, vec!["-d".into()])));
        assert_eq!(parse(&["--none"]), Err("no option --none".into()));
        assert_eq!(parse(&["--bundle"]), Err("option --bundle wants a value".into()));
        assert_eq!(parse(&["--detach=2"]), Err("option --detach=2 takes no value".into()));
    }
}
