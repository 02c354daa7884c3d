//! Queries of the history that are malformed.

use crate::{
    harness::{Engine, Server, on_both_engines},
    malformed_bodies::problems,
};

on_both_engines![every_problem_of_a_query_is_listed, the_bounds_of_a_query_are_inside];

async fn every_problem_of_a_query_is_listed(engine: Engine) {
    let server = Server::start(engine);
    let long = "m".repeat(129);
    let too_long = format!("model_id={long}");
    let table: &[(&str, &[&str])] = &[
        ("limit=0", &["greater_than_equal query.limit"]),
        ("limit=-5", &["greater_than_equal query.limit"]),
        ("limit=1001", &["less_than_equal query.limit"]),
        ("limit=18446744073709551617", &["less_than_equal query.limit"]),
        ("limit=abc", &["int_parsing query.limit"]),
        ("limit=", &["int_parsing query.limit"]),
        ("limit=1e2", &["int_parsing query.limit"]),
        ("before=0", &["greater_than_equal query.before"]),
        ("before=-1", &["greater_than_equal query.before"]),
        ("before=x", &["int_parsing query.before"]),
        ("type=x", &["literal_error query.type"]),
        ("type=Purchase", &["literal_error query.type"]),
        ("type=", &["literal_error query.type"]),
        ("model_id=", &["string_too_short query.model_id"]),
        (&too_long, &["string_too_long query.model_id"]),
        ("model_id=a%00b", &["value_error query.model_id"]),
        (
            "limit=0&before=x&type=y&model_id=",
            &[
                "greater_than_equal query.limit",
                "int_parsing query.before",
                "literal_error query.type",
                "string_too_short query.model_id",
            ],
        ),
    ];
    for (query, expected) in table {
        let reply = server.client().get(&format!("/transactions?{query}")).await;
        assert_eq!(problems(&reply), *expected, "{query}");
    }
}

async fn the_bounds_of_a_query_are_inside(engine: Engine) {
    let server = Server::start(engine);
    for query in [
        "limit=1",
        "limit=1000",
        "before=1",
        "before=9223372036854775807",
        "type=purchase",
        "type=allocation",
        "type=consumption",
        "model_id=m",
        "model_id=%E3%83%A2",
        "unknown=1",
        "",
    ] {
        let reply = server.client().get(&format!("/transactions?{query}")).await;
        reply.is(200, &serde_json::json!([]));
    }
}
