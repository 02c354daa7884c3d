//! What a store says it has given back of a purchase by now, and how many credits that is. What is taken from the
//! account for it is in `take_back`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error, ser};

use super::{Credits, ProductId, PurchasedItem};

/// A whole, in the thousandths of a percent that both stores count in.
pub(crate) const WHOLE_MILLIUNITS: u32 = 100_000;

/// What is refunded of a purchase by now, all refunds together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreRefund {
    /// Apple: the share in thousandths of a percent, 100,000 at most. A refund that was reversed is 0 again.
    #[serde(skip_serializing_if = "is_zero")]
    pub milliunits: u32,
    /// Google: all of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// Google: how many of each product, as the purchase tells.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pieces: BTreeMap<ProductId, u32>,
    /// Google: how many pieces at a time, in milliseconds, as the list of voided purchases tells. It does not name
    /// the product.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub voids: BTreeMap<i64, u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl StoreRefund {
    /// What is kept of one, if it can be read: JSON of something that is refunded.
    pub(crate) fn kept(json: &str) -> Option<Self> {
        // An array would else be taken for a struct.
        let refund = json.starts_with('{').then(|| serde_json::from_str::<Self>(json).ok());
        refund.flatten().filter(|refund| !refund.is_nothing())
    }

    /// How many credits that is of a purchase that was granted so many for these items, as they are kept. `None`,
    /// where they can't be read.
    pub(crate) fn credits_of_kept(&self, items: &str, credits: Credits) -> Option<Credits> {
        Some(self.credits(&GrantedItem::all_kept(items)?, credits))
    }

    /// All of it, by Google's word.
    #[cfg(test)]
    pub(crate) fn of_all() -> Self {
        Self { whole: true, ..Self::default() }
    }

    /// Adds what Google tells: in whatever order that comes, what is refunded only grows.
    pub(super) fn rise(&mut self, told: &Self) {
        self.whole |= told.whole;
        self.milliunits = self.milliunits.max(told.milliunits);
        for (product, pieces) in &told.pieces {
            let known = self.pieces.entry(product.clone()).or_default();
            *known = (*known).max(*pieces);
        }
        for (time, pieces) in &told.voids {
            let known = self.voids.entry(*time).or_default();
            *known = (*known).max(*pieces);
        }
    }

    /// Whether nothing of a purchase of so many pieces is left.
    pub(crate) fn is_whole(&self, pieces: u32) -> bool {
        let of_pieces = pieces > 0 && self.pieces() >= pieces;
        self.whole || self.milliunits >= WHOLE_MILLIUNITS || of_pieces
    }

    /// Whether nothing is refunded.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.whole && self.milliunits == 0 && self.pieces() == 0
    }

    /// How many pieces Google gave back.
    fn pieces(&self) -> u32 {
        let told: u32 = self.pieces.values().fold(0, |sum, pieces| sum.saturating_add(*pieces));
        let listed: u32 = self.voids.values().fold(0, |sum, pieces| sum.saturating_add(*pieces));
        told.max(listed)
    }

    /// How many of the credits granted for these that is: Apple's share of them, rounded half up; Google's pieces
    /// at what one was granted for. Of several products the list of voids does not tell which one came back; it
    /// counts as the cheapest, so that nobody loses more than they got back.
    pub(super) fn credits(&self, granted: &[GrantedItem], credits: Credits) -> Credits {
        let bought = granted.iter().fold(0_u32, |sum, item| sum.saturating_add(item.quantity));
        if self.is_whole(bought) {
            return credits;
        }
        let all = credits.get();
        let share = i128::from(all)
            .saturating_mul(self.milliunits.into())
            .saturating_add(i128::from(WHOLE_MILLIUNITS / 2))
            .checked_div(WHOLE_MILLIUNITS.into())
            .and_then(|share| i64::try_from(share).ok())
            .unwrap_or(all);
        // One product may be on several lines.
        let mut left = self.pieces.clone();
        let told = granted.iter().fold(0_i64, |sum, item| {
            let of_product = left.get_mut(&item.product);
            let pieces = of_product.as_ref().map_or(0, |left| **left).min(item.quantity);
            if let Some(left) = of_product {
                *left = left.saturating_sub(pieces);
            }
            sum.saturating_add(item.unit.get().saturating_mul(pieces.into()))
        });
        let cheapest = granted.iter().map(|item| item.unit.get()).min().unwrap_or(0);
        let listed =
            self.voids.values().fold(0_i64, |sum, pieces| sum.saturating_add((*pieces).into()));
        let listed = cheapest.saturating_mul(listed);
        Credits::new(share.max(told).max(listed).min(all)).unwrap_or(credits)
    }
}

