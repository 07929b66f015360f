//! Doing again what has failed: how often, and for which failures.
//!
//! `retry(count: 3, conditions: [agent(), kubernetesAgent(), nonresumable()])`: without conditions whatever fails is done again, with some
//! only that of which one of them is true. What somebody has ended is never begun again.
//! <https://www.jenkins.io/doc/pipeline/steps/workflow-basic-steps/#retry-retry-the-body-up-to-n-times>

use groovy::{
    fault::{Outcome, Stop, is_kind, throw},
    interpret::Strand,
    value::{Value, show},
};

use super::{
    Runner,
    spot::Spot,
    world::{LOST, NOT_RESUMED},
};

/// For which failures something is done again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    any: bool,
    agent: bool,
    resumed: bool,
}

impl Conditions {
    /// For all of them.
    pub const ANY: Self = Self { any: true, agent: false, resumed: false };
    /// For those that are nobody's fault in the pipeline.
    pub const OUTSIDE: Self = Self { any: false, agent: true, resumed: true };

    /// Those of a step's argument.
    pub fn of(given: Option<Value>) -> Outcome<Self> {
        let all = match given {
            None | Some(Value::Null) => return Ok(Self::ANY),
            Some(Value::List(list)) => list.items(),
            Some(one) => vec![one],
        };
        let mut conditions = Self::default();
        for one in all {
            let name = match &one {
                Value::Map(map) => map.named("$class").map(|class| show::text(&class)),
                other => Some(show::text(other)),
            };
            match name.as_deref().unwrap_or_default() {
                "agent" | "AgentErrorCondition" | "kubernetesAgent" | "KubernetesAgentErrorCondition" => {
                    conditions.agent = true;
                }
                "nonresumable" | "NonResumableErrorCondition" | "SynchronousResumeNotSupportedErrorCondition" => {
                    conditions.resumed = true;
                }
                name => {
                    let message =
                        format!("{name:?} is no condition of retry: agent(), kubernetesAgent(), nonresumable()");
                    return Err(throw("IllegalArgumentException", message));
                }
            }
        }
        Ok(conditions)
    }

    fn hold(self, exception: &Value) -> bool {
        match exception {
            Value::Exception(exception) if is_kind(&exception.class, "InterruptedException") => false,
            _ if self.any => true,
            Value::Exception(exception) => {
                self.agent && *exception.class == *LOST || self.resumed && *exception.class == *NOT_RESUMED
            }
            _ => false,
        }
    }
}

/// Whether an agent was lost, which an agent around it may make good.
pub(super) fn is_outside(exception: &Value) -> bool {
    Conditions::OUTSIDE.hold(exception)
}

impl Runner {
    /// Does something until it succeeds, `count` times at most; `call` is told how often is left after this.
    pub(super) fn retry(
        &self,
        strand: &mut Strand,
        count: i64,
        conditions: Conditions,
        mut call: impl FnMut(&mut Strand, i64) -> Outcome,
    ) -> Outcome {
        let mut left = count.max(1);
        loop {
            left -= 1;
            match call(strand, left) {
                Err(Stop::Throw(exception, _)) if left > 0 && conditions.hold(&exception) => {
                    let spot = Spot::of(strand);
                    self.log(&spot, &format!("ERROR: {}", strand.show(&exception)?));
                    self.log(&spot, "Retrying");
                }
                result => return result,
            }
        }
    }
}
