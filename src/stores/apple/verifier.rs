//! Whether what Apple signs is Apple's, and for our app. Nothing is asked here, and nothing granted.

use chrono::{DateTime, Utc};

use super::{
    chain::Root,
    signed::{self, Payload, Unproven},
    transaction::Transaction,
};
use crate::domain::{Environment, StoreWord};

/// What it takes to judge a JWS of Apple's.
#[derive(Debug)]
pub(crate) struct Verifier {
    root: Root,
    is_for_tests: bool,
    bundle_id: String,
}

impl Verifier {
    /// For the app with that bundle id. `root` is a certificate, DER or PEM, that takes the place of Apple Root
    /// CA - G3.
    ///
    /// Such a root is for tests, and production payloads are never believed under it: the private key of the
    /// root that Apple's own test data leads to is public, so under it anybody can sign anything.
    ///
    /// # Errors
    /// A sentence when that is no root; it says what to give instead.
    pub(crate) fn new(root: Option<&[u8]>, bundle_id: String) -> Result<Self, String> {
        let is_for_tests = root.is_some();
        let root = root.map_or_else(|| Ok(Root::of_apple()), Root::read)?;
        Ok(Self { root, is_for_tests, bundle_id })
    }

    /// As if the root were Apple's.
    #[cfg(test)]
    pub(super) fn believe_production(&mut self) {
        self.is_for_tests = false;
    }

    /// For which app it judges.
    pub(super) fn bundle_id(&self) -> &str {
        &self.bundle_id
    }

    /// What a signed transaction says of a purchase.
    ///
    /// # Errors
    /// [`Unproven`] when it is not Apple's, or not understood.
    pub(crate) fn transaction(&self, jws: &str, now: DateTime<Utc>) -> Result<StoreWord, Unproven> {
        self.payload::<Transaction>(jws, now)?.says(&self.bundle_id)
    }

    /// A payload that Apple signed. For which app it is, is still to be seen.
    ///
    /// # Errors
    /// [`Unproven`] when it is not Apple's, or not of that kind.
    pub(super) fn payload<T: Payload>(&self, jws: &str, now: DateTime<Utc>) -> Result<T, Unproven> {
        let payload: T = signed::parsed(&signed::prove(jws, &self.root, now)?)?;
        let environment = payload.environment().and_then(signed::environment);
        if self.is_for_tests && environment == Some(Environment::Production) {
            return Err(Unproven::Chain {
                reason: "a root for tests can't vouch for production",
                // Apple's answer could not be believed either.
                transaction_id: None,
                environment,
            });
        }
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::apple::samples::{BUNDLE, Plan, now, purchase};

    #[test]
    fn only_a_root_for_tests_can_not_vouch_for_production() {
        let chain = Plan::default().chain();
        let mut payload = purchase();
        payload["environment"] = "Production".into();
        let mut verifier = Verifier::new(Some(&chain.root), BUNDLE.to_owned()).expect("a root");
        let refused = Unproven::Chain {
            reason: "a root for tests can't vouch for production",
            transaction_id: None,
            environment: Some(Environment::Production),
        };
        assert_eq!(verifier.transaction(&chain.sign(&payload), now()), Err(refused));
        // As if the root were Apple's.
        verifier.is_for_tests = false;
        match verifier.transaction(&chain.sign(&payload), now()) {
            Ok(StoreWord::Paid(paid)) => assert_eq!(paid.environment, Environment::Production),
            other => panic!("not paid: {other:?}"),
        }
    }

    #[test]
    fn the_built_in_root_is_not_for_tests() {
        let verifier = Verifier::new(None, BUNDLE.to_owned()).expect("Apple's root");
        assert!(!verifier.is_for_tests);
    }
}
