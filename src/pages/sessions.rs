//! Who is logged in: sessions, known by the hash of a random value that only the browser has.
//!
//! They live in memory. One lasts eight hours at most, so there is little that outliving a restart would give; all
//! writing to the database is the ledger's, and a note that somebody is still there is not worth its time. And as
//! tokens are read at the start alone, a changed token ends every session by itself.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use crate::http::Login;

/// How long a session lasts at most.
const LONGEST: TimeDelta = TimeDelta::hours(8);
/// How long it lasts while nothing is asked for.
const LONGEST_IDLE: TimeDelta = TimeDelta::minutes(30);
/// Most sessions at a time; one more ends the one that has been idle for longest.
const SESSION_LIMIT: usize = 64;
/// Bytes of the value that a browser shows.
const SECRET_BYTES: usize = 32;

type Hash = [u8; 32];

/// The sessions that last.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Hash, Session>>);

#[derive(Debug)]
struct Session {
    login: Login,
    /// However much is asked for.
    ends_at: DateTime<Utc>,
    seen_at: DateTime<Utc>,
}

impl Session {
    fn lasts(&self, now: DateTime<Utc>) -> bool {
        let idle = now.signed_duration_since(self.seen_at);
        now < self.ends_at && idle < LONGEST_IDLE
    }
}

impl Sessions {
    /// Begins one, and gives the value that its browser has to show.
    pub(super) fn begin(&self, login: Login, now: DateTime<Utc>) -> String {
        let mut secret = [0; SECRET_BYTES];
        rand::fill(&mut secret).expect("the system has random bytes");
        let secret = URL_SAFE_NO_PAD.encode(secret);
        let longest = now.checked_add_signed(LONGEST).unwrap_or(now);
        let token_ends = login
            .ends_at()
            .and_then(|seconds| DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0));
        let ends_at = token_ends.map_or(longest, |end| end.min(longest));
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| session.lasts(now));
        if open.len() >= SESSION_LIMIT {
            let idle = open.iter().min_by_key(|(_, session)| session.seen_at);
            if let Some(hash) = idle.map(|(hash, _)| *hash) {
                open.remove(&hash);
            }
        }
        open.insert(hash(&secret), Session { login, ends_at, seen_at: now });
        secret
    }

    /// Whose session this value is of, if it lasts. It has not been idle then.
    pub(super) fn visit(&self, secret: &str, now: DateTime<Utc>) -> Option<Login> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = hash(secret);
        let session = open.get_mut(&hash)?;
        if !session.lasts(now) {
            open.remove(&hash);
            return None;
        }
        session.seen_at = now;
        Some(session.login.clone())
    }

    /// Ends the one of this value, if there is one.
    pub(super) fn end(&self, secret: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash(secret));
    }
}

fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Role;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).expect("a time") + TimeDelta::minutes(minutes)
    }

    fn operator() -> Login {
        Login::of_role(Role::Operator)
    }

    #[test]
    fn a_session_lasts_while_it_is_used_and_eight_hours_at_most() {
        let sessions = Sessions::default();
        let secret = sessions.begin(operator(), at(0));
        for minutes in (0..480).step_by(29) {
            assert!(sessions.visit(&secret, at(minutes)).is_some(), "after {minutes} minutes");
        }
        assert_eq!(sessions.visit(&secret, at(480)), None);
        let idle = sessions.begin(operator(), at(0));
        assert_eq!(sessions.visit(&idle, at(30)), None);
        assert_eq!(sessions.visit(&idle, at(1)), None, "what has ended does not begin again");
    }

    #[test]
    fn a_session_ends_with_the_token_it_began_with() {
        let sessions = Sessions::default();
        let end = u64::try_from(at(10).timestamp()).expect("after 1970");
        let secret = sessions.begin(operator().until(end), at(0));
        assert!(sessions.visit(&secret, at(9)).is_some());
        assert_eq!(sessions.visit(&secret, at(10)), None);
    }

    #[test]
    fn each_is_known_by_a_value_of_its_own() {
        let sessions = Sessions::default();
        let (one, other) = (sessions.begin(operator(), at(0)), sessions.begin(operator(), at(0)));
        assert_ne!(one, other);
        assert_eq!(one.len(), 43, "256 bits");
        sessions.end(&one);
        assert_eq!(sessions.visit(&one, at(1)), None);
        assert!(sessions.visit(&other, at(1)).is_some());
        assert_eq!(sessions.visit("", at(1)), None);
        assert!(!format!("{sessions:?}").contains(&other));
    }

    #[test]
    fn one_too_many_ends_the_longest_idle() {
        let sessions = Sessions::default();
        let first = sessions.begin(operator(), at(0));
        let second = sessions.begin(operator(), at(1));
        for _ in 2..=SESSION_LIMIT {
            sessions.begin(operator(), at(2));
        }
        assert_eq!(sessions.visit(&first, at(3)), None);
        assert!(sessions.visit(&second, at(3)).is_some());
    }
}
