//! What an operator does to a user: a form with a reason, a second look at what it will change, and the call.

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
    links, numbers, user,
    visitor::{Visitor, see},
    words::Words,
};
use crate::domain::USER_ID_MAX_CHARS;

/// What is adjusted if it is no model's tokens.
const CREDITS: &str = "";

/// An act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Grant,
    Adjust,
    Freeze,
    Unfreeze,
    Erase,
    Release,
    Reverse,
}

impl Act {
    const ALL: [Self; 7] = [
        Self::Grant,
        Self::Adjust,
        Self::Freeze,
        Self::Unfreeze,
        Self::Erase,
        Self::Release,
        Self::Reverse,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Adjust => "adjust",
            Self::Freeze => "freeze",
            Self::Unfreeze => "unfreeze",
            Self::Erase => "erase",
            Self::Release => "release",
            Self::Reverse => "reverse",
        }
    }

    const fn title(self, words: &'static Words) -> &'static str {
        match self {
            Self::Grant => words.grant,
            Self::Adjust => words.adjust,
            Self::Freeze => words.freeze,
            Self::Unfreeze => words.unfreeze,
            Self::Erase => words.erase,
            Self::Release => words.release,
            Self::Reverse => words.reverse,
        }
    }

    const fn hint(self, words: &'static Words) -> &'static str {
        match self {
            Self::Grant => words.grant_hint,
            Self::Adjust => words.adjust_hint,
            Self::Freeze => words.freeze_hint,
            Self::Unfreeze => words.unfreeze_hint,
            Self::Erase => words.erase_hint,
            Self::Release => words.release_hint,
            Self::Reverse => words.reverse_hint,
        }
    }

    /// Whether it takes something away.
    const fn is_grave(self) -> bool {
        matches!(self, Self::Freeze | Self::Erase)
    }

    /// Whether somebody unknown can be meant: an account begins with a grant.
    const fn makes_accounts(self) -> bool {
        matches!(self, Self::Grant)
    }
}

#[derive(Template)]
#[template(path = "user_act.html")]
struct ActPage {
    frame: Frame,
    act: Act,
    user: String,
    /// What is wrong with the name.
    who: Field,
    /// The user's models with the tokens of each.
    models: Vec<(String, i64)>,
    /// Which of them is adjusted.
    model: String,
    amount: Field,
    reason: Field,
    /// The user's id once more.
    typed: Field,
    forfeit: bool,
    /// Whether the box about it is shown.
    asks_forfeit: bool,
    /// A hold, or a transaction.
    about: String,
    key: String,
    /// What will change, for the second look.
    changes: Vec<Change>,
    confirming: bool,
    failure: Option<String>,
}

impl ActPage {
    fn new(visitor: &Visitor, act: Act, fields: &Fields, account: Option<&user::Account>) -> Self {
        let title = act.title(visitor.words);
        let tokens = account.into_iter().flat_map(|account| &account.wallet.tokens);
        Self {
            frame: Frame::new(visitor, Section::Users, title),
            act,
            user: fields.get("id").to_owned(),
            who: Field::default(),
            models: tokens.map(|(model, tokens)| (model.clone(), tokens.allocated)).collect(),
            model: fields.get("model").to_owned(),
            amount: Field::of(fields.get("amount")),
            reason: Field::of(fields.get("reason")),
            typed: Field::of(fields.get("typed")),
            forfeit: fields.ticked("forfeit"),
            asks_forfeit: fields.ticked("forfeit")
                || account.is_some_and(|account| account.wallet.credits.paid() > 0),
            about: fields.get("about").to_owned(),
            key: fields.key(),
            changes: Vec::new(),
            confirming: false,
            failure: None,
        }
    }

    /// The number of the form; whether it may be left out is the act's.
    fn amount(&self) -> Option<i64> {
        self.amount.number()
    }

    /// The page that the form came from.
    fn back(&self) -> String {
        if self.user.is_empty() { "/users".to_owned() } else { links::user(&self.user) }
    }

    /// Finds what is wrong with what was filled in.
    fn check(&mut self, words: &'static Words) {
        let amount = self.amount();
        if !(1..=USER_ID_MAX_CHARS).contains(&self.user.chars().count()) {
            self.who.wrong(words.user_missing);
        }
        match self.act {
            Act::Grant if amount.is_none_or(|credits| credits < 1) => {
                self.amount.wrong(words.not_positive);
            }
            Act::Adjust if amount.is_none_or(|delta| delta == 0) => {
                self.amount.wrong(words.not_zero);
            }
            Act::Reverse if !self.amount.value.is_empty() && amount.is_none_or(|it| it < 1) => {
                self.amount.wrong(words.not_positive);
            }
            Act::Erase if self.typed.value != self.user => self.typed.wrong(words.type_user_wrong),
            _ => {}
        }
        // Holds are given up without a reason.
        if self.act != Act::Release {
            reason(&mut self.reason, words);
        }
    }

    fn is_wrong(&self) -> bool {
        [&self.who, &self.amount, &self.reason, &self.typed]
            .iter()
            .any(|field| field.problem.is_some())
    }

    /// What it will change, as far as that is known before.
    fn foresee(&mut self, account: Option<&user::Account>, words: &'static Words) {
        let credits =
            account.map_or((0, 0), |it| (it.wallet.credits.total, it.wallet.credits.bonus));
        let amount = self.amount().unwrap_or_default();
        let by = |what: &str, before: i64| {
            let after = before.saturating_add(amount);
            Change::of(what, numbers::grouped(before), numbers::grouped(after))
        };
        self.changes = match self.act {
            Act::Grant => vec![by(words.credits, credits.0), by(words.bonus, credits.1)],
            Act::Adjust if self.model == CREDITS => vec![by(words.credits, credits.0)],
            Act::Adjust => {
                let tokens = self.models.iter().find(|(model, _)| *model == self.model);
                vec![by(&self.model, tokens.map_or(0, |(_, tokens)| *tokens))]
            }
            Act::Freeze => vec![Change::of(&self.user, words.not_frozen, words.frozen)],
            Act::Unfreeze => vec![Change::of(&self.user, words.frozen, words.not_frozen)],
            Act::Erase => vec![Change::of(words.user_id, &self.user, "erased:…")],
            Act::Release | Act::Reverse => Vec::new(),
        };
    }

    fn call(&self) -> Call {
        let reason = self.reason.value.as_str();
        let user = links::segment(&self.user);
        let to = |act: &str, body: Value| {
            Call::post(format!("/api/billing/operator/users/{user}/{act}"), &self.key, body)
        };
        match self.act {
            Act::Grant => to("grants", json!({"credits": self.amount(), "reason": reason})),
            Act::Adjust if self.model == CREDITS => {
                to("adjustments", json!({"credits_delta": self.amount(), "reason": reason}))
            }
            Act::Adjust => to(
                "adjustments",
                json!({"model_id": self.model, "tokens_delta": self.amount(), "reason": reason}),
            ),
            Act::Freeze => to("freeze", json!({"reason": reason})),
            Act::Unfreeze => to("unfreeze", json!({"reason": reason})),
            Act::Erase if self.forfeit => to("erase", json!({"reason": reason, "forfeit": true})),
            Act::Erase => to("erase", json!({"reason": reason})),
            Act::Release => {
                let hold = links::segment(&self.about);
                let path = format!("/api/billing/holds/{hold}/release");
                Call::post(path, &self.key, json!({})).about(&self.user)
            }
            Act::Reverse => {
                let mut body = json!({
                    "transaction_id": self.about.parse::<i64>().ok(),
                    "reason": reason,
                });
                if let Some(tokens) = self.amount() {
                    body["tokens"] = tokens.into();
                }
                Call::post("/api/billing/tokens/reverse", &self.key, body).about(&self.user)
            }
        }
    }

    /// Says beside the fields what the API found wrong, and above the form what it said besides.
    fn refused(&mut self, refused: Refused, words: &'static Words) {
        let mut elsewhere = refused.problems.is_empty();
        for (name, text) in refused.problems {
            match name.as_str() {
                "reason" => self.reason.wrong(text),
                "credits" | "credits_delta" | "tokens_delta" | "tokens" => self.amount.wrong(text),
                _ => elsewhere = true,
            }
        }
        if refused.code == "paid_balance_remains" {
            self.asks_forfeit = true;
            self.failure = Some(words.paid_remains.to_owned());
        } else if elsewhere {
            self.failure = Some(refused.text);
        }
        self.confirming = false;
        // What was refused is another request when it is sent again.
        self.key = Fields::default().key();
    }
}

/// The act of a path, about a user who is known where that is needed.
async fn begun(
    visitor: &Visitor,
    act: Result<Path<String>, PathRejection>,
    fields: &Fields,
) -> Result<(ActPage, Option<user::Account>), Failure> {
    let name = act.map_err(|_| Failure::NotFound)?;
    let act = Act::ALL.into_iter().find(|act| act.name() == name.0).ok_or(Failure::NotFound)?;
    let account = match user::account(visitor, fields.get("id")).await {
        Ok(account) => Some(account),
        Err(Failure::NotFound) if act.makes_accounts() => None,
        Err(failure) => return Err(failure),
    };
    Ok((ActPage::new(visitor, act, fields, account.as_ref()), account))
}

/// The form.
pub(super) async fn form(
    visitor: Visitor,
    act: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let fields = Fields::of_query(query.as_deref());
    let (page, _) = begun(&visitor, act, &fields).await?;
    Ok(Page(page).into_response())
}

/// What was filled in: looked at a second time, then done.
pub(super) async fn send(
    visitor: Visitor,
    act: Result<Path<String>, PathRejection>,
    fields: Fields,
) -> Result<Response, Failure> {
    let words = visitor.words;
    let (mut page, account) = begun(&visitor, act, &fields).await?;
    if fields.ticked("edit") {
        return Ok(Page(page).into_response());
    }
    page.check(words);
    if page.is_wrong() {
        return Ok(sent_back(page));
    }
    if !fields.ticked("confirmed") {
        page.foresee(account.as_ref(), words);
        page.confirming = true;
        return Ok(Page(page).into_response());
    }
    match visitor.told::<Value>(page.call()).await? {
        // Whoever is erased is not found by this name any more.
        Ok(_) if page.act == Act::Erase => Ok(see("/users?done=erase")),
        Ok(_) => {
            let done = [("id", page.user.as_str()), ("done", page.act.name())];
            Ok(see(&links::with("/user", &done)))
        }
        Err(refused) => {
            page.refused(refused, words);
            Ok(sent_back(page))
        }
    }
}
