//! What the endpoints work with.

use std::sync::Arc;

use axum::extract::{FromRef, State};

use super::caller::ConsumeBy;
use crate::{
    http::{Admission, Stopping},
    service::BillingService,
};

pub(super) type Service = State<Arc<BillingService>>;

/// What each of them may ask for.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) service: Arc<BillingService>,
    pub(super) admission: Arc<Admission>,
    pub(super) stopping: Stopping,
    pub(super) consume_by: ConsumeBy,
}

impl FromRef<Api> for Arc<BillingService> {
    fn from_ref(api: &Api) -> Self {
        Self::clone(&api.service)
    }
}

impl FromRef<Api> for Arc<Admission> {
    fn from_ref(api: &Api) -> Self {
        Self::clone(&api.admission)
    }
}

impl FromRef<Api> for Stopping {
    fn from_ref(api: &Api) -> Self {
        api.stopping.clone()
    }
}

impl FromRef<Api> for ConsumeBy {
    fn from_ref(api: &Api) -> Self {
        api.consume_by
    }
}
