//! Prices and products: what is sold, and how a price is changed: with a look at what that means for users.

use askama::Template;
use axum::{
    extract::RawQuery,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    answer::{Page, sent_back},
    calls::{Call, Items, Refused},
    changes::Change,
    failure::Failure,
    forms::{Field, Fields, reason},
    frame::{Frame, Section},
    links, numbers,
    products::Sold,
    visitor::{Visitor, see},
    words::{Words, filled},
};
use crate::domain::{Category, Credits, MODEL_ID_MAX_CHARS, Price as Rule};

/// Credits whose tokens are shown.
const SAMPLE_CREDITS: i64 = 100;

/// A price, as the API tells it.
#[derive(Debug, Deserialize)]
struct Priced {
    model_id: String,
    price_per_m_token: i64,
    category: String,
}

impl Priced {
    /// The tokens of [`SAMPLE_CREDITS`].
    fn sample(&self) -> String {
        sample(self.price_per_m_token)
    }
}

/// The tokens that a hundred credits buy, by the rule that allocations follow.
fn sample(price_per_m_token: i64) -> String {
    let tokens = Rule::new(price_per_m_token, Category::Quick)
        .ok()
        .and_then(|price| price.tokens_for(Credits::new(SAMPLE_CREDITS).ok()?));
    tokens.map_or_else(|| "–".to_owned(), |tokens| numbers::grouped(tokens.get()))
}

/// A line of a price's history.
#[derive(Debug, Deserialize)]
struct Past {
    at: Option<String>,
    price_per_m_token: Option<i64>,
    category: Option<String>,
}

#[derive(Template)]
#[template(path = "prices.html")]
struct PricesPage {
    frame: Frame,
    prices: Vec<Priced>,
    products: Vec<Sold>,
}

/// The page of all.
pub(super) async fn page(visitor: Visitor) -> Result<Page<impl Template>, Failure> {
    let (prices, products) = tokio::try_join!(
        visitor.tell::<Items<_>>(Call::get("/api/billing/operator/prices")),
        visitor.tell::<Items<_>>(Call::get("/api/billing/operator/products")),
    )?;
    let frame = Frame::new(&visitor, Section::Prices, visitor.words.prices_and_products);
    Ok(Page(PricesPage { frame, prices: prices.items, products: products.items }))
}

/// Whether a price that is far from today's is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Jump {
    NotAsked,
    Asked,
    Confirmed,
}

#[derive(Template)]
#[template(path = "price.html")]
struct PricePage {
    frame: Frame,
    /// Whether the model has no price yet.
    is_new: bool,
    model: Field,
    price: Field,
    category: String,
    reason: Field,
    /// Whether it is to be taken off sale.
    removes: bool,
    /// The price that the form was made from.
    if_price: String,
    jump: Jump,
    today: Option<Priced>,
    history: Vec<Past>,
    key: String,
    changes: Vec<Change>,
    confirming: bool,
    failure: Option<String>,
}

impl PricePage {
    /// What the price written down would mean.
    fn preview(&self, words: &'static Words) -> Vec<Change> {
        let Some(price) = self.price.number().filter(|price| *price > 0) else { return Vec::new() };
        let today = self.today.as_ref();
        let now = |told: fn(&Priced) -> String| today.map_or_else(|| "–".to_owned(), told);
        let mut changes = vec![
            Change::of(
                words.price_per_m,
                now(|price| numbers::grouped(price.price_per_m_token)),
                numbers::grouped(price),
            ),
            Change::of(words.tokens_per_100, now(Priced::sample), sample(price)),
        ];
        if let Some(today) = today.filter(|today| today.category != self.category) {
            changes.push(Change::of(words.category, &today.category, &self.category));
        }
        changes
    }

    fn check(&mut self, words: &'static Words) {
        if !(1..=MODEL_ID_MAX_CHARS).contains(&self.model.value.chars().count()) {
            self.model.wrong(words.model_missing);
        }
        if !self.removes && self.price.number().is_none_or(|price| price < 1) {
            self.price.wrong(words.price_wrong);
        }
        reason(&mut self.reason, words);
    }

    fn is_wrong(&self) -> bool {
        [&self.model, &self.price, &self.reason].iter().any(|field| field.problem.is_some())
    }

    fn call(&self) -> Call {
        let path = format!("/api/billing/operator/prices/{}", links::segment(&self.model.value));
        if self.removes {
            let body = json!({"reason": self.reason.value});
            return Call::post(path, &self.key, body).by(Method::DELETE);
        }
        let mut body = json!({
            "price_per_m_token": self.price.number(),
            "category": self.category,
            "reason": self.reason.value,
        });
        if self.jump == Jump::Confirmed {
            body["confirm"] = true.into();
        }
        if let Ok(seen) = self.if_price.parse::<i64>() {
            body["if_price"] = seen.into();
        }
        Call::post(path, &self.key, body).by(Method::PUT)
    }

