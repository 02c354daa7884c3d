//! The days and months that usage is told by, in the time zone asked for. What was used in them does not belong
//! here.

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use chrono_tz::Tz;

/// Seconds in a quarter of an hour.
const QUARTER_SECONDS: i64 = 900;
/// Quarters of an hour that a local day may begin before, or end after, the one of UTC. No zone ever was
/// sixteen hours away.
const ZONE_QUARTERS_MAX: i64 = 16 * 4;

/// The quarter of an hour of a time, counted since 1970.
pub(crate) const fn quarter_of(time: DateTime<Utc>) -> i64 {
    time.timestamp().div_euclid(QUARTER_SECONDS)
}

/// What usage is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UsageBy {
    Day,
    Month,
    /// By model alone, all days together.
    Model,
}

impl UsageBy {
    /// All there are.
    pub(crate) const ALL: [Self; 3] = [Self::Day, Self::Month, Self::Model];

    /// Its name on the wire.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Model => "model",
        }
    }
}

/// Days, both of them counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DateRange {
    pub from: NaiveDate,
    pub to: NaiveDate,
}

/// Successive quarters of an hour of one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quarters {
    /// The place of their period among all.
    pub period: i64,
    /// The first one, in quarters of an hour since 1970.
    pub first: i64,
    /// The one after the last.
    pub past: i64,
}

/// The periods of some days, in their order, and the time they take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Periods {
    /// A date that stands for each.
    starts: Vec<NaiveDate>,
    quarters: Vec<Quarters>,
    by: UsageBy,
}

impl Periods {
    /// Those of the days of a zone.
    ///
    /// The date of every quarter is asked for: a day may last 23 hours, or 25, or be left out, and need not
    /// begin at midnight. A quarter belongs to the day of its beginning, which is the day of all of it where the
    /// zone is whole quarters away from UTC. Some were not, until 1972, when nothing was used.
    pub(crate) fn new(days: DateRange, by: UsageBy, zone: Tz) -> Self {
        let DateRange { from, to } = days;
        let midnight = |date: NaiveDate| {
            let seconds = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
            seconds.div_euclid(QUARTER_SECONDS)
        };
        let end = to.checked_add_days(Days::new(1)).unwrap_or(to);
        let first = midnight(from).saturating_sub(ZONE_QUARTERS_MAX);
        let past = midnight(end).saturating_add(ZONE_QUARTERS_MAX);
        let mut periods = Self { starts: Vec::new(), quarters: Vec::new(), by };
        for quarter in first..past {
            let date = DateTime::from_timestamp(quarter.saturating_mul(QUARTER_SECONDS), 0)
                .map(|time| time.with_timezone(&zone).date_naive());
            if let Some(date) = date.filter(|date| (from..=to).contains(date)) {
                periods.add(quarter, date);
            }
        }
        periods
    }

    fn add(&mut self, quarter: i64, date: NaiveDate) {
        let start = match self.by {
            UsageBy::Day => date,
            UsageBy::Month => date.with_day(1).unwrap_or(date),
            UsageBy::Model => *self.starts.first().unwrap_or(&date),
        };
        // The last one, nearly always; but clocks were put back across a midnight, too.
        let known = self.starts.iter().rposition(|known| *known == start);
        let place = known.unwrap_or_else(|| {
            self.starts.push(start);
            self.starts.len().saturating_sub(1)
        });
        let period = i64::try_from(place).unwrap_or(i64::MAX);
        let next = quarter.saturating_add(1);
        match self.quarters.last_mut() {
            Some(last) if last.period == period && last.past == quarter => last.past = next,
            _ => self.quarters.push(Quarters { period, first: quarter, past: next }),
        }
    }

    /// The time they take.
    pub(crate) fn quarters(&self) -> &[Quarters] {
        &self.quarters
    }

