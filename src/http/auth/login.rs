//! What somebody's proof makes of them, and whose account they may act for. What proves it is the other files'.

use super::{Unidentified, named_user::NoName};
use crate::domain::{Actor, Role, UserId};

/// What in a token's `scope` (RFC 8693) makes a backend of its bearer, and an operator.
const SCOPES: [(&str, Role); 2] =
    [("billing:operator", Role::Operator), ("billing:backend", Role::Backend)];

/// Somebody who proved to be what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    role: Role,
    actor: Option<Actor>,
    /// Who it is; a static token has no user of its own.
    user: Option<UserId>,
    /// When its token ends, in seconds since 1970; a static one does not.
    ends_at: Option<u64>,
}

/// Who is let in, and whose account it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) user: UserId,
    pub(crate) role: Role,
    /// Who does it, if it is not the user.
    pub(crate) actor: Option<Actor>,
}

/// Why a request with an account is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It is not known who asks.
    Unidentified(Unidentified),
    /// It is not known whom it is about.
    Unnamed(NoName),
    /// The account is another's.
    Forbidden,
}

impl Login {
    /// Where nobody has to log in, everyone is a backend of whoever uses this machine.
    pub(super) fn of_anyone() -> Self {
        Self { role: Role::Backend, actor: None, user: Some(UserId::default_user()), ends_at: None }
    }

    /// By a token of this user with this `scope`.
    pub(super) fn of_user(user: UserId, scope: &str) -> Self {
        let granted = |name: &str| scope.split(' ').any(|granted| granted == name);
        let found = SCOPES.into_iter().find(|(name, _)| granted(name));
        let role = found.map_or(Role::App, |(_, role)| role);
        Self { role, actor: role.actor(), user: Some(user), ends_at: None }
    }

    /// By a static token.
    pub(crate) const fn of_role(role: Role) -> Self {
        Self { role, actor: role.actor(), user: None, ends_at: None }
    }

    /// The same, until its token ends, in seconds since 1970.
    pub(crate) const fn until(mut self, seconds: u64) -> Self {
        self.ends_at = Some(seconds);
        self
    }

    /// When its token ends, in seconds since 1970.
    pub(crate) const fn ends_at(&self) -> Option<u64> {
        self.ends_at
    }

    /// What it is.
    pub(in crate::http) const fn role(&self) -> Role {
        self.role
    }

    /// Who it is.
    pub(crate) const fn user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }

    /// Acts for the user that a request names, if it may, or else for its own. For whoever was erased nobody acts;
    /// operators look.
    pub(super) fn acting_for(
        &self,
        named: Result<Option<UserId>, NoName>,
    ) -> Result<Admitted, Denied> {
        let Self { role, actor, user: own, .. } = self.clone();
        let user = match (named.map_err(Denied::Unnamed)?, own) {
            (Some(named), _) if named.is_erased() && role < Role::Operator => {
                return Err(Denied::Unnamed(NoName::Erased));
            }
            (Some(named), own) if role >= Role::Backend || own.as_ref() == Some(&named) => named,
            (Some(_), _) => return Err(Denied::Forbidden),
            (None, Some(own)) if own.is_erased() => return Err(Denied::Forbidden),
            (None, Some(own)) => own,
            (None, None) => return Err(Denied::Unnamed(NoName::Missing)),
        };
        Ok(Admitted { user, role, actor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("a user's name")
    }

    #[test]
    fn a_scope_is_one_of_those_between_spaces() {
        for (scope, role) in [
            ("", Role::App),
            ("billing", Role::App),
            ("billing:backend", Role::Backend),
            ("openid billing:backend email", Role::Backend),
            ("billing:backend billing:operator", Role::Operator),
            ("  billing:operator ", Role::Operator),
            ("Billing:Backend", Role::App),
            ("billing:backends", Role::App),
            ("xbilling:backend", Role::App),
            ("billing:backend,billing:operator", Role::App),
            ("billing:backend\tbilling:operator", Role::App),
        ] {
            assert_eq!(Login::of_user(user("ann"), scope).role(), role, "{scope:?}");
        }
    }

    #[test]
    fn only_an_app_is_bound_to_its_own_account() {
        let app = Login::of_user(user("ann"), "");
        let backend = Login::of_user(user("srv"), "billing:backend");
        let fixed = Login::of_role(Role::Operator);
        let (ann, bob) = (|| Ok(Some(user("ann"))), || Ok(Some(user("bob"))));
        let acted = |login: &Login, named| {
            login.acting_for(named).map(|it| (it.user.as_str().to_owned(), it.actor))
        };
        let done = |name: &str, actor| Ok((name.to_owned(), actor));
        assert_eq!(acted(&app, Ok(None)), done("ann", None));
        assert_eq!(acted(&app, ann()), done("ann", None));
        assert_eq!(acted(&app, bob()), Err(Denied::Forbidden));
        assert_eq!(acted(&backend, Ok(None)), done("srv", Some(Actor::Backend)));
        assert_eq!(acted(&backend, bob()), done("bob", Some(Actor::Backend)));
        assert_eq!(acted(&fixed, bob()), done("bob", Some(Actor::Operator)));
        assert_eq!(acted(&fixed, Ok(None)), Err(Denied::Unnamed(NoName::Missing)));
        assert_eq!(acted(&Login::of_anyone(), bob()), done("bob", None));
        assert_eq!(acted(&Login::of_anyone(), Ok(None)), done("default_user", None));
        let erased = Login::of_user(user("erased:0"), "billing:backend");
        assert_eq!(acted(&erased, Ok(None)), Err(Denied::Forbidden));
        let gone = || Ok(Some(user("erased:0")));
        for login in [&erased, &app, &backend, &Login::of_anyone()] {
            assert_eq!(acted(login, gone()), Err(Denied::Unnamed(NoName::Erased)));
        }
        assert_eq!(acted(&fixed, gone()), done("erased:0", Some(Actor::Operator)));
        assert_eq!(
            acted(&backend, Ok(Some(user("Erased:0")))).map(|it| it.0),
            Ok("Erased:0".to_owned())
        );
        for login in [app, backend, fixed, Login::of_anyone()] {
            let bad = Err(NoName::Malformed);
            assert_eq!(acted(&login, bad), Err(Denied::Unnamed(NoName::Malformed)));
        }
    }
}
