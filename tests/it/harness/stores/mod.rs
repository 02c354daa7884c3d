//! A stand-in for both app stores, to which a service under test talks HTTP on this machine.
//!
//! It checks what it is sent as the stores do, and stricter: whatever is wrong with a request fails the test
//! when the [`StandIn`] is dropped. What it answers follows from the purchases that a test makes known to
//! [`StandIn::google`] and [`StandIn::apple`], or is what the test scripts with [`StandIn::on`]. What the
//! service makes of it does not belong here.

mod answer;
pub(crate) mod apple;
mod apple_refunds;
mod asked;
pub(crate) mod chain;
mod desk;
pub(crate) mod google;
mod google_purchase;
mod google_refunds;
mod origins;
pub(crate) mod pushes;
mod refunds_self_test;
mod self_test;

use std::{sync::Arc, thread};

use tempfile::TempDir;

pub(crate) use answer::Answer;
pub(crate) use apple::{Apple, Market, consumable};
pub(crate) use apple_refunds::{AppleRefunds, Notification};
pub(crate) use chain::{Authority, Flaw};
pub(crate) use desk::{Call, On};
pub(crate) use google::Google;
pub(crate) use google_purchase::{GooglePurchase, google_token};
pub(crate) use google_refunds::{GoogleRefunds, voided};

use super::Launch;
use desk::Desk;
use origins::Origins;

/// The app's name in both stores.
pub(crate) const APP: &str = "com.iwash.NoteApp";

/// Both stores. Dropping it ends them, and panics when they were asked anything wrongly.
#[derive(Debug)]
pub(crate) struct StandIn {
    /// Google Play.
    pub(crate) google: Arc<Google>,
    /// The App Store.
    pub(crate) apple: Arc<Apple>,
    desk: Arc<Desk>,
    origins: Origins,
    directory: TempDir,
}

impl StandIn {
    /// Stores that have sold nothing.
    pub(crate) fn new() -> Self {
        let desk = Arc::new(Desk::default());
        let (listeners, addresses) = origins::bind();
        let google = Arc::new(Google::new(Arc::clone(&desk), addresses[0]));
        let apple = Arc::new(Apple::new(Arc::clone(&desk)));
        let stores = origins::Stores {
            google: Arc::clone(&google),
            apple: Arc::clone(&apple),
            desk: Arc::clone(&desk),
        };
        let origins = Origins::serve(listeners, addresses, stores);
        let directory = TempDir::new().expect("a temporary directory can be made");
        let stand_in = Self { google, apple, desk, origins, directory };
        stand_in.write("google.json", &stand_in.google.service_account());
        stand_in.write("apple.p8", &stand_in.apple.private_key());
        stand_in.write("root.pem", &stand_in.apple.authority.root_pem());
        stand_in
    }

    fn path(&self, file: &str) -> String {
        let path = self.directory.path().join(file);
        path.into_os_string().into_string().expect("a UTF-8 path")
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).expect("the file can be written");
    }

    /// What tells a service of these stores.
    pub(crate) fn settings(&self) -> [(&'static str, String); 12] {
        let [google, apple, sandbox] = self.origins.urls();
        [
            ("BILLING_RECEIPTS", "google,apple".to_owned()),
            ("BILLING_GOOGLE_PACKAGE", APP.to_owned()),
            ("BILLING_GOOGLE_SERVICE_ACCOUNT", self.path("google.json")),
            ("BILLING_GOOGLE_API_URL", google),
            ("BILLING_APPLE_BUNDLE_ID", APP.to_owned()),
            ("BILLING_APPLE_ROOT", self.path("root.pem")),
            ("BILLING_APPLE_ISSUER_ID", apple::ISSUER.to_owned()),
            ("BILLING_APPLE_KEY_ID", apple::KEY_ID.to_owned()),
            ("BILLING_APPLE_PRIVATE_KEY", self.path("apple.p8")),
            ("BILLING_APPLE_API_URL", apple),
            ("BILLING_APPLE_SANDBOX_API_URL", sandbox),
            // Payloads that a root of a test's own signed are never believed to be of production.
            ("BILLING_SANDBOX_PURCHASES", "grant".to_owned()),
        ]
    }

    /// Has a service ask these stores. It grants test purchases, unless that is set otherwise.
    pub(crate) fn known_to(&self, launch: Launch) -> Launch {
        let settings = self.settings().into_iter();
        settings.fold(launch, |launch, (name, value)| launch.set(name, value))
    }

    /// One kind of call: what is answered to it, how often it came, and when.
    pub(crate) fn on(&self, call: Call) -> On<'_> {
        self.desk.on(call)
    }

    /// Calls about single purchases so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.desk.calls()
    }

    /// Sets the stores' clock this far from the true time.
    pub(crate) fn shift(&self, seconds: i64) {
        self.desk.shift(seconds);
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.origins.close();
        if !thread::panicking() {
            let faults = self.desk.take_faults();
            assert_eq!(faults, Vec::<String>::new(), "what was wrong with requests");
        }
    }
}
