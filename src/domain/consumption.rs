//! A consumption: the tokens one chat used, taken from its model's balance.

use serde::{Deserialize, Serialize};

use super::{
    Applied, Entry, Facts, ModelId, Operation, Price, Refusal, Tokens, Usage, UserId, Wanted,
};

/// Uses up tokens that nobody holds; tells how many of the model remain, those that are held too.
#[derive(Debug, Clone)]
pub(crate) struct Consume {
    /// The model that answered.
    pub model: ModelId,
    /// Tokens used.
    pub usage: Usage,
}

/// What a consumption comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub(crate) struct Consumed {
    /// The balance afterwards.
    pub remaining: Tokens,
    /// Its entry. Requests that were carried out by an older version don't tell it when they are repeated.
    pub transaction: Option<i64>,
}

/// How it is kept under the request's key. Older versions kept the balance alone.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Kept {
    Balance(Tokens),
    WithEntry(Tokens, i64),
}

impl From<Kept> for Consumed {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Balance(remaining) => Self { remaining, transaction: None },
            Kept::WithEntry(remaining, id) => Self { remaining, transaction: Some(id) },
        }
    }
}

impl From<Consumed> for Kept {
    fn from(Consumed { remaining, transaction }: Consumed) -> Self {
        transaction.map_or(Self::Balance(remaining), |id| Self::WithEntry(remaining, id))
    }
}

impl Operation for Consume {
    type Outcome = Consumed;

    fn asks(&self, wanted: &mut Wanted) {
        wanted.prices = true;
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Consumed>, Refusal> {
        let Facts { accounts, prices, now, .. } = facts;
        let account = accounts.of(user);
        account.check_not_frozen()?;
        let Some(balance) = account.tokens().get(&self.model).copied() else {
            return Err(Refusal::NoTokenBalance { model: self.model.clone() });
        };
        let required = self.usage.total();
        let available = account.available(&self.model, *now);
        let remaining = balance.checked_sub(required).filter(|_| required <= available);
        let remaining = remaining.ok_or(Refusal::InsufficientTokens { required, available })?;
        let entry = Entry::Consumption {
            model: self.model.clone(),
            usage: self.usage,
            price_per_m_token: prices.get(&self.model).map(Price::price_per_m_token),
            hold: None,
            shortfall: None,
        };
        let transaction = Some(accounts.record(user, entry));
        Ok(Applied::now(Consumed { remaining, transaction }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_older_versions_kept_is_read() {
        let read = |text| serde_json::from_str::<Consumed>(text).expect("a kept outcome");
        let remaining = Tokens::new(7).expect("an amount");
        assert_eq!(read("7"), Consumed { remaining, transaction: None });
        let new = Consumed { remaining, transaction: Some(12) };
        let kept = serde_json::to_string(&new).expect("a JSON form");
        assert_eq!((kept.as_str(), read(&kept)), ("[7,12]", new));
    }
}
