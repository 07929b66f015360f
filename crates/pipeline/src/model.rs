//! What a declarative pipeline says: its sections as data.
//!
//! ```text
//! Pipeline ─ agent, environment, options, parameters, triggers, tools, libraries, post
//!    └─ Stage ─ agent, environment, options, input, when, tools, post
//!         └─ steps │ stages │ parallel │ matrix
//! ```
//!
//! Values stay what is written ([`groovy::tree`]): they are evaluated when the run comes to them, where the pipeline's closure stands.
//! The sections: <https://www.jenkins.io/doc/book/pipeline/syntax/#declarative-pipeline>.

use std::sync::Arc;

use groovy::{
    source::Span,
    tree::{Argument, Expression, Function},
};

/// A declarative pipeline.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The closure that everything stands in.
    pub body: Arc<Function>,
    /// Where stages run that say nothing else.
    pub agent: Agent,
    /// Stages, one after another.
    pub stages: Vec<Stage>,
    /// What comes after them.
    pub post: Vec<Post>,
    /// Variables of all stages.
    pub environment: Vec<Variable>,
    /// Tools of all stages.
    pub tools: Vec<Tool>,
    /// Options.
    pub options: Vec<Directive>,
    /// Parameters.
    pub parameters: Vec<Directive>,
    /// What starts runs.
    pub triggers: Vec<Directive>,
    /// Shared libraries, as `name@version`.
    pub libraries: Vec<Expression>,
}

/// A stage.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Where it runs; `None`: where what is around it runs.
    pub agent: Option<Agent>,
    /// What it does.
    pub work: Work,
    /// What comes after.
    pub post: Vec<Post>,
    /// Variables.
    pub environment: Vec<Variable>,
    /// Tools.
    pub tools: Vec<Tool>,
    /// Options.
    pub options: Vec<Directive>,
    /// Whether it runs.
    pub when: Option<When>,
    /// What a person is asked before.
    pub input: Option<Input>,
    /// One failed branch ends the others.
    pub fail_fast: bool,
    /// Where it is written.
    pub span: Span,
}

/// What a stage does.
#[derive(Clone, Debug)]
pub enum Work {
    /// Steps.
    Steps(Arc<Function>),
    /// Stages, one after another.
    Stages(Vec<Stage>),
    /// Stages side by side.
    Parallel(Vec<Stage>),
    /// The same stages for each combination of values, side by side.
    Matrix(Box<Matrix>),
}

/// Stages for combinations of values.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Names with their values.
    pub axes: Vec<Axis>,
    /// Combinations that are left out.
    pub excludes: Vec<Vec<Axis>>,
    /// What each combination is: a stage of stages, without a name of its own.
    pub cell: Stage,
}

/// A name with its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The name.
    pub name: String,
    /// The values.
    pub values: Vec<String>,
    /// In an exclusion: all values but these.
    pub inverse: bool,
}

/// Where steps run.
#[derive(Clone, Debug)]
pub enum Agent {
    /// Wherever.
    Any,
    /// Nowhere: stages say it.
    None,
    /// As described: `label`, `docker`, `dockerfile`, `kubernetes`, `node`.
    Kind {
        /// Which of them.
        kind: String,
        /// Its settings; a bare value is named as the kind's first one.
        settings: Vec<(String, Expression)>,
    },
}

/// A variable of the environment.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Expression,
}

/// A tool.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Its kind: `maven`.
    pub kind: String,
    /// Its name.
    pub name: Expression,
}

/// A call that describes something: an option, a parameter, a trigger.
#[derive(Clone, Debug)]
pub struct Directive {
    /// What is called.
    pub name: String,
    /// With what.
    pub arguments: Vec<Argument>,
    /// Where.
    pub span: Span,
}

/// What is done after, under a condition.
#[derive(Clone, Debug)]
pub struct Post {
    /// The condition.
    pub condition: PostCondition,
    /// Steps.
    pub body: Arc<Function>,
}

/// Conditions of `post`, in the order in which they are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PostCondition {
    /// Always.
    Always,
    /// The result differs from the run's before.
    Changed,
    /// It is a success, and the run's before was not.
    Fixed,
    /// It is worse than the run's before, which was a success.
    Regression,
    /// It was ended.
    Aborted,
    /// It failed.
    Failure,
    /// It is a success.
    Success,
    /// Tests failed.
    Unstable,
    /// It is no success.
    Unsuccessful,
    /// Nothing was built.
    NotBuilt,
    /// After all others.
    Cleanup,
}

impl PostCondition {
    /// With their names.
    pub const ALL: &[(&str, PostCondition)] = &[
        ("always", PostCondition::Always),
        ("changed", PostCondition::Changed),
        ("fixed", PostCondition::Fixed),
        ("regression", PostCondition::Regression),
        ("aborted", PostCondition::Aborted),
        ("failure", PostCondition::Failure),
        ("success", PostCondition::Success),
        ("unstable", PostCondition::Unstable),
        ("unsuccessful", PostCondition::Unsuccessful),
        ("notBuilt", PostCondition::NotBuilt),
        ("cleanup", PostCondition::Cleanup),
    ];
}

/// Whether a stage runs.
#[derive(Clone, Debug)]
pub struct When {
    /// All of these hold.
    pub conditions: Vec<Condition>,
    /// Asked before there is an agent.
    pub before_agent: bool,
    /// Asked before a person is.
    pub before_input: bool,
    /// Asked before options apply.
    pub before_options: bool,
}

/// A condition.
#[derive(Clone, Debug)]
pub struct Condition {
    /// `branch`, `expression`, `allOf` ...
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// Conditions within it.
    pub children: Vec<Condition>,
    /// The code of `expression`.
    pub code: Option<Arc<Function>>,
    /// Where.
    pub span: Span,
}

/// What a person is asked.
#[derive(Clone, Debug)]
pub struct Input {
    /// The question and its settings: `message`, `id`, `ok`, `submitter`, `submitterParameter`.
    pub settings: Vec<(String, Expression)>,
    /// What is asked for.
    pub parameters: Vec<Directive>,
}

impl Matrix {
    /// All combinations of the axes that no exclusion leaves out, in the order in which they are written; `most` at most.
    pub fn cells(&self, most: usize) -> Option<Vec<Vec<(String, String)>>> {
        let count = self.axes.iter().map(|axis| axis.values.len()).try_fold(1usize, usize::checked_mul)?;
        if count > most {
            return None;
        }
        let mut all: Vec<Vec<(String, String)>> = vec![Vec::new()];
        for axis in &self.axes {
            let mut next = Vec::with_capacity(all.len() * axis.values.len());
            for value in &axis.values {
                next.extend(all.iter().map(|one| {
                    let mut cell = one.clone();
                    cell.push((axis.name.clone(), value.clone()));
                    cell
                }));
            }
            all = next;
        }
        all.retain(|cell| !self.excluded(cell));
        Some(all)
    }

    fn excluded(&self, cell: &[(String, String)]) -> bool {
        let fits = |axis: &Axis| {
            cell.iter().any(|(name, value)| *name == axis.name && axis.values.contains(value) != axis.inverse)
        };
        self.excludes.iter().any(|exclude| !exclude.is_empty() && exclude.iter().all(fits))
    }
}
