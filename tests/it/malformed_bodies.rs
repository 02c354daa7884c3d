//! Bodies that are malformed: every problem listed as pydantic lists it, nothing changed, nothing
//! echoed.

use serde_json::Value;

use crate::harness::{Engine, Reply, Server, on_both_engines};

on_both_engines![
    purchases,
    allocations,
    consumptions,
    bodies_that_are_no_object_at_all,
    messages_are_pydantics,
    a_purchase_token_is_never_echoed,
];

/// The problems of a 422 as `type loc.ation`, sorted.
pub(crate) fn problems(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 422, "{reply:?}");
    let body = reply.json();
    let listed = body["detail"].as_array().unwrap_or_else(|| panic!("a list: {body}"));
    let mut problems: Vec<String> = listed
        .iter()
        .map(|problem| {
            assert!(problem.get("input").is_none(), "the input is not echoed: {problem}");
            assert!(problem["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{problem}");
            let steps = problem["loc"].as_array().expect("a location");
            let steps: Vec<String> = steps
                .iter()
                .map(|step| match step {
                    Value::String(key) => key.clone(),
                    step => step.as_u64().expect("a key or an index").to_string(),
                })
                .collect();
            format!("{} {}", problem["type"].as_str().expect("a type"), steps.join("."))
        })
        .collect();
    problems.sort();
    problems
}

/// Posts every body of a table and compares the problems. A row's last word may end in `*`: then only
/// what comes before it is given by the contract.
async fn check<B: AsRef<[u8]>>(engine: Engine, path: &str, table: &[(B, &[&str])]) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens("gemini-2.0-flash", 75).await;
    let before = server.database().digest().await;
    for (body, expected) in table {
        let body = body.as_ref();
        let reply = client.post_bytes(path, body).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        let found = problems(&reply);
        let mut expected: Vec<&str> = expected.to_vec();
        expected.sort_unstable();
        let alike = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(found, expected)| {
                expected
                    .strip_suffix('*')
                    .map_or(found == expected, |start| found.starts_with(start))
            });
        assert!(alike, "{path} {shown}\nexpected {expected:?}\n   found {found:?}");
        assert_eq!(server.database().digest().await, before, "{path} {shown} left a trace");
    }
}

