//! Declarations: variables, functions, parameters.

use super::{Parser, is_class_name};
use crate::{
    lex::{Kind, Word},
    source::{Error, Span},
    tree::{Function, Parameter, StatementKind, Type},
};

impl Parser<'_> {
    /// `def a = 1, b`, `String a`, `final a = 1`, `def (a, b) = c`, if that stands here.
    pub(super) fn declaration(&mut self) -> Result<Option<StatementKind>, Error> {
        let begin = self.at;
        let modifiers = self.take_modifiers();
        let def = self.take_word(Word::Def);
        if def && self.is_sign("(") {
            return self.declaration_of_many().map(Some);
        }
        let mut kind = None;
        if !matches!(self.peek(), Kind::Name(_)) || !self.ends_declared_name(1) || !(def || modifiers.any) {
            kind = self.try_type();
            let fits = kind.as_ref().is_some_and(|kind| def || modifiers.any || is_type_name(&kind.name))
                && matches!(self.peek(), Kind::Name(_))
                && !self.next().line
                && self.ends_declared_name(1);
            if !fits {
                if def || modifiers.any {
                    return Err(self.unexpected());
                }
                self.at = begin;
                return Ok(None);
            }
        }
        let mut names = Vec::new();
        loop {
            let (name, _) = self.name()?;
            let value = if self.take("=") { Some(self.command()?) } else { None };
            names.push((name, value));
            // A comma goes on only where a name follows.
            let more = self.is_sign(",") && matches!(self.peek_at(1), Kind::Name(_));
            if !more {
                return Ok(Some(StatementKind::Declare { names, kind, field: false }));
            }
            self.at += 1;
        }
    }

    /// Whether a declared name can be followed by what comes so many tokens on.
    fn ends_declared_name(&self, ahead: usize) -> bool {
        let token = self.token_at(ahead);
        token.line || matches!(token.kind, Kind::End | Kind::Sign("=" | ";" | "}" | "," | ")") | Kind::Word(Word::In))
    }

    fn declaration_of_many(&mut self) -> Result<StatementKind, Error> {
        self.expect("(")?;
        let mut names = Vec::new();
        loop {
            if !matches!(self.peek_at(1), Kind::Sign("," | ")")) {
                self.try_type();
            }
            names.push(self.name()?.0);
            if !self.take(",") {
                break;
            }
        }
        self.expect(")")?;
        self.expect("=")?;
        Ok(StatementKind::DeclareMany { names, value: self.command()? })
    }

    /// `def name(parameters) { }`, `String name(...) { }`, if that stands here; in a class, the body may be missing, and a
    /// constructor has no type. With whether it is a constructor.
    pub(super) fn function(&mut self, class: bool) -> Result<Option<(Function, bool)>, Error> {
        let begin = self.at;
        let start = self.span();
        let modifiers = self.take_modifiers();
        if self.is_sign("<") {
            self.skip_generics();
        }
        let def = self.take_word(Word::Def);
        let named = |parser: &Self| {
            matches!(parser.peek(), Kind::Name(_) | Kind::Text(_)) && matches!(parser.peek_at(1), Kind::Sign("("))
        };
        let mut constructor = false;
        if def || modifiers.any || class {
            constructor = class && !def && named(self);
            if !named(self) {
                self.try_type();
            }
        } else {
            // Without a word before it, a type must be there.
            let kind = self.try_type();
            if !kind.is_some_and(|kind| is_type_name(&kind.name)) || self.next().line {
                self.at = begin;
                return Ok(None);
            }
        }
        if !named(self) {
            self.at = begin;
            return Ok(None);
        }
        let name = match self.peek() {
            Kind::Name(name) | Kind::Text(name) => name.clone(),
            _ => return Err(self.unexpected()),
        };
        self.at += 2;
        let parameters = match self.parameters(")") {
            Ok(parameters) if self.take(")") => parameters,
            Err(error) if def || class || modifiers.any => return Err(error),
            _ if def || class || modifiers.any => return Err(self.unexpected()),
            _ => {
                self.at = begin;
                return Ok(None);
            }
        };
        if self.take_word(Word::Throws) {
            while self.try_type().is_some() && self.take(",") {}
        }
        if !self.is_sign("{") {
            if !class {
                if def || modifiers.any {
                    return Err(self.unexpected());
                }
                self.at = begin;
                return Ok(None);
            }
            return Ok(Some((self.made(name, parameters, Vec::new(), modifiers.fixed, start), constructor)));
        }
        let body = self.deeper(Self::braces)?;
        Ok(Some((self.made(name, parameters, body, modifiers.fixed, start), constructor)))
    }

    fn made(
        &self,
        name: String,
        parameters: Vec<Parameter>,
        body: crate::tree::Block,
        fixed: bool,
        start: Span,
    ) -> Function {
        Function { name: Some(name), parameters: Some(parameters), body, fixed, span: start.to(self.last()) }
    }

    /// Parameters up to a sign, which is left.
    pub(super) fn parameters(&mut self, end: &str) -> Result<Vec<Parameter>, Error> {
        let mut parameters = Vec::new();
        while !self.is_sign(end) {
            if self.is_sign("@") {
                self.annotations()?;
            }
            self.take_modifiers();
            self.take_word(Word::Def);
            let bare =
                matches!(self.peek(), Kind::Name(_)) && matches!(self.peek_at(1), Kind::Sign("," | "=" | "->" | ")"));
            let kind: Option<Type> = if bare { None } else { Some(self.try_type().ok_or_else(|| self.unexpected())?) };
            let rest = self.take("...");
            let (name, _) = self.name()?;
            let default = if self.take("=") { Some(self.expression()?) } else { None };
            parameters.push(Parameter { name, kind, default, rest });
            if !self.take(",") {
                break;
            }
        }
        Ok(parameters)
    }
}

/// A primitive type's, or a class's.
fn is_type_name(name: &str) -> bool {
    is_class_name(name)
        || matches!(name, "boolean" | "byte" | "char" | "double" | "float" | "int" | "long" | "short" | "void")
}
