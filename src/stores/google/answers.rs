//! What Google's refusals mean: a table from status and reason. Only what is listed here as permanent is; all
//! else may pass. What follows for a purchase is decided by whoever asked.

use serde::Deserialize;

use crate::{outgoing::Reply, stores::StoreError};

/// Most characters of Google's name of a reason that are repeated.
const REASON_MAX_CHARS: usize = 64;

/// Why Google did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The token is none; nothing will ever be sold under it.
    Malformed,
    /// The token is of another app, or our package is set wrong.
    OtherPackage,
    /// It does not know the token, or not yet, or not any more.
    Unknown,
    /// The purchase is not in a state for that; it may be done already.
    State,
    /// It knows no such thing, which may be our app.
    Missing,
    /// It knows no app that is called so.
    NoApp,
    /// The access token is not taken.
    Unidentified,
    /// Anything else, which may pass.
    Error(StoreError),
}

#[derive(Deserialize)]
struct Body {
    error: Details,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    errors: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    reason: Option<String>,
}

impl Refusal {
    /// What an answer other than success means.
    pub(super) fn of(reply: &Reply) -> Self {
        let status = reply.status.as_u16();
        let reason = reason(&reply.body);
        match (status, reason.as_deref()) {
            (400, Some("invalid" | "invalidValue")) => Self::Malformed,
            (400, Some("purchaseTokenDoesNotMatchPackageName")) => Self::OtherPackage,
            (400, Some("invalidPurchaseState")) => Self::State,
            // Rights need up to two days to arrive, and come and go meanwhile: the access token is good.
            (401, Some("permissionDenied")) => refused(RIGHTS_MISSING),
            (401, _) => Self::Unidentified,
            (403, Some("accessNotConfigured" | "SERVICE_DISABLED")) => refused(API_DISABLED),
            (403, _) => refused(RIGHTS_MISSING),
            (404, Some("applicationNotFound")) => Self::NoApp,
            (404, Some("notFound")) => Self::Missing,
            (404, Some("purchaseTokenNotFound")) | (410, Some(_)) => Self::Unknown,
            (429, _) => Self::Error(StoreError::Limited),
            _ => {
                let reason = reason.as_deref().unwrap_or("no reason that is known");
                let text = format!("it answered with status {status}, {reason}");
                Self::Error(StoreError::Unreachable(text))
            }
        }
    }

    /// Its name in metrics.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Malformed => "never",
            Self::OtherPackage | Self::Unidentified | Self::Missing | Self::NoApp => "refused",
            Self::Unknown => "unknown",
            Self::State => "other",
            Self::Error(error) => error.name(),
        }
    }

    /// The same, where Google may not know the app yet.
    pub(super) fn name_before_release(&self) -> &'static str {
        match self {
            Self::NoApp => StoreError::Unreleased.name(),
            refusal => refusal.name(),
        }
    }

    /// Why it can't be done now, where none of it is expected to be permanent.
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Error(error) => error,
            Self::Unknown => StoreError::Unknown,
            Self::OtherPackage => StoreError::Refused(OTHER_PACKAGE.to_owned()),
            Self::Unidentified => StoreError::Refused(UNIDENTIFIED.to_owned()),
            Self::Missing | Self::NoApp => StoreError::Refused(APP_MISSING.to_owned()),
            Self::Malformed => StoreError::Unreachable("it does not take the token".to_owned()),
            Self::State => {
                StoreError::Unreachable("the purchase is not in a state for that".to_owned())
            }
        }
    }
}

const RIGHTS_MISSING: &str = "the service account lacks a right for this app: invite it in Play Console > Users \
    and permissions, with \"View financial data\" and \"Manage orders and subscriptions\"; rights take up to \
    two days";
const API_DISABLED: &str = "the Google Play Android Developer API is switched off: enable it in the Cloud \
    Console, in the project of the service account";
const APP_MISSING: &str =
    "it knows no such app: BILLING_GOOGLE_PACKAGE must be the package as Play Console shows it";
