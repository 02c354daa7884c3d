//! The end of a hold: it is settled by what was used, or given up. Whichever comes first counts; repeated, it tells
//! the same again.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Account, Applied, Entry, Facts, Hold, HoldId, HoldStatus, Operation, Price, Refusal, Tokens,
    Usage, UserId, Wanted,
};

/// Takes what a chat used. More than was held takes the rest from what is free; what is missing then is told, and
/// never taken later. After the hold's time all is taken from what is free.
#[derive(Debug, Clone)]
pub(crate) struct SettleHold {
    pub id: HoldId,
    pub usage: Usage,
}

/// Gives a hold up.
#[derive(Debug, Clone)]
pub(crate) struct ReleaseHold {
    pub id: HoldId,
}

/// What a settlement comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settlement {
    pub hold: HoldId,
    /// The model that answered.
    pub model: super::ModelId,
    /// What was taken.
    pub consumed: Tokens,
    /// What became free of the hold.
    pub released: Tokens,
    /// What was used and could not be taken.
    pub shortfall: Tokens,
    /// The balance afterwards.
    pub remaining: Tokens,
    /// The entry.
    pub transaction: i64,
}

/// What a release comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Release {
    pub hold: HoldId,
    /// What became free.
    pub released: Tokens,
    /// The balance.
    pub remaining: Tokens,
}

impl Operation for SettleHold {
    type Outcome = Settlement;

    fn asks(&self, wanted: &mut Wanted) {
        wanted.prices = true;
    }

    fn asks_of(&self, user: &UserId, wanted: &mut Wanted) {
        wanted.holds.push((user.clone(), self.id));
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Settlement>, Refusal> {
        let Facts { accounts, prices, now, .. } = facts;
        let account = accounts.of(user);
        let hold = find(account, self.id)?;
        if hold.usage() == Some(self.usage) {
            return settlement(hold).map(Applied::before).ok_or(Refusal::HoldNotFound);
        }
        if hold.status != HoldStatus::Held {
            return Err(Refusal::HoldClosed { status: hold.status });
        }
        let mut hold = hold.clone();
        let used = self.usage.total();
        let consumed = used.min(account.available_to(&hold, *now));
        let shortfall = less(used, consumed);
        let entry = Entry::Consumption {
            model: hold.model.clone(),
            usage: self.usage,
            price_per_m_token: prices.get(&hold.model).map(Price::price_per_m_token),
            hold: Some(hold.id),
            shortfall: (shortfall > Tokens::ZERO).then_some(shortfall),
        };
        hold.transaction_id = Some(accounts.record(user, entry));
        hold.input_tokens = Some(self.usage.input());
        hold.output_tokens = Some(self.usage.output());
        hold.consumed_tokens = Some(consumed);
        let freed = if hold.counts(*now) { less(hold.held_tokens, used) } else { Tokens::ZERO };
        let account = accounts.of(user);
        close(account, &mut hold, HoldStatus::Settled, freed, *now);
        let outcome = settlement(&hold).expect("it has just been settled");
        account.close_hold(hold);
        Ok(Applied::now(outcome))
    }
}

impl Operation for ReleaseHold {
    type Outcome = Release;

    fn entries(&self) -> usize {
        0
    }

    fn asks_of(&self, user: &UserId, wanted: &mut Wanted) {
        wanted.holds.push((user.clone(), self.id));
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Release>, Refusal> {
        let now = facts.now;
        let account = facts.accounts.of(user);
        let hold = find(account, self.id)?;
        if hold.status == HoldStatus::Released {
            return release(hold).map(Applied::before).ok_or(Refusal::HoldNotFound);
        }
        if hold.status != HoldStatus::Held {
            return Err(Refusal::HoldClosed { status: hold.status });
        }
        let mut hold = hold.clone();
        let released = if hold.counts(now) { hold.held_tokens } else { Tokens::ZERO };
        close(account, &mut hold, HoldStatus::Released, released, now);
        let outcome = release(&hold).expect("it has just been released");
        account.close_hold(hold);
        Ok(Applied::now(outcome))
    }
}

/// Gives up all holds of the account that count.
pub(super) fn release_all(account: &mut Account, now: DateTime<Utc>) {
    let counting: Vec<Hold> = account.holds().counting(now).into_iter().cloned().collect();
    for mut hold in counting {
        let released = hold.held_tokens;
        close(account, &mut hold, HoldStatus::Released, released, now);
        account.close_hold(hold);
    }
}

/// A hold of the account. Others' are as if there were none.
fn find(account: &Account, id: HoldId) -> Result<&Hold, Refusal> {
    account.holds().get(id).ok_or(Refusal::HoldNotFound)
}

/// Says how and when a hold ended, what became free, and the balance then.
fn close(
    account: &Account,
    hold: &mut Hold,
    status: HoldStatus,
    released: Tokens,
    now: DateTime<Utc>,
) {
    hold.status = status;
    hold.closed_at = Some(now);
    hold.released_tokens = Some(released);
    hold.remaining_tokens = Some(account.tokens().get(&hold.model).copied().unwrap_or_default());
}

fn settlement(hold: &Hold) -> Option<Settlement> {
    let consumed = hold.consumed_tokens?;
    Some(Settlement {
        hold: hold.id,
        model: hold.model.clone(),
        consumed,
        released: hold.released_tokens?,
        shortfall: less(hold.usage()?.total(), consumed),
        remaining: hold.remaining_tokens?,
        transaction: hold.transaction_id?,
    })
}

fn release(hold: &Hold) -> Option<Release> {
    Some(Release {
        hold: hold.id,
        released: hold.released_tokens?,
        remaining: hold.remaining_tokens?,
    })
}

/// The difference, or nothing.
fn less(one: Tokens, other: Tokens) -> Tokens {
    Tokens::new(one.get().saturating_sub(other.get())).unwrap_or_default()
}