    /// The name of a period; nothing by model, or where there is no such one.
    pub(crate) fn name(&self, period: i64) -> Option<String> {
        let start = self.starts.get(usize::try_from(period).ok()?)?;
        match self.by {
            UsageBy::Day => Some(start.format("%Y-%m-%d").to_string()),
            UsageBy::Month => Some(start.format("%Y-%m").to_string()),
            UsageBy::Model => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().expect("a date")
    }

    fn periods(zone: &str, from: &str, to: &str, by: UsageBy) -> Periods {
        let zone = zone.parse().expect("a zone");
        Periods::new(DateRange { from: date(from), to: date(to) }, by, zone)
    }

    /// Name, beginning in UTC, and quarters of each stretch.
    fn told(zone: &str, from: &str, to: &str, by: UsageBy) -> Vec<(String, String, i64)> {
        let periods = periods(zone, from, to, by);
        let tell = |quarters: &Quarters| {
            let begins =
                DateTime::from_timestamp(quarters.first * QUARTER_SECONDS, 0).expect("a time");
            let name = periods.name(quarters.period).unwrap_or_default();
            (name, begins.format("%m-%dT%H:%M").to_string(), quarters.past - quarters.first)
        };
        periods.quarters().iter().map(tell).collect()
    }

    fn days(zone: &str, from: &str, to: &str) -> Vec<(String, String, i64)> {
        told(zone, from, to, UsageBy::Day)
    }

    fn day(name: &str, begins: &str, quarters: i64) -> (String, String, i64) {
        (name.to_owned(), begins.to_owned(), quarters)
    }

    #[test]
    fn days_begin_at_the_midnight_of_their_zone() {
        assert_eq!(days("UTC", "2026-11-01", "2026-11-01"), [day("2026-11-01", "11-01T00:00", 96)]);
        assert_eq!(
            days("Asia/Tokyo", "2026-11-01", "2026-11-02"),
            [day("2026-11-01", "10-31T15:00", 96), day("2026-11-02", "11-01T15:00", 96)]
        );
        assert_eq!(
            days("Asia/Kathmandu", "2026-11-01", "2026-11-01"),
            [day("2026-11-01", "10-31T18:15", 96)]
        );
        assert_eq!(
            days("Pacific/Kiritimati", "2026-11-01", "2026-11-01"),
            [day("2026-11-01", "10-31T10:00", 96)]
        );
        assert_eq!(
            days("Etc/GMT+12", "2026-11-01", "2026-11-01"),
            [day("2026-11-01", "11-01T12:00", 96)]
        );
    }

    #[test]
    fn days_are_shorter_and_longer_where_clocks_are_changed() {
        assert_eq!(
            days("America/New_York", "2026-03-07", "2026-03-09"),
            [
                day("2026-03-07", "03-07T05:00", 96),
                day("2026-03-08", "03-08T05:00", 92),
                day("2026-03-09", "03-09T04:00", 96),
            ]
        );
        assert_eq!(
            days("America/New_York", "2026-11-01", "2026-11-02"),
            [day("2026-11-01", "11-01T04:00", 100), day("2026-11-02", "11-02T05:00", 96)]
        );
        // By half an hour.
        assert_eq!(
            days("Australia/Lord_Howe", "2026-04-05", "2026-04-05"),
            [day("2026-04-05", "04-04T13:00", 98)]
        );
        assert_eq!(
            days("Australia/Lord_Howe", "2026-10-04", "2026-10-04"),
            [day("2026-10-04", "10-03T13:30", 94)]
        );
    }

    #[test]
    fn a_day_without_a_midnight_begins_later() {
        // In Beirut clocks go from midnight to one o'clock.
        assert_eq!(
            days("Asia/Beirut", "2026-03-29", "2026-03-30"),
            [day("2026-03-29", "03-28T22:00", 92), day("2026-03-30", "03-29T21:00", 96)]
        );
    }

    #[test]
    fn a_day_that_was_left_out_is_none() {
        assert_eq!(
            days("Pacific/Apia", "2011-12-29", "2011-12-31"),
            [day("2011-12-29", "12-29T10:00", 96), day("2011-12-31", "12-30T10:00", 96)]
        );
        assert_eq!(days("Pacific/Apia", "2011-12-30", "2011-12-30"), []);
    }

    #[test]
    fn months_are_those_of_the_days_asked_for() {
        assert_eq!(
            told("Asia/Tokyo", "2026-10-30", "2026-12-01", UsageBy::Month),
            [
                day("2026-10", "10-29T15:00", 2 * 96),
                day("2026-11", "10-31T15:00", 30 * 96),
                day("2026-12", "11-30T15:00", 96),
            ]
        );
    }

    #[test]
    fn by_model_all_days_are_one_period_without_a_name() {
        assert_eq!(
            told("UTC", "2025-12-31", "2026-01-02", UsageBy::Model),
            [day("", "12-31T00:00", 3 * 96)]
        );
    }

    #[test]
    fn in_every_zone_each_quarter_of_some_years_is_in_the_day_that_its_clocks_show() {
        let days = DateRange { from: date("2026-02-27"), to: date("2026-11-30") };
        for zone in chrono_tz::TZ_VARIANTS {
            let periods = Periods::new(days, UsageBy::Day, zone);
            let whole: i64 = periods.quarters().iter().map(|it| it.past - it.first).sum();
            let (first, past) = (periods.quarters()[0].first, first_past(&periods));
            assert_eq!(whole, past - first, "{zone}: without a gap");
            for Quarters { period, first, past } in periods.quarters() {
                let shown = |quarter: i64, second: i64| {
                    let time = DateTime::from_timestamp(quarter * QUARTER_SECONDS + second, 0);
                    time.expect("a time").with_timezone(&zone).format("%Y-%m-%d").to_string()
                };
                assert_eq!(periods.name(*period), Some(shown(*first, 0)), "{zone}");
                assert_eq!(periods.name(*period), Some(shown(past - 1, 899)), "{zone}");
            }
        }
    }

    fn first_past(periods: &Periods) -> i64 {
        periods.quarters().last().expect("some").past
    }
}
