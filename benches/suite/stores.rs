//! Stand-ins for the app stores: a server that answers as Google does, and somebody who signs as Apple does. They
//! check nothing and have sold everything, because it is the service that is measured.

use std::{
    fs,
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::requests::{PRODUCT, WITH_TOKENS};

const APP: &str = "com.iwash.NoteApp";

/// What comes of a question to Google about a purchase.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    /// An answer after so long.
    AnswersAfter(Duration),
    /// The connection is taken, and no answer comes.
    Hangs,
}

/// Google Play, which ends with the suite.
pub(crate) struct Google {
    address: SocketAddr,
    desk: Arc<Desk>,
}

struct Desk {
    manner: Manner,
    acknowledged: AtomicU64,
    /// Questions that hang now.
    hanging: AtomicUsize,
}

impl Google {
    pub(crate) async fn open(manner: Manner) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (acknowledged, hanging) = (AtomicU64::new(0), AtomicUsize::new(0));
        let desk = Arc::new(Desk { manner, acknowledged, hanging });
        let routes = axum::Router::new().fallback(answer).with_state(Arc::clone(&desk));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { address, desk })
    }

    /// Purchases that were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.desk.acknowledged.load(Ordering::Relaxed)
    }

    /// Questions that hang now.
    pub(crate) fn hanging(&self) -> usize {
        self.desk.hanging.load(Ordering::Relaxed)
    }
}

async fn answer(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let path = request.uri().path();
    if path == "/token" {
        let access =
            json!({"access_token": "ya29.any", "expires_in": 3_599, "token_type": "Bearer"});
        return json_of(&access.to_string());
    }
    match desk.manner {
        Manner::AnswersAfter(time) => tokio::time::sleep(time).await,
        Manner::Hangs => {
            desk.hanging.fetch_add(1, Ordering::Relaxed);
            // Whoever asked goes away in the end, and this is dropped.
            let _gone = scopeguard::guard((), |()| {
                desk.hanging.fetch_sub(1, Ordering::Relaxed);
            });
            pending::<()>().await;
        }
    }
    let Some((_, token)) = path.rsplit_once('/') else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if token.ends_with(":acknowledge") {
        desk.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    if token.contains(':') {
        return StatusCode::NO_CONTENT.into_response();
    }
    json_of(&paid(token))
}

fn json_of(text: &str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text.to_owned()).into_response()
}

/// Characters of a token's end that make its order's id.
const ORDER_CHARACTERS: usize = 36;

fn paid(token: &str) -> String {
    let order = token.get(token.len().saturating_sub(ORDER_CHARACTERS)..).unwrap_or(token);
    format!(
        r#"{{"kind":"androidpublisher#productPurchaseV2","productLineItem":[{{"productId":"{PRODUCT}","productOfferDetails":{{"purchaseOptionId":"legacy-base","quantity":1,"refundableQuantity":1,"consumptionState":"CONSUMPTION_STATE_YET_TO_BE_CONSUMED"}}}}],"purchaseStateContext":{{"purchaseState":"PURCHASED"}},"orderId":"GPA.{order}","regionCode":"JP","purchaseCompletionTime":"2026-11-27T09:00:00.123Z","acknowledgementState":"ACKNOWLEDGEMENT_STATE_PENDING"}}"#
    )
}