const OTHER_PACKAGE: &str = "the purchase is of another app than BILLING_GOOGLE_PACKAGE: if that is set wrong, \
    set it right, else somebody tries another app's purchase";
const UNIDENTIFIED: &str = "it does not take its own access token: look at this machine's clock, and at the \
    account in BILLING_GOOGLE_SERVICE_ACCOUNT";

fn refused(reason: &str) -> Refusal {
    Refusal::Error(StoreError::Refused(reason.to_owned()))
}

/// The reason in an error's body, if all entries give the same one, and it looks like one.
fn reason(body: &[u8]) -> Option<String> {
    let Body { error } = serde_json::from_slice(body).ok()?;
    let mut reasons = error.errors.into_iter().map(|detail| detail.reason);
    let first = reasons.next()??;
    let is_name = first.len() <= REASON_MAX_CHARS
        && first.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_alone = reasons.all(|other| other.as_ref() == Some(&first));
    (is_name && is_alone).then_some(first)
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use serde_json::json;

    use super::*;

    fn meant(status: u16, body: &str) -> Refusal {
        let status = StatusCode::from_u16(status).expect("a status");
        Refusal::of(&Reply { status, body: body.as_bytes().to_vec() })
    }

    fn body(status: u16, reason: &str) -> String {
        let error = json!({
            "code": status,
            "message": "A sentence with token aaaa.AO-J1O",
            "errors": [{"domain": "androidpublisher", "reason": reason, "message": "A sentence"}],
        });
        json!({ "error": error }).to_string()
    }

    #[test]
    fn each_answer_is_in_its_class() {
        for (status, reason, name) in [
            (400, "invalid", "never"),
            (400, "invalidValue", "never"),
            (400, "purchaseTokenDoesNotMatchProductId", "unreachable"),
            (400, "purchaseTokenDoesNotMatchPackageName", "refused"),
            (400, "invalidPurchaseState", "other"),
            (400, "badRequest", "unreachable"),
            (400, "", "unreachable"),
            (401, "permissionDenied", "refused"),
            (401, "authError", "refused"),
            (403, "forbidden", "refused"),
            (403, "accessNotConfigured", "refused"),
            (404, "purchaseTokenNotFound", "unknown"),
            (404, "applicationNotFound", "refused"),
            (404, "notFound", "refused"),
            (404, "other", "unreachable"),
            (409, "concurrentUpdate", "unreachable"),
            (410, "purchaseTokenNoLongerValid", "unknown"),
            (429, "rateLimitExceeded", "limited"),
            (500, "backendError", "unreachable"),
            (503, "invalid", "unreachable"),
        ] {
            let refusal = meant(status, &body(status, reason));
            assert_eq!(refusal.name(), name, "{status} {reason}");
            let text = refusal.into_error().to_string();
            assert!(!text.contains("AO-J1O"), "{text}");
        }
    }

    #[test]
    fn only_rights_leave_the_access_token_alone() {
        assert_eq!(meant(401, &body(401, "authError")), Refusal::Unidentified);
        assert_eq!(meant(401, ""), Refusal::Unidentified);
        assert!(matches!(meant(401, &body(401, "permissionDenied")), Refusal::Error(_)));
    }

    #[test]
    fn what_is_no_answer_of_googles_may_pass() {
        let two = r#"{"error":{"errors":[{"reason":"invalid"},{"reason":"backendError"}]}}"#;
        let twice = r#"{"error":{"errors":[{"reason":"invalid","reason":"invalid"}]}}"#;
        let odd = body(400, "invalid value of aaaa.AO-J1O");
        let deep = "[".repeat(100_000);
        for body in [
            "",
            "<html>400</html>",
            "{}",
            "null",
            r#"{"error":"invalid"}"#,
            two,
            twice,
            &odd,
            &deep,
        ] {
            for status in [301, 302, 400, 404, 410, 418, 500, 502] {
                let refusal = meant(status, body);
                assert_eq!(refusal.name(), "unreachable", "{status} {body:.80}");
                assert!(!refusal.into_error().to_string().contains("AO-J1O"));
            }
        }
    }
}
