//! What recorded purchases are known by: worked out from their rows, for older ones that get their names
//! when the database is opened, and for the audit. What names a new purchase has is the domain's rule.

use super::rows::row;
use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use sqlx::{Connection, Database, Executor, FromRow};

use super::{Audit, Check, DatabaseError, Difference, tracked::time};
use crate::domain::{PurchaseName, PurchaseRecord, UserId};

/// [`NamesKept`].
const NAMES_KEPT: &str = "
    SELECT (SELECT count(*) FROM purchase_names) AS names,
        coalesce((SELECT max(last_id) FROM old_purchases), 0) AS last_old_id";

/// [`KeptName`]s.
const NAMES: &str = "SELECT name, user_id FROM purchase_names";

/// [`RecordedPurchase`]s.
const PURCHASES: &str = "
    SELECT id, user_id, transaction_id, coalesce(CAST(metadata AS TEXT), '') AS metadata
    FROM transactions WHERE type = 'purchase' ORDER BY id";

/// Those that have to get their names next, `$1` at most.
pub(super) const PURCHASES_TO_NAME: &str = "
    SELECT listed.id, user_id, transaction_id, coalesce(CAST(metadata AS TEXT), '') AS metadata
    FROM purchases_to_name AS listed JOIN transactions ON transactions.id = listed.id
    ORDER BY listed.id LIMIT $1";

/// Whether there are such.
pub(super) const SOME_TO_NAME: &str = "SELECT EXISTS (SELECT * FROM purchases_to_name)";

/// Purchases of whoever was granted one of the names that the text tells, the oldest first, without those that their
/// stores have confirmed.
macro_rules! believed {
    ($named:literal) => {
        concat!(
            "SELECT entry.id, entry.user_id, entry.transaction_id,
                 coalesce(CAST(entry.metadata AS TEXT), '') AS metadata,
                 CAST(entry.created_at AS TEXT) AS created_at
             FROM purchase_names AS named JOIN transactions AS entry ON entry.user_id = named.user_id
             WHERE named.name ",
            $named,
            " AND entry.type = 'purchase'
                 AND NOT EXISTS (SELECT * FROM purchases WHERE purchases.entry_id = entry.id)
             ORDER BY entry.id"
        )
    };
}
pub(super) use believed;

/// Takes those up to `$1` from the list.
pub(super) const NAMED: &str = "DELETE FROM purchases_to_name WHERE id <= $1";

/// How many purchases get their names in one transaction. Names are random: of a million purchases a thousand
/// at a time each name would write a page of its own.
pub(super) const NAMED_AT_ONCE: i64 = 20_000;
/// Names that are compared in one pass: 1,048,576 take 70 MB.
const NAMES_IN_A_PASS: u64 = 1 << 20;

row! {
    /// A purchase, as far as it tells its names.
    #[derive(Debug)]
    pub(super) struct RecordedPurchase {
        pub id: i64,
        pub user_id: String,
        pub transaction_id: Option<String>,
        pub metadata: String,
    }
}

row! {
    /// A row of what `believed` asks for.
    pub(super) struct BelievedRow {
        id: i64,
        user_id: String,
        transaction_id: Option<String>,
        metadata: String,
        created_at: String,
    }
}

/// A purchase that was granted on a client's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BelievedPurchase {
    /// To whom.
    pub user: UserId,
    /// By this entry.
    pub entry: i64,
    pub granted_at: DateTime<Utc>,
}

impl BelievedPurchase {
    /// The first of those found that is known by one of the names, the first of them that one is known by.
    pub(super) fn known_by(
        names: &[PurchaseName],
        rows: impl IntoIterator<Item = BelievedRow>,
    ) -> Result<Option<Self>, DatabaseError> {
        let mut found: Option<(usize, Self)> = None;
        for BelievedRow { id, user_id, transaction_id, metadata, created_at } in rows {
            let recorded = RecordedPurchase { id, user_id, transaction_id, metadata };
            let known = recorded.names();
            let Some(place) = names.iter().position(|name| known.contains(name)) else { continue };
            if found.as_ref().is_none_or(|(best, _)| place < *best) {
                let corrupt = |what: &str| DatabaseError::Corrupt(format!("{what} of entry {id}"));
                let user = UserId::new(recorded.user_id).map_err(|_| corrupt("the user"))?;
                let granted_at = time(&created_at).ok_or_else(|| corrupt("the time"))?;
                found = Some((place, Self { user, entry: id, granted_at }));
            }
        }
        Ok(found.map(|(_, believed)| believed))
    }
}

