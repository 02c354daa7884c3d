//! How the history of prices is read by either engine.

use super::{DatabaseError, rows::row};
use crate::domain::{Category, Price, PriceLine, PricePage};

/// `$1` ids below this one, `$2` how many, newest first, of the model `$3`.
macro_rules! select_prices {
    ($changed_at:literal) => {
        concat!(
            "SELECT id, ",
            $changed_at,
            " AS changed_at, price_per_m_token, category
             FROM price_history WHERE id < $1 AND model_id = $3 ORDER BY id DESC LIMIT $2"
        )
    };
}
pub(super) use select_prices;

row! {
    /// A row of the history; its time as text.
    pub(super) struct PriceRow {
        id: i64,
        changed_at: String,
        price_per_m_token: Option<i64>,
        category: Option<String>,
    }
}

impl PriceRow {
    fn into_line(self) -> Result<PriceLine, DatabaseError> {
        let Self { id, changed_at: at, price_per_m_token, category } = self;
        let category = category.as_deref().and_then(Category::from_name);
        let price = match (price_per_m_token, category) {
            (None, None) => None,
            (Some(price), Some(category)) => Price::new(price, category).ok(),
            _ => return Err(DatabaseError::Corrupt(format!("line {id} of the price history"))),
        };
        Ok(PriceLine { id, at, price })
    }
}

/// The page that rows come to, of which one more than asked for tells that there are more.
pub(super) fn price_page(rows: Vec<PriceRow>, limit: u16) -> Result<PricePage, DatabaseError> {
    let limit = usize::from(limit);
    let more = rows.len() > limit;
    let lines = rows.into_iter().take(limit).map(PriceRow::into_line).collect::<Result<_, _>>()?;
    Ok(PricePage { lines, more })
}
