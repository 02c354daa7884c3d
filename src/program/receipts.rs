//! The settings for purchases that the app stores confirm: read, and made into what asks the stores. Files are
//! read and keys tried here, so that a bad one stops the start. What the stores are asked does not belong here.

use std::{collections::BTreeSet, fs, path::Path, path::PathBuf, str::FromStr, sync::Arc};

use chrono::{DateTime, Utc};
use clap::{Args, builder::NonEmptyStringValueParser};
use x509_parser::{parse_x509_certificate, pem::parse_x509_pem};

use crate::{
    domain::{SandboxRule, Store, UserId},
    metrics::Metrics,
    outgoing::{Outgoing, Site},
    stores::{
        RefundPreference, Stores,
        apple::{
            Apple, Verifier,
            api::{ApiKey, AppleApi, Sites},
        },
        google::{Google, Push, PushSettings, ServiceAccount},
    },
};

/// Settings of receipts, as they are given.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReceiptArguments {
    /// Which stores confirm purchases: `google`, `apple` or `google,apple`; or `off`: purchases are believed on
    /// the client's word. It must be set where others than this machine can connect, and where they log in.
    #[arg(long, env = "BILLING_RECEIPTS")]
    pub receipts: Option<Receipts>,

    /// What test purchases get: `refuse`, `grant` (credits for nothing, for whoever may test), or `users:`
    /// with the users who may, such as `users:alice,bob`. App Review and TestFlight buy in the sandbox.
    #[arg(long, env = "BILLING_SANDBOX_PURCHASES", default_value = "refuse", value_parser = sandbox_rule)]
    pub sandbox_purchases: SandboxRule,

    /// What the stores are told that we prefer where they ask before a refund: `none` (they decide), `decline` or
    /// `grant`.
    #[arg(long, env = "BILLING_REFUND_PREFERENCE", default_value = "none", value_parser = refund_preference)]
    pub refund_preference: RefundPreference,

    /// The app's package name in Google Play, such as `com.example.app`.
    #[arg(long, env = "BILLING_GOOGLE_PACKAGE", value_parser = app_name)]
    pub google_package: Option<String>,

    /// JSON key file of the service account that may read and acknowledge orders in Play Console.
    #[arg(long, env = "BILLING_GOOGLE_SERVICE_ACCOUNT")]
    pub google_service_account: Option<PathBuf>,

    /// What Google's notifications are proved by: the audience of the push subscription's token. All three or none;
    /// without them nothing is pushed to us.
    #[arg(long, env = "BILLING_GOOGLE_PUSH_AUDIENCE", value_parser = NonEmptyStringValueParser::new())]
    pub google_push_audience: Option<String>,

    /// The service account that the subscription pushes as, such as `push@project.iam.gserviceaccount.com`.
    #[arg(long, env = "BILLING_GOOGLE_PUSH_ACCOUNT", value_parser = account_name)]
    pub google_push_account: Option<String>,

    /// The push subscription, such as `projects/project/subscriptions/play`.
    #[arg(long, env = "BILLING_GOOGLE_PUSH_SUBSCRIPTION", value_parser = subscription_name)]
    pub google_push_subscription: Option<String>,

    /// The app's bundle id in the App Store, such as `com.example.app`.
    #[arg(long, env = "BILLING_APPLE_BUNDLE_ID", value_parser = app_name)]
    pub apple_bundle_id: Option<String>,

    /// The app's Apple ID, a number (App Store Connect > App Information). Not needed with `BILLING_APPLE_ROOT`.
    #[arg(long, env = "BILLING_APPLE_APP_ID")]
    pub apple_app_id: Option<u64>,

    /// Issuer ID of the App Store Server API key (App Store Connect > Users and Access > Integrations > In-App
    /// Purchase). All three of the key or none; without them signed transactions are verified, and transactions
    /// can't be looked up by their ids.
    #[arg(long, env = "BILLING_APPLE_ISSUER_ID", value_parser = NonEmptyStringValueParser::new())]
    pub apple_issuer_id: Option<String>,

    /// Id of the App Store Server API key.
    #[arg(long, env = "BILLING_APPLE_KEY_ID", value_parser = NonEmptyStringValueParser::new())]
    pub apple_key_id: Option<String>,

    /// The App Store Server API key: a `.p8` file.
    #[arg(long, env = "BILLING_APPLE_PRIVATE_KEY")]
    pub apple_private_key: Option<PathBuf>,

    /// A certificate (DER or PEM) that replaces Apple's root, for tests only: real purchases are not verified
    /// then.
    #[arg(long, env = "BILLING_APPLE_ROOT")]
    pub apple_root: Option<PathBuf>,

    /// Where Google Play is asked: an origin; https, or http on this machine. So with the next three.
    #[arg(
        long,
        env = "BILLING_GOOGLE_API_URL",
        default_value = "https://androidpublisher.googleapis.com"
    )]
    pub google_api_url: Site,

    /// Where the keys of Google's notifications are fetched.
    #[arg(long, env = "BILLING_GOOGLE_JWKS_URL", default_value = "https://www.googleapis.com")]
    pub google_jwks_url: Site,

    /// Where the App Store is asked.
    #[arg(long, env = "BILLING_APPLE_API_URL", default_value = "https://api.storekit.apple.com")]
    pub apple_api_url: Site,

    /// Where the App Store's sandbox is asked.
    #[arg(
        long,
        env = "BILLING_APPLE_SANDBOX_API_URL",
        default_value = "https://api.storekit-sandbox.apple.com"
    )]
    pub apple_sandbox_api_url: Site,
}

