//! Selectors with their conditions, and the labels of groupings.

use tsdb::labels::{NAME, quote};

use super::{Parsed, Parser, names_label};
use crate::{
    ast::Selector,
    lex::{Kind, Op, Token, unquote},
    matcher::{Comparison, Matcher},
};

impl<'a> Parser<'a> {
    /// Labels in parentheses.
    pub(super) fn grouping(&mut self) -> Parsed<Vec<String>> {
        self.within(("grouping opts", "\"(\""), |parser| parser.expect(Kind::LeftParen))?;
        let mut labels = Vec::new();
        while self.take(Kind::RightParen)?.is_none() {
            let token = self.peek()?;
            let label = match token.kind {
                Kind::Text => unquote(token.text),
                kind if names_label(kind) => token.text.to_owned(),
                _ => return Err(self.unexpected_in("grouping opts", "label")),
            };
            self.next()?;
            if label.is_empty() {
                let message = format!("invalid label name for grouping: {}", quote(&label));
                return Err(self.error(token.place(), message));
            }
            labels.push(label);
            match self.peek()?.kind {
                Kind::Comma => {
                    self.next()?;
                }
                Kind::RightParen => {}
                _ => return Err(self.unexpected_in("grouping opts", "\",\" or \")\"")),
            }
        }
        Ok(labels)
    }

    /// A selector of which the name, or the opening brace, has been taken.
    pub(super) fn selector(&mut self, name: Option<Token<'a>>, first: Token<'a>) -> Parsed<Selector> {
        let mut selector = Selector { place: first.place(), ..Selector::default() };
        let braces = name.is_none() || self.take(Kind::LeftBrace)?.is_some();
        if braces {
            selector.place.end = self.matchers(&mut selector.matchers)?;
        }
        if let Some(name) = name {
            name.text.clone_into(&mut selector.name);
            selector.matchers.push(Matcher::equal(NAME, name.text));
        }
        Ok(selector)
    }

    /// Conditions up to the closing brace, behind which they end.
    pub(super) fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Parsed<usize> {
        const CONTEXT: &str = "label matching";
        loop {
            let token = self.peek()?;
            match token.kind {
                Kind::RightBrace => return Ok(self.next()?.place().end),
                Kind::Identifier | Kind::Text => {}
                _ => return Err(self.unexpected_in(CONTEXT, "identifier or \"}\"")),
            }
            self.next()?;
            let quoted = token.kind == Kind::Text;
            let name = if quoted { unquote(token.text) } else { token.text.to_owned() };
            let comparison = match self.peek()?.kind {
                Kind::Equal => Some(Comparison::Equal),
                Kind::Operator(Op::NotEqual) => Some(Comparison::NotEqual),
                Kind::EqualRegex => Some(Comparison::Matches),
                Kind::NotEqualRegex => Some(Comparison::MatchesNot),
                _ if quoted => None,
                _ => return Err(self.unexpected_in(CONTEXT, "label matching operator")),
            };
            match comparison {
                None => matchers.push(Matcher::equal(NAME, &name)),
                Some(comparison) => {
                    self.next()?;
                    let value = self.peek()?;
                    if value.kind != Kind::Text {
                        return Err(self.unexpected_in(CONTEXT, "string"));
                    }
                    self.next()?;
                    let place = token.place().to(value.place());
                    let matcher = Matcher::new(&name, comparison, &unquote(value.text));
                    matchers.push(matcher.map_err(|message| self.error(place, message))?);
                }
            }
            match self.peek()?.kind {
                Kind::Comma => {
                    self.next()?;
                }
                Kind::RightBrace => {}
                _ => return Err(self.unexpected_in(CONTEXT, "\",\" or \"}\"")),
            }
        }
    }
}
