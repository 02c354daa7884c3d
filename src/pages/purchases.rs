//! Purchases that the stores confirm: by state, with the queue of those that wait for an operator's decision; and all
//! that is known of one.

use askama::Template;
use axum::extract::RawQuery;
use serde::Deserialize;
use serde_json::Value;

use super::{
    answer::Page,
    calls::Call,
    failure::Failure,
    forms::Fields,
    frame::{Frame, Section},
    links, numbers,
    purchase_acts::Act,
    visitor::Visitor,
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
        Act::possible_in(&self.state)
    }

    /// Its page.
    pub(super) fn page(&self) -> String {
        page_of(&self.id.to_string())
    }

    /// What the store said, or why it waits.
    pub(super) fn said(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
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

/// All that is known of a purchase, as the API tells it.
#[derive(Debug, Deserialize)]
struct Known {
    #[serde(flatten)]
    purchase: Purchase,
    purchased_at: Option<String>,
    granted_at: Option<String>,
    acknowledged_at: Option<String>,
    consumed_at: Option<String>,
    due_at: Option<String>,
    attempts: i64,
    refunded_by_store: i64,
    refunded_by_operator: i64,
    taken_credits: i64,
    shortfall_credits: i64,
    verified: Option<Value>,
}

#[derive(Template)]
#[template(path = "purchase.html")]
struct PurchasePage {
    frame: Frame,
    known: Known,
}

impl PurchasePage {
    /// When what happened to it.
    fn times(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let (words, known) = (self.frame.words, &self.known);
        let times = [
            (words.created, Some(&known.purchase.received_at)),
            (words.purchased, known.purchased_at.as_ref()),
            (words.granted, known.granted_at.as_ref()),
            (words.acknowledged, known.acknowledged_at.as_ref()),
            (words.consumed_at_store, known.consumed_at.as_ref()),
            (words.due, known.due_at.as_ref()),
        ];
        times.into_iter().filter_map(|(name, at)| Some((name, at?.as_str())))
    }

    /// What went back of it, in credits.
    fn refunds(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let (words, known) = (self.frame.words, &self.known);
        let refunds = [
            (words.refunded_by_store, known.refunded_by_store),
            (words.refunded_by_operator, known.refunded_by_operator),
            (words.taken, known.taken_credits),
            (words.credits_short, known.shortfall_credits),
        ];
        refunds.into_iter().filter(|(_, credits)| *credits != 0)
    }

    /// What its store said, as people read JSON.
    fn verified(&self) -> Option<String> {
        self.known.verified.as_ref().map(|said| format!("{said:#}"))
    }
}

/// The address of the page of a purchase.
pub(super) fn page_of(id: &str) -> String {
    links::with("/purchase", &[("id", id)])
}

/// Asks for a purchase by its id.
pub(super) fn call_of(id: &str) -> Call {
    Call::get(format!("/api/billing/operator/purchases/{}", links::segment(id)))
}

/// The page of one.
pub(super) async fn one(
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Page<impl Template>, Failure> {
    let query = Fields::of_query(query.as_deref());
    let known = visitor.tell(call_of(query.get("id"))).await?;
    let frame = Frame::new(&visitor, Section::Purchases, visitor.words.purchase);
    Ok(Page(PurchasePage { frame, known }))
}
