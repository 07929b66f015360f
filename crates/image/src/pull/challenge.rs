//! What a registry asks for in `WWW-Authenticate`.
//!
//! <https://www.rfc-editor.org/rfc/rfc9110#name-www-authenticate>, restricted to the schemes that registries use.

/// A scheme with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and a password.
    Basic,
    /// A token from somebody else.
    Bearer {
        /// Who gives tokens.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What the token is for.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best of a header's challenges: Bearer before Basic.
    pub fn parse(header: &str) -> Option<Self> {
        let mut basic = false;
        let mut rest = header.trim();
        while !rest.is_empty() {
            let end = rest.find(|letter: char| letter.is_whitespace() || letter == ',').unwrap_or(rest.len());
            let scheme = &rest[..end];
            let (parameters, after) = parameters(rest[end..].trim_start());
            let get = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
            };
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = get("realm")
            {
                return Some(Self::Bearer { realm, service: get("service"), scope: get("scope") });
            }
            basic |= scheme.eq_ignore_ascii_case("basic");
            rest = after.trim_start_matches([',', ' ', '\t']);
        }
        basic.then_some(Self::Basic)
    }
}

/// Reads `key=value, key="value"`, up to the next scheme.
fn parameters(mut text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ', '\t']);
        let is_key = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        let end = text.find(|letter| !is_key(letter)).unwrap_or(text.len());
        let Some(value) = text[end..].trim_start().strip_prefix('=').filter(|_| end > 0) else { return (found, text) };
        let (key, value) = (text[..end].to_owned(), value.trim_start());
        let (value, rest) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find([',', ' ', '\t']).unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        found.push((key, value));
        text = rest;
    }
}

fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.map(Into::into),
                scope: scope.map(Into::into),
            })
        };
        let cases = [
            (
                r#"Bearer realm="https://auth.io/token",service="registry.io",scope="repository:a/b:pull,push""#,
                bearer("https://auth.io/token", Some("registry.io"), Some("repository:a/b:pull,push")),
            ),
            (r#"bearer realm=https://auth.io/token"#, bearer("https://auth.io/token", None, None)),
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            (r#"Basic realm="x", Bearer realm="https://a", error="invalid_token""#, bearer("https://a", None, None)),
            (r#"Bearer service="no realm", Basic"#, Some(Challenge::Basic)),
            (r#"Bearer realm="a\"b""#, bearer("a\"b", None, None)),
            (r#"Bearer realm="unfinished"#, bearer("unfinished", None, None)),
            ("Negotiate", None),
            ("Digest realm=\"x\", nonce=\"y\"", None),
            ("", None),
            (", , =", None),
        ];
        for (header, expected) in cases {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
    }
}
