//! The ranges of the table that a page of the history is merged from, the same for both engines. Each has
//! an index to be read backwards on, only as far as the page needs: the cost is the page's length, however
//! long the history is.

use crate::domain::{EntryKind, HistoryFilter};

/// All that is neither consumption nor allocation is rare, and shares an index, which serves only who repeats
/// its condition to the letter.
const RARE: &str = "type <> 'consumption' AND type <> 'allocation'";
const RANGES: [&str; 3] = ["type = 'consumption'", "type = 'allocation'", RARE];

/// Whoever is called as somebody who is being erased has no history.
const HAS_ONE: &str = "NOT EXISTS (SELECT * FROM erasures WHERE erasures.user_id = $1)";

/// What holds of the rows of each range; all texts are ours. `$1` is the user, `$2` the id below which
/// they are, `$4` the model, if one is asked for. Without ranges nothing can match.
pub(super) fn ranges(filter: &HistoryFilter) -> Vec<String> {
    let model = if filter.model.is_some() { " AND model_id = $4" } else { "" };
    let range = |kinds: &str| format!("user_id = $1 AND id < $2{model} AND {kinds} AND {HAS_ONE}");
    match filter.kind {
        None => RANGES.map(range).into(),
        // No purchase has a model.
        Some(EntryKind::Purchase) if filter.model.is_some() => Vec::new(),
        Some(kind @ (EntryKind::Consumption | EntryKind::Allocation)) => {
            vec![range(&format!("type = '{}'", kind.name()))]
        }
        Some(rare) => vec![range(&format!("{RARE} AND type = '{}'", rare.name()))],
    }
}
