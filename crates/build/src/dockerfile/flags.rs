//! The flags of an instruction: `--name`, `--name=value`.

use super::error::suggestion;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// `--link`, `--link=false`.
    Bool,
    /// `--from=value`, once.
    One,
    /// `--exclude=value`, any number of times.
    Many,
}

/// The flags that were given, checked against those that the instruction has.
#[derive(Debug, Default)]
pub(super) struct Flags(Vec<(&'static str, String)>);

impl Flags {
    pub(super) fn parse(given: &[String], known: &[(&'static str, Takes)]) -> Result<Self, String> {
        let mut flags = Self::default();
        for flag in given {
            let (written, value) =
                flag.split_once('=').map_or((flag.as_str(), None), |(name, value)| (name, Some(value)));
            let name = written.trim_start_matches("--");
            let Some((name, takes)) = known.iter().find(|(known, _)| *known == name) else {
                let near = suggestion(name, known.iter().map(|(known, _)| *known));
                return Err(format!("unknown flag: {written}{near}"));
            };
            if *takes != Takes::Many && flags.get(name).is_some() {
                return Err(format!("duplicate flag specified: {written}"));
            }
            let value = match (takes, value) {
                (Takes::Bool, None) => "true".to_owned(),
                (Takes::Bool, Some(value)) if value.eq_ignore_ascii_case("true") => "true".to_owned(),
                (Takes::Bool, Some(value)) if value.eq_ignore_ascii_case("false") => "false".to_owned(),
                (_, None) | (Takes::Bool, Some("")) => return Err(format!("missing a value on flag: {written}")),
                (Takes::Bool, Some(value)) => {
                    return Err(format!("expecting boolean value for flag {written}, not: {value}"));
                }
                (_, Some(value)) => value.to_owned(),
            };
            flags.0.push((name, value));
        }
        Ok(flags)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value == "true")
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.clone()).collect()
    }
}
