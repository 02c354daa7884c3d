//! That an operator has the books looked through: it changes nothing, and stands in the log. How they are looked
//! through does not belong here.

use serde_json::Value;

use super::{Applied, Facts, Operation, OperatorAct, Refusal, UserId};

/// Has the books looked through.
#[derive(Debug, Clone)]
pub(crate) struct LookThrough;

impl Operation for LookThrough {
    type Outcome = ();

    fn entries(&self) -> usize {
        0
    }

    fn decide(&self, _: &UserId, _: &mut Facts) -> Result<Applied<()>, Refusal> {
        Ok(Applied::now(()))
    }
}

impl OperatorAct for LookThrough {
    const ACTION: &'static str = "verify";
    const OF_ACCOUNT: bool = false;

    fn state(&self, _: &UserId, _: &Facts) -> Value {
        Value::Null
    }
}
