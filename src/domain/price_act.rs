//! What an operator does to the prices: one is set, or a model is taken off. Balances of a model without a price stay,
//! and so does what may be done with them; it is in no category then, and can't be bought.

use serde_json::{Value, json};

use super::{Applied, Facts, ModelId, Operation, OperatorAct, Price, Refusal, UserId, Wanted};

/// How many times as much, or as little, a price may become without a word that it is meant.
const JUMP: i64 = 5;

/// Sets the price of a model, which may be new.
#[derive(Debug, Clone)]
pub(crate) struct SetPrice {
    pub model: ModelId,
    pub price: Price,
    /// Whether a price far from today's is meant.
    pub confirm: bool,
    /// What the price must be today, if that was said.
    pub if_price: Option<i64>,
}

/// Takes a model off.
#[derive(Debug, Clone)]
pub(crate) struct RemovePrice {
    pub model: ModelId,
}

impl Operation for SetPrice {
    type Outcome = ();

    fn asks(&self, wanted: &mut Wanted) {
        wanted.prices = true;
        wanted.changes_lists = true;
    }

    fn entries(&self) -> usize {
        0
    }

    fn decide(&self, _: &UserId, facts: &mut Facts) -> Result<Applied<()>, Refusal> {
        let today = facts.prices.get(&self.model);
        let price_today = today.map(Price::price_per_m_token);
        if self.if_price.is_some() && self.if_price != price_today {
            return Err(Refusal::PriceChanged { today });
        }
        if let Some(today) = price_today.filter(|_| !self.confirm) {
            let asked = self.price.price_per_m_token();
            let is_far =
                |low: i64, high: i64| low.checked_mul(JUMP).is_some_and(|most| high > most);
            if is_far(today, asked) || is_far(asked, today) {
                return Err(Refusal::PriceJump { today });
            }
        }
        facts.set_price(&self.model, Some(self.price));
        Ok(Applied::now(()))
    }
}

impl OperatorAct for SetPrice {
    const ACTION: &'static str = "set_price";
    const OF_ACCOUNT: bool = false;

    fn state(&self, _: &UserId, facts: &Facts) -> Value {
        state(&self.model, facts)
    }
}

impl Operation for RemovePrice {
    type Outcome = ();

    fn asks(&self, wanted: &mut Wanted) {
        wanted.prices = true;
        wanted.changes_lists = true;
    }

    fn entries(&self) -> usize {
        0
    }

    fn decide(&self, _: &UserId, facts: &mut Facts) -> Result<Applied<()>, Refusal> {
        if facts.prices.get(&self.model).is_none() {
            return Err(Refusal::ModelNotPriced { model: self.model.clone() });
        }
        facts.set_price(&self.model, None);
        Ok(Applied::now(()))
    }
}

impl OperatorAct for RemovePrice {
    const ACTION: &'static str = "remove_price";
    const OF_ACCOUNT: bool = false;

    fn state(&self, _: &UserId, facts: &Facts) -> Value {
        state(&self.model, facts)
    }
}

fn state(model: &ModelId, facts: &Facts) -> Value {
    let price = facts.prices.get(model);
    json!({
        "model_id": model,
        "price_per_m_token": price.map(Price::price_per_m_token),
        "category": price.map(Price::category),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Category;

    fn decide(
        today: Option<i64>,
        asked: i64,
        confirm: bool,
        if_price: Option<i64>,
    ) -> Option<&'static str> {
        let model = ModelId::new("m").expect("a name");
        let price = |price| Price::new(price, Category::Quick).expect("a price");
        let mut facts = Facts {
            prices: today.map(|today| (model.clone(), price(today))).into_iter().collect(),
            ..Facts::default()
        };
        let act = SetPrice { model: model.clone(), price: price(asked), confirm, if_price };
        let refused = act.decide(&UserId::operators(), &mut facts).err();
        let expected = if refused.is_none() { Some(asked) } else { today };
        assert_eq!(facts.prices.get(&model).map(Price::price_per_m_token), expected);
        refused.map(|refusal| refusal.code())
    }

    #[test]
    fn a_price_far_from_todays_must_be_meant() {
        for (today, asked, refused) in [
            (100, 500, false),
            (100, 501, true),
            (100, 20, false),
            (100, 19, true),
            (1, 5, false),
            (1, 6, true),
            (i64::MAX, 1, true),
            (1, i64::MAX, true),
            (i64::MAX, i64::MAX - 1, false),
        ] {
            let expected = refused.then_some("price_jump");
            assert_eq!(decide(Some(today), asked, false, None), expected, "{today} to {asked}");
            assert_eq!(decide(Some(today), asked, true, None), None, "{today} to {asked}");
        }
        assert_eq!(decide(None, 1_000_000, false, None), None);
    }

    #[test]
    fn a_price_that_was_changed_meanwhile_is_told_first() {
        assert_eq!(decide(Some(100), 101, false, Some(100)), None);
        assert_eq!(decide(Some(100), 501, false, Some(99)), Some("price_changed"));
        assert_eq!(decide(None, 101, true, Some(100)), Some("price_changed"));
    }
}