/// The stores that confirm purchases; without any, receipts are off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Receipts(BTreeSet<Store>);

/// Receipts that are on, with all that is needed.
#[derive(Debug, Clone)]
pub(crate) struct ReceiptSettings {
    /// What test purchases get.
    pub sandbox: SandboxRule,
    /// What is preferred where a store asks before a refund.
    pub refund_preference: RefundPreference,
    /// Google Play, if it is asked.
    pub google: Option<GoogleSettings>,
    /// The App Store, if it is asked. At least one of the two is.
    pub apple: Option<AppleSettings>,
}

/// What asking Google Play takes.
#[derive(Debug, Clone)]
pub(crate) struct GoogleSettings {
    /// The app.
    pub package: String,
    /// Who asks.
    pub account: ServiceAccount,
    /// Where it is asked.
    pub api: Site,
    /// What its notifications are proved by, if it pushes any.
    pub push: Option<PushSettings>,
}

/// What judging and looking up the App Store's transactions takes.
#[derive(Debug, Clone)]
pub(crate) struct AppleSettings {
    /// The app.
    pub bundle_id: String,
    /// The app's Apple ID, where it is given.
    pub app_id: Option<u64>,
    /// A certificate in DER that replaces Apple's root, for tests.
    pub test_root: Option<Vec<u8>>,
    /// With what transactions can be looked up by their ids.
    pub key: Option<ApiKey>,
    /// Where that is.
    pub sites: Sites,
}

impl FromStr for Receipts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::default());
        }
        let mut stores = BTreeSet::new();
        for name in text.split(',') {
            let is_new = Store::from_name(name.trim()).is_some_and(|store| stores.insert(store));
            if !is_new {
                return Err("must be off, google, apple or google,apple".to_owned());
            }
        }
        Ok(Self(stores))
    }
}

impl Receipts {
    /// Whether no store is asked.
    pub(crate) fn are_off(&self) -> bool {
        self.0.is_empty()
    }
}

impl ReceiptArguments {
    /// What is needed to ask these stores; none if receipts are off.
    ///
    /// # Errors
    /// A line that names a variable, and says what is missing or wrong.
    pub(super) fn settings(&self, receipts: &Receipts) -> Result<Option<ReceiptSettings>, String> {
        if receipts.are_off() {
            return Ok(None);
        }
        let named = |store| receipts.0.contains(&store);
        let google = named(Store::Google).then(|| self.google()).transpose()?;
        let apple = named(Store::Apple).then(|| self.apple()).transpose()?;
        let (sandbox, refund_preference) = (self.sandbox_purchases.clone(), self.refund_preference);
        Ok(Some(ReceiptSettings { sandbox, refund_preference, google, apple }))
    }

    /// Whether another root than Apple's is what counts.
    pub(super) fn judges_by_test_root(&self) -> bool {
        let has_apple =
            self.receipts.as_ref().is_some_and(|stores| stores.0.contains(&Store::Apple));
        has_apple && self.apple_root.is_some()
    }

