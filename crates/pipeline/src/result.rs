//! How runs and stages end.

use serde::{Deserialize, Serialize};

use crate::model::PostCondition;

/// A result, the best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Result {
    /// All went well.
    #[default]
    Success,
    /// It went through, and tests failed.
    Unstable,
    /// It failed.
    Failure,
    /// It was not begun.
    NotBuilt,
    /// It was ended.
    Aborted,
}

impl Result {
    /// With their names.
    pub const ALL: &[(&str, Result)] = &[
        ("SUCCESS", Result::Success),
        ("UNSTABLE", Result::Unstable),
        ("FAILURE", Result::Failure),
        ("NOT_BUILT", Result::NotBuilt),
        ("ABORTED", Result::Aborted),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, result)| *result == self).map_or("", |(name, _)| name)
    }

    /// The result of a name, in capitals or not.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, result)| *result)
    }

    /// The worse of both.
    pub fn worse(self, other: Self) -> Self {
        self.max(other)
    }
}

impl PostCondition {
    /// Whether it holds for a result, after that of the run before, if there was one.
    pub fn holds(self, result: Result, before: Option<Result>) -> bool {
        match self {
            Self::Always | Self::Cleanup => true,
            Self::Changed => before != Some(result),
            Self::Fixed => {
                result == Result::Success
                    && matches!(before, Some(Result::Failure | Result::Unstable | Result::Aborted))
            }
            Self::Regression => {
                matches!(result, Result::Failure | Result::Unstable | Result::Aborted)
                    && before.is_some_and(|before| result > before)
            }
            Self::Aborted => result == Result::Aborted,
            Self::Failure => result == Result::Failure,
            Self::Success => result == Result::Success,
            Self::Unstable => result == Result::Unstable,
            Self::Unsuccessful => result != Result::Success,
            Self::NotBuilt => result == Result::NotBuilt,
        }
    }
}
