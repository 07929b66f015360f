//! The text of a Dockerfile as stages of instructions.
//!
//! ```text
//! text ─ lines ─► logical lines ─ split ─► name, flags, rest ─ instruction ─► Stage, Instruction
//! ```
//!
//! Nothing is expanded here: what a variable is depends on the stage and on the build's arguments, which `plan` knows.

mod error;
mod flags;
mod heredoc;
mod instruction;
mod lines;
mod mount;
mod split;

pub use self::{
    error::{Error, Lines, excerpt},
    heredoc::Heredoc,
    instruction::{Argument, CommandLine, Copy, Health, Inline, Instruction, Network, Probe, Run, Security},
    lines::{Directives, LARGEST, Warning},
    mount::{Mount, MountType, Sharing},
    split::Pair,
};

/// A Dockerfile has no more instructions than this.
const MOST: usize = 10_000;

/// A Dockerfile as it was read.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// What its head says.
    pub directives: Directives,
    /// `ARG`s before the first `FROM`.
    pub arguments: Vec<Argument>,
    /// In the order of the file.
    pub stages: Vec<Stage>,
    /// What is unwise in it.
    pub warnings: Vec<Warning>,
}

/// What begins with a `FROM`.
#[derive(Clone, Debug)]
pub struct Stage {
    /// An image, another stage or `scratch`, not expanded.
    pub base: String,
    /// The name after `AS`, in lower case.
    pub name: Option<String>,
    /// `--platform`, not expanded.
    pub platform: Option<String>,
    /// What follows.
    pub steps: Vec<Step>,
    /// Where the `FROM` stands.
    pub lines: Lines,
}

/// An instruction in its place.
#[derive(Clone, Debug)]
pub struct Step {
    /// What to do.
    pub instruction: Instruction,
    /// As written, on one line.
    pub text: String,
    /// Where.
    pub lines: Lines,
}

/// Reads a Dockerfile.
pub fn parse(text: &str) -> Result<Dockerfile, Error> {
    let taken = lines::take_apart(text)?;
    let mut file = Dockerfile {
        directives: taken.directives,
        arguments: Vec::new(),
        stages: Vec::new(),
        warnings: taken.warnings,
    };
    if taken.lines.len() > MOST {
        let place = taken.lines[MOST].lines;
        return Err(Error::new(format!("the file has more than {MOST} instructions"), place));
    }
    for line in taken.lines {
        let place = line.lines;
        let read = instruction::read(&line.text, line.heredocs, file.directives.escape, place);
        match read.map_err(|message| Error::new(message, place))? {
            instruction::Read::From { base, name, platform } => {
                file.stages.push(Stage { base, name, platform, steps: Vec::new(), lines: place });
            }
            instruction::Read::Step(instruction) => match (file.stages.last_mut(), instruction) {
                (Some(stage), instruction) => {
                    let text = line.text.trim().to_owned();
                    stage.steps.push(Step { instruction, text, lines: place });
                }
                (None, Instruction::Arg(arguments)) => file.arguments.extend(arguments),
                (None, _) => return Err(Error::new("no build stage in current context", place)),
            },
        }
    }
    if file.stages.is_empty() {
        let last = text.lines().count().max(1);
        return Err(Error::new("dockerfile contains no stages to build", Lines { first: last, last }));
    }
    Ok(file)
}

/// Reads what an `ONBUILD` of a base image asks for: one instruction, which may not be another `ONBUILD`, `FROM` or `MAINTAINER`.
pub fn parse_trigger(text: &str) -> Result<Step, Error> {
    let taken = lines::take_apart(text)?;
    let [line] = taken.lines.as_slice() else {
        return Err(Error::new("an ONBUILD trigger is one instruction", Lines { first: 1, last: 1 }));
    };
    let place = line.lines;
    match instruction::read(&line.text, line.heredocs.clone(), '\\', place)
        .map_err(|message| Error::new(message, place))?
    {
        instruction::Read::Step(instruction @ Instruction::Onbuild(_) | instruction @ Instruction::Maintainer(_)) => {
            Err(Error::new(format!("{} isn't allowed as an ONBUILD trigger", instruction.name()), place))
        }
        instruction::Read::Step(instruction) => {
            Ok(Step { instruction, text: line.text.trim().to_owned(), lines: place })
        }
        instruction::Read::From { .. } => Err(Error::new("FROM isn't allowed as an ONBUILD trigger", place)),
    }
}

#[cfg(test)]
mod tests;
