//! What is kept of purchases: found sound, or exactly what is wrong with it; copied, and moved to another engine.

use super::{LATER, SMALL, Shop, bring, granted, later, receipt, repeated, with_login};
use crate::{
    harness::{
        Engine, Home, Server, eventually, on_both_engines, on_postgres,
        stores::{GooglePurchase, consumable, google_token},
    },
    verify::{check_clean, check_found},
};

on_both_engines![
    sound_purchases_are_ok_in_every_state,
    what_is_wrong_with_a_purchase_is_found,
    a_purchase_keeps_no_secret_once_it_is_done,
];
on_postgres![purchases_arrive_on_another_engine];

/// Purchases of ann's, and one of bob's, in all states that there are without refunds; the service is stopped.
async fn shop_with_purchases(engine: Engine) -> Shop {
    let mut shop = Shop::open(engine);
    let (ann, bob) = (shop.user("ann"), shop.user("bob"));
    for (purchase, token) in [
        (GooglePurchase::paid(&google_token("paid"), SMALL), google_token("paid")),
        (GooglePurchase::pending(&google_token("slow"), SMALL), google_token("slow")),
        (GooglePurchase::paid(&google_token("odd"), "unknown"), google_token("odd")),
        (GooglePurchase::paid(&google_token("gone"), SMALL).cancelled(), google_token("gone")),
    ] {
        shop.stores.google.sell(purchase);
        bring(&ann, &token).await;
    }
    bring(&ann, &google_token("nobody-knows")).await;
    granted(&bring(&bob, &shop.stores.apple.signed(&consumable("1001", SMALL))).await, 300);
    shop.all_acknowledged().await;
    let states = ["received", "pending", "granted", "review", "refused"];
    for state in states {
        let found = format!("SELECT state FROM purchases WHERE state = '{state}' LIMIT 1");
        assert_eq!(shop.server.database().texts(&found).await, [state]);
    }
    shop.server.stop().await;
    shop
}

async fn sound_purchases_are_ok_in_every_state(engine: Engine) {
    let shop = shop_with_purchases(engine).await;
    let printed = check_clean(shop.server.home()).await;
    assert!(printed.contains(&"every confirmed purchase has its grant: yes".to_owned()));
    if engine == Engine::Sqlite {
        let launch = shop.server.launch();
        let copied = launch.finish(shop.server.directory(), &["backup", "copy.db"]).await;
        assert_eq!(copied.code, Some(0), "{copied:?}");
    }
}

async fn what_is_wrong_with_a_purchase_is_found(engine: Engine) {
    let shop = shop_with_purchases(engine).await;
    let granted = "SELECT CAST(id AS TEXT) FROM purchases WHERE user_id = 'bob'";
    let id = shop.server.database().texts(granted).await.concat();
    let ann = "SELECT CAST(id AS TEXT) FROM purchases WHERE state = 'pending'";
    let waiting = shop.server.database().texts(ann).await.concat();
    for (sql, user, expected, found) in [
        ("credits = 299", "bob", "an entry of its credits for its user", "another or none"),
        ("entry_id = NULL", "bob", "an entry of its credits for its user", "another or none"),
        ("items = '[[\"p\",1,299]]'", "bob", "the credits of its items", "others"),
        ("key = 'another'", "bob", "its key among the keys", "none"),
        ("due_at = NULL", "ann", "when its store is asked or told next", "never"),
    ] {
        let id = if user == "ann" { &waiting } else { &id };
        let line = format!(
            "difference: user \"{user}\", expected {expected} of purchase {id}, found {found}"
        );
        let change = format!("UPDATE purchases SET {sql} WHERE id = {id}");
        // What it was granted for is then not what its items are worth, too.
        let differences = if sql.starts_with("credits") { 2 } else { 1 };
        check_found(&shop.server, &change, differences, &[&line]).await;
    }
    let entry = "UPDATE purchases SET entry_id = 1000000 WHERE state = 'pending'";
    let line = format!(
        "difference: user \"ann\", expected no entry before it is granted of purchase {waiting}, found one"
    );
    check_found(&shop.server, entry, 1, &[&line]).await;
}

async fn a_purchase_keeps_no_secret_once_it_is_done(engine: Engine) {
    let shop = Shop::open(engine);
    let token = google_token("a");
    // The app was faster.
    shop.stores.google.sell(GooglePurchase::paid(&token, SMALL).consumed());
    granted(&bring(&shop.user("ann"), &token).await, 300);
    let secrets = "SELECT key FROM purchases WHERE token IS NOT NULL OR due_at IS NOT NULL
            OR acknowledged_at IS NULL OR consumed_at IS NULL";
    assert_eq!(shop.server.database().texts(secrets).await, [""; 0]);
}

async fn purchases_arrive_on_another_engine() {
    let shop = shop_with_purchases(Engine::Sqlite).await;
    let target = Home::new(Engine::Postgres);
    let migrate = ["migrate-to", &target.database.url()];
    let finished = shop.server.launch().finish(shop.server.directory(), &migrate).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let kept = "SELECT CAST(bought.id AS TEXT) || ' ' || keys.key || ' ' || state || ' '
            || COALESCE(token, '-') || ' ' || COALESCE(CAST(entry_id AS TEXT), '-') || ' '
            || CAST(attempts AS TEXT) || ' ' || COALESCE(items, '-')
        FROM purchases AS bought JOIN purchase_keys AS keys ON keys.purchase_id = bought.id
        ORDER BY keys.key";
    let copied = shop.server.database().texts(kept).await;
    assert!(copied.len() > 5, "{copied:?}");
    assert_eq!(target.database.texts(kept).await, copied);

    let server =
        Server::start_at(target, with_login(shop.stores.known_to(crate::harness::Launch::new())));
    let ann = server.client().of("ann");
    repeated(
        &bring(&ann, &google_token("paid")).await,
        ann.balance().await["credits"].as_i64().expect("credits"),
    );
    shop.stores.google.sell(GooglePurchase::paid(&google_token("slow"), SMALL));
    // What was waiting is granted by whoever is first, the task or the app, which may have been asking by then.
    let bought = eventually("it is granted", async || {
        let reply = ann.post("/credits/add", &receipt(&google_token("slow"))).await;
        (reply.status == 200).then_some(reply)
    })
    .await;
    assert_eq!(bought.ok()["new_balance"], 600);
    later(&bring(&ann, &google_token("odd")).await, "purchase_in_review", LATER);
}
