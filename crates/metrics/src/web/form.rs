//! Parameters of a request: those of a form in its body, then those of its address.

use http::{Method, header, request::Parts};
use serve::{Body, body};

/// Largest form, in bytes; Go's own bound.
const FORM: usize = 10 << 20;
/// Parameters at most.
const PARAMETERS: usize = 10_000;

/// The parameters of a request.
#[derive(Clone, Debug, Default)]
pub struct Form {
    pairs: Vec<(String, String)>,
    /// How many of them stood in the body.
    posted: usize,
    /// What could not be read.
    wrong: Option<String>,
}

impl Form {
    /// Reads them; an error says why the body is not one.
    pub async fn read(parts: &Parts, body: Body) -> Result<Self, String> {
        let mut form = Self::default();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let posted = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
        if posted && kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let bytes = body::read(body, FORM).await.map_err(|error| error.to_string())?;
            form.add(&String::from_utf8_lossy(&bytes));
            form.posted = form.pairs.len();
        }
        form.add(parts.uri.query().unwrap_or_default());
        Ok(form)
    }

    fn add(&mut self, text: &str) {
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if self.pairs.len() >= PARAMETERS {
                self.wrong.get_or_insert_with(|| format!("more than {PARAMETERS} parameters"));
                return;
            }
            if pair.contains(';') {
                self.wrong.get_or_insert_with(|| "invalid semicolon separator in query".to_owned());
                continue;
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (unescape(key, true), unescape(value, true)) {
                (Ok(key), Ok(value)) => self.pairs.push((key, value)),
                (Err(wrong), _) | (_, Err(wrong)) => {
                    self.wrong.get_or_insert(wrong);
                }
            }
        }
    }

    /// The first of that name; empty if there is none.
    pub fn first(&self, name: &str) -> &str {
        self.pairs.iter().find(|pair| pair.0 == name).map_or("", |pair| pair.1.as_str())
    }

    /// The first of that name in the address.
    pub fn in_address(&self, name: &str) -> &str {
        self.pairs[self.posted..].iter().find(|pair| pair.0 == name).map_or("", |pair| pair.1.as_str())
    }

    /// All of that name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.pairs.iter().filter(|pair| pair.0 == name).map(|pair| pair.1.as_str()).collect()
    }

    /// Fails where something could not be read, as some requests do and others do not.
    pub fn checked(&self) -> Result<&Self, String> {
        self.wrong.as_ref().map_or(Ok(self), |wrong| Err(format!("error parsing form values: {wrong}")))
    }
}

/// Undoes percent-encoding, and in queries `+` for a space.
pub fn unescape(text: &str, query: bool) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'%' => {
                let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                    let shown = String::from_utf8_lossy(&after[..after.len().min(2)]);
                    return Err(format!("invalid URL escape {}", tsdb::labels::quote(&format!("%{shown}"))));
                };
                bytes.push(byte);
                rest = &after[2..];
            }
            b'+' if query => bytes.push(b' '),
            other => bytes.push(*other),
        }
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests;
