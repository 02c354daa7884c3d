//! What is taken from an account, or given back to it, so that what was booked for a purchase's refunds is what is
//! refunded by now. Repetitions book nothing, and the order of what a store tells does not matter.
//!
//! Taken are unspent credits first, of them the bought ones before the given ones; then tokens of the newest allocations
//! that are neither used nor held, at what was paid for them. What is missing then is the purchase's shortfall, which is
//! never collected later. When a refund is reversed, the shortfall shrinks first; the rest comes back as credits, what was
//! taken last first, so that it is as if no more had ever been refunded: given credits, which were taken last, come back
//! as given ones.

use chrono::{DateTime, Utc};

use super::{
    Accounts, Credits, Entry, ModelId, PurchaseState, Refusal, TrackedPurchase, UserId,
    tracked::RefundPart,
};

/// What was booked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Booking {
    pub taken: Credits,
    pub given_back: Credits,
    /// By how much the shortfall grew.
    pub missing: Credits,
}

/// Books what is missing of a granted purchase's refunds, or was too much.
///
/// # Errors
/// [`Refusal::BalanceOverflow`] where what comes back is more than the account can hold.
pub(super) fn settle(
    user: &UserId,
    purchase: &mut TrackedPurchase,
    accounts: &mut Accounts,
    now: DateTime<Utc>,
) -> Result<Booking, Refusal> {
    let target = purchase.refund_store.max(purchase.refund_operator);
    let booked = purchase.taken_credits.get().saturating_add(purchase.shortfall_credits.get());
    let missing = target.get().saturating_sub(booked);
    let booking = if missing > 0 {
        take(user, purchase, accounts, amount(missing), now)
    } else {
        give_back(user, purchase, accounts, amount(missing.saturating_neg()))?
    };
    purchase.state =
        if target > Credits::ZERO { PurchaseState::Refunded } else { PurchaseState::Granted };
    Ok(booking)
}

fn take(
    user: &UserId,
    purchase: &mut TrackedPurchase,
    accounts: &mut Accounts,
    credits: Credits,
    now: DateTime<Utc>,
) -> Booking {
    let entry_id = purchase.entry_id.expect("what was granted has an entry");
    let mut parts = Vec::new();
    let funds = accounts.of(user).funds();
    let unspent = funds.total().min(credits);
    if unspent > Credits::ZERO {
        let bonus = funds.bonus_of_taken(unspent);
        let entry = Entry::CreditsRefund { credits: unspent, bonus, purchase: entry_id };
        parts.push(RefundPart::new(accounts.record(user, entry), unspent, bonus));
    }
    let rest = less(credits, unspent);
    if rest > Credits::ZERO {
        let account = accounts.of(user);
        let available = |model: &ModelId| account.available(model, now);
        for (model, part) in account.lots().worth_up_to(rest, available) {
            let entry = Entry::TokensRefund {
                credits: part.credits,
                purchase: entry_id,
                allocation: part.allocation,
                model,
                tokens: part.tokens,
            };
            let id = accounts.record(user, entry);
            parts.push(RefundPart::new(id, part.credits, part.bonus));
        }
    }
    let taken = parts.iter().fold(Credits::ZERO, |sum, part| more(sum, part.credits));
    let missing = less(credits, taken);
    purchase.parts.append(&mut parts);
    purchase.taken_credits = more(purchase.taken_credits, taken);
    purchase.shortfall_credits = more(purchase.shortfall_credits, missing);
    Booking { taken, missing, ..Booking::default() }
}

fn give_back(
    user: &UserId,
    purchase: &mut TrackedPurchase,
    accounts: &mut Accounts,
    credits: Credits,
) -> Result<Booking, Refusal> {
    let never_taken = purchase.shortfall_credits.min(credits);
    let given_back = less(credits, never_taken);
    // Before anything is changed.
    accounts.of(user).credits().checked_add(given_back).ok_or(Refusal::BalanceOverflow)?;
    purchase.shortfall_credits = less(purchase.shortfall_credits, never_taken);
    purchase.taken_credits = less(purchase.taken_credits, given_back);
    let mut rest = given_back;
    for part in purchase.parts.iter_mut().rev() {
        let of_part = less(part.credits, part.given_back).min(rest);
        if of_part > Credits::ZERO {
            let bonus = part.give_back(of_part);
            let entry = Entry::RefundReversal { credits: of_part, bonus, refund: part.entry };
            accounts.record(user, entry);
            rest = less(rest, of_part);
        }
    }
    assert_eq!(rest, Credits::ZERO, "what was taken is the sum of its parts");
    Ok(Booking { given_back, ..Booking::default() })
}

fn amount(credits: i64) -> Credits {
    Credits::new(credits).expect("a difference of amounts that is not negative is one")
}

fn less(one: Credits, other: Credits) -> Credits {
    amount(one.get().saturating_sub(other.get()))
}

/// Parts of a purchase's credits never come to more than an amount.
fn more(one: Credits, other: Credits) -> Credits {
    one.checked_add(other).expect("parts of an amount come to an amount")
}
