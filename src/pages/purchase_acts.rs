//! What an operator does with a purchase: a form each, looked at twice before it is done.

use askama::Template;
use axum::{
    extract::{Path, RawQuery, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    answer::{Page, sent_back},
    calls::{Call, Refused},
    changes::Change,
    failure::Failure,
    forms::{Field, Fields, reason},
    frame::{Frame, Section},
    links, numbers,
    purchases::{Purchase, call_of},
    visitor::{Visitor, see},
    words::Words,
};

/// What an operator does with a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Approve,
    Reject,
    Retry,
    Refund,
}

impl Act {
    const ALL: [Self; 4] = [Self::Approve, Self::Reject, Self::Retry, Self::Refund];

    /// What may be done with a purchase in this state.
    pub(super) fn possible_in(state: &str) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |act| act.states().contains(&state))
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Retry => "retry",
            Self::Refund => "refund",
        }
    }

    pub(super) const fn title(self, words: &'static Words) -> &'static str {
        match self {
            Self::Approve => words.approve,
            Self::Reject => words.reject,
            Self::Retry => words.retry,
            Self::Refund => words.refund,
        }
    }

    /// Its form, for a purchase.
    pub(super) fn form(self, purchase: &Purchase) -> String {
        links::with(&format!("/purchase/{}", self.name()), &[("id", &purchase.id.to_string())])
    }

    const fn hint(self, words: &'static Words) -> &'static str {
        match self {
            Self::Approve => words.approve_hint,
            Self::Reject => words.reject_hint,
            Self::Retry => words.retry_hint,
            Self::Refund => words.refund_hint,
        }
    }

    /// In which states it is possible.
    const fn states(self) -> &'static [&'static str] {
        match self {
            Self::Approve | Self::Reject => &["review"],
            Self::Retry => &["received", "pending", "review"],
            Self::Refund => &["granted"],
        }
    }

    const fn takes_credits(self) -> bool {
        matches!(self, Self::Approve | Self::Refund)
    }

    pub(super) const fn is_grave(self) -> bool {
        matches!(self, Self::Reject | Self::Refund)
    }

    /// The state that it leads to, where that is known.
    const fn leads_to(self, words: &'static Words) -> &'static str {
        match self {
            Self::Approve => words.state_granted,
            Self::Reject => words.state_refused,
            Self::Retry => "…",
            Self::Refund => words.state_refunded,
        }
    }
}

#[derive(Template)]
#[template(path = "purchase_act.html")]
struct ActPage {
    frame: Frame,
    act: Act,
    purchase: Purchase,
    credits: Field,
    reason: Field,
    key: String,
    changes: Vec<Change>,
    confirming: bool,
    failure: Option<String>,
}

impl ActPage {
    fn check(&mut self, words: &'static Words) {
        let number = self.credits.number();
        if !self.credits.value.is_empty() && number.is_none_or(|credits| credits < 1) {
            self.credits.wrong(words.not_positive);
        }
        reason(&mut self.reason, words);
    }

    fn call(&self) -> Call {
        let mut body = json!({"reason": self.reason.value});
        if let Some(credits) = self.credits.number().filter(|_| self.act.takes_credits()) {
            body["credits"] = credits.into();
        }
        let (id, act) = (self.purchase.id, self.act.name());
        Call::post(format!("/api/billing/operator/purchases/{id}/{act}"), &self.key, body)
    }

    fn refused(&mut self, refused: Refused) {
        let mut elsewhere = refused.problems.is_empty();
        for (name, text) in refused.problems {
            match name.as_str() {
                "reason" => self.reason.wrong(text),
                "credits" => self.credits.wrong(text),
                _ => elsewhere = true,
            }
        }
        self.failure = elsewhere.then_some(refused.text);
        self.confirming = false;
        self.key = Fields::default().key();
    }
}

async fn begun(
    visitor: &Visitor,
    act: Result<Path<String>, PathRejection>,
    fields: &Fields,
) -> Result<ActPage, Failure> {
    let Path(name) = act.map_err(|_| Failure::NotFound)?;
    let act = Act::ALL.into_iter().find(|act| act.name() == name).ok_or(Failure::NotFound)?;
    let purchase = visitor.tell(call_of(fields.get("id"))).await?;
    Ok(ActPage {
        frame: Frame::new(visitor, Section::Purchases, act.title(visitor.words)),
        act,
        purchase,
        credits: Field::of(fields.get("credits")),
        reason: Field::of(fields.get("reason")),
        key: fields.key(),
        changes: Vec::new(),
        confirming: false,
        failure: None,
    })
}

/// The form.
pub(super) async fn form(
    visitor: Visitor,
    act: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let fields = Fields::of_query(query.as_deref());
    Ok(Page(begun(&visitor, act, &fields).await?).into_response())
}

/// What was filled in: looked at a second time, then done.
pub(super) async fn send(
    visitor: Visitor,
    act: Result<Path<String>, PathRejection>,
    fields: Fields,
) -> Result<Response, Failure> {
    let words = visitor.words;
    let mut page = begun(&visitor, act, &fields).await?;
    if fields.ticked("edit") {
        return Ok(Page(page).into_response());
    }
    page.check(words);
    if page.credits.problem.is_some() || page.reason.problem.is_some() {
        return Ok(sent_back(page));
    }
    if !fields.ticked("confirmed") {
        let state = words.state_name(&page.purchase.state).to_owned();
        page.changes.push(Change::of(words.state, state, page.act.leads_to(words)));
        page.confirming = true;
        return Ok(Page(page).into_response());
    }
    match visitor.told::<Value>(page.call()).await? {
        Ok(_) => {
            let done = [("id", &*page.purchase.id.to_string()), ("done", page.act.name())];
            Ok(see(&links::with("/purchase", &done)))
        }
        Err(refused) => {
            page.refused(refused);
            Ok(sent_back(page))
        }
    }
}
