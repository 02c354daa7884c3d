//! Who may ask: tokens that prove it, tokens that don't, and users who never see each other.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Client, Engine, Home, Launch, Reply, Server,
    client::purchase,
    eventually, on_both_engines,
    token::{SECRET, claims, now, signed, token},
};

on_both_engines![
    what_proves_nothing_is_refused_before_anything_happens,
    what_proves_it_is_taken,
    users_never_meet,
    issuer_and_audience_count_when_they_are_set,
    public_keys_take_what_their_other_half_signed,
    where_others_can_connect_the_choice_is_asked_for,
];

const OLD_SECRET: &str = "the secret that is being replaced now";
const MODEL: &str = "gemini-2.0-flash";

/// Every endpoint that has an account of its own, with a body that would do something.
fn endpoints() -> [(Method, &'static str, Value); 7] {
    let allocation = json!({"allocations": [{"model_id": MODEL, "credits": 1}]});
    let consumption = json!({"model_id": MODEL, "input_tokens": 1, "output_tokens": 0});
    [
        (Method::GET, "/balance", Value::Null),
        (Method::GET, "/balance/category/quick", Value::Null),
        (Method::GET, "/transactions", Value::Null),
        (Method::POST, "/credits/add", purchase(1, "GPA.intruder")),
        (Method::POST, "/credits/allocate", allocation),
        (Method::POST, "/tokens/consume", consumption),
        (Method::POST, "/reset", json!({})),
    ]
}

fn changed(name: &str, value: Value) -> Value {
    let mut claims = claims("ann");
    claims[name] = value;
    claims
}

fn start(engine: Engine, settings: &[(&str, &str)]) -> Server {
    let jwt = [("BILLING_AUTH", "jwt"), ("BILLING_ALLOW_RESET", "true")];
    Server::start_with(engine, &[&jwt, settings].concat())
}

async fn call(
    client: &Client,
    method: &Method,
    path: &str,
    body: &Value,
    headers: &[&str],
) -> Reply {
    let mut request = client.request(method.clone(), &format!("/api/billing{path}"));
    for header in headers {
        request = request.header("authorization", *header);
    }
    if !body.is_null() {
        request = request.json(body);
    }
    Reply::to(request).await
}

async fn as_user(client: &Client, user: &str, path: &str, body: &Value) -> Reply {
    let method = if body.is_null() { Method::GET } else { Method::POST };
    let header = format!("Bearer {}", token(&claims(user)));
    call(client, &method, path, body, &[&header]).await
}

async fn what_proves_nothing_is_refused_before_anything_happens(engine: Engine) {
    let server = start(engine, &[("BILLING_JWT_SECRET", SECRET)]);
    let client = server.client();
    let before = server.database().digest().await;
    let good = token(&claims("ann"));
    let (head, rest) = good.split_once('.').expect("three parts");
    let mut kid = Header::new(Algorithm::HS256);
    kid.kid = Some("../../etc/passwd' OR 1=1 --".to_owned());
    let other_key = EncodingKey::from_secret(OLD_SECRET.as_bytes());
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let mut attempts: Vec<Vec<String>> = [
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer nonsense".to_owned(),
        "Basic YW5uOnBhc3N3b3Jk".to_owned(),
        good.clone(),
        format!("Bearer {head}.{rest}x"),
        format!("Bearer {none}.{}", rest.rsplit_once('.').expect("a signature").0.to_owned() + "."),
        format!("Bearer {none}.{rest}"),
        format!("Bearer {}", signed(Algorithm::HS384, &claims("ann"), SECRET.as_bytes())),
        format!("Bearer {}", signed(Algorithm::HS256, &claims("ann"), OLD_SECRET.as_bytes())),
        format!("Bearer {}", encode(&kid, &claims("ann"), &other_key).expect("it signs")),
    ]
    .map(|header| vec![header])
    .to_vec();
    for bad in [
        changed("exp", json!(now() - 7)),
        changed("exp", json!("never")),
        changed("exp", Value::Null),
        changed("nbf", json!(now() + 60)),
        changed("type", json!("refresh")),
        changed("type", json!(7)),
        changed("sub", json!("")),
        changed("sub", json!(7)),
        changed("sub", Value::Null),
        changed("sub", json!("a\nb")),
        changed("sub", json!("u".repeat(129))),
        changed("sub", json!("u".repeat(10_000))),
        json!({"sub": "ann"}),
        json!({"exp": now() + 600}),
        json!([]),
    ] {
        attempts.push(vec![format!("Bearer {}", token(&bad))]);
    }
    attempts.push(vec![]);
    attempts.push(vec![format!("Bearer {good}"), format!("Bearer {good}")]);
    for (method, path, body) in endpoints() {
        for headers in &attempts {
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            let reply = call(&client, &method, path, &body, &headers).await;
            let answer = json!({
                "detail": "Invalid or expired token. Please login again.", "code": "unauthorized",
            });
            reply.is(401, &answer);
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{headers:?}");
        }
    }
    assert_eq!(server.database().digest().await, before);
}

async fn what_proves_it_is_taken(engine: Engine) {
    let server = start(engine, &[("BILLING_JWT_SECRET", &format!("{SECRET},{OLD_SECRET}"))]);
    let client = server.client();
    let empty = json!({"credits": 0, "allocated_tokens": {}});
    let claims: [fn() -> Value; 6] = [
        || claims("ann"),
        || {
            let mut without_type = claims("ann");
            without_type.as_object_mut().expect("an object").remove("type");
            without_type
        },
        // Clocks may differ by a few seconds.
        || changed("exp", json!(now() - 2)),
        || changed("nbf", json!(now() + 2)),
        || changed("sub", json!("u".repeat(128))),
        || changed("sub", json!("ユーザー 1=1; --")),
    ];
    for claims in claims {
        for secret in [SECRET, OLD_SECRET] {
            for scheme in ["Bearer", "bearer", "BEARER"] {
                eventually("a token is judged while it is good", async || {
                    let made_at = now();
                    let token = signed(Algorithm::HS256, &claims(), secret.as_bytes());
                    let header = format!("{scheme} {token}");
                    let reply =
                        call(&client, &Method::GET, "/balance", &Value::Null, &[&header]).await;
                    if now() > made_at + 2 {
                        return None;
                    }
                    reply.is(200, &empty);
                    Some(())
                })
                .await;
            }
        }
    }
    // Nobody was written down for having looked.
    let users = server.database().texts("SELECT user_id FROM users").await;
    assert_eq!(users, ["default_user"]);
    client.get("/pricing").await.ok();
    client.get("/health").await.ok();
}

async fn users_never_meet(engine: Engine) {
    let server = start(engine, &[("BILLING_JWT_SECRET", SECRET)]);
    let client = server.client();
    let allocation = json!({"allocations": [{"model_id": MODEL, "credits": 75}]});
    as_user(&client, "ann", "/credits/add", &purchase(100, "GPA.1")).await.ok();
    as_user(&client, "ann", "/credits/allocate", &allocation).await.ok();
    let ann = as_user(&client, "ann", "/balance", &Value::Null).await.ok();
    let ann_history = as_user(&client, "ann", "/transactions", &Value::Null).await.ok();

    // The other one finds nothing, and can do nothing with what is not his.
    let empty = json!({"credits": 0, "allocated_tokens": {}});
    as_user(&client, "bob", "/balance", &Value::Null).await.is(200, &empty);
    as_user(&client, "bob", "/transactions", &Value::Null).await.is(200, &json!([]));
    let total = as_user(&client, "bob", "/balance/category/quick", &Value::Null).await.ok();
    assert_eq!(total["total_tokens"], 0);
    let used = json!({"model_id": MODEL, "input_tokens": 1, "output_tokens": 0});
    let reply = as_user(&client, "bob", "/tokens/consume", &used).await;
    assert_eq!(reply.json()["code"], "no_token_balance");
    let reply = as_user(&client, "bob", "/credits/allocate", &allocation).await;
    assert_eq!(reply.json()["code"], "insufficient_credits");
    assert_eq!(as_user(&client, "bob", "/credits/add", &purchase(100, "GPA.1")).await.status, 409);
    as_user(&client, "bob", "/credits/add", &purchase(5, "GPA.2")).await.ok();
    as_user(&client, "bob", "/reset", &json!({})).await.ok();

    assert_eq!(as_user(&client, "ann", "/balance", &Value::Null).await.ok(), ann);
    assert_eq!(as_user(&client, "ann", "/transactions", &Value::Null).await.ok(), ann_history);

    // A key is its user's own, too.
    for user in ["ann", "bob"] {
        let request = client
            .request(Method::POST, "/api/billing/credits/add")
            .bearer_auth(token(&claims(user)))
            .header("idempotency-key", "k")
            .json(&json!({"credits": 1, "purchase_record": {}}));
        let reply = Reply::to(request).await;
        assert!(reply.status == 200 && !reply.is_replayed(), "{user}: {reply:?}");
    }
}

async fn issuer_and_audience_count_when_they_are_set(engine: Engine) {
    let server = start(
        engine,
        &[
            ("BILLING_JWT_SECRET", SECRET),
            ("BILLING_JWT_ISSUER", "https://login.example"),
            ("BILLING_JWT_AUDIENCE", "billing"),
        ],
    );
    let client = server.client();
    let with = |iss: Value, aud: Value| {
        let mut claims = claims("ann");
        claims["iss"] = iss;
        claims["aud"] = aud;
        format!("Bearer {}", token(&claims))
    };
    let (iss, aud) = (json!("https://login.example"), json!("billing"));
    for good in [with(iss.clone(), aud.clone()), with(iss.clone(), json!(["app", "billing"]))] {
        call(&client, &Method::GET, "/balance", &Value::Null, &[&good]).await.ok();
    }
    for bad in [
        with(json!("https://other.example"), aud.clone()),
        with(iss.clone(), json!("other")),
        with(Value::Null, aud),
        with(iss, Value::Null),
        format!("Bearer {}", token(&claims("ann"))),
    ] {
        let reply = call(&client, &Method::GET, "/balance", &Value::Null, &[&bad]).await;
        assert_eq!(reply.status, 401, "{bad}");
    }
}

async fn public_keys_take_what_their_other_half_signed(engine: Engine) {
    let rsa = EncodingKey::from_rsa_pem(include_bytes!("keys/rsa.pem")).expect("a key");
    let ec = EncodingKey::from_ec_pem(include_bytes!("keys/ec.pem")).expect("a key");
    let ed = EncodingKey::from_ed_pem(include_bytes!("keys/ed.pem")).expect("a key");
    let signed_by = |key: &EncodingKey, algorithm| {
        let token = encode(&Header::new(algorithm), &claims("ann"), key).expect("it signs");
        format!("Bearer {token}")
    };
    let tokens = [
        ("rsa.pub.pem", signed_by(&rsa, Algorithm::RS256)),
        ("rsa.pkcs1.pub.pem", signed_by(&rsa, Algorithm::RS256)),
        ("ec.pub.pem", signed_by(&ec, Algorithm::ES256)),
        ("ed.pub.pem", signed_by(&ed, Algorithm::EdDSA)),
    ];
    for (file, _) in &tokens {
        let path = format!("{}/tests/it/keys/{file}", env!("CARGO_MANIFEST_DIR"));
        let server = start(engine, &[("BILLING_JWT_PUBLIC_KEY", &path)]);
        let client = server.client();
        for (made_for, header) in &tokens {
            let reply = call(&client, &Method::GET, "/balance", &Value::Null, &[header]).await;
            assert_eq!(
                reply.status,
                if made_for[..2] == file[..2] { 200 } else { 401 },
                "{made_for} at {file}"
            );
        }
        // The public key is no secret, so nothing signed with it counts.
        let pem = std::fs::read(&path).expect("the key is there");
        let forged = format!("Bearer {}", signed(Algorithm::HS256, &claims("ann"), &pem));
        let other =
            format!("Bearer {}", signed(Algorithm::HS256, &claims("ann"), SECRET.as_bytes()));
        for header in [forged, other, signed_by(&rsa, Algorithm::RS512)] {
            let reply = call(&client, &Method::GET, "/balance", &Value::Null, &[&header]).await;
            assert_eq!(reply.status, 401, "{file}");
        }
    }
}

async fn where_others_can_connect_the_choice_is_asked_for(engine: Engine) {
    let home = Home::new(engine);
    let directory = home.directory.path();
    let open = home.launch().set("BILLING_LISTEN", "0.0.0.0:0");
    let failed = open.fail_to_start(directory);
    assert_eq!(failed.code, Some(2), "{failed:?}");
    assert!(failed.stderr[0].contains("BILLING_AUTH"), "{failed:?}");
    assert_eq!(failed.stderr.len(), 1, "{failed:?}");

    let running = open.clone().set("BILLING_AUTH", "none").start(directory);
    running
        .log
        .wait_for(|line| line.contains("WARN") && line.contains("BILLING_AUTH=none"))
        .expect("it warns");
    drop(running);
    open.set("BILLING_AUTH", "jwt").set("BILLING_JWT_SECRET", SECRET).start(directory);
}

#[test]
fn keys_that_can_verify_nothing_stop_the_start() {
    let directory = tempfile::TempDir::new().expect("a temporary directory can be made");
    let keys = format!("{}/tests/it/keys", env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(format!("{keys}/{file}")).expect("it is there");
    let (rsa, ec) = (read("rsa.pub.pem"), read("ec.pub.pem"));
    let path = directory.path().join("key.pem");
    let launch = Launch::new()
        .set("BILLING_AUTH", "jwt")
        .set("BILLING_JWT_PUBLIC_KEY", path.clone().into_os_string());
    for text in [
        read("p384.pub.pem"),
        read("ed448.pub.pem"),
        read("rsa1024.pub.pem"),
        read("rsa.pem"),
        read("rsa.pkcs1.pem"),
        read("rsa.encrypted.pem"),
        read("ec.pem"),
        read("ed.pem"),
        read("rsa.certificate.pem"),
        format!("{rsa}{ec}"),
        format!("{ec}{}", read("ec.pem")),
        rsa.replace("MII", "MIJ"),
        ec.replace("PUBLIC KEY", "EC PUBLIC KEY"),
        rsa.replace("-----END PUBLIC KEY-----", ""),
        String::new(),
    ] {
        std::fs::write(&path, &text).expect("it can be written");
        let failed = launch.fail_to_start(directory.path());
        assert_eq!((failed.code, failed.stderr.len()), (Some(2), 1), "{text}{failed:?}");
        assert!(failed.stderr[0].contains("BILLING_JWT_PUBLIC_KEY"), "{failed:?}");
    }
    for text in [rsa.replace('\n', "\r\n"), format!("\n{rsa}\n"), format!("RSA, 2048 bits\n{rsa}")]
    {
        std::fs::write(&path, &text).expect("it can be written");
        drop(launch.start(directory.path()));
    }
}

#[tokio::test]
async fn keys_that_are_none_stop_the_start() {
    let directory = tempfile::TempDir::new().expect("a temporary directory can be made");
    let nothing = directory.path().join("nothing.pem");
    std::fs::write(&nothing, "nothing").expect("it can be written");
    let nothing = nothing.to_str().expect("UTF-8");
    for (variable, settings) in [
        ("BILLING_AUTH", &[("BILLING_AUTH", "jwt")][..]),
        ("BILLING_AUTH", &[("BILLING_JWT_SECRET", SECRET)]),
        ("BILLING_JWT_SECRET", &[("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", "short")]),
        (
            "BILLING_JWT_SECRET",
            &[
                ("BILLING_AUTH", "jwt"),
                ("BILLING_JWT_SECRET", "a shared secret of thirty-two bytes,x"),
            ],
        ),
        (
            "BILLING_JWKS_URL",
            &[("BILLING_AUTH", "jwt"), ("BILLING_JWKS_URL", "http://login.example/keys")],
        ),
        (
            "BILLING_JWKS_URL",
            &[("BILLING_AUTH", "jwt"), ("BILLING_JWKS_URL", "file:///etc/passwd")],
        ),
        ("BILLING_JWKS_URL", &[("BILLING_AUTH", "jwt"), ("BILLING_JWKS_URL", "keys")]),
        (
            "BILLING_AUTH",
            &[
                ("BILLING_AUTH", "jwt"),
                ("BILLING_JWT_SECRET", SECRET),
                ("BILLING_JWKS_URL", "https://a.example"),
            ],
        ),
        ("BILLING_JWT_PUBLIC_KEY", &[("BILLING_AUTH", "jwt"), ("BILLING_JWT_PUBLIC_KEY", nothing)]),
        (
            "BILLING_JWT_PUBLIC_KEY",
            &[("BILLING_AUTH", "jwt"), ("BILLING_JWT_PUBLIC_KEY", "/missing")],
        ),
    ] {
        let launch =
            settings.iter().fold(Launch::new(), |launch, (name, value)| launch.set(name, *value));
        let failed = launch.fail_to_start(directory.path());
        assert_eq!(failed.code, Some(2), "{failed:?}");
        assert_eq!(failed.stderr.len(), 1, "{failed:?}");
        assert!(failed.stderr[0].contains(variable), "{failed:?}");
        assert!(!failed.stderr[0].contains("shared secret"), "{failed:?}");
    }
}