/// What is refunded of a purchase, as its column has it: JSON, or nothing where nothing is refunded. What can't be
/// read is no refund of nothing: what was taken would be given back.
pub(super) mod kept {
    use super::{Deserialize, Deserializer, Error, Serializer, StoreRefund, ser};

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(crate) fn serialize<S: Serializer>(
        refund: &Option<StoreRefund>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match refund {
            Some(refund) => {
                let json = serde_json::to_string(refund).map_err(ser::Error::custom)?;
                serializer.serialize_str(&json)
            }
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<StoreRefund>, D::Error> {
        let Some(json) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let refund = StoreRefund::kept(&json);
        refund.map(Some).ok_or_else(|| D::Error::custom("what is kept of its refund can't be read"))
    }
}

/// What was granted for one product of a purchase, or for some pieces of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GrantedItem {
    pub product: ProductId,
    pub quantity: u32,
    /// What one of it was granted for.
    pub unit: Credits,
}

impl GrantedItem {
    /// Those of a purchase as they are kept, if they can be read.
    pub(super) fn all_kept(json: &str) -> Option<Vec<Self>> {
        let items: Vec<(ProductId, u32, Credits)> = serde_json::from_str(json).ok()?;
        let items = items.into_iter();
        Some(items.map(|(product, quantity, unit)| Self { product, quantity, unit }).collect())
    }

    /// As they are kept: JSON of product, quantity, and the credits of one.
    pub(super) fn keep(items: &[Self]) -> String {
        let items: Vec<_> =
            items.iter().map(|item| (&item.product, item.quantity, item.unit)).collect();
        serde_json::to_string(&items).expect("texts and numbers have a JSON form")
    }

    /// So many credits for what was bought, each piece worth as much as any other. What can't be divided is the last
    /// piece's, which goes back last.
    pub(super) fn all_alike(bought: &[PurchasedItem], credits: Credits) -> Vec<Self> {
        let pieces =
            bought.iter().fold(0_i64, |sum, item| sum.saturating_add(item.quantity.into()));
        let part = |credits: Option<i64>| {
            let credits = credits.and_then(|credits| Credits::new(credits).ok());
            credits.expect("something was bought, and a part of an amount is one")
        };
        let unit = part(credits.get().checked_div(pieces));
        let rest = credits.get().checked_rem(pieces).unwrap_or(0);
        let of = |item: &PurchasedItem, quantity, unit| {
            let product = item.product.clone();
            Self { product, quantity, unit }
        };
        let mut items: Vec<_> = bought.iter().map(|item| of(item, item.quantity, unit)).collect();
        if let (true, Some(last), Some(line)) = (rest > 0, bought.last(), items.last_mut()) {
            line.quantity = line.quantity.saturating_sub(1);
            items.retain(|item| item.quantity > 0);
            items.push(of(last, 1, part(unit.get().checked_add(rest))));
        }
        items
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::samples::credits;

    fn product(name: &str) -> ProductId {
        ProductId::new(name).expect("a name")
    }

    proptest! {
        /// Nothing is lost by dividing, and nobody loses more than came back.
        #[test]
        fn pieces_are_worth_the_same_and_the_last_one_the_rest(
            amount in 1_i64..2_000, quantities in prop::collection::vec(1_u32..6, 1..4), back in 0_u32..20,
        ) {
            let bought: Vec<_> = (0..).zip(&quantities).map(|(number, quantity)| {
                PurchasedItem { product: product(&format!("{number}")), quantity: *quantity }
            }).collect();
            let items = GrantedItem::all_alike(&bought, credits(amount.into()));
            let worth = items.iter().map(|item| item.unit.get() * i64::from(item.quantity));
            prop_assert_eq!(worth.sum::<i64>(), amount);
            let kept = GrantedItem::all_kept(&GrantedItem::keep(&items));
            prop_assert_eq!(kept, Some(items.clone()));
            let pieces: u32 = quantities.iter().sum();
            let of_last = bought.last().expect("one at least");
            let back = back.min(of_last.quantity);
            let told = BTreeMap::from([(of_last.product.clone(), back)]);
            let by_purchase = StoreRefund { pieces: told, ..StoreRefund::default() };
            let voids = BTreeMap::from([(1, back)]);
            let by_list = StoreRefund { voids, ..StoreRefund::default() };
            let share = amount / i64::from(pieces) * i64::from(back);
            let is_all_of_last = back == of_last.quantity;
            for (refund, is_named) in [(by_purchase, true), (by_list, false)] {
                let counted = refund.credits(&items, credits(amount.into())).get();
                let expected = match (back == pieces, is_all_of_last && is_named) {
                    (true, _) => amount,
                    (false, true) => share + amount % i64::from(pieces),
                    (false, false) => share,
                };
                prop_assert_eq!(counted, expected);
            }
        }
    }
}
