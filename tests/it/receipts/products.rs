//! What is sold, and for how many credits.

use serde_json::json;

use super::{LARGE, REGULAR, SMALL, Shop, bring, granted};
use crate::harness::{
    Engine, Server, on_both_engines,
    stores::{GooglePurchase, google_token},
};

on_both_engines![
    what_is_sold_is_told_without_a_login,
    what_is_sold_is_told_without_stores,
    a_changed_product_counts_from_the_next_grant,
    a_product_that_is_no_longer_offered_is_still_granted,
];

const PATH: &str = "/products";

async fn what_is_sold_is_told_without_a_login(engine: Engine) {
    let shop = Shop::open(engine);
    let products = json!({
        SMALL: {"credits": 300}, REGULAR: {"credits": 500}, LARGE: {"credits": 1_000},
    });
    shop.server.client().get(PATH).await.is(200, &products);
    shop.user("ann").get(PATH).await.is(200, &products);
}

async fn what_is_sold_is_told_without_stores(engine: Engine) {
    let server = Server::start(engine);
    let database = server.database();
    let off = format!("UPDATE products SET active = 0 WHERE product_id = '{REGULAR}'");
    let off = if engine == Engine::Postgres { off.replace("= 0", "= false") } else { off };
    database.execute(&off).await;
    let products = json!({SMALL: {"credits": 300}, LARGE: {"credits": 1_000}});
    server.client().get(PATH).await.is(200, &products);
    database.execute("DELETE FROM products").await;
    server.client().get(PATH).await.is(200, &json!({}));
}

async fn a_changed_product_counts_from_the_next_grant(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    let mut balance = 0;
    for credits in [300, 310, 1] {
        let sql = format!("UPDATE products SET credits = {credits} WHERE product_id = '{SMALL}'");
        shop.server.database().execute(&sql).await;
        let token = google_token(&credits.to_string());
        shop.stores.google.sell(GooglePurchase::paid(&token, SMALL).times(2));
        balance += 2 * credits;
        granted(&bring(&ann, &token).await, balance);
        let products = shop.server.client().get(PATH).await.ok();
        assert_eq!(products[SMALL], json!({"credits": credits}));
    }
    // What was granted is as it was.
    let credits = "SELECT CAST(credits AS TEXT) FROM purchases ORDER BY id";
    assert_eq!(shop.server.database().texts(credits).await, ["600", "620", "2"]);
}

async fn a_product_that_is_no_longer_offered_is_still_granted(engine: Engine) {
    let shop = Shop::open(engine);
    let off = "UPDATE products SET active = 0";
    let off = if engine == Engine::Postgres { "UPDATE products SET active = false" } else { off };
    shop.server.database().execute(off).await;
    let token = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
    granted(&bring(&shop.user("ann"), &token).await, 300);
    shop.server.client().get(PATH).await.is(200, &json!({}));
}
