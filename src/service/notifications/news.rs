//! News of purchases: told to whoever owns the purchase, after its store was asked where the news does not say all.

use tracing::{error, info, warn};

use super::{Notifications, nobody};
use crate::{
    database::{BelievedPurchase, DatabaseError},
    domain::{
        AppleTold, Believed, Ended, Hear, Heard, MessageId, NOTED, News, ProductId, PurchaseKey,
        PurchaseName, PurchaseToken, PurchasedItem, Store, StoreRefund, StoreWord, UserId,
    },
    ledger::LedgerError,
    stores::{Proof, StoreError},
};

/// How often a purchase may change hands while news of it is told.
const OWNERS_MAX: u32 = 4;

/// What is told of a purchase.
struct Told {
    /// The message that tells it, if that tells nothing else.
    ends: Option<MessageId>,
    /// By which its store knows it.
    keys: Vec<PurchaseKey>,
    store: Store,
    news: News,
    /// By which it may have been granted on a client's word, the surest first.
    names: Vec<PurchaseName>,
    /// Google's id, if it is told.
    order: Option<String>,
    /// Of how many pieces of what it is, where Google was asked, and it is of one product.
    pieces: Option<PurchasedItem>,
}

impl Told {
    /// By which the log tells purchases apart.
    fn short_hash(&self) -> Option<String> {
        self.keys.first().map(PurchaseKey::short_hash)
    }
}

impl Notifications {
    /// Google says that a purchase was paid, or that a pending one was cancelled.
    pub(super) async fn google_changed(
        &self,
        message: &MessageId,
        token: &PurchaseToken,
        product: Option<&ProductId>,
    ) -> Ended {
        let keys = vec![PurchaseKey::google_token(token)];
        let news = News::Changed(product.cloned());
        self.tell(Told {
            ends: Some(message.clone()),
            names: Vec::new(),
            order: None,
            pieces: None,
            keys,
            store: Store::Google,
            news,
        })
        .await
    }

    /// Google gave money back. How much of several pieces, the purchase itself tells.
    pub(super) async fn google_voided(
        &self,
        message: &MessageId,
        token: &PurchaseToken,
        order: Option<&str>,
        refund: &StoreRefund,
    ) -> Ended {
        let key = PurchaseKey::google_token(token);
        let mut keys = vec![key.clone()];
        keys.extend(order.map(PurchaseKey::google_order));
        let mut refunded = refund.clone();
        let mut pieces = None;
        if !refund.whole {
            match self.ask_google(key.clone(), token).await {
                // What is listed is kept, for the day on which the purchase can't be read any more.
                Ok(StoreWord::Paid(paid)) if !(refund.is_nothing() && paid.refund.is_nothing()) => {
                    refunded.pieces = paid.refund.pieces;
                    if let [item] = &paid.items[..] {
                        pieces = Some(item.clone());
                    }
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
        let names = [Some(PurchaseName::of_token(token)), order.map(PurchaseName::of)];
        let (names, order) = (names.into_iter().flatten().collect(), order.map(str::to_owned));
        let news = News::Refunded(refunded);
        let ends = Some(message.clone());
        self.tell(Told { ends, keys, store: Store::Google, news, names, order, pieces }).await
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

    /// Apple says what a transaction is like, in a message that this `ends` if it says nothing else.
    pub(super) async fn apple_told(&self, told: &AppleTold, ends: Option<&MessageId>) -> Ended {
        let keys = PurchaseKey::all_of(&told.paid);
        let names = told.paid.store_id.as_deref().map(PurchaseName::of).into_iter().collect();
        let news = News::Transaction(told.clone());
        let ends = ends.cloned();
        self.tell(Told { ends, keys, store: Store::Apple, news, names, order: None, pieces: None })
            .await
    }

    /// Tells the purchase's owner, whoever that is. One that nobody has may have been granted on a client's word.
    async fn tell(&self, told: Told) -> Ended {
        let mut heard = self.tell_owner(&told, nobody(), None).await;
        if let Ok(Heard::Noted { may_be_believed: true, .. }) = &heard {
            match self.believed(&told).await {
                Ok(Some((user, believed))) => {
                    let entry = believed.entry;
                    heard = self.tell_owner(&told, user, Some(believed)).await;
                    if let Ok(Heard::Noted { may_be_believed: true, is_refunded: true, .. }) =
                        &heard
                    {
                        let purchase = told.short_hash();
                        warn!(
                            purchase,
                            entry,
                            "a refund in part of what was granted on the app's word can't be counted"
                        );
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    let purchase = told.short_hash();
                    warn!(purchase, %error, "whether it was believed can't be read now");
                    return Ended::Again;
                }
            }
        }
        match heard {
            Ok(heard) => self.noted(&told, &heard),
            Err(ended) => ended,
        }
    }

    async fn tell_owner(
        &self,
        told: &Told,
        mut user: UserId,
        believed: Option<Believed>,
    ) -> Result<Heard, Ended> {
        let purchase = told.short_hash();
        for _ in 0..OWNERS_MAX {
            let (keys, store) = (told.keys.clone(), told.store);
            let (believed, ends) = (believed.clone(), told.ends.clone());
            let hear = Hear { keys, store, news: told.news.clone(), believed, ends };
            match self.apply(&user, hear).await.map(|applied| applied.outcome) {
                Ok(Heard::OfAnother(owner)) => user = owner,
                Ok(noted) => return Ok(noted),
                Err(LedgerError::Refused(refusal)) => {
                    warn!(purchase, code = refusal.code(), "a refund can't be booked now");
                    return Err(Ended::Again);
                }
                Err(error @ LedgerError::Failed(_)) => {
                    error!(purchase, %error, "news of a purchase can't be booked");
                    return Err(Ended::Again);
                }
                Err(error) => {
                    warn!(purchase, %error, "news of a purchase have to wait");
                    return Err(Ended::Again);
                }
            }
        }
        Err(Ended::Again)
    }

    /// What was granted for it on a client's word, and to whom.
    async fn believed(&self, told: &Told) -> Result<Option<(UserId, Believed)>, DatabaseError> {
        if told.names.is_empty() {
            return Ok(None);
        }
        let found = self.reader.believed_purchase(&told.names).await?;
        Ok(found.map(|BelievedPurchase { user, entry, granted_at }| {
            let (store_id, pieces) = (told.order.clone(), told.pieces.clone());
            (user, Believed { entry, granted_at, store_id, pieces })
        }))
    }

    fn noted(&self, told: &Told, heard: &Heard) -> Ended {
        let Heard::Noted {
            id: purchase_id,
            state,
            is_test,
            taken,
            missing,
            given_back,
            may_be_believed,
            ..
        } = heard
        else {
            return Ended::Again;
        };
        let (purchase, store) = (told.short_hash(), told.store);
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
        if told.ends.is_some() && !may_be_believed { Ended::Over } else { Ended::Done(NOTED) }
    }
}
