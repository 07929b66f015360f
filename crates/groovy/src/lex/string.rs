//! Strings: `'...'`, `"..."`, `'''...'''`, `"""..."""`, `/.../` and `$/.../$`.

use super::{Kind, Lexer, NESTING, Piece, is_part, is_start};
use crate::source::Error;

impl Lexer<'_> {
    /// A string between two marks; `code` says whether a dollar has a meaning in it.
    pub(super) fn string(&mut self, open: &str, close: &str, code: bool) -> Result<Kind, Error> {
        let start = self.at;
        self.strings += 1;
        if self.strings > NESTING / 4 {
            return Err(self.error(start, format!("strings nest at most {} deep", NESTING / 4)));
        }
        self.at += open.len();
        let one_line = matches!(open, "'" | "\"");
        let mut pieces = Vec::new();
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let Some(c) = rest.chars().next() else { return Err(self.error(start, "unclosed string")) };
            if c == '\n' && one_line {
                return Err(self.error(self.at, "expecting a closing quote, found the end of the line"));
            }
            if open == "$/" {
                // Within dollar slashes, a dollar escapes a dollar and a slash.
                if let Some(escaped) = ["$$", "$/"].iter().find(|mark| rest.starts_with(**mark)) {
                    text.push_str(&escaped[1..]);
                    self.at += 2;
                    continue;
                }
            }
            if rest.starts_with(close) {
                self.at += close.len();
                break;
            }
            match c {
                '\\' if open == "/" => {
                    if rest.starts_with("\\/") {
                        text.push('/');
                        self.at += 2;
                    } else {
                        text.push('\\');
                        self.at += 1;
                    }
                }
                '\\' if open != "$/" => self.escape(&mut text)?,
                '$' if code => match self.piece()? {
                    Some(piece) => {
                        if !text.is_empty() {
                            pieces.push(Piece::Text(std::mem::take(&mut text)));
                        }
                        pieces.push(piece);
                    }
                    None if matches!(open, "/" | "$/") => {
                        text.push('$');
                        self.at += 1;
                    }
                    None => {
                        return Err(self.error(
                            self.at,
                            "illegal string body character after dollar sign; write \\$ for the sign itself, or ${value}",
                        ));
                    }
                },
                // A line ends with one character, whatever the file says.
                '\r' if rest.starts_with("\r\n") => self.at += 1,
                _ => {
                    text.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        self.strings -= 1;
        if pieces.is_empty() {
            return Ok(Kind::Text(text));
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Kind::Template(pieces))
    }

    fn escape(&mut self, text: &mut String) -> Result<(), Error> {
        let start = self.at;
        let rest = self.rest();
        let Some(c) = rest[1..].chars().next() else { return Err(self.error(start, "unclosed string")) };
        self.at += 1 + c.len_utf8();
        match c {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            '\\' | '\'' | '"' | '$' => text.push(c),
            '\n' => {}
            '\r' => self.at += usize::from(self.rest().starts_with('\n')),
            'u' => {
                let unit = |at: usize| self.text.get(at..at + 4).and_then(|hex| u16::from_str_radix(hex, 16).ok());
                let Some(first) = unit(self.at) else { return Err(self.error(start, "\\u needs four hex digits")) };
                self.at += 4;
                let mut units = vec![first];
                if (0xd800..0xdc00).contains(&first)
                    && self.rest().starts_with("\\u")
                    && let Some(second) = unit(self.at + 2)
                {
                    self.at += 6;
                    units.push(second);
                }
                text.push_str(&String::from_utf16_lossy(&units));
            }
            '0'..='7' => {
                let digits: String = rest[1..].chars().take(3).take_while(|c| matches!(c, '0'..='7')).collect();
                self.at = start + 1 + digits.len();
                let code = u32::from_str_radix(&digits, 8).unwrap_or(0);
                text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            _ => return Err(self.error(start, format!("unexpected char: '\\{}' in a string", c.escape_default()))),
        }
        Ok(())
    }

    /// Code after a dollar, if it is that.
    fn piece(&mut self) -> Result<Option<Piece>, Error> {
        let rest = &self.rest()[1..];
        if rest.starts_with('{') {
            self.at += 2;
            let tokens = self.tokens(true)?;
            self.at += 1;
            return Ok(Some(Piece::Code(tokens)));
        }
        if !rest.starts_with(|c| is_start(c) && c != '$') {
            return Ok(None);
        }
        self.at += 1;
        let mut names = Vec::new();
        loop {
            let start = self.at;
            let rest = self.rest();
            let end = rest.find(|c| !is_part(c) || c == '$').unwrap_or(rest.len());
            self.at += end;
            names.push((rest[..end].to_string(), self.span(start)));
            let more = self.rest().strip_prefix('.').is_some_and(|rest| rest.starts_with(|c| is_start(c) && c != '$'));
            if !more {
                return Ok(Some(Piece::Path(names)));
            }
            self.at += 1;
        }
    }
}
