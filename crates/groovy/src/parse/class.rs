//! Classes, interfaces and enums.

use std::sync::Arc;

use super::Parser;
use crate::{
    lex::{Kind, Word},
    source::Error,
    tree::{Class, Field, StatementKind},
};

impl Parser<'_> {
    /// Whether a class begins here.
    pub(super) fn is_class(&self) -> bool {
        let mut ahead = 0;
        loop {
            match self.peek_at(ahead) {
                Kind::Word(Word::Class | Word::Interface | Word::Enum | Word::Trait) => return true,
                Kind::Word(Word::Static | Word::Final | Word::Private | Word::Public | Word::Protected) => ahead += 1,
                Kind::Name(name) if name == "abstract" => ahead += 1,
                _ => return false,
            }
        }
    }

    pub(super) fn class(&mut self) -> Result<Class, Error> {
        self.deeper(Self::class_here)
    }

    fn class_here(&mut self) -> Result<Class, Error> {
        let start = self.span();
        if self.is_name("abstract") {
            self.at += 1;
        }
        self.take_modifiers();
        if self.is_name("abstract") {
            self.at += 1;
        }
        let is_enum = matches!(self.peek(), Kind::Word(Word::Enum));
        let is_interface = matches!(self.peek(), Kind::Word(Word::Interface));
        self.at += 1;
        let (name, _) = self.name()?;
        if self.is_sign("<") {
            self.skip_generics();
        }
        let mut class = Class {
            name,
            parent: None,
            interfaces: Vec::new(),
            fields: Vec::new(),
            methods: Vec::new(),
            constructors: Vec::new(),
            constants: Vec::new(),
            span: start,
        };
        if self.take_word(Word::Extends) {
            let mut parents = self.types()?;
            if is_interface {
                class.interfaces = parents;
            } else if parents.len() == 1 {
                class.parent = parents.pop();
            } else {
                return Err(self.source.error(start, "a class extends one class"));
            }
        }
        if self.take_word(Word::Implements) {
            class.interfaces.extend(self.types()?);
        }
        self.expect("{")?;
        if is_enum {
            while let Kind::Name(constant) = self.peek() {
                class.constants.push(constant.clone());
                self.at += 1;
                if !self.take(",") {
                    break;
                }
            }
        }
        loop {
            while self.take(";") {}
            if self.take("}") {
                class.span = start.to(self.last());
                return Ok(class);
            }
            self.member(&mut class)?;
            self.end_of_statement()?;
        }
    }

    fn types(&mut self) -> Result<Vec<crate::tree::Type>, Error> {
        let mut types = Vec::new();
        loop {
            types.push(self.try_type().ok_or_else(|| self.unexpected())?);
            if !self.take(",") {
                return Ok(types);
            }
        }
    }

    fn member(&mut self, class: &mut Class) -> Result<(), Error> {
        self.annotations()?;
        if self.is_class() {
            return Err(self.source.error(self.span(), "a class within a class is not supported; define it beside it"));
        }
        if let Some((function, constructor)) = self.function(true)? {
            let constructor = constructor && function.name.as_deref() == Some(&class.name);
            let list = if constructor { &mut class.constructors } else { &mut class.methods };
            list.push(Arc::new(function));
            return Ok(());
        }
        let before = self.at;
        let fixed = self.take_modifiers().fixed;
        self.at = before;
        match self.declaration()? {
            Some(StatementKind::Declare { names, kind, .. }) => {
                class.fields.extend(names.into_iter().map(|(name, value)| Field {
                    name,
                    value,
                    fixed,
                    kind: kind.clone(),
                }));
                Ok(())
            }
            _ => Err(self.unexpected()),
        }
    }
}