    fn google(&self) -> Result<GoogleSettings, String> {
        let package =
            needed(self.google_package.as_ref(), "BILLING_GOOGLE_PACKAGE", Store::Google)?;
        let variable = "BILLING_GOOGLE_SERVICE_ACCOUNT";
        let path = needed(self.google_service_account.as_ref(), variable, Store::Google)?;
        let account = from_file(variable, path, ServiceAccount::from_json)?;
        let (api, push) = (self.google_api_url.clone(), self.google_push()?);
        Ok(GoogleSettings { package: package.clone(), account, api, push })
    }

    fn google_push(&self) -> Result<Option<PushSettings>, String> {
        let (audience, account, subscription) = match (
            &self.google_push_audience,
            &self.google_push_account,
            &self.google_push_subscription,
        ) {
            (None, None, None) => return Ok(None),
            (Some(audience), Some(account), Some(subscription)) => {
                (audience.clone(), account.clone(), subscription.clone())
            }
            (audience, account, _) => {
                let missing = match (audience, account) {
                    (None, _) => "BILLING_GOOGLE_PUSH_AUDIENCE",
                    (_, None) => "BILLING_GOOGLE_PUSH_ACCOUNT",
                    _ => "BILLING_GOOGLE_PUSH_SUBSCRIPTION",
                };
                return Err(format!(
                    "{missing}: it is missing; set BILLING_GOOGLE_PUSH_AUDIENCE, BILLING_GOOGLE_PUSH_ACCOUNT and \
                     BILLING_GOOGLE_PUSH_SUBSCRIPTION, or none of them"
                ));
            }
        };
        let keys = self.google_jwks_url.clone();
        Ok(Some(PushSettings { audience, account, subscription, keys }))
    }

    fn apple(&self) -> Result<AppleSettings, String> {
        let bundle_id =
            needed(self.apple_bundle_id.as_ref(), "BILLING_APPLE_BUNDLE_ID", Store::Apple)?;
        let root = self.apple_root.as_ref();
        if root.is_none() {
            needed(self.apple_app_id.as_ref(), "BILLING_APPLE_APP_ID", Store::Apple)?;
        }
        let test_root = root.map(|path| from_file("BILLING_APPLE_ROOT", path, certificate));
        let (production, sandbox) =
            (self.apple_api_url.clone(), self.apple_sandbox_api_url.clone());
        Ok(AppleSettings {
            bundle_id: bundle_id.clone(),
            app_id: self.apple_app_id,
            test_root: test_root.transpose()?,
            key: self.apple_key()?,
            sites: Sites { production, sandbox },
        })
    }

    fn apple_key(&self) -> Result<Option<ApiKey>, String> {
        let (issuer_id, key_id, path) = match (
            &self.apple_issuer_id,
            &self.apple_key_id,
            &self.apple_private_key,
        ) {
            (None, None, None) => return Ok(None),
            (Some(issuer_id), Some(key_id), Some(path)) => (issuer_id, key_id, path),
            (issuer_id, key_id, _) => {
                let missing = match (issuer_id, key_id) {
                    (None, _) => "BILLING_APPLE_ISSUER_ID",
                    (_, None) => "BILLING_APPLE_KEY_ID",
                    _ => "BILLING_APPLE_PRIVATE_KEY",
                };
                return Err(format!(
                    "{missing}: it is missing; set BILLING_APPLE_ISSUER_ID, BILLING_APPLE_KEY_ID and \
                         BILLING_APPLE_PRIVATE_KEY, or none of them"
                ));
            }
        };
        let key = |p8: &[u8]| ApiKey::new(issuer_id.clone(), key_id.clone(), p8);
        from_file("BILLING_APPLE_PRIVATE_KEY", path, key).map(Some)
    }
}

impl ReceiptSettings {
    /// What asks the stores.
    ///
    /// # Errors
    /// A sentence when nothing can be asked at all.
    pub(super) fn asked(
        &self,
        clock: fn() -> DateTime<Utc>,
        metrics: Option<&Arc<Metrics>>,
    ) -> Result<Stores, String> {
        let client = Outgoing::new()?;
        let google = self.google.as_ref().map(|google| {
            let push = google.push.clone();
            let push = push.map(|settings| Push::new(settings, client.clone())).transpose()?;
            let asked = google.client(client.clone(), clock, metrics.cloned());
            Ok::<_, String>(asked.hearing(push))
        });
        let google = google.transpose()?;
        let apple = self.apple.as_ref().map(|apple| {
            if let Some(metrics) = metrics {
                metrics.stores.expect(Store::Apple.name());
            }
            let root = apple.test_root.as_deref();
            let verifier = Verifier::new(root, apple.bundle_id.clone())
                .map_err(|reason| format!("BILLING_APPLE_ROOT: {reason}"))?;
            let api = apple.api(client, clock, metrics.cloned());
            Ok::<_, String>(Apple::new(verifier, apple.app_id, api))
        });
        Ok(Stores::new(google, apple.transpose()?).preferring(self.refund_preference))
    }

