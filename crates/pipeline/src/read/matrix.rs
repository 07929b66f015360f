//! Matrices: axes, exclusions, and what each combination does.

use std::sync::Arc;

use groovy::{
    source::Span,
    tree::{Argument, ExpressionKind, Function},
};

use super::{Reader, Section, environment::is_identifier, stage::Within};
use crate::model::{Axis, Matrix};

impl Reader<'_> {
    pub(super) fn matrix(&mut self, section: &Section<'_>) -> Option<Matrix> {
        let body = self.full_body(section, "no axes and no stages")?;
        let mut axes = None;
        let mut excludes = Vec::new();
        // What is neither axes nor excludes belongs to each combination, as to a stage.
        let mut rest = Vec::new();
        let mut stages = false;
        let mut seen = Vec::new();
        for (inner, statement) in self.sections(&body.body, "a section of matrix").into_iter().zip(&body.body) {
            match inner.name {
                "axes" => {
                    if !self.once(&mut seen, &inner) {
                        axes = Some(self.axes(&inner));
                    }
                }
                "excludes" => {
                    if !self.once(&mut seen, &inner) {
                        excludes = self.excludes(&inner);
                    }
                }
                "steps" | "parallel" | "matrix" | "failFast" => {
                    self.error(inner.span, format!("{} has no place in matrix", inner.name));
                }
                name => {
                    stages |= name == "stages";
                    rest.push(statement.clone());
                }
            }
        }
        let axes = match axes {
            Some(axes) => axes,
            None => {
                self.error(section.span, "missing required section \"axes\" of matrix");
                Vec::new()
            }
        };
        if !stages {
            self.error(section.span, "missing required section \"stages\" of matrix");
            return None;
        }
        for exclude in &excludes {
            for axis in exclude {
                if !axes.iter().any(|known| known.name == axis.name) && is_identifier(&axis.name) {
                    self.error(section.span, format!("an exclusion names {:?}, which is no axis", axis.name));
                }
            }
        }
        let cell = Arc::new(Function { name: None, parameters: None, body: rest, fixed: false, span: body.span });
        let cell = self.stage_body(String::new(), &cell, section.span, Within::Branches);
        Some(Matrix { axes, excludes, cell })
    }

    fn axes(&mut self, section: &Section<'_>) -> Vec<Axis> {
        let Some(body) = self.full_body(section, "no axis") else { return Vec::new() };
        let mut axes: Vec<Axis> = Vec::new();
        for inner in self.sections(&body.body, "an axis: axis { name 'NAME'; values 'a', 'b' }") {
            if inner.name != "axis" {
                self.error(inner.span, format!("expecting an axis, found {:?}", inner.name));
                continue;
            }
            axes.extend(self.axis(&inner, false));
        }
        self.unique(&axes, section.span);
        axes
    }

    fn unique(&mut self, axes: &[Axis], span: Span) {
        for (index, axis) in axes.iter().enumerate() {
            if axes[..index].iter().any(|other| other.name == axis.name) {
                self.error(span, format!("duplicate axis {:?}", axis.name));
            }
        }
    }

    fn excludes(&mut self, section: &Section<'_>) -> Vec<Vec<Axis>> {
        let Some(body) = self.full_body(section, "no exclusion") else { return Vec::new() };
        let mut excludes = Vec::new();
        for inner in self.sections(&body.body, "an exclusion: exclude { axis { } }") {
            if inner.name != "exclude" {
                self.error(inner.span, format!("expecting an exclusion, found {:?}", inner.name));
                continue;
            }
            let Some(body) = self.full_body(&inner, "no axis") else { continue };
            let mut axes = Vec::new();
            for axis in self.sections(&body.body, "an axis: axis { name 'NAME'; values 'a' }") {
                if axis.name != "axis" {
                    self.error(axis.span, format!("expecting an axis, found {:?}", axis.name));
                    continue;
                }
                axes.extend(self.axis(&axis, true));
            }
            self.unique(&axes, inner.span);
            excludes.push(axes);
        }
        excludes
    }

    fn axis(&mut self, section: &Section<'_>, exclude: bool) -> Option<Axis> {
        let body = self.full_body(section, "no name and no values")?;
        let mut name = None;
        let mut values: Option<(bool, Vec<String>)> = None;
        for inner in self.sections(&body.body, "name or values of an axis") {
            match (inner.name, inner.arguments) {
                ("name", [Argument::Value(value)]) => match value.text() {
                    Some(text) if is_identifier(text) => name = Some(text.to_string()),
                    Some(text) => {
                        self.error(value.span, format!("{text:?} is no valid name of an axis"));
                        name = Some(text.to_string());
                    }
                    None => {
                        self.error(value.span, "the name of an axis is a plain string");
                        name = Some(String::new());
                    }
                },
                ("values" | "notValues", given) if !given.is_empty() && (exclude || inner.name == "values") => {
                    if values.is_some() {
                        self.error(inner.span, "an axis has its values once: values or notValues");
                    }
                    let mut texts: Vec<String> = Vec::new();
                    for argument in given {
                        let text = match argument {
                            Argument::Value(value) => match &value.kind {
                                ExpressionKind::Text(text) => Some(text.to_string()),
                                ExpressionKind::Int(value) => Some(value.to_string()),
                                ExpressionKind::Decimal(value) => Some(value.to_string()),
                                ExpressionKind::Bool(value) => Some(value.to_string()),
                                _ => None,
                            },
                            _ => None,
                        };
                        match text {
                            Some(text) if texts.contains(&text) => {
                                self.error(argument.span(), format!("duplicate value {text:?} of an axis"));
                            }
                            Some(text) => texts.push(text),
                            None => self.error(argument.span(), "a value of an axis is a constant"),
                        }
                    }
                    values = Some((inner.name == "notValues", texts));
                }
                (other, _) => {
                    self.error(inner.span, format!("{other:?} has no place in an axis: expecting name and values"))
                }
            }
        }
        if name.is_none() {
            self.error(section.span, "an axis needs a name");
        }
        if values.is_none() {
            self.error(section.span, "an axis needs values");
        }
        let (inverse, values) = values?;
        Some(Axis { name: name?, values, inverse })
    }
}
