//! News of purchases: told to whoever owns the purchase, after its store was asked where the news does not say all.

use tracing::{error, info, warn};

use super::{Notifications, nobody};
use crate::{
    domain::{
        AppleTold, Ended, Hear, Heard, News, ProductId, PurchaseKey, PurchaseToken, Store,
        StoreRefund, StoreWord,
    },
    ledger::LedgerError,
    stores::{Proof, StoreError},
};

/// How often a purchase may change hands while news of it is told.
const OWNERS_MAX: u32 = 4;

impl Notifications {
    /// Google says that a purchase was paid, or that a pending one was cancelled.
    pub(super) async fn google_changed(
        &self,
        token: &PurchaseToken,
        product: Option<&ProductId>,
    ) -> Ended {
        let keys = vec![PurchaseKey::google_token(token)];
        self.tell(keys, Store::Google, News::Changed(product.cloned())).await
    }

    /// Google gave money back. How much of several pieces, the purchase itself tells.
    pub(super) async fn google_voided(
        &self,
        token: &PurchaseToken,
        order: Option<&str>,
        refund: &StoreRefund,
    ) -> Ended {
        let key = PurchaseKey::google_token(token);
        let mut keys = vec![key.clone()];
        keys.extend(order.map(PurchaseKey::google_order));
        let mut refunded = refund.clone();
        if !refund.whole {
            match self.ask_google(key.clone(), token).await {
                // What is listed is kept, for the day on which the purchase can't be read any more.
                Ok(StoreWord::Paid(paid)) if !paid.refund.is_nothing() => {
                    refunded.pieces = paid.refund.pieces;
                }
                // What the list says counts, where the purchase does not tell, or tells of all: that may as well mean
                // that Google has forgotten the token.
                Ok(_) | Err(StoreError::Unknown) if !refund.is_nothing() => {}
                Ok(_) | Err(StoreError::Unknown) => {
                    return Ended::Done("the list of voided purchases tells how much");
                }
                Err(error) => {
                    warn!(purchase = key.short_hash(), %error, "how much was refunded can't be read now");
                    return Ended::Again;
                }
            }
        }
        self.tell(keys, Store::Google, News::Refunded(refunded)).await
    }

    async fn ask_google(
        &self,
        key: PurchaseKey,
        token: &PurchaseToken,
    ) -> Result<StoreWord, StoreError> {
        let (environment, doubt) = (None, None);
        let token = token.clone();
        let proof = Proof { store: Store::Google, key, token, environment, doubt };
        self.stores.ask(&proof, self.now()).await
    }

    /// Apple says what a transaction is like.
    pub(super) async fn apple_told(&self, told: &AppleTold) -> Ended {
        let keys = PurchaseKey::all_of(&told.paid);
        self.tell(keys, Store::Apple, News::Transaction(told.clone())).await
    }

    /// Tells the purchase's owner, whoever that is.
    async fn tell(&self, keys: Vec<PurchaseKey>, store: Store, news: News) -> Ended {
        let purchase = keys.first().map(PurchaseKey::short_hash);
        let mut user = nobody();
        for _ in 0..OWNERS_MAX {
            let hear = Hear { keys: keys.clone(), store, news: news.clone() };
            match self.apply(&user, hear).await.map(|applied| applied.outcome) {
                Ok(Heard::OfAnother(owner)) => user = owner,
                Ok(noted) => return self.noted(purchase.as_deref(), store, &noted),
                Err(LedgerError::Refused(refusal)) => {
                    warn!(purchase, code = refusal.code(), "a refund can't be booked now");
                    return Ended::Again;
                }
                Err(error @ LedgerError::Failed(_)) => {
                    error!(purchase, %error, "news of a purchase can't be booked");
                    return Ended::Again;
                }
                Err(error) => {
                    warn!(purchase, %error, "news of a purchase have to wait");
                    return Ended::Again;
                }
            }
        }
        Ended::Again
    }

    fn noted(&self, purchase: Option<&str>, store: Store, heard: &Heard) -> Ended {
        let Heard::Noted { id: purchase_id, state, is_test, taken, missing, given_back } = heard
        else {
            return Ended::Again;
        };
        let (taken, missing, given_back) = (taken.get(), missing.get(), given_back.get());
        let (state, store) = (state.name(), store.name());
        if taken > 0 || missing > 0 || given_back > 0 {
            info!(
                purchase,
                purchase_id, store, state, taken, missing, given_back, "a refund is booked"
            );
        } else {
            info!(purchase, purchase_id, store, state, "news of a purchase");
        }
        if missing > 0 {
            warn!(purchase, purchase_id, shortfall = missing, "what was refunded was used up");
        }
        if let (Some(metrics), false) = (&self.metrics, is_test) {
            metrics.operations.credits_refunded.inc_by(taken.unsigned_abs());
            metrics.operations.credits_shortfall.inc_by(missing.unsigned_abs());
            metrics.operations.credits_given_back.inc_by(given_back.unsigned_abs());
        }
        Ended::Done("noted")
    }
}
