//! How long to wait until what failed is tried again: from two seconds on twice as long each time, up to an hour.

use chrono::TimeDelta;
use sha2::{Digest, Sha256};

/// How long the first time.
const FIRST: TimeDelta = TimeDelta::seconds(2);
/// How long at most.
pub(super) const LONGEST: TimeDelta = TimeDelta::hours(1);
/// After so many times it is the longest.
const DOUBLINGS_MAX: u32 = 11;

/// The pause after so many tries before.
pub(super) fn after(attempts: u32) -> TimeDelta {
    let times = 1_i32.checked_shl(attempts.min(DOUBLINGS_MAX)).unwrap_or(i32::MAX);
    FIRST.checked_mul(times).map_or(LONGEST, |pause| pause.min(LONGEST))
}

/// Up to a tenth longer or shorter, so that what failed together is not tried together again.
pub(super) fn scattered(pause: TimeDelta, name: &str, attempts: u32) -> TimeDelta {
    let digest = Sha256::digest(format!("{name} {attempts}"));
    let percent = i32::from(digest.first().copied().unwrap_or(0)).checked_rem(21).unwrap_or(0);
    let percent = percent.saturating_add(90);
    pause.checked_mul(percent).and_then(|hundredfold| hundredfold.checked_div(100)).unwrap_or(pause)
}

/// The shortest for lists: Google lets them be read thirty times in half a minute.
pub(super) const LEAST_FOR_LISTS: TimeDelta = TimeDelta::seconds(15);