    fn refused(&mut self, refused: Refused, words: &'static Words) {
        let mut elsewhere = refused.problems.is_empty();
        for (name, text) in &refused.problems {
            match name.as_str() {
                "reason" => self.reason.wrong(text),
                "price_per_m_token" => self.price.wrong(text),
                "model_id" => self.model.wrong(text),
                _ => elsewhere = true,
            }
        }
        match refused.code.as_str() {
            "price_jump" => {
                self.jump = Jump::Asked;
                self.price.wrong(words.price_jump);
            }
            "price_changed" => {
                let today = self.today.as_ref().map_or(0, |today| today.price_per_m_token);
                let seen = self.if_price.parse().unwrap_or(0);
                let prices = [numbers::grouped(today), numbers::grouped(seen)];
                self.failure = Some(filled(words.price_changed, &[&prices[0], &prices[1]]));
                self.if_price = today.to_string();
            }
            _ if elsewhere => self.failure = Some(refused.text),
            _ => {}
        }
        self.confirming = false;
        self.key = Fields::default().key();
    }
}

/// The form of a model as far as it is filled in, with its price today and before.
async fn begun(visitor: &Visitor, fields: &Fields) -> Result<PricePage, Failure> {
    let (model, is_new) = (fields.get("model"), fields.ticked("new"));
    let all = visitor.tell::<Items<Priced>>(Call::get("/api/billing/operator/prices")).await?;
    let today = all.items.into_iter().find(|price| price.model_id == model);
    let history = if model.is_empty() { Vec::new() } else { history(visitor, model).await? };
    if !is_new && today.is_none() && history.is_empty() {
        return Err(Failure::NotFound);
    }
    let of_today = |told: fn(&Priced) -> String| today.as_ref().map(told).unwrap_or_default();
    // What was emptied comes back empty.
    let or = |name: &str, else_it_is: String| {
        if fields.has(name) { fields.get(name).to_owned() } else { else_it_is }
    };
    let title = if is_new { visitor.words.add_model } else { model };
    Ok(PricePage {
        frame: Frame::new(visitor, Section::Prices, title),
        is_new,
        model: Field::of(model),
        price: Field::of(or("price", of_today(|price| price.price_per_m_token.to_string()))),
        category: or("category", of_today(|price| price.category.clone())),
        reason: Field::of(fields.get("reason")),
        removes: fields.ticked("remove"),
        if_price: or("if_price", of_today(|price| price.price_per_m_token.to_string())),
        jump: if fields.ticked("confirm") { Jump::Confirmed } else { Jump::NotAsked },
        today,
        history,
        key: fields.key(),
        changes: Vec::new(),
        confirming: false,
        failure: None,
    })
}

async fn history(visitor: &Visitor, model: &str) -> Result<Vec<Past>, Failure> {
    let path = format!("/api/billing/operator/prices/{}/history", links::segment(model));
    match visitor.told::<Items<Past>>(Call::get(path)).await? {
        Ok(history) => Ok(history.items),
        Err(refused) if refused.status == StatusCode::NOT_FOUND => Ok(Vec::new()),
        Err(refused) => Err(refused.into()),
    }
}

/// The form of a model.
pub(super) async fn form(visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let fields = Fields::of_query(query.as_deref());
    let mut page = begun(&visitor, &fields).await?;
    page.changes = page.preview(visitor.words);
    Ok(Page(page).into_response())
}

/// What was filled in: looked at a second time, then done.
pub(super) async fn send(visitor: Visitor, fields: Fields) -> Result<Response, Failure> {
    let words = visitor.words;
    let mut page = begun(&visitor, &fields).await?;
    page.changes = page.preview(words);
    if fields.ticked("edit") {
        return Ok(Page(page).into_response());
    }
    page.check(words);
    if page.is_wrong() {
        return Ok(sent_back(page));
    }
    if page.removes {
        let now = page.today.as_ref().map(|price| numbers::grouped(price.price_per_m_token));
        let now = now.unwrap_or_default();
        page.changes = vec![Change::of(words.price_per_m, now, words.off_sale)];
    }
    if !fields.ticked("confirmed") {
        page.confirming = true;
        return Ok(Page(page).into_response());
    }
    match visitor.told::<Value>(page.call()).await? {
        Ok(_) => {
            Ok(see(if page.removes { "/prices?done=price_removed" } else { "/prices?done=price" }))
        }
        Err(refused) => {
            page.refused(refused, words);
            Ok(sent_back(page))
        }
    }
}
