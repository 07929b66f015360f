//! How a build is watched: plain lines, or a tree that lives on a terminal.
//!
//! ```text
//! events of the build ─► model: steps and how far they are ─┬─► plain: lines as they come
//!                                                           └─► tree: drawn over itself, as large as the terminal is
//! ```
//!
//! Both look as BuildKit's do, since people and scripts read those:
//! <https://docs.docker.com/reference/cli/docker/buildx/build/#progress>.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use build::{
    progress::Event,
    shown::{model::Model, plain::Plain},
};
use jiff::Timestamp;

mod tree;

use tree::Tree;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A tree on a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// Plain lines.
    Plain,
    /// A tree, even where there is no terminal.
    Tty,
    /// Nothing.
    Quiet,
    /// The events themselves, one JSON document a line.
    Rawjson,
}

/// Times between two drawings of the tree.
const FRAME: Duration = Duration::from_millis(100);

/// Shows a build on an output.
pub struct Display<W: Write> {
    out: W,
    model: Model,
    form: Form,
}

enum Form {
    Plain(Plain),
    Tree(Box<Tree>),
    Raw,
    Quiet,
}

impl Display<io::Stderr> {
    /// Shows on standard error, as the mode and the environment say.
    pub fn stderr(mode: Mode) -> Self {
        let out = io::stderr();
        let capable = std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty());
        let tree = match mode {
            Mode::Auto => out.is_terminal() && capable,
            Mode::Tty => true,
            Mode::Plain | Mode::Quiet | Mode::Rawjson => false,
        };
        let form = match mode {
            Mode::Quiet => Form::Quiet,
            Mode::Rawjson => Form::Raw,
            _ if tree => {
                let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
                Form::Tree(Box::new(Tree::new(colours, tree::terminal_size)))
            }
            _ => Form::Plain(Plain::default()),
        };
        Self { out, model: Model::default(), form }
    }
}

impl<W: Write> Display<W> {
    /// How often [`Display::tick`] wants to be called; never for what is not drawn again.
    pub fn interval(&self) -> Option<Duration> {
        matches!(self.form, Form::Tree(_)).then_some(FRAME)
    }

    /// Takes an event, and shows what can be shown at once.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        match &mut self.form {
            Form::Plain(plain) => {
                self.model.apply(event);
                let lines = plain.lines(&self.model, event);
                self.out.write_all(lines.as_bytes())
            }
            Form::Tree(_) => {
                self.model.apply(event);
                Ok(())
            }
            Form::Raw => {
                serde_json::to_writer(&mut self.out, event)?;
                self.out.write_all(b"\n")
            }
            Form::Quiet => Ok(()),
        }
    }

    /// Draws what has changed.
    pub fn tick(&mut self) -> io::Result<()> {
        let Form::Tree(tree) = &mut self.form else { return Ok(()) };
        let drawn = tree.draw(&self.model, Timestamp::now(), false);
        self.out.write_all(drawn.as_bytes())?;
        self.out.flush()
    }

    /// Shows everything a last time.
    pub fn end(&mut self) -> io::Result<()> {
        let warnings = self.model.warnings();
        match &mut self.form {
            Form::Tree(tree) => {
                let drawn = tree.draw(&self.model, Timestamp::now(), true);
                self.out.write_all(drawn.as_bytes())?;
                self.out.write_all(warnings.as_bytes())?;
            }
            Form::Plain(plain) => {
                let rest = plain.end(&self.model);
                self.out.write_all(rest.as_bytes())?;
                self.out.write_all(warnings.as_bytes())?;
            }
            Form::Raw | Form::Quiet => {}
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
