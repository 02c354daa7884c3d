//! Who comes in: who is asking, and whether they have asked too often. The keys of tokens are `auth`'s, the
//! counting is `rate_limit`'s.
//!
//! Each request counts once: for the user whose account it is about, or where it proves nothing, for its
//! address. So the thousands who share the address of a carrier or a proxy are in nobody's way, and one among
//! them who guesses tokens locks out no other. For that a token is looked at even when its address has nothing
//! left: it costs us the check of a signature, where turning it away unseen would cost the others the service.

use std::{
    fmt,
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
    auth::{Admitted, Authentication, Denied, Login, Unidentified, acting_for},
    rate_limit::{Buckets, Limited, RateLimit, Standing, Subject},
    refusals::{Refusal, Wording},
    request_id::RequestId,
};
use crate::domain::{Role, UserId};

/// What an operator is called who has only a static token.
const OPERATOR: &str = "operator";

/// Decides who comes in.
#[derive(Debug)]
pub(crate) struct Admission {
    authentication: Arc<Authentication>,
    limits: Option<Limits>,
    wording: Wording,
}

#[derive(Debug)]
struct Limits {
    users: Buckets,
    addresses: Buckets,
}

/// Whether a request was let in to an account; travels in its extensions.
#[derive(Debug, Clone)]
struct Decided(Result<Admitted, Denied>);

/// Somebody whom this process itself has let in already, such as an operator with a session in the pages; ahead of
/// what the headers prove. It travels in a request's extensions, so nobody outside can send it.
#[derive(Debug, Clone)]
pub(crate) struct LetIn(pub(crate) Login);

/// For whom a request counts that proves something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Client {
    User(UserId),
    /// A static token that names no user: all requests of its role are one client's.
    Role(Role),
}

impl Client {
    /// Whoever logged in, whatever account it is about.
    fn at_login(login: &Login) -> Self {
        login.user().map_or_else(|| Self::Role(login.role()), |user| Self::User(user.clone()))
    }
}

/// Where a request comes from, as far as it counts: an IPv4 address, or the network of an IPv6 one, for
/// whoever has one address of it has all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Peer(IpAddr);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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
        authentication: Arc<Authentication>,
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
    pub(crate) fn authentication(&self) -> &Authentication {
        &self.authentication
    }

    /// Whether requests have to pass [`admit`].
    pub(crate) const fn is_limited(&self) -> bool {
        self.limits.is_some()
    }

    /// Who is let in to an account by this request, and to whose.
    pub(crate) async fn admitted(
        &self,
        headers: &HeaderMap,
        extensions: &mut Extensions,
    ) -> Result<Admitted, Refusal> {
        if self.is_limited()
            && let Some(Decided(decided)) = extensions.remove()
        {
            return decided.map_err(Refusal::from);
        }
        let login = self.login(headers, extensions).await;
        acting_for(&login, headers).map_err(Refusal::from)
    }

    /// The name of the operator who sent these headers, or was let in before, if it is one: the `sub` of a token, or
    /// `operator` of a static one. Whether the others are known is not told, nor whether they could be judged.
    pub(crate) async fn operator(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Option<Arc<str>> {
        let login = self.login(headers, extensions).await.ok()?;
        let name = || login.user().map_or_else(|| Arc::from(OPERATOR), UserId::shared);
        (login.role() >= Role::Operator).then(name)
    }

    /// Who sent these headers, or was let in before.
    async fn login(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Login, Unidentified> {
        match extensions.get::<LetIn>() {
            Some(LetIn(login)) => Ok(login.clone()),
            None => self.authentication.login(headers).await,
        }
    }

    /// What limits a request, if anything does: what this process asks itself is nobody's burst.
    fn limits(&self, extensions: &Extensions) -> Option<&Limits> {
        self.limits.as_ref().filter(|_| extensions.get::<LetIn>().is_none())
    }

    fn turned_away(
        &self,
        limited: Limited,
        client: &Result<Client, Unidentified>,
        request: &Request,
    ) -> Response {
        let id = request.extensions().get::<RequestId>().map(|RequestId(id)| &**id);
        let user = match client {
            Ok(Client::User(user)) => Some(user.as_str()),
            _ => None,
        };
        let peer = request.extensions().get::<Peer>();
        let address = peer.map(|Peer(address)| tracing::field::display(address));
        debug!(user, address, id, "over the rate limit");
        let mut response = (self.wording)(Refusal::TooManyRequests(limited.subject));
        response.extensions_mut().insert(limited.subject);
        limited.tell(response.headers_mut());
        response
    }
}

impl Limits {
    /// Takes a request out of what there is for its client, and says how much is left.
    fn take(
        &self,
        client: &Result<Client, Unidentified>,
        request: &Request,
    ) -> Result<Standing, Limited> {
        match client {
            Ok(client) => self.users.take(client),
            Err(_) => self.addresses.take(&request.extensions().get::<Peer>()),
        }
    }
}

/// Lets a request through to an endpoint without an account while there is something left for whoever sent it,
/// and says how much. Whom it names is not looked at.
pub(crate) async fn admit(
    State(admission): State<Arc<Admission>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(limits) = admission.limits(request.extensions()) else {
        return next.run(request).await;
    };
    let login = admission.authentication.login(request.headers()).await;
    let client = login.as_ref().map(Client::at_login).map_err(|reason| *reason);
    match limits.take(&client, &request) {
        Ok(standing) => passed(standing, request, next).await,
        Err(limited) => admission.turned_away(limited, &client, &request),
    }
}

/// The same for an endpoint with an account, which counts for the account's user. One that may not be let in
/// counts for whoever sent it: else anybody could use up what there is for another.
pub(crate) async fn admit_to_account(
    State(admission): State<Arc<Admission>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(limits) = admission.limits(request.extensions()) else {
        return next.run(request).await;
    };
    let login = admission.authentication.login(request.headers()).await;
    let decided = acting_for(&login, request.headers());
    let client = match (&decided, &login) {
        (Ok(admitted), _) => Ok(Client::User(admitted.user.clone())),
        (Err(_), Ok(login)) => Ok(Client::at_login(login)),
        (Err(_), Err(reason)) => Err(*reason),
    };
    match limits.take(&client, &request) {
        Ok(standing) => {
            request.extensions_mut().insert(Decided(decided));
            passed(standing, request, next).await
        }
        Err(limited) => admission.turned_away(limited, &client, &request),
    }
}

async fn passed(standing: Standing, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    standing.tell(response.headers_mut());
    response
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
