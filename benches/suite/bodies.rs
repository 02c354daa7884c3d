//! What the peers are asked and answer, but for what each takes in its own way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
pub(crate) struct Consumption {
    pub(crate) model_id: String,
    pub(crate) input_tokens: i64,
    pub(crate) output_tokens: i64,
}

#[derive(Serialize)]
pub(crate) struct Consumed {
    pub(crate) success: bool,
    pub(crate) remaining_tokens: i64,
}

#[derive(Deserialize)]
pub(crate) struct Allocations {
    pub(crate) allocations: Vec<Allocation>,
}

#[derive(Deserialize)]
pub(crate) struct Allocation {
    pub(crate) model_id: String,
    pub(crate) credits: i64,
}

#[derive(Serialize)]
pub(crate) struct Allocated {
    pub(crate) success: bool,
}

#[derive(Serialize)]
pub(crate) struct Purchased {
    pub(crate) success: bool,
    pub(crate) new_balance: i64,
}

#[derive(Serialize)]
pub(crate) struct Balance {
    pub(crate) credits: i64,
    pub(crate) allocated_tokens: BTreeMap<String, i64>,
}
