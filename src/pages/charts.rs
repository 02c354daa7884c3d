//! The numbers of a chart, a row for each day: the table that stands in the page, and that a script draws.

use std::collections::BTreeMap;

/// Columns that are shown by themselves; what others come to stands in one more.
const COLUMNS: usize = 5;

/// What becomes a table and a chart.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) name: &'static str,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Row>,
}

/// A day of it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) day: String,
    pub(super) numbers: Vec<i64>,
}

impl Chart {
    /// One number a day.
    pub(super) fn of_one(
        name: &'static str,
        column: &str,
        days: impl Iterator<Item = (String, i64)>,
    ) -> Self {
        let rows = days.map(|(day, number)| Row { day, numbers: vec![number] }).collect();
        Self { name, columns: vec![column.to_owned()], rows }
    }

    /// Numbers by name, the name with the highest sum first; `others` is what the rest is called.
    pub(super) fn by_name(
        name: &'static str,
        others: &str,
        days: &[(String, BTreeMap<String, i64>)],
    ) -> Self {
        let mut sums = BTreeMap::<&str, i64>::new();
        for (column, number) in days.iter().flat_map(|(_, numbers)| numbers) {
            let sum = sums.entry(column).or_default();
            *sum = sum.saturating_add(*number);
        }
        let mut ranked: Vec<_> = sums.into_iter().filter(|(_, sum)| *sum != 0).collect();
        ranked.sort_by_key(|(column, sum)| (std::cmp::Reverse(*sum), *column));
        let shown: Vec<&str> = ranked.iter().take(COLUMNS).map(|(column, _)| *column).collect();
        let rest = ranked.len() > COLUMNS;
        let rows = days.iter().map(|(day, numbers)| {
            let of = |column: &&str| numbers.get(*column).copied().unwrap_or_default();
            let mut row: Vec<i64> = shown.iter().map(of).collect();
            if rest {
                let all = numbers.values().fold(0_i64, |sum, number| sum.saturating_add(*number));
                let told = row.iter().fold(0_i64, |sum, number| sum.saturating_add(*number));
                row.push(all.saturating_sub(told));
            }
            Row { day: day.clone(), numbers: row }
        });
        let rows = rows.collect();
        let others = rest.then(|| others.to_owned());
        let columns = shown.iter().map(|column| (*column).to_owned()).chain(others).collect();
        Self { name, columns, rows }
    }

    /// Whether there is nothing to draw.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.iter().all(|row| row.numbers.iter().all(|number| *number == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_stand_alone_and_the_rest_together() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let day = |factor: i64| {
            let numbers = names
                .iter()
                .zip(1_i64..)
                .map(|(name, number)| ((*name).to_owned(), number * factor));
            (format!("day {factor}"), numbers.collect::<BTreeMap<_, _>>())
        };
        let chart = Chart::by_name("", "others", &[day(1), day(2)]);
        assert_eq!(chart.columns, ["h", "g", "f", "e", "d", "others"]);
        assert_eq!(chart.rows[1].numbers, [16, 14, 12, 10, 8, 12]);
        assert!(!chart.is_empty());
        let few = Chart::by_name(
            "",
            "others",
            &[("day".to_owned(), BTreeMap::from([("a".to_owned(), 3), ("z".to_owned(), 0)]))],
        );
        assert_eq!(few.columns, ["a"], "what is never used is not drawn");
        assert!(Chart::by_name("", "others", &[]).is_empty());
    }
}
