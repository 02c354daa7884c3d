//! Purchases that the stores confirm: by state, with the queue of those that wait for an operator's decision.

use askama::Template;
use axum::{
    extract::{Path, RawQuery, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    answer::{Page, sent_back},
    calls::{Call, Refused},
    changes::Change,
    failure::Failure,
    forms::{Field, Fields, reason},
    frame::{Frame, Section},
    links, numbers,
    visitor::{Visitor, see},
    words::Words,
};

/// Purchases of a page.
const PURCHASES: &str = "50";
/// Their states, those that wait for somebody first.
const STATES: [&str; 7] =
    ["review", "received", "pending", "granted", "refunded", "refused", "unclaimed"];
const MILLIUNITS: i64 = 1_000;

/// A purchase, as the API tells it.
#[derive(Debug, Deserialize)]
pub(super) struct Purchase {
    pub(super) id: i64,
    pub(super) state: String,
    pub(super) store: String,
    pub(super) environment: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) product_id: Option<String>,
    pub(super) quantity: Option<i64>,
    pub(super) credits: Option<i64>,
    pub(super) store_id: Option<String>,
    price_milliunits: Option<i64>,
    currency: Option<String>,
    pub(super) received_at: String,
    /// What the store said, or why it waits.
    reason: Option<String>,
}

impl Purchase {
    /// What the store says that was paid.
    pub(super) fn price(&self) -> String {
        let Some(milliunits) = self.price_milliunits else { return String::new() };
        let (whole, rest) = (
            milliunits.checked_div(MILLIUNITS).unwrap_or_default(),
            milliunits.checked_rem(MILLIUNITS).unwrap_or_default().unsigned_abs(),
        );
        let hundredths = rest.checked_div(10).unwrap_or_default();
        let decimals = if hundredths == 0 { String::new() } else { format!(".{hundredths:02}") };
        let currency = self.currency.as_deref().unwrap_or_default();
        format!("{}{decimals} {currency}", numbers::grouped(whole))
    }

    /// How its state is coloured.
    pub(super) fn tone(&self) -> &'static str {
        match self.state.as_str() {
            "granted" => "good",
            "review" => "warn",
            "refused" | "refunded" => "bad",
            _ => "",
        }
    }

    /// What may be done with it.
    pub(super) fn acts(&self) -> impl Iterator<Item = Act> {
        let state = self.state.clone();
        Act::ALL.into_iter().filter(move |act| act.states().contains(&state.as_str()))
    }

    /// What the store said, or why it waits.
    pub(super) fn said(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
    }
}

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
        let id = purchase.id.to_string();
        let query = [("id", id.as_str()), ("state", purchase.state.as_str())];
        links::with(&format!("/purchase/{}", self.name()), &query)
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
#[template(path = "purchases.html")]
struct PurchasesPage {
    frame: Frame,
    states: [&'static str; 7],
    state: String,
    purchases: Vec<Purchase>,
    older: Option<String>,
}

/// The page.
pub(super) async fn page(
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Page<impl Template>, Failure> {
    let query = Fields::of_query(query.as_deref());
    let (state, before) = (query.get("state"), query.get("before"));
    let asked = [("limit", PURCHASES), ("state", state), ("before", before)];
    let call = Call::get(links::with("/api/billing/operator/purchases", &asked));
    let (purchases, next) = visitor.list(call).await?;
    let older = next.map(|next| links::with("/purchases", &[("state", state), ("before", &next)]));
    let frame = Frame::new(&visitor, Section::Purchases, visitor.words.purchases);
    Ok(Page(PurchasesPage { frame, states: STATES, state: state.to_owned(), purchases, older }))
}

#[derive(Template)]
#[template(path = "purchase_act.html")]
struct ActPage {
    frame: Frame,
    act: Act,
    id: String,
    state: String,
    /// The purchase, where it is still among the newest of its state.
    purchase: Option<Purchase>,
    credits: Field,
    reason: Field,
    key: String,
    changes: Vec<Change>,
    confirming: bool,
    failure: Option<String>,
}

impl ActPage {
    /// The list that the form came from.
    fn back(&self) -> String {
        links::with("/purchases", &[("state", &self.state)])
    }

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
        let (id, act) = (links::segment(&self.id), self.act.name());
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
    let (id, state) = (fields.get("id").to_owned(), fields.get("state").to_owned());
    let asked = [("limit", PURCHASES), ("state", state.as_str())];
    let call = Call::get(links::with("/api/billing/operator/purchases", &asked));
    let (purchases, _) = visitor.list::<Purchase>(call).await?;
    Ok(ActPage {
        frame: Frame::new(visitor, Section::Purchases, act.title(visitor.words)),
        act,
        purchase: purchases.into_iter().find(|purchase| purchase.id.to_string() == id),
        id,
        state,
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
        let state = words.state_name(&page.state).to_owned();
        page.changes.push(Change::of(words.state, state, page.act.leads_to(words)));
        page.confirming = true;
        return Ok(Page(page).into_response());
    }
    match visitor.told::<Value>(page.call()).await? {
        Ok(_) => {
            let done = [("state", page.state.as_str()), ("done", page.act.name())];
            Ok(see(&links::with("/purchases", &done)))
        }
        Err(refused) => {
            page.refused(refused);
            Ok(sent_back(page))
        }
    }
}
