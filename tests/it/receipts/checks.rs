//! `token-billing purchases check`: it asks the stores as the service would, touches no purchase, and says what
//! is wrong. It needs no database, so no engine.

use tempfile::TempDir;

use crate::harness::{
    Finished, Launch,
    stores::{Answer, Call, StandIn, apple::unauthenticated},
};

async fn check(launch: &Launch) -> Finished {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let finished = launch.finish(directory.path(), &["purchases", "check"]).await;
    let left = std::fs::read_dir(directory.path()).expect("the directory can be read");
    assert_eq!(left.count(), 0, "{finished:?}");
    for secret in ["ya29.", "eyJ", "PRIVATE KEY"] {
        let lines = finished.stdout.iter().chain(&finished.stderr);
        assert!(!lines.clone().any(|line| line.contains(secret)), "{finished:?}");
    }
    finished
}

#[tokio::test]
async fn stores_that_can_be_asked_are_found_right() {
    let stores = StandIn::new();
    let finished = check(&stores.known_to(Launch::new())).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.len() >= 3, "{finished:?}");
    assert!(finished.stdout.iter().all(|line| line.starts_with("ok: ")), "{finished:?}");
    for call in [Call::AccessToken, Call::Voided, Call::TestNotification] {
        assert_eq!(stores.on(call).count(), 1, "{call:?}");
    }
    assert_eq!(stores.calls(), []);
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    let forbidden = Answer::google(
        403,
        "androidpublisher",
        "permissionDenied",
        "The current user has insufficient permissions to perform the requested operation.",
    );
    for (calls, answer) in [
        (
            &[Call::AccessToken][..],
            Answer::text(400, "application/json", "{\"error\":\"invalid_grant\"}"),
        ),
        (&[Call::Voided], forbidden),
        (&[Call::Voided], Answer::html(200)),
        (&[Call::Voided], Answer::closed()),
        (&[Call::TestNotification, Call::SandboxTestNotification], unauthenticated()),
        (&[Call::TestNotification, Call::SandboxTestNotification], Answer::html(503)),
    ] {
        println!("{calls:?}: {answer:?}");
        let stores = StandIn::new();
        for call in calls {
            stores.on(*call).always(answer.clone());
        }
        let finished = check(&stores.known_to(Launch::new())).await;
        println!("{finished:#?}");
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stdout.iter().any(|line| line.starts_with("wrong: ")), "{finished:?}");
    }
}

#[tokio::test]
async fn without_stores_there_is_nothing_to_check() {
    let stores = StandIn::new();
    let launch = stores.known_to(Launch::new()).set("BILLING_RECEIPTS", "off");
    let finished = check(&launch).await;
    assert_eq!((finished.code, finished.stdout.len()), (Some(0), 1), "{finished:?}");
}