/// Who signs transactions as Apple does.
pub(crate) struct Apple {
    root: Vec<u8>,
    /// Of every transaction, with its certificates.
    header: String,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Apple {
    pub(crate) fn new() -> Result<Self> {
        let key_of = KeyPair::generate_for;
        let root = CertifiedIssuer::self_signed(
            authority("Bench Root CA - G3"),
            key_of(&PKCS_ECDSA_P384_SHA384)?,
        )?;
        let mut params = authority("Bench Worldwide Developer Relations");
        params.custom_extensions.push(mark(&[1, 2, 840, 113_635, 100, 6, 2, 1]));
        let issuer = CertifiedIssuer::signed_by(params, key_of(&PKCS_ECDSA_P384_SHA384)?, &root)?;
        let key = key_of(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = named("Bench App Store Receipt Signing");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.custom_extensions.push(mark(&[1, 2, 840, 113_635, 100, 6, 11, 1]));
        let leaf = params.signed_by(&key, &issuer)?;
        let chain = [leaf.der().as_ref(), issuer.der().as_ref(), root.der().as_ref()]
            .map(|der| BASE64_STANDARD.encode(der));
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.serialized_der())
            .map_err(|error| anyhow!("a key of this kind: {error}"))?;
        Ok(Self {
            root: root.der().to_vec(),
            header: encoded(&json!({"alg": "ES256", "x5c": chain}).to_string()),
            key,
            random: SystemRandom::new(),
        })
    }

    /// A transaction of the sandbox, for no other root than Apple's vouches for one that was paid.
    pub(crate) fn sign(&self, id: u64) -> Result<String> {
        let id = id.to_string();
        let now = SystemTime::UNIX_EPOCH.elapsed().context("the clock")?;
        let now_ms = u64::try_from(now.as_millis())?;
        let payload = json!({
            "transactionId": id,
            "originalTransactionId": id,
            "bundleId": APP,
            "productId": PRODUCT,
            "purchaseDate": now_ms,
            "originalPurchaseDate": now_ms,
            "quantity": 1,
            "type": "Consumable",
            "inAppOwnershipType": "PURCHASED",
            "signedDate": now_ms,
            "environment": "Sandbox",
            "transactionReason": "PURCHASE",
            "storefront": "JPN",
            "storefrontId": "143462",
            "price": 300_000,
            "currency": "JPY",
            "appTransactionId": "704000000000000001",
        });
        self.sign_payload(&payload)
    }

    /// That a transaction was paid, as Apple tells it by itself.
    pub(crate) fn notification(&self, id: u64) -> Result<String> {
        let payload = json!({
            "notificationType": "ONE_TIME_CHARGE",
            "notificationUUID": format!("uuid-{id}"),
            "data": {
                "bundleId": APP,
                "environment": "Sandbox",
                "signedTransactionInfo": self.sign(id)?,
            },
            "version": "2.0",
        });
        self.sign_payload(&payload)
    }

    fn sign_payload(&self, payload: &Value) -> Result<String> {
        let message = format!("{}.{}", self.header, encoded(&payload.to_string()));
        let signature = self.key.sign(&self.random, message.as_bytes());
        let signature = signature.map_err(|_| anyhow!("a transaction can't be signed"))?;
        Ok(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn encoded(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// An extension whose presence is all it says.
fn mark(number: &[u64]) -> CustomExtension {
    CustomExtension::from_oid_content(number, vec![5, 0])
}

/// What tells a service of the stores, with the files it needs.
pub(crate) struct Known {
    settings: Vec<(&'static str, String)>,
    _directory: TempDir,
}

impl Known {
    pub(crate) fn new(google: &Google, apple: &Apple) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = |file: &str| {
            directory
                .path()
                .join(file)
                .into_os_string()
                .into_string()
                .map_err(|path| anyhow!("{} is not UTF-8", path.display()))
        };
        let (account, root) = (path("google.json")?, path("root.der")?);
        let origin = format!("http://{}", google.address);
        let file = json!({
            "type": "service_account",
            "private_key_id": "0123456789abcdef",
            "private_key": include_str!("../../tests/it/keys/rsa.pem"),
            "client_email": "billing@noteapp.iam.gserviceaccount.com",
            "token_uri": format!("{origin}/token"),
        });
        fs::write(&account, file.to_string())?;
        fs::write(&root, &apple.root)?;
        let mut settings: Vec<_> =
            WITH_TOKENS.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        settings.extend([
            ("BILLING_RECEIPTS", "google,apple".to_owned()),
            ("BILLING_GOOGLE_PACKAGE", APP.to_owned()),
            ("BILLING_GOOGLE_SERVICE_ACCOUNT", account),
            ("BILLING_GOOGLE_API_URL", origin),
            ("BILLING_APPLE_BUNDLE_ID", APP.to_owned()),
            ("BILLING_APPLE_ROOT", root),
            ("BILLING_SANDBOX_PURCHASES", "grant".to_owned()),
        ]);
        Ok(Self { settings, _directory: directory })
    }

    /// Those of a service that checks tokens and asks these stores.
    pub(crate) fn settings(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(name, value)| (*name, &**value)).collect()
    }
}