async fn purchases(engine: Engine) {
    const ID: &str = "body.purchase_record.transactionId";

    let long = "x".repeat(2_049);
    let record = |record: &str| format!(r#"{{"credits": 1, "purchase_record": {record}}}"#);
    let credits = |credits: &str| format!(r#"{{"credits": {credits}, "purchase_record": {{}}}}"#);
    check(
        engine,
        "/credits/add",
        &[
            ("{}".to_owned(), &["missing body.credits", "missing body.purchase_record"]),
            (credits(r#""12""#), &["int_type body.credits"]),
            (credits("true"), &["int_type body.credits"]),
            (credits("null"), &["int_type body.credits"]),
            (credits("[1]"), &["int_type body.credits"]),
            (credits("{}"), &["int_type body.credits"]),
            (credits("1.5"), &["int_from_float body.credits"]),
            (credits("-0.5"), &["int_from_float body.credits"]),
            (credits("1e3"), &["int_type body.credits"]),
            (credits("0"), &["greater_than body.credits"]),
            (credits("-0"), &["greater_than body.credits"]),
            (credits("-1"), &["greater_than body.credits"]),
            (credits("-9223372036854775809"), &["greater_than body.credits"]),
            (credits("1000000001"), &["less_than_equal body.credits"]),
            (credits("9223372036854775808"), &["less_than_equal body.credits"]),
            (credits("18446744073709551617"), &["less_than_equal body.credits"]),
            (credits(&"9".repeat(400)), &["less_than_equal body.credits"]),
            (credits(&format!("-{}", "9".repeat(400))), &["greater_than body.credits"]),
            (record("null"), &["dict_type body.purchase_record"]),
            (record("[]"), &["dict_type body.purchase_record"]),
            (record(r#""{}""#), &["dict_type body.purchase_record"]),
            (record(r#"{"transactionId": 12}"#), &[&format!("string_type {ID}")]),
            (record(r#"{"transactionId": {}}"#), &[&format!("string_type {ID}")]),
            (
                record(&format!(r#"{{"transactionId": "{long}"}}"#)),
                &[&format!("string_too_long {ID}")],
            ),
            (record(r#"{"transactionId": "a\u0000b"}"#), &[&format!("value_error {ID}")]),
            (record(r#"{"transactionId": "a\nb"}"#), &[&format!("value_error {ID}")]),
            (record(r#"{"a": 1, "a": 1}"#), &["value_error body.purchase_record*"]),
            (record(r#"{"a": [{"b": 1, "\u0062": 2}]}"#), &["value_error body.purchase_record*"]),
            (
                record(r#"{"transactionId": "1", "transactionId": "2"}"#),
                &["value_error body.purchase_record*"],
            ),
            (
                r#"{"credits": 1, "credits": 2, "purchase_record": {}}"#.to_owned(),
                &["value_error body*"],
            ),
            (
                r#"{"credits": 1, "cre\u0064its": 1, "purchase_record": {}}"#.to_owned(),
                &["value_error body*"],
            ),
            (
                r#"{"credits": 1.5, "purchase_record": {"transactionId": 1}}"#.to_owned(),
                &["int_from_float body.credits", &format!("string_type {ID}")],
            ),
            (
                r#"{"credits": 0, "purchase_record": 0}"#.to_owned(),
                &["greater_than body.credits", "dict_type body.purchase_record"],
            ),
        ],
    )
    .await;
}

async fn allocations(engine: Engine) {
    const CREDITS: &str = "body.allocations.0.credits";
    const MODEL: &str = "body.allocations.0.model_id";

    let items = |count: usize| {
        let item = r#"{"model_id": "gemini-2.0-flash", "credits": 1}"#;
        format!(r#"{{"allocations": [{}]}}"#, vec![item; count].join(","))
    };
    let item = |item: &str| format!(r#"{{"allocations": [{item}]}}"#);
    let credits = |credits: &str| item(&format!(r#"{{"model_id": "m", "credits": {credits}}}"#));
    let model = |model: &str| item(&format!(r#"{{"model_id": {model}, "credits": 1}}"#));
    check(
        engine,
        "/credits/allocate",
        &[
            ("{}".to_owned(), &["missing body.allocations"]),
            (r#"{"allocations": null}"#.to_owned(), &["list_type body.allocations"]),
            (r#"{"allocations": {}}"#.to_owned(), &["list_type body.allocations"]),
            (r#"{"allocations": "[]"}"#.to_owned(), &["list_type body.allocations"]),
            (items(0), &["too_short body.allocations"]),
            (items(51), &["too_long body.allocations"]),
            (item("null"), &["model_attributes_type body.allocations.0"]),
            (item("[]"), &["model_attributes_type body.allocations.0"]),
            (item("{}"), &[&format!("missing {CREDITS}"), &format!("missing {MODEL}")]),
            (credits(r#""1""#), &[&format!("int_type {CREDITS}")]),
            (credits("false"), &[&format!("int_type {CREDITS}")]),
            (credits("null"), &[&format!("int_type {CREDITS}")]),
            (credits("0.1"), &[&format!("int_from_float {CREDITS}")]),
            (credits("0"), &[&format!("greater_than {CREDITS}")]),
            (credits("1000000001"), &[&format!("less_than_equal {CREDITS}")]),
            (credits("99999999999999999999"), &[&format!("less_than_equal {CREDITS}")]),
            (model("null"), &[&format!("string_type {MODEL}")]),
            (model("5"), &[&format!("string_type {MODEL}")]),
            (model(r#""""#), &[&format!("string_too_short {MODEL}")]),
            (model(&format!(r#""{}""#, "m".repeat(129))), &[&format!("string_too_long {MODEL}")]),
            (model(r#""a\u0000""#), &[&format!("value_error {MODEL}")]),
            (model(r#""a\u007f""#), &[&format!("value_error {MODEL}")]),
            (
                item(r#"{"model_id": "m", "credits": 1, "credits": 1}"#),
                &["value_error body.allocations*"],
            ),
            (
                item(r#"{"model_id": "gemini-2.0-flash", "credits": 1}, {"credits": 0}, 7"#),
                &[
                    "greater_than body.allocations.1.credits",
                    "missing body.allocations.1.model_id",
                    "model_attributes_type body.allocations.2",
                ],
            ),
        ],
    )
    .await;
}

async fn consumptions(engine: Engine) {
    const INPUT: &str = "body.input_tokens";
    const OUTPUT: &str = "body.output_tokens";

    let body = |model: &str, input: &str, output: &str| {
        format!(r#"{{"model_id": {model}, "input_tokens": {input}, "output_tokens": {output}}}"#)
    };
    let tokens = |input: &str, output: &str| body(r#""gemini-2.0-flash""#, input, output);
    check(
        engine,
        "/tokens/consume",
        &[
            (
                "{}".to_owned(),
                &[
                    "missing body.model_id",
                    "missing body.input_tokens",
                    "missing body.output_tokens",
                ],
            ),
            (tokens("-1", "1"), &[&format!("greater_than_equal {INPUT}")]),
            (tokens("1", "-1"), &[&format!("greater_than_equal {OUTPUT}")]),
            (tokens("-99999999999999999999", "1"), &[&format!("greater_than_equal {INPUT}")]),
            (tokens("1000000001", "1"), &[&format!("less_than_equal {INPUT}")]),
            (tokens("1", "9223372036854775808"), &[&format!("less_than_equal {OUTPUT}")]),
            (
                tokens("1.5", "true"),
                &[&format!("int_from_float {INPUT}"), &format!("int_type {OUTPUT}")],
            ),
            (
                tokens(r#""""#, "null"),
                &[&format!("int_type {INPUT}"), &format!("int_type {OUTPUT}")],
            ),
            (body(r#""""#, "1", "1"), &["string_too_short body.model_id"]),
            (body("[]", "1", "1"), &["string_type body.model_id"]),
            (
                body(&format!(r#""{}""#, "モ".repeat(129)), "1", "1"),
                &["string_too_long body.model_id"],
            ),
            (body(r#""a\tb""#, "1", "1"), &["value_error body.model_id"]),
            (
                body("7", "-1", "1000000001"),
                &[
                    "string_type body.model_id",
                    &format!("greater_than_equal {INPUT}"),
                    &format!("less_than_equal {OUTPUT}"),
                ],
            ),
        ],
    )
    .await;
}

async fn bodies_that_are_no_object_at_all(engine: Engine) {
    let deep = |open: &str, close: &str| {
        let value = format!("{}1{}", open.repeat(1_000), close.repeat(1_000));
        format!(r#"{{"credits": 1, "purchase_record": {{"a": {value}}}}}"#).into_bytes()
    };
    let valid = r#"{"credits": 1, "purchase_record": {"transactionId": "GPA.1"}}"#.as_bytes();
    let table: &[(Vec<u8>, &[&str])] = &[
        (b"".to_vec(), &["missing body"]),
        (b"null".to_vec(), &["model_attributes_type body"]),
        (b"[]".to_vec(), &["model_attributes_type body"]),
        (b"[{}]".to_vec(), &["model_attributes_type body"]),
        (b"\"x\"".to_vec(), &["model_attributes_type body"]),
        (b"12".to_vec(), &["model_attributes_type body"]),
        (b"true".to_vec(), &["model_attributes_type body"]),
        (b" ".to_vec(), &["json_invalid body*"]),
        (b"{".to_vec(), &["json_invalid body*"]),
        (b"{'credits': 1}".to_vec(), &["json_invalid body*"]),
        (br#"{"credits": 01, "purchase_record": {}}"#.to_vec(), &["json_invalid body*"]),
        (br#"{"credits": +1, "purchase_record": {}}"#.to_vec(), &["json_invalid body*"]),
        (br#"{"credits": NaN, "purchase_record": {}}"#.to_vec(), &["json_invalid body*"]),
        (
            br#"{"credits": 1, "purchase_record": {"a": Infinity}}"#.to_vec(),
            &["json_invalid body*"],
        ),
        (valid[..valid.len() - 1].to_vec(), &["json_invalid body*"]),
        ([valid, b"}"].concat(), &["json_invalid body*"]),
        ([valid, valid].concat(), &["json_invalid body*"]),
        ([b"\xef\xbb\xbf", valid].concat(), &["json_invalid body*"]),
        (
            b"{\"credits\": 1, \"purchase_record\": {\"a\": \"\xff\"}}".to_vec(),
            &["json_invalid body*"],
        ),
        (
            b"{\"credits\": 1, \"purchase_record\": {\"a\": \"\n\"}}".to_vec(),
            &["json_invalid body*"],
        ),
        (deep("[", "]"), &["json_invalid body*"]),
        (deep(r#"{"a":"#, "}"), &["json_invalid body*"]),
    ];
    check(engine, "/credits/add", table).await;
    let everywhere: Vec<(Vec<u8>, &[&str])> = table[..9].to_vec();
    check(engine, "/credits/allocate", &everywhere).await;
    check(engine, "/tokens/consume", &everywhere).await;
}

async fn messages_are_pydantics(engine: Engine) {
    let server = Server::start(engine);
    let body = r#"{"model_id": "", "input_tokens": -1}"#;
    let reply = server.client().post_bytes("/tokens/consume", body).await;
    reply.is(
        422,
        &serde_json::json!({"detail": [
            {
                "type": "string_too_short", "loc": ["body", "model_id"],
                "msg": "String should have at least 1 character",
            },
            {
                "type": "greater_than_equal", "loc": ["body", "input_tokens"],
                "msg": "Input should be greater than or equal to 0",
            },
            {"type": "missing", "loc": ["body", "output_tokens"], "msg": "Field required"},
        ]}),
    );
    for (credits, message) in [
        ("0", "Input should be greater than 0"),
        ("2e9", "Input should be a valid integer"),
        ("1000000001", "Input should be less than or equal to 1000000000"),
        ("1.5", "Input should be a valid integer, got a number with a fractional part"),
        ("null", "Input should be a valid integer"),
    ] {
        let body = format!(r#"{{"credits": {credits}, "purchase_record": {{}}}}"#);
        let reply = server.client().post_bytes("/credits/add", body).await;
        assert_eq!(reply.json()["detail"][0]["msg"], message, "{reply:?}");
    }
}

async fn a_purchase_token_is_never_echoed(engine: Engine) {
    let server = Server::start(engine);
    for body in [
        r#"{"credits": 0, "purchase_record": {"purchaseToken": "a-secret-token"}}"#,
        r#"{"credits": 1, "purchase_record": "a-secret-token"}"#,
        r#"{"credits": "a-secret-token", "purchase_record": {"transactionId": ["a-secret-token"]}}"#,
        r#"{"credits": 1, "purchase_record": {"purchaseToken": "a-secret-token"}"#,
    ] {
        let reply = server.client().post_bytes("/credits/add", body).await;
        assert_eq!(reply.status, 422, "{reply:?}");
        assert!(!reply.text.contains("a-secret-token"), "{reply:?}");
    }
}
