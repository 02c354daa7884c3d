//! The service itself: its version, its database, and whether its books are right.

use askama::Template;
use axum::response::Response;
use serde_json::{Value, json};

use super::{
    answer::Page,
    calls::Call,
    failure::Failure,
    forms::Fields,
    frame::{Frame, Section},
    numbers,
    overview::{Summary, Verify},
    visitor::{Visitor, see},
    words::filled,
};

#[derive(Template)]
#[template(path = "system.html")]
struct System {
    frame: Frame,
    summary: Summary,
    verify: Verify,
    key: String,
}

impl System {
    fn running_since(&self) -> String {
        let at = self.verify.started_at.as_deref().unwrap_or_default();
        filled(self.frame.words.verify_running, &[&numbers::time(at)])
    }
}

/// The page.
pub(super) async fn page(visitor: Visitor) -> Result<Page<impl Template>, Failure> {
    let (summary, verify) = tokio::try_join!(
        visitor.tell(Call::get("/api/billing/operator/summary?days=1")),
        visitor.tell(Call::get("/api/billing/operator/verify")),
    )?;
    let frame = Frame::new(&visitor, Section::System, visitor.words.system);
    Ok(Page(System { frame, summary, verify, key: Fields::default().key() }))
}

/// Starts a verification.
pub(super) async fn verify(visitor: Visitor, fields: Fields) -> Result<Response, Failure> {
    let body = json!({"reason": visitor.words.verify_reason});
    let call = Call::post("/api/billing/operator/verify", &fields.key(), body);
    visitor.tell::<Value>(call).await?;
    Ok(see("/system?done=verify"))
}
