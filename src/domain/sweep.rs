//! The lists in which a store tells what was missed: which there are, how often each is asked, and from when on. How
//! far one was read is kept, so that a service that was down for a week comes out the same.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Applied, Environment, Facts, Operation, Refusal, UserId, Wanted, pause,
    tracked::{LEASE, microseconds_if_any},
};

/// How far back a list is read the first time: Google keeps thirty days.
const FIRST_SPAN: TimeDelta = TimeDelta::days(29);
/// How far back it is read after a long time: Apple keeps 180 days.
const APPLE_SPAN: TimeDelta = TimeDelta::days(179);
/// How many times as long as one call's the lease of a list is.
const PAGES: i32 = 10;
/// How long a list is left alone that was read, or tried, before a start. A service that ends again and again would
/// else use up what Google allows: 6,000 pages a day.
const LEFT_ALONE: TimeDelta = TimeDelta::minutes(1);

/// A list that is read again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Sweep {
    /// Google's voided purchases.
    GoogleVoided,
    /// Apple's notifications that did not arrive here.
    AppleFailures(Environment),
    /// Apple's notifications of refunds.
    AppleRefunds(Environment),
    /// Apple's notifications of refunds that were reversed.
    AppleReversals(Environment),
}

impl Sweep {
    /// Its name in the database and in the log.
    pub(crate) const fn name(self) -> &'static str {
        use Environment::{Production, Sandbox};
        match self {
            Self::GoogleVoided => "google voided",
            Self::AppleFailures(Production) => "apple failures",
            Self::AppleFailures(Sandbox) => "apple sandbox failures",
            Self::AppleRefunds(Production) => "apple refunds",
            Self::AppleRefunds(Sandbox) => "apple sandbox refunds",
            Self::AppleReversals(Production) => "apple reversals",
            Self::AppleReversals(Sandbox) => "apple sandbox reversals",
        }
    }

    /// How often it is read.
    const fn every(self) -> TimeDelta {
        match self {
            Self::GoogleVoided => TimeDelta::minutes(15),
            Self::AppleFailures(_) => TimeDelta::hours(1),
            Self::AppleRefunds(_) | Self::AppleReversals(_) => TimeDelta::days(1),
        }
    }

    /// How long it is left alone that could not be read.
    fn pause_after(self, attempts: u32) -> TimeDelta {
        pause::after(attempts).max(pause::LEAST_FOR_LISTS).min(self.every())
    }

    /// How long its store keeps what it lists.
    const fn kept_for(self) -> TimeDelta {
        match self {
            Self::GoogleVoided => FIRST_SPAN,
            Self::AppleFailures(_) | Self::AppleRefunds(_) | Self::AppleReversals(_) => APPLE_SPAN,
        }
    }

    /// How much of what was read before is read again: lists are behind.
    const fn overlap(self) -> TimeDelta {
        match self {
            Self::GoogleVoided | Self::AppleFailures(_) => TimeDelta::days(1),
            Self::AppleRefunds(_) | Self::AppleReversals(_) => TimeDelta::days(2),
        }
    }
}

/// How far a list was read. The names of its fields are those of the columns.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TrackedSweep {
    pub name: String,
    /// All that was listed until then was kept.
    #[serde(serialize_with = "microseconds_if_any")]
    pub done_until: Option<DateTime<Utc>>,
    /// When it is read next, or how long somebody is at it.
    #[serde(serialize_with = "microseconds_if_any")]
    pub due_at: Option<DateTime<Utc>>,
    pub attempts: u32,
    /// Whether it was kept before.
    #[serde(skip)]
    pub is_kept: bool,
}

/// The lists that operations ask for, as they find them and leave them.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    all: BTreeMap<String, TrackedSweep>,
    changed: Vec<&'static str>,
}

impl Sweeps {
    /// Takes note of one that is kept.
    pub(crate) fn insert_kept(&mut self, sweep: TrackedSweep) {
        let sweep = TrackedSweep { is_kept: true, ..sweep };
        self.all.insert(sweep.name.clone(), sweep);
    }

    /// Those to be kept as they are now.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &TrackedSweep> {
        self.all.values().filter(|sweep| self.changed.contains(&sweep.name.as_str()))
    }

    fn change(&mut self, sweep: Sweep) -> &mut TrackedSweep {
        let name = sweep.name();
        if !self.changed.contains(&name) {
            self.changed.push(name);
        }
        self.all.entry(name.to_owned()).or_insert_with(|| TrackedSweep {
            name: name.to_owned(),
            done_until: None,
            due_at: None,
            attempts: 0,
            is_kept: false,
        })
    }
}