    /// The stores that are asked, as they are called in settings.
    pub(crate) fn stores(&self) -> Vec<&'static str> {
        let google = self.google.as_ref().map(|_| Store::Google.name());
        google.into_iter().chain(self.apple.as_ref().map(|_| Store::Apple.name())).collect()
    }
}

impl GoogleSettings {
    /// What asks Google Play.
    pub(crate) fn client(
        &self,
        client: Outgoing,
        clock: fn() -> DateTime<Utc>,
        metrics: Option<Arc<Metrics>>,
    ) -> Google {
        let Self { package, account, api, push: _ } = self.clone();
        Google::new(package, account, api, client, clock, metrics)
    }
}

impl AppleSettings {
    /// What looks transactions up, if there is a key for that.
    pub(crate) fn api(
        &self,
        client: Outgoing,
        clock: fn() -> DateTime<Utc>,
        metrics: Option<Arc<Metrics>>,
    ) -> Option<AppleApi> {
        let (bundle_id, sites) = (self.bundle_id.clone(), self.sites.clone());
        let key = self.key.clone()?;
        Some(AppleApi::new(bundle_id, key, sites, client, clock, metrics))
    }
}

fn needed<'a, T>(value: Option<&'a T>, variable: &str, store: Store) -> Result<&'a T, String> {
    value.ok_or_else(|| {
        format!("{variable}: must be set where BILLING_RECEIPTS names {}", store.name())
    })
}

fn from_file<T>(
    variable: &str,
    path: &Path,
    read: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<T, String> {
    let path_shown = path.display();
    let bytes = fs::read(path)
        .map_err(|error| format!("{variable}: cannot read '{path_shown}': {error}"))?;
    read(&bytes).map_err(|reason| format!("{variable}: '{path_shown}' {reason}"))
}

/// The certificate of an authority, in DER.
fn certificate(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let none = || "holds no certificate in DER or PEM".to_owned();
    let der = if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        let (rest, pem) = parse_x509_pem(bytes).map_err(|_| none())?;
        if pem.label != "CERTIFICATE" || !rest.trim_ascii().is_empty() {
            return Err("must hold one certificate and nothing else".to_owned());
        }
        pem.contents
    } else {
        bytes.to_vec()
    };
    match parse_x509_certificate(&der) {
        Ok(([], certificate)) if certificate.is_ca() => Ok(der),
        Ok(([], _)) => Err("holds a certificate that is no authority's".to_owned()),
        _ => Err(none()),
    }
}

fn sandbox_rule(text: &str) -> Result<SandboxRule, String> {
    match text {
        "refuse" => Ok(SandboxRule::Refuse),
        "grant" => Ok(SandboxRule::Grant),
        _ => {
            let users = text.strip_prefix("users:").ok_or("must be refuse, grant or users:a,b")?;
            let user = |name: &str| {
                UserId::new(name.trim()).map_err(|error| format!("the name of a user {error}"))
            };
            users.split(',').map(user).collect::<Result<_, _>>().map(SandboxRule::Users)
        }
    }
}

fn refund_preference(text: &str) -> Result<RefundPreference, String> {
    match text {
        "none" => Ok(RefundPreference::Nothing),
        "decline" => Ok(RefundPreference::Decline),
        "grant" => Ok(RefundPreference::Grant),
        _ => Err("must be none, decline or grant".to_owned()),
    }
}

/// A package's name or a bundle's id, which both stores make of letters, digits and few signs.
fn app_name(text: &str) -> Result<String, String> {
    let is_part = |part: &str| {
        let sign = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        !part.is_empty() && part.bytes().all(sign)
    };
    let parts: Vec<_> = text.split('.').collect();
    if parts.len() > 1 && parts.into_iter().all(is_part) {
        Ok(text.to_owned())
    } else {
        Err("must be a name such as com.example.app".to_owned())
    }
}

