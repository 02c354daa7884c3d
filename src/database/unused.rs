//! What was not used by a moment, read from the ledger user by user: the same for both engines. What it is worth is
//! the domain's rule.

use std::collections::{BTreeMap, HashMap};

use futures_util::{Stream, TryStreamExt};

use super::{DatabaseError, rows::row};
use crate::domain::{Credits, Lot, ModelId, Tokens, UnusedAccount, UnusedBalance};

/// [`UnusedRow`]s of entries that were made before `$1`, each user's together. The many consumptions come as sums.
/// Each part is read in the order of an index, and the parts are merged; so no more is in memory than a user's
/// allocations. Whoever is being erased has two names, each with the number of the account, which come first.
pub(super) const UNUSED: &str = "
    SELECT '' AS user_id, 'erasing' AS type, erasures.user_id AS model_id, account AS allocation,
        CAST(0 AS bigint) AS amount, CAST(0 AS bigint) AS credits, CAST(0 AS bigint) AS bonus,
        CAST(0 AS bigint) AS tokens
    FROM erasures
    UNION ALL
    SELECT '', 'erasing', users.user_id, account, 0, 0, 0, 0
    FROM erasures JOIN users ON users.id = account
    UNION ALL
    SELECT user_id, 'consumption' AS type, model_id, CAST(0 AS bigint) AS allocation,
        CAST(0 AS bigint) AS amount, CAST(0 AS bigint) AS credits, CAST(0 AS bigint) AS bonus,
        CAST(sum(tokens_delta) AS bigint) AS tokens
    FROM transactions WHERE type = 'consumption' AND created_at < $1
    GROUP BY user_id, model_id
    UNION ALL
    SELECT user_id, type, model_id, id, amount, credits_delta, bonus_delta, tokens_delta
    FROM transactions WHERE type = 'allocation' AND created_at < $1
    UNION ALL
    SELECT user_id, type, model_id, coalesce(allocation_id, 0), amount, credits_delta, bonus_delta,
        tokens_delta
    FROM transactions WHERE type <> 'consumption' AND type <> 'allocation' AND created_at < $1
    ORDER BY 1";

row! {
    /// An entry, or a sum of consumptions.
    pub(super) struct UnusedRow {
        user_id: String,
        kind("type"): String,
        model_id: Option<String>,
        /// The one that bought, or of which tokens went back; 0 where there is none.
        allocation: i64,
        amount: i64,
        credits: i64,
        bonus: i64,
        tokens: i64,
    }
}

/// Adds all of it up, a user at a time, but for those who have two names.
pub(super) async fn add_up(
    mut rows: impl Stream<Item = Result<UnusedRow, sqlx::Error>> + Unpin,
) -> Result<Result<UnusedBalance, DatabaseError>, sqlx::Error> {
    let mut balance = UnusedBalance::default();
    let (mut user, mut account) = (String::new(), UnusedAccount::default());
    let mut erasing = BeingErased::default();
    while let Some(row) = rows.try_next().await? {
        if row.kind == ERASING {
            erasing.know(row);
            continue;
        }
        if row.user_id != user {
            user.clone_from(&row.user_id);
            balance.add(std::mem::take(&mut account));
        }
        let of_user = erasing.account(&row.user_id).unwrap_or(&mut account);
        if let Err(error) = row.add_to(of_user) {
            return Ok(Err(error));
        }
    }
    balance.add(account);
    erasing.accounts.into_values().for_each(|account| balance.add(account));
    Ok(Ok(balance))
}

/// What the statement calls a row that tells a name of whoever is being erased.
const ERASING: &str = "erasing";

/// Accounts whose entries come under two names.
#[derive(Default)]
struct BeingErased {
    numbers: HashMap<String, i64>,
    accounts: BTreeMap<i64, UnusedAccount>,
}

impl BeingErased {
    fn know(&mut self, row: UnusedRow) {
        self.numbers.extend(row.model_id.map(|name| (name, row.allocation)));
    }

    fn account(&mut self, name: &str) -> Option<&mut UnusedAccount> {
        let number = self.numbers.get(name)?;
        Some(self.accounts.entry(*number).or_default())
    }
}

impl UnusedRow {
    fn add_to(self, account: &mut UnusedAccount) -> Result<(), DatabaseError> {
        let corrupt = |what: &str| {
            DatabaseError::Corrupt(format!("{what} of a {} of '{}'", self.kind, self.user_id))
        };
        account.change_credits(self.credits, self.bonus);
        let Some(model) = &self.model_id else { return Ok(()) };
        let model = ModelId::new(model.as_str()).map_err(|_| corrupt("model_id"))?;
        let tokens = |tokens: i64| Tokens::new(tokens).map_err(|_| corrupt("tokens_delta"));
        if self.kind == "allocation" {
            let credits = Credits::new(self.amount).map_err(|_| corrupt("amount"))?;
            let bonus = Credits::new(self.bonus.saturating_neg());
            let lot = Lot {
                allocation: self.allocation,
                model: model.clone(),
                credits,
                bonus: bonus.map_err(|_| corrupt("bonus_delta"))?,
                tokens: tokens(self.tokens)?,
                tokens_back: Tokens::ZERO,
            };
            account.add_lot(lot);
        } else if self.allocation != 0 {
            account.take_back(self.allocation, tokens(self.tokens.saturating_neg())?);
        }
        account.change_tokens(model, self.tokens);
        Ok(())
    }
}
