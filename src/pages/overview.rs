//! The first page: how it goes, and what waits for the operator.

use std::collections::BTreeMap;

use askama::Template;
use serde::Deserialize;

use super::{
    answer::Page,
    calls::{Call, Items},
    charts::Chart,
    failure::Failure,
    frame::{Frame, Section},
    ledger::Line,
    links, numbers,
    visitor::Visitor,
    words::{Words, filled},
};

/// How many of the newest lines of all ledgers are shown.
const NEWEST: u8 = 8;

/// The whole, as the API tells it.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    pub(super) as_of: String,
    pub(super) users: i64,
    credits: Credits,
    tokens: Tokens,
    days: Vec<DaySums>,
    pub(super) purchases: BTreeMap<String, i64>,
    oldest_waiting_at: Option<String>,
    acknowledgements: Acknowledgements,
    unconfirmed: BTreeMap<String, i64>,
    pub(super) database: Database,
    pub(super) version: String,
    pub(super) verify: Verify,
}

#[derive(Debug, Deserialize)]
struct Credits {
    sold: i64,
    given: i64,
    allocated: i64,
    refunded: i64,
    shortfall: i64,
}

#[derive(Debug, Deserialize)]
struct Tokens {
    consumed: i64,
    shortfall: i64,
}

#[derive(Debug, Deserialize)]
struct Acknowledgements {
    due: i64,
    oldest_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct DaySums {
    day: String,
    credits_sold: i64,
    active_users: i64,
    tokens: BTreeMap<String, i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Database {
    pub(super) engine: String,
    pub(super) bytes: i64,
}

/// How a verification stands.
#[derive(Debug, Deserialize)]
pub(super) struct Verify {
    pub(super) state: String,
    pub(super) ok: Option<bool>,
    pub(super) started_at: Option<String>,
    pub(super) ended_at: Option<String>,
    #[serde(default)]
    pub(super) differences: Vec<String>,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    as_of: String,
    /// The same for each tile, which are sums of one moment.
    clock: String,
    tiles: [Tile; 8],
    attention: Vec<Attention>,
    sold: Chart,
    used: Chart,
    newest: Vec<Newest>,
}

/// A line of somebody's ledger, as the API tells it.
#[derive(Debug, Deserialize)]
struct Newest {
    user_id: String,
    #[serde(flatten)]
    line: Line,
}

struct Tile {
    name: &'static str,
    number: i64,
    hint: String,
}

impl Tile {
    /// Whether its number takes much room.
    const fn is_long(&self) -> bool {
        self.number.unsigned_abs() >= 1_000_000_000
    }
}

/// Something that waits for the operator.
struct Attention {
    text: String,
    more: Option<String>,
    page: &'static str,
    bad: bool,
}

/// The page.
pub(super) async fn page(visitor: Visitor) -> Result<Page<impl Template>, Failure> {
    let summary = Call::get("/api/billing/operator/summary?days=30");
    let newest = Call::get(format!("/api/billing/operator/ledger?limit={NEWEST}"));
    let (summary, newest) =
        tokio::try_join!(visitor.tell::<Summary>(summary), visitor.tell::<Items<_>>(newest))?;
    let words = visitor.words;
    let days: Vec<_> =
        summary.days.iter().map(|day| (day.day.clone(), day.tokens.clone())).collect();
    let sold = summary.days.iter().map(|day| (day.day.clone(), day.credits_sold));
    Ok(Page(Overview {
        frame: Frame::new(&visitor, Section::Overview, words.overview),
        as_of: filled(words.as_of, &[&numbers::time(&summary.as_of)]),
        clock: numbers::clock(&summary.as_of),
        tiles: tiles(&summary, words),
        attention: attention(&summary, words),
        sold: Chart::of_one(words.chart_sold, words.credits, sold),
        used: Chart::by_name(words.chart_tokens, words.others, &days),
        newest: newest.items,
    }))
}

fn tiles(summary: &Summary, words: &'static Words) -> [Tile; 8] {
    let tile = |name, number, hint: &str| Tile { name, number, hint: hint.to_owned() };
    let active = summary.days.last().map_or(0, |day| day.active_users);
    let of_users = filled(words.of_users, &[&numbers::grouped(summary.users)]);
    [
        tile(words.sold, summary.credits.sold, words.hint_sold),
        tile(words.given, summary.credits.given, words.hint_given),
        tile(words.consumed, summary.tokens.consumed, words.hint_consumed),
        tile(words.active_today, active, &of_users),
        tile(words.allocated_credits, summary.credits.allocated, words.hint_allocated),
        tile(words.refunded, summary.credits.refunded, words.hint_refunded),
        tile(words.credits_short, summary.credits.shortfall, words.hint_credits_short),
        tile(words.tokens_short, summary.tokens.shortfall, words.hint_tokens_short),
    ]
}

fn attention(summary: &Summary, words: &'static Words) -> Vec<Attention> {
    let purchases = |state| summary.purchases.get(state).copied().unwrap_or_default();
    let waiting = |sentence, count: i64, since: Option<&String>, page| {
        let text = filled(sentence, &[&numbers::grouped(count)]);
        let more = since.map(|at| filled(words.oldest_waits, &[&numbers::time(at)]));
        (count > 0).then_some(Attention { text, more, page, bad: false })
    };
    let reviews = waiting(words.reviews_wait, purchases("review"), None, "/purchases?state=review");
    let oldest = summary.oldest_waiting_at.as_ref();
    let received = purchases("received");
    let received = waiting(words.received_wait, received, oldest, "/purchases?state=received");
    let Acknowledgements { due, oldest_at } = &summary.acknowledgements;
    let untold =
        waiting(words.acknowledgements_wait, *due, oldest_at.as_ref(), "/purchases?state=granted");
    let unconfirmed = summary.unconfirmed.iter().map(|(store, count)| Attention {
        text: filled(words.store_errors, &[store, &numbers::grouped(*count)]),
        more: None,
        page: "/purchases?state=received",
        bad: true,
    });
    let verification = |text: &str, bad| {
        Some(Attention { text: text.to_owned(), more: None, page: "/system", bad })
    };
    let verification = match (summary.verify.ok, summary.verify.state.as_str()) {
        (Some(false), _) => verification(words.verify_failed, true),
        (_, "never") => verification(words.verify_never, false),
        _ => None,
    };
    unconfirmed.chain([reviews, received, untold, verification].into_iter().flatten()).collect()
}
