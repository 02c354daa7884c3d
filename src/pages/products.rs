//! What is sold in the app stores: how many credits a product is worth, and whether it is offered.

use askama::Template;
use axum::{
    extract::RawQuery,
    http::Method,
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
    visitor::{Visitor, see},
    words::{Words, filled},
};

/// Most characters of a product's name.
const PRODUCT_ID_MAX_CHARS: usize = 255;

/// A product, as the API tells it.
#[derive(Debug, Deserialize)]
pub(super) struct Sold {
    pub(super) product_id: String,
    pub(super) credits: i64,
    pub(super) active: bool,
}

#[derive(Template)]
#[template(path = "product.html")]
struct ProductPage {
    frame: Frame,
    is_new: bool,
    product: Field,
    credits: Field,
    active: bool,
    reason: Field,
    today: Option<Sold>,
    /// What the form was filled in on: the product as it was then.
    seen: String,
    key: String,
    changes: Vec<Change>,
    confirming: bool,
    failure: Option<String>,
}

impl ProductPage {
    fn check(&mut self, words: &'static Words) {
        if !(1..=PRODUCT_ID_MAX_CHARS).contains(&self.product.value.chars().count()) {
            self.product.wrong(words.product_missing);
        }
        if self.credits.number().is_none_or(|credits| credits < 1) {
            self.credits.wrong(words.not_positive);
        }
        reason(&mut self.reason, words);
    }

    fn is_wrong(&self) -> bool {
        [&self.product, &self.credits, &self.reason].iter().any(|field| field.problem.is_some())
    }

    /// The product as it is, in words.
    fn now(&self, words: &'static Words) -> String {
        let (credits, state) = told(self.today.as_ref(), words);
        format!("{credits}, {state}")
    }

    /// Says so where somebody else changed the product since the form was filled in.
    fn is_stale(&mut self, words: &'static Words) -> bool {
        let now = self.now(words);
        if self.seen == now {
            return false;
        }
        self.failure = Some(filled(words.product_changed, &[&now, &self.seen]));
        self.seen = now;
        self.key = Fields::default().key();
        true
    }

    fn foresee(&mut self, words: &'static Words) {
        let offered = |active: bool| if active { words.active } else { words.inactive };
        let (credits, active) = told(self.today.as_ref(), words);
        let then = numbers::grouped(self.credits.number().unwrap_or_default());
        self.changes = vec![
            Change::of(words.credits, credits, then),
            Change::of(words.state, active, offered(self.active)),
        ];
    }

    fn call(&self) -> Call {
        let product = links::segment(&self.product.value);
        let body = json!({
            "credits": self.credits.number(),
            "active": self.active,
            "reason": self.reason.value,
        });
        let path = format!("/api/billing/operator/products/{product}");
        Call::post(path, &self.key, body).by(Method::PUT)
    }

    fn refused(&mut self, refused: Refused) {
        let mut elsewhere = refused.problems.is_empty();
        for (name, text) in refused.problems {
            match name.as_str() {
                "reason" => self.reason.wrong(text),
                "credits" => self.credits.wrong(text),
                "product_id" => self.product.wrong(text),
                _ => elsewhere = true,
            }
        }
        self.failure = elsewhere.then_some(refused.text);
        self.confirming = false;
        self.key = Fields::default().key();
    }
}

/// Credits and state of a product, or of none.
fn told(product: Option<&Sold>, words: &'static Words) -> (String, &'static str) {
    product.map_or(("–".to_owned(), "–"), |product| {
        let state = if product.active { words.active } else { words.inactive };
        (numbers::grouped(product.credits), state)
    })
}

async fn begun(visitor: &Visitor, fields: &Fields, sent: bool) -> Result<ProductPage, Failure> {
    let (product, is_new) = (fields.get("product"), fields.ticked("new"));
    let all = visitor.tell::<Items<Sold>>(Call::get("/api/billing/operator/products")).await?;
    let today = all.items.into_iter().find(|other| other.product_id == product);
    if !is_new && today.is_none() {
        return Err(Failure::NotFound);
    }
    let title = if is_new { visitor.words.add_product } else { product };
    let credits = match (fields.get("credits"), &today) {
        ("", Some(today)) if !sent => today.credits.to_string(),
        (credits, _) => credits.to_owned(),
    };
    let active =
        if sent { fields.ticked("active") } else { today.as_ref().is_none_or(|it| it.active) };
    let mut page = ProductPage {
        frame: Frame::new(visitor, Section::Prices, title),
        is_new,
        product: Field::of(product),
        credits: Field::of(credits),
        active,
        reason: Field::of(fields.get("reason")),
        today,
        seen: fields.get("seen").to_owned(),
        key: fields.key(),
        changes: Vec::new(),
        confirming: false,
        failure: None,
    };
    if !fields.has("seen") {
        page.seen = page.now(visitor.words);
    }
    Ok(page)
}

/// The form of a product.
pub(super) async fn form(visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let fields = Fields::of_query(query.as_deref());
    Ok(Page(begun(&visitor, &fields, false).await?).into_response())
}

/// What was filled in: looked at a second time, then done.
pub(super) async fn send(visitor: Visitor, fields: Fields) -> Result<Response, Failure> {
    let words = visitor.words;
    let mut page = begun(&visitor, &fields, true).await?;
    if fields.ticked("edit") {
        return Ok(Page(page).into_response());
    }
    page.check(words);
    if page.is_wrong() {
        return Ok(sent_back(page));
    }
    if page.is_stale(words) {
        return Ok(sent_back(page));
    }
    if !fields.ticked("confirmed") {
        page.foresee(words);
        page.confirming = true;
        return Ok(Page(page).into_response());
    }
    match visitor.told::<Value>(page.call()).await? {
        Ok(_) => Ok(see("/prices?done=product")),
        Err(refused) => {
            page.refused(refused);
            Ok(sent_back(page))
        }
    }
}
