//! Wildcards in `${name#pattern}`: `*` for any text, `?` for any one character, `\` before either for itself.
//!
//! No expression engine: a match is a set of places reached, so that time is the product of both lengths at most.

/// A pattern without bracket expressions, as POSIX' shell reads it.
#[derive(Clone, Debug)]
pub struct Wildcard(Vec<Token>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Just(char),
    AnyOne,
    Anything,
}

/// The longest pattern, in characters.
const LONGEST: usize = 4096;
/// How many characters may be looked at for one word.
const STEPS: usize = 20_000_000;

impl Wildcard {
    /// Reads a pattern. `\}` and `\/`, which end parts of a substitution elsewhere, stand for themselves.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            tokens.push(match c {
                '*' => Token::Anything,
                '?' => Token::AnyOne,
                '\\' => match characters.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Token::Just(c),
                    Some(c) => return Err(format!("invalid escape '\\{c}'")),
                    None => return Err("it ends within an escape".to_owned()),
                },
                c => Token::Just(c),
            });
            if tokens.len() > LONGEST {
                return Err(format!("it is longer than {LONGEST} characters"));
            }
        }
        tokens.dedup_by(|a, b| *a == Token::Anything && *b == Token::Anything);
        Ok(Self(tokens))
    }

    /// The text without the prefix that matches, the shortest or the longest. None where finding it takes too many steps.
    pub fn trim_prefix(&self, text: &str, longest: bool) -> Option<String> {
        let characters: Vec<char> = text.chars().collect();
        let cut = prefix(&self.0, &characters, longest, &mut { STEPS })?;
        Some(characters[cut.unwrap_or(0)..].iter().collect())
    }

    /// The text without the suffix that matches, the shortest or the longest. None where finding it takes too many steps.
    pub fn trim_suffix(&self, text: &str, longest: bool) -> Option<String> {
        let reversed: Vec<char> = text.chars().rev().collect();
        let tokens: Vec<Token> = self.0.iter().rev().copied().collect();
        let cut = prefix(&tokens, &reversed, longest, &mut { STEPS })?;
        Some(reversed[cut.unwrap_or(0)..].iter().rev().collect())
    }

    /// The text with the first match, or all, replaced; matches are as far left and as long as can be. None where that takes too
    /// many steps or becomes longer than `most` bytes.
    pub fn replace(&self, text: &str, by: &str, all: bool, most: usize) -> Option<String> {
        let characters: Vec<char> = text.chars().collect();
        let (mut out, mut at, mut after_match, mut steps) = (String::new(), 0, false, STEPS);
        while at <= characters.len() {
            let found = prefix(&self.0, &characters[at..], true, &mut steps)?;
            // No empty match stands right behind another match.
            if let Some(length) = found.filter(|length| *length > 0 || !after_match) {
                out.push_str(by);
                at += length;
                if !all {
                    out.extend(&characters[at..]);
                    return Some(out);
                }
                after_match = length > 0;
                if after_match {
                    continue;
                }
            }
            out.extend(characters.get(at));
            at += 1;
            after_match = false;
            if out.len() > most {
                return None;
            }
        }
        Some(out)
    }
}

/// How many characters from the front of `text` match: the fewest, or the most; none where nothing matches. Takes from `steps`, and
/// gives up when they are used up.
fn prefix(tokens: &[Token], text: &[char], longest: bool, steps: &mut usize) -> Option<Option<usize>> {
    // reached[i]: the tokens so far match the first i characters.
    let mut reached = vec![true];
    for token in tokens {
        let mut next = vec![false; (reached.len() + 1).min(text.len() + 1)];
        for at in (0..reached.len()).filter(|at| reached[*at]) {
            match (token, text.get(at)) {
                (Token::Anything, _) => {
                    next.resize(text.len() + 1, false);
                    let mut to = at;
                    while to < next.len() && !next[to] && (to == at || text[to - 1] != '\n') {
                        next[to] = true;
                        to += 1;
                    }
                    *steps = steps.checked_sub(to - at)?;
                }
                (Token::AnyOne, Some(c)) => next[at + 1] = *c != '\n',
                (Token::Just(wanted), Some(c)) => next[at + 1] = c == wanted,
                (_, None) => {}
            }
        }
        *steps = steps.checked_sub(reached.len())?;
        if !next.contains(&true) {
            return Some(None);
        }
        reached = next;
    }
    Some(if longest { reached.iter().rposition(|here| *here) } else { reached.iter().position(|here| *here) })
}

#[cfg(test)]
mod tests;