impl RecordedPurchase {
    /// Its name by the token that its client sent.
    pub(super) fn token_name(&self) -> Option<PurchaseName> {
        PurchaseRecord::new(self.metadata.clone()).token_name()
    }

    /// Its names, each once.
    pub(super) fn names(&self) -> Vec<PurchaseName> {
        let id = self.transaction_id.as_deref().filter(|id| !id.is_empty() && !id.contains('\0'));
        let token = self.token_name();
        let mut names: Vec<_> = id.map(PurchaseName::of).into_iter().chain(token).collect();
        names.dedup();
        names
    }

    /// Its names, each with the user it was granted to.
    pub(super) fn owned_names(&self) -> impl Iterator<Item = (PurchaseName, &str)> {
        self.names().into_iter().map(|name| (name, self.user_id.as_str()))
    }
}

/// Names that purchases get together.
#[derive(Debug, Default)]
pub(super) struct NewNames {
    /// Each with whose it is to be.
    owned: Vec<(PurchaseName, String)>,
    last_id: Option<i64>,
}

impl NewNames {
    /// Takes in the next purchase, in the order of their ids.
    pub(super) fn add(&mut self, purchase: &RecordedPurchase) {
        self.owned.extend(purchase.owned_names().map(|(name, user)| (name, user.to_owned())));
        self.last_id = Some(purchase.id);
    }

    /// The names and the users, in the order of the index; of equal ones the older purchase's comes first.
    pub(super) fn sorted(&mut self) -> (Vec<&str>, Vec<&str>) {
        self.owned.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        self.owned.iter().map(|(name, user)| (name.as_str(), user.as_str())).unzip()
    }

    /// Up to which id the list is done. Without purchases all that is left on it leads nowhere.
    pub(super) fn done_up_to(&self) -> i64 {
        self.last_id.unwrap_or(i64::MAX)
    }
}

row! {
    /// How many names are kept, and the last purchase made before they were.
    #[derive(Debug)]
    pub(super) struct NamesKept {
        names: i64,
        last_old_id: i64,
    }
}

/// Looks whether the names kept are those of the purchases.
pub(super) async fn check_names<C>(connection: &mut C, audit: &mut Audit) -> Result<(), sqlx::Error>
where
    C: Connection,
    for<'e> &'e mut C: Executor<'e, Database = C::Database>,
    NamesKept: for<'r> FromRow<'r, <C::Database as Database>::Row>,
    KeptName: for<'r> FromRow<'r, <C::Database as Database>::Row>,
    RecordedPurchase: for<'r> FromRow<'r, <C::Database as Database>::Row>,
{
    let kept = NamesKept::from_row(&sqlx::raw_sql(NAMES_KEPT).fetch_one(&mut *connection).await?)?;
    for mut pass in NamePass::all(&kept) {
        let mut names = sqlx::raw_sql(NAMES).fetch(&mut *connection);
        while let Some(row) = names.try_next().await? {
            pass.keep(&KeptName::from_row(&row)?);
        }
        drop(names);
        let mut purchases = sqlx::raw_sql(PURCHASES).fetch(&mut *connection);
        while let Some(row) = purchases.try_next().await? {
            pass.claim(&RecordedPurchase::from_row(&row)?, audit);
        }
        drop(purchases);
        if pass.has_unclaimed() {
            let mut names = sqlx::raw_sql(NAMES).fetch(&mut *connection);
            while let Some(row) = names.try_next().await? {
                pass.tell_unclaimed(KeptName::from_row(&row)?, audit);
            }
        }
    }
    Ok(())
}

/// A part of the names, in memory: there may be any number of them.
#[derive(Debug)]
struct NamePass {
    part: u64,
    parts: u64,
    /// Purchases up to this one were made before names were kept: several may share one, which then is the
    /// first one's, or nobody's any more.
    last_old_id: i64,
    kept: HashMap<u128, Kept>,
}

#[derive(Debug)]
struct Kept {
    owner: u128,
    is_claimed: bool,
}

row! {
    /// A name that is kept.
    #[derive(Debug)]
    pub(super) struct KeptName {
        name: String,
        user_id: String,
    }
}

