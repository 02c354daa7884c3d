//! How many requests one user may send, or one address without a valid token: buckets that fill up again,
//! in memory of a fixed size, and the header fields that tell clients about them. Who is asking is found out
//! in `admission`.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    num::NonZeroU32,
    str::FromStr,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore},
};

/// Most requests per second that can be set: the service answers fewer in all, so more would limit nothing.
pub(super) const RATE_LIMIT_MAX: u32 = 100_000;
/// How many seconds' worth of requests may come at once; as long an empty bucket takes to fill up.
const BURST_SECONDS: NonZeroU32 = NonZeroU32::new(2).expect("not zero");
/// Buckets there are for users, and as many for addresses: 2 MiB each, taken at the start.
const BUCKETS: u64 = 1 << 18;

/// What is left, and for how long (draft-ietf-httpapi-ratelimit-headers-11).
pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What there is in all, and in which time (ibid.).
pub(super) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Requests per second that go on for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateLimit(NonZeroU32);

impl RateLimit {
    const fn burst(self) -> NonZeroU32 {
        self.0.saturating_mul(BURST_SECONDS)
    }
}

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number: &NonZeroU32| number.get() <= RATE_LIMIT_MAX);
        number.map(Self).ok_or_else(|| {
            format!("must be a whole number from 1 to {RATE_LIMIT_MAX}; unset, nothing is limited")
        })
    }
}

/// For whom a request counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A user, by a valid token.
    User,
    /// An address, without one.
    Address,
}

impl Subject {
    /// The policy's name in headers and metrics.
    pub(super) const fn policy(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Address => "address",
        }
    }
}

/// The buckets of all users, or of all addresses.
///
/// Each client is led to one of [`BUCKETS`] buckets by a hash that nobody outside can foresee. So however
/// many there are, nothing is added, swept out or forgotten: neither is there a way to a fresh bucket. The
/// price is that two may share one, which is then stricter and never laxer: when a thousand are at work
/// within two seconds, it happens to one in 260.
#[derive(Debug)]
pub(super) struct Buckets<C: Clock = DefaultClock> {
    subject: Subject,
    rate: RateLimit,
    policy: HeaderValue,
    limiter: RateLimiter<usize, Places, C, StateInformationMiddleware>,
    /// Made anew at each start.
    hash_key: RandomState,
}

impl Buckets {
    /// Full ones.
    pub(super) fn new(subject: Subject, rate: RateLimit) -> Self {
        Self::on_clock(subject, rate, DefaultClock::default())
    }
}

impl<C: Clock> Buckets<C> {
    fn on_clock(subject: Subject, rate: RateLimit, clock: C) -> Self {
        let quota = Quota::per_second(rate.0).allow_burst(rate.burst());
        let policy = format!("\"{}\";q={};w={BURST_SECONDS}", subject.policy(), rate.burst());
        let policy = HeaderValue::try_from(policy).expect("visible ASCII");
        let limiter = RateLimiter::new(quota, Places::new(), clock);
        Self { subject, rate, policy, limiter, hash_key: RandomState::new() }
    }

    /// Takes one request out of a client's bucket.
    pub(super) fn take(&self, client: &impl Hash) -> Result<Standing, Limited> {
        match self.limiter.check_key(&self.place(client)) {
            Ok(state) => {
                let requests = state.remaining_burst_capacity();
                // So long they last at the rate that goes on for ever: whoever spreads them never runs dry.
                let seconds = requests.div_ceil(self.rate.0.get()).max(1);
                Ok(self.standing(requests, u64::from(seconds)))
            }
            Err(refused) => {
                let retry_after_seconds = self.wait_seconds(&refused);
                // The draft has clients wait to the end of the window, if that is later.
                let standing = self.standing(0, retry_after_seconds);
                Err(Limited { subject: self.subject, standing, retry_after_seconds })
            }
        }
    }

    fn place(&self, client: &impl Hash) -> usize {
        let place = self.hash_key.hash_one(client) % BUCKETS;
        usize::try_from(place).expect("a place in memory")
    }

    /// Whole seconds, for the headers know no others; a second too many rather than a request too early.
    fn wait_seconds(&self, refused: &NotUntil<C::Instant>) -> u64 {
        let wait = refused.wait_time_from(self.limiter.clock().now());
        wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
    }

    fn standing(&self, requests: u32, seconds: u64) -> Standing {
        let left = format!("\"{}\";r={requests};t={seconds}", self.subject.policy());
        let left = HeaderValue::try_from(left).expect("visible ASCII");
        Standing { policy: self.policy.clone(), left }
    }
}

/// A bucket after a request was taken out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Standing {
    policy: HeaderValue,
    left: HeaderValue,
}

impl Standing {
    /// Tells the client.
    pub(super) fn tell(self, headers: &mut HeaderMap) {
        headers.insert(RATE_LIMIT_POLICY, self.policy);
        headers.insert(RATE_LIMIT, self.left);
    }
}

