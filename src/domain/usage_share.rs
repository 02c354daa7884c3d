//! How much of a purchase was used, as the stores ask before they give money back.

use super::{Credits, WHOLE_MILLIUNITS};

/// What has to be known of a purchase for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PurchaseUse {
    /// What it was granted for.
    pub credits: Credits,
    /// What was bought before it.
    pub bought_before: i64,
    /// What of all that was bought was turned into tokens, and not returned.
    pub allocated: i64,
}

impl PurchaseUse {
    /// The share of its credits that were allocated, what was bought first spent first, in thousandths of a percent,
    /// rounded down.
    pub(crate) fn milliunits(self) -> u32 {
        let credits = self.credits.get();
        let of_it = self.allocated.saturating_sub(self.bought_before).clamp(0, credits);
        i128::from(of_it)
            .saturating_mul(WHOLE_MILLIUNITS.into())
            .checked_div(credits.into())
            .and_then(|share| u32::try_from(share).ok())
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_bought_first_is_spent_first() {
        let share = |credits, bought_before, allocated| {
            let credits = Credits::new(credits).expect("an amount");
            PurchaseUse { credits, bought_before, allocated }.milliunits()
        };
        assert_eq!(share(300, 0, 0), 0);
        assert_eq!(share(300, 0, 150), 50_000);
        assert_eq!(share(300, 0, 300), 100_000);
        assert_eq!(share(300, 0, 900), 100_000);
        assert_eq!(share(300, 500, 500), 0);
        assert_eq!(share(300, 500, 501), 333);
        assert_eq!(share(300, 500, 799), 99_666);
        assert_eq!(share(300, -100, 0), 33_333);
        assert_eq!(share(Credits::MAX.get(), 0, Credits::MAX.get()), 100_000);
    }
}
