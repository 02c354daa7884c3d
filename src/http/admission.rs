//! Who comes in: who is asking, and whether they have asked too often. The keys of tokens are `auth`'s, the
//! counting is `rate_limit`'s.
//!
//! Each request counts once: for its user, or where it proves none, for its address. So the thousands who
//! share the address of a carrier or a proxy are in nobody's way, and one among them who guesses tokens locks
//! out no other. For that a token is looked at even when its address has nothing left: it costs us the check
//! of a signature, where turning it away unseen would cost the others the service.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{Extensions, HeaderMap},
    middleware::Next,
    response::Response,
};
use tracing::debug;

use super::{
    auth::{Authentication, Unidentified},
    rate_limit::{Buckets, Limited, RateLimit, Standing, Subject},
    refusals::{Refusal, Wording},
    request_id::RequestId,
};
use crate::domain::UserId;

/// Decides who comes in.
#[derive(Debug)]
pub(crate) struct Admission {
    authentication: Authentication,
    limits: Option<Limits>,
    wording: Wording,
}

#[derive(Debug)]
struct Limits {
    users: Buckets,
    addresses: Buckets,
}

/// The user a request was found to come from, if any; travels in its extensions.
#[derive(Debug, Clone)]
struct Identified(Result<UserId, Unidentified>);

/// Where a request comes from, as far as it counts: an IPv4 address, or the network of an IPv6 one, for
/// whoever has one address of it has all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Peer(IpAddr);

impl Peer {
    pub(super) const fn at(address: IpAddr) -> Self {
        // Sockets of both families show IPv4 clients as IPv6 ones, all of one network.
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

impl Admission {
    /// Admits whom `authentication` knows, nobody more often than `rate` where there is one.
    pub(crate) fn new(
        authentication: Authentication,
        rate: Option<RateLimit>,
        wording: Wording,
    ) -> Self {
        let limits = rate.map(|rate| Limits {
            users: Buckets::new(Subject::User, rate),
            addresses: Buckets::new(Subject::Address, rate),
        });
        Self { authentication, limits, wording }
    }

    /// How callers prove who they are.
    pub(crate) const fn authentication(&self) -> &Authentication {
        &self.authentication
    }

    /// Whether requests have to pass [`admit`].
    pub(crate) const fn is_limited(&self) -> bool {
        self.limits.is_some()
    }

    /// Who sent this request.
    pub(crate) async fn user(
        &self,
        headers: &HeaderMap,
        extensions: &mut Extensions,
    ) -> Result<UserId, Unidentified> {
        if self.is_limited()
            && let Some(Identified(user)) = extensions.remove()
        {
            return user;
        }
        self.authentication.user(headers).await
    }
}

impl Limits {
    fn take(
        &self,
        user: &Result<UserId, Unidentified>,
        peer: Option<&Peer>,
    ) -> Result<Standing, Limited> {
        match user {
            Ok(user) => self.users.take(user),
            Err(_) => self.addresses.take(&peer),
        }
    }
}

/// Lets a request through to its endpoint while there is something left for it, and says how much.
pub(crate) async fn admit(
    State(admission): State<Arc<Admission>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(limits) = &admission.limits else { return next.run(request).await };
    let user = admission.authentication.user(request.headers()).await;
    let peer = request.extensions().get::<Peer>();
    match limits.take(&user, peer) {
        Ok(standing) => {
            request.extensions_mut().insert(Identified(user));
            let mut response = next.run(request).await;
            standing.tell(response.headers_mut());
            response
        }
        Err(limited) => {
            let id = request.extensions().get::<RequestId>().map(|RequestId(id)| &**id);
            let user = user.as_ref().ok().map(UserId::as_str);
            let address = peer.map(|Peer(address)| tracing::field::display(address));
            debug!(user, address, id, "over the rate limit");
            let mut response = (admission.wording)(Refusal::TooManyRequests(limited.subject));
            response.extensions_mut().insert(limited.subject);
            limited.tell(response.headers_mut());
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_one_client_can_have() {
        let peer = |text: &str| Peer::at(text.parse().expect("an address"));
        assert_eq!(peer("2001:db8:1:2::1"), peer("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("::ffff:192.0.2.1"), peer("::ffff:192.0.2.2"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }
}