/// A service account, as it is called in the token of what it pushes.
fn account_name(text: &str) -> Result<String, String> {
    match text.split_once('@') {
        Some((name, domain))
            if !name.is_empty() && domain.contains('.') && !text.contains(char::is_whitespace) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("must be the e-mail address of a service account".to_owned()),
    }
}

/// A subscription by its whole name, which is what messages carry.
fn subscription_name(text: &str) -> Result<String, String> {
    match text.split('/').collect::<Vec<_>>()[..] {
        ["projects", project, "subscriptions", name] if !project.is_empty() && !name.is_empty() => {
            Ok(text.to_owned())
        }
        _ => Err("must be a whole name such as projects/project/subscriptions/play".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;

    #[test]
    fn stores_are_named_once_or_not_at_all() {
        for (text, stores) in [
            ("off", Some(vec![])),
            ("google", Some(vec![Store::Google])),
            ("apple", Some(vec![Store::Apple])),
            ("google,apple", Some(vec![Store::Google, Store::Apple])),
            ("apple, google", Some(vec![Store::Google, Store::Apple])),
            ("", None),
            ("on", None),
            ("Google", None),
            ("google,", None),
            ("google,google", None),
            ("off,google", None),
        ] {
            let read = text.parse::<Receipts>().ok().map(|receipts| receipts.0);
            assert_eq!(read, stores.map(BTreeSet::from_iter), "{text}");
        }
    }

    #[test]
    fn test_purchases_are_for_nobody_everybody_or_some() {
        let alice = UserId::new("alice").expect("a name");
        for (text, may) in [
            ("refuse", Some(false)),
            ("grant", Some(true)),
            ("users:alice", Some(true)),
            ("users:bob, alice", Some(true)),
            ("users:bob,Alice", Some(false)),
            ("users:", None),
            ("users:alice,,bob", None),
            ("alice", None),
            ("Grant", None),
        ] {
            let rule = sandbox_rule(text);
            assert_eq!(rule.map(|rule| rule.grants(&alice)).ok(), may, "{text}");
        }
    }

    #[test]
    fn apps_are_named_as_the_stores_do() {
        for name in ["com.example.app", "com.iwash.NoteApp", "a.b_c", "com.example.my-app"] {
            assert!(app_name(name).is_ok(), "{name}");
        }
        for name in ["", "app", "com.example.", ".app", "com..app", "com.example/app", "com.例"] {
            assert!(app_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn accounts_and_subscriptions_are_named_whole() {
        assert!(account_name("push@noteapp.iam.gserviceaccount.com").is_ok());
        for name in ["", "push", "@a.example", "push@", "push@example", "push @a.example"] {
            assert!(account_name(name).is_err(), "{name}");
        }
        assert!(subscription_name("projects/noteapp/subscriptions/play").is_ok());
        for name in [
            "",
            "play",
            "projects/noteapp/topics/play",
            "projects//subscriptions/play",
            "projects/noteapp/subscriptions/",
            "projects/noteapp/subscriptions/play/",
            "/projects/noteapp/subscriptions/play",
        ] {
            assert!(subscription_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_root_is_one_certificate_of_an_authority() {
        let made = |ca| {
            let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
            params.is_ca = ca;
            let key = rcgen::KeyPair::generate().expect("a key");
            params.self_signed(&key).expect("a certificate")
        };
        let pem = |label: &str, der: &[u8]| {
            let text = BASE64_STANDARD.encode(der);
            format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
        };
        let der = made(rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)).der().to_vec();
        let leaf = made(rcgen::IsCa::NoCa);
        let text = pem("CERTIFICATE", &der);
        for bytes in [&der[..], text.as_bytes(), text.replace('\n', "\r\n").as_bytes()] {
            assert_eq!(certificate(bytes), Ok(der.clone()));
        }
        let trailing = [&der[..], &[0]].concat();
        let two = format!("{text}{text}");
        let key = pem("PRIVATE KEY", rcgen::KeyPair::generate().expect("a key").serialized_der());
        for bytes in [
            &der[..der.len() - 1],
            &trailing,
            two.as_bytes(),
            leaf.der(),
            key.as_bytes(),
            b"",
            b"nothing",
        ] {
            let line = certificate(bytes).expect_err("it is no root");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