impl TrackedSweep {
    /// When somebody was at it the last time, as far as what is kept can tell: never earlier than that.
    fn touched_at(&self, sweep: Sweep, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let pause = self.attempts.checked_sub(1).map(|attempts| sweep.pause_after(attempts));
        let put_off = [Some(lease()), pause];
        let before = |span: Option<TimeDelta>| self.due_at?.checked_sub_signed(span?);
        let times = put_off.into_iter().filter_map(before).chain(self.done_until);
        times.filter(|time| *time <= now).max()
    }

    /// Until when it is somebody's, or left alone.
    fn not_before(
        &self,
        sweep: Sweep,
        now: DateTime<Utc>,
        at_start: bool,
    ) -> Option<DateTime<Utc>> {
        let latest = super::TrackedPurchase::latest_due(now);
        // Nothing is put off for longer than that: there the clock was ahead.
        let due_at = self.due_at.filter(|due_at| *due_at > now && *due_at <= latest)?;
        if !at_start {
            return Some(due_at);
        }
        let alone = self.touched_at(sweep, now)?.checked_add_signed(LEFT_ALONE)?;
        (alone > now).then(|| alone.min(due_at))
    }
}

/// How long somebody has a list for himself: it has pages.
fn lease() -> TimeDelta {
    LEASE.checked_mul(PAGES).unwrap_or(LEASE)
}

/// Takes the turn at a list that is due, or, at a start, at any that was not read just before.
#[derive(Debug)]
pub(crate) struct TakeSweep {
    pub sweep: Sweep,
    pub at_start: bool,
}

/// What there is to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SweepTurn {
    /// What was listed between the two.
    Read {
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        /// Whether it could be read before.
        was_read: bool,
    },
    /// Nothing before then.
    NotBefore(DateTime<Utc>),
}

impl Operation for TakeSweep {
    type Outcome = SweepTurn;

    fn entries(&self) -> usize {
        0
    }

    fn asks(&self, wanted: &mut Wanted) {
        wanted.sweeps.push(self.sweep.name());
    }

    fn decide(&self, _: &UserId, facts: &mut Facts) -> Result<Applied<SweepTurn>, Refusal> {
        let now = facts.now;
        let kept = facts.sweeps.all.get(self.sweep.name());
        if let Some(time) = kept.and_then(|kept| kept.not_before(self.sweep, now, self.at_start)) {
            return Ok(Applied::before(SweepTurn::NotBefore(time)));
        }
        let sweep = facts.sweeps.change(self.sweep);
        sweep.due_at = now.checked_add_signed(lease());
        let first = now.checked_sub_signed(FIRST_SPAN).unwrap_or(now);
        let was_read = sweep.done_until.is_some();
        // A clock that was ahead must not have anything left out for good.
        sweep.done_until = sweep.done_until.filter(|until| *until <= now);
        let again =
            sweep.done_until.and_then(|until| until.checked_sub_signed(self.sweep.overlap()));
        let oldest = now.checked_sub_signed(self.sweep.kept_for()).unwrap_or(now);
        let from = again.unwrap_or(first).max(oldest).min(now);
        Ok(Applied::now(SweepTurn::Read { from, until: now, was_read }))
    }
}

/// Takes note of how far a list was read.
#[derive(Debug)]
pub(crate) struct EndSweep {
    pub sweep: Sweep,
    /// Until when all of it is kept; none, if it could not be read.
    pub until: Option<DateTime<Utc>>,
}

impl Operation for EndSweep {
    type Outcome = ();

    fn entries(&self) -> usize {
        0
    }

    fn asks(&self, wanted: &mut Wanted) {
        wanted.sweeps.push(self.sweep.name());
    }

    fn decide(&self, _: &UserId, facts: &mut Facts) -> Result<Applied<()>, Refusal> {
        let now = facts.now;
        let every = self.sweep.every();
        let sweep = facts.sweeps.change(self.sweep);
        if let Some(until) = self.until {
            sweep.done_until = sweep.done_until.max(Some(until));
            sweep.due_at = now.checked_add_signed(every);
            sweep.attempts = 0;
        } else {
            let pause = self.sweep.pause_after(sweep.attempts);
            sweep.due_at = now.checked_add_signed(pause);
            sweep.attempts = sweep.attempts.saturating_add(1);
        }
        Ok(Applied::now(()))
    }
}