/// A bucket out of which no request could be taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) subject: Subject,
    standing: Standing,
    retry_after_seconds: u64,
}

impl Limited {
    /// Tells the client, and when to come back.
    pub(super) fn tell(self, headers: &mut HeaderMap) {
        self.standing.tell(headers);
        headers.insert(header::RETRY_AFTER, self.retry_after_seconds.into());
    }
}

/// As many buckets as there will ever be.
struct Places(Box<[InMemoryState]>);

impl Places {
    fn new() -> Self {
        Self((0..BUCKETS).map(|_| InMemoryState::default()).collect())
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Places(…)")
    }
}

impl StateStore for Places {
    type Key = usize;

    fn measure_and_replace<T, F, E>(&self, place: &usize, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0[*place].measure_and_replace(&NotKeyed::NonKey, decide)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn buckets(per_second: &str) -> (Buckets<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let rate = per_second.parse().expect("a rate");
        (Buckets::on_clock(Subject::User, rate, clock.clone()), clock)
    }

    fn told(taken: Result<Standing, Limited>) -> (bool, String) {
        let (within, mut headers) = (taken.is_ok(), HeaderMap::new());
        match taken {
            Ok(standing) => standing.tell(&mut headers),
            Err(limited) => limited.tell(&mut headers),
        }
        let text = |name: HeaderName| {
            headers.get(name).map_or("-", |value| value.to_str().expect("visible ASCII")).to_owned()
        };
        let parts = [RATE_LIMIT_POLICY, RATE_LIMIT, header::RETRY_AFTER].map(text);
        (within, parts.join(" "))
    }

    fn passed(buckets: &Buckets<FakeRelativeClock>, client: &str, tries: usize) -> usize {
        (0..tries).filter(|_| buckets.take(&client).is_ok()).count()
    }

    #[test]
    fn a_burst_of_two_seconds_passes_and_is_told() {
        let (buckets, _) = buckets("3");
        for left in ["r=5;t=2", "r=4;t=2", "r=3;t=1", "r=2;t=1", "r=1;t=1", "r=0;t=1"] {
            let expected = format!("\"user\";q=6;w=2 \"user\";{left} -");
            assert_eq!(told(buckets.take(&"ann")), (true, expected));
        }
        let refused = "\"user\";q=6;w=2 \"user\";r=0;t=1 1".to_owned();
        assert_eq!(told(buckets.take(&"ann")), (false, refused));
    }

    #[test]
    fn a_budget_fills_up_one_by_one_and_not_above_its_burst() {
        let (buckets, clock) = buckets("10");
        assert_eq!(passed(&buckets, "ann", 100), 20);
        clock.advance(Duration::from_millis(99));
        assert_eq!(passed(&buckets, "ann", 100), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(passed(&buckets, "ann", 100), 1);
        // Refused requests cost nothing: whoever keeps trying gets the rate, no less.
        for _ in 0..600 {
            clock.advance(Duration::from_millis(100));
            assert_eq!(passed(&buckets, "ann", 5), 1);
        }
        clock.advance(Duration::from_hours(1_000));
        assert_eq!(passed(&buckets, "ann", 100), 20);
    }

    #[test]
    fn who_waits_as_told_passes() {
        for rate in ["1", "3", "7", "1000", "100000"] {
            let (buckets, clock) = buckets(rate);
            while buckets.take(&"ann").is_ok() {}
            let Err(refused) = buckets.take(&"ann") else { panic!("the bucket is empty") };
            assert_eq!(refused.retry_after_seconds, 1, "{rate}");
            clock.advance(Duration::from_secs(refused.retry_after_seconds));
            assert!(buckets.take(&"ann").is_ok(), "{rate}");
        }
    }

    #[test]
    fn a_million_users_and_addresses_take_no_room_and_free_nobody() {
        let (buckets, _) = buckets("1");
        assert_eq!(passed(&buckets, "ann", 3), 2);
        for number in 0..1_000_000_u32 {
            let _ = buckets.take(&number);
            let _ = buckets.take(&Ipv4Addr::from(number));
        }
        assert_eq!(passed(&buckets, "ann", 3), 0, "nothing was forgotten");
        let Places(held) = buckets.limiter.into_state_store();
        assert_eq!(size_of_val(&*held), 2 * 1_024 * 1_024);
    }

    #[test]
    fn hardly_anybody_shares() {
        let (buckets, _) = buckets("1");
        let hindered =
            (0..1_000).filter(|number| passed(&buckets, &number.to_string(), 2) < 2).count();
        assert!(hindered < 50, "{hindered} of 1,000");
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in ["1", "100000"] {
            assert!(text.parse::<RateLimit>().is_ok(), "{text}");
        }
        for text in ["", "0", "-1", "1.5", "ten", "100001", "99999999999999999999"] {
            assert!(text.parse::<RateLimit>().is_err(), "{text}");
        }
    }
}