impl NamePass {
    fn all(kept: &NamesKept) -> impl Iterator<Item = Self> {
        let (parts, last_old_id) =
            (kept.names.unsigned_abs().div_ceil(NAMES_IN_A_PASS).max(1), kept.last_old_id);
        (0..parts).map(move |part| Self { part, parts, last_old_id, kept: HashMap::new() })
    }

    /// Whether a name belongs to another pass.
    fn is_elsewhere(&self, name: u128) -> bool {
        name.checked_rem(u128::from(self.parts)) != Some(u128::from(self.part))
    }

    /// Takes in a name that is kept.
    fn keep(&mut self, KeptName { name, user_id }: &KeptName) {
        let name = digest(name);
        if !self.is_elsewhere(name) {
            self.kept.insert(name, Kept { owner: digest(user_id), is_claimed: false });
        }
    }

    /// Looks whether a purchase has the names it must have; purchases come in the order of their ids.
    fn claim(&mut self, purchase: &RecordedPurchase, audit: &mut Audit) {
        let is_old = purchase.id <= self.last_old_id;
        for (name, user) in purchase.owned_names() {
            let digested = digest(name.as_str());
            if self.is_elsewhere(digested) {
                continue;
            }
            let found = match self.kept.get_mut(&digested) {
                None => "none",
                Some(kept) if kept.owner != digest(user) => "another user's",
                Some(kept) if kept.is_claimed => "that of an earlier purchase",
                Some(kept) => {
                    kept.is_claimed = true;
                    continue;
                }
            };
            if !is_old {
                audit.add(Difference::wrong_name(user, purchase.id, &name, found));
            }
        }
    }

    /// Whether some name is no purchase's, once all have claimed theirs.
    fn has_unclaimed(&self) -> bool {
        self.kept.values().any(|kept| !kept.is_claimed)
    }

    /// Tells of a name that is no purchase's.
    fn tell_unclaimed(&self, KeptName { name, user_id }: KeptName, audit: &mut Audit) {
        if self.kept.get(&digest(&name)).is_some_and(|kept| !kept.is_claimed) {
            audit.add(Difference {
                check: Check::Grants,
                user: Some(user_id),
                model: None,
                expected: format!("a purchase known by {name:?}"),
                found: "none".to_owned(),
            });
        }
    }
}

fn digest(text: &str) -> u128 {
    let digest = Sha256::digest(text);
    let (first, _) = digest.split_first_chunk().expect("a digest of 32 bytes");
    u128::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PURCHASE_TOKEN_MAX_CHARS;

    fn names(transaction_id: Option<&str>, metadata: &str) -> Vec<String> {
        let transaction_id = transaction_id.map(str::to_owned);
        let (user_id, metadata) = ("u".to_owned(), metadata.to_owned());
        let purchase = RecordedPurchase { id: 1, user_id, transaction_id, metadata };
        purchase.names().iter().map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn a_record_may_be_anything() {
        let deep = format!(
            r#"{{"a": {}1{}, "purchaseToken": "t"}}"#,
            "[".repeat(9_999),
            "]".repeat(9_999)
        );
        let long = |chars| format!(r#"{{"purchaseToken": "{}"}}"#, "é".repeat(chars));
        for (metadata, token) in [
            (r#"{"purchaseToken": "t"}"#, true),
            (r#"{"purchaseToken": 5, "x": {"purchaseToken": "y"}, "purchaseToken": "t"}"#, true),
            (r#"{"purchaseToken": "t", "purchaseToken": 5}"#, false),
            (r#"{"purchaseToken": "\u0000t"}"#, false),
            (r#"{"purchaseToken": "\ud800"}"#, false),
            (r#"{"purchaseToken": ""}"#, false),
            (r#"{"purchaseToken": null}"#, false),
            (r#"{"note": "\ud800", "purchase\u0054oken": "\u0074"}"#, true),
            (deep.as_str(), true),
            ("[]", false),
            ("{}", false),
            ("{", false),
        ] {
            let expected: &[&str] = if token { &["t"] } else { &[] };
            assert_eq!(names(None, metadata), expected, "{metadata:.80}");
            assert_eq!(names(Some(""), metadata), expected, "{metadata:.80}");
            assert_eq!(names(Some("t"), metadata), ["t"], "{metadata:.80}");
        }
        assert_eq!(names(Some("a"), &long(PURCHASE_TOKEN_MAX_CHARS)).len(), 2);
        assert_eq!(names(Some("a"), &long(PURCHASE_TOKEN_MAX_CHARS + 1)), ["a"]);
    }
}
