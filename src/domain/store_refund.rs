//! What a store says it has given back of a purchase by now, and how many credits that is. What is taken from the
//! account for it is in `take_back`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error, ser};

use super::{Credits, ProductId};

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
        // An array would else be taken for a struct.
        let refund = json.starts_with('{').then(|| serde_json::from_str::<StoreRefund>(&json).ok());
        let refund = refund.flatten().filter(|refund| !refund.is_nothing());
        refund.map(Some).ok_or_else(|| D::Error::custom("what is kept of its refund can't be read"))
    }
}

/// What was granted for one product of a purchase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GrantedItem {
    pub product: ProductId,
    pub quantity: u32,
    /// What one of it was granted for.
    pub unit: Credits,
}
