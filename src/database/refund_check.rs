//! The audit of what the stores say is refunded: whether it can be read, and is counted in credits as it is told. Whether
//! so much was taken is looked for in SQL.

use futures_util::TryStreamExt;
use sqlx::{Connection, Database, Executor, FromRow};

use super::{audit::Audit, audit::Check, audit::Difference, rows::row};
use crate::domain::{Credits, StoreRefund};

/// [`KeptRefund`]s.
const REFUNDS: &str = "
    SELECT id, user_id, refund, refund_store, coalesce(items, '') AS items,
        coalesce(credits, 0) AS credits,
        CAST(CASE WHEN granted_at IS NULL THEN 0 ELSE 1 END AS bigint) AS is_granted
    FROM purchases WHERE refund IS NOT NULL OR refund_store <> 0";

row! {
    /// A purchase of which something is refunded.
    pub(super) struct KeptRefund {
        id: i64,
        user_id: Option<String>,
        refund: Option<String>,
        refund_store: i64,
        items: String,
        credits: i64,
        is_granted: i64,
    }
}

impl KeptRefund {
    /// What is wrong with it, if anything.
    fn difference(self) -> Option<Difference> {
        let Self { id, user_id: user, refund_store, .. } = self;
        let told = |expected: String, found: String| {
            let expected = format!("{expected} of purchase {id}");
            Some(Difference { check: Check::Purchases, user, model: None, expected, found })
        };
        let refund = match self.refund.as_deref().map(StoreRefund::kept) {
            Some(None) => return told("a refund that can be read".into(), "another text".into()),
            refund => refund.flatten(),
        };
        let credits = Credits::new(self.credits).ok();
        let counted = match (refund, self.is_granted) {
            // It is counted when it is granted.
            (None, _) | (_, 0) => Some(Credits::ZERO),
            (Some(refund), _) => {
                credits.and_then(|credits| refund.credits_of_kept(&self.items, credits))
            }
        };
        let Some(counted) = counted else {
            return told("items that a refund can be counted of".into(), "others".into());
        };
        let counted = counted.get();
        if counted == refund_store {
            return None;
        }
        let expected = format!("{counted} credits refunded by its store's word");
        told(expected, refund_store.to_string())
    }
}

/// Looks at every refund.
pub(super) async fn check_refunds<C>(
    connection: &mut C,
    audit: &mut Audit,
) -> Result<(), sqlx::Error>
where
    C: Connection,
    for<'e> &'e mut C: Executor<'e, Database = C::Database>,
    KeptRefund: for<'r> FromRow<'r, <C::Database as Database>::Row>,
{
    let mut rows = sqlx::raw_sql(REFUNDS).fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        if let Some(difference) = KeptRefund::from_row(&row)?.difference() {
            audit.add(difference);
        }
    }
    Ok(())
}
