//! Keys of an issuer that serves them: which of them count, and when they are fetched again.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Client, Engine, Launch, RawConnection, Reply, Server,
    clock::Clock,
    eventually, on_both_engines,
    token::{SECRET, claims},
};

on_both_engines![
    a_key_set_names_its_keys,
    a_key_set_is_fetched_again_once_a_minute_has_passed,
    a_key_set_that_can_not_be_had_judges_nobody,
    a_key_set_that_could_not_be_had_is_asked_for_again_in_growing_pauses,
    keys_that_are_not_for_us_are_passed_over,
    what_a_token_holds_critical_must_be_understood,
    whoever_asks_and_goes_away_breaks_off_no_fetch,
];

/// An issuer that does not answer for as long may be given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(2);

/// A server of a key set, which lasts as long as the test's process.
struct Issuer {
    url: String,
    state: Arc<Mutex<State>>,
    gate: Arc<Gate>,
}

/// Keeps it from answering, and tells how often it was asked by then.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
    asked: AtomicUsize,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = closed;
        self.opened.notify_all();
    }

    /// Waits until it is open.
    fn pass(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(closed, |closed| *closed));
    }
}

/// What it answers, and how often it was asked.
struct State {
    status: &'static str,
    body: String,
    fetches: usize,
}

impl Issuer {
    fn new(set: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/keys", listener.local_addr().expect("it is bound"));
        let state = State { status: "200 OK", body: set.to_string(), fetches: 0 };
        let state = Arc::new(Mutex::new(state));
        let served = Arc::clone(&state);
        let gate = Arc::new(Gate::default());
        let passed = Arc::clone(&gate);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut request = [0; 4096];
                assert!(stream.read(&mut request).expect("a request") > 0);
                passed.pass();
                let mut state = served.lock().unwrap_or_else(PoisonError::into_inner);
                state.fetches += 1;
                let State { status, body, .. } = &*state;
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).expect("it is read");
            }
        });
        Self { url, state, gate }
    }

    /// Has a service take this issuer's tokens.
    fn known_to(&self, launch: Launch) -> Launch {
        launch.set("BILLING_AUTH", "jwt").set("BILLING_JWKS_URL", &self.url)
    }

    fn serve(&self, status: &'static str, set: &Value) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.status = status;
        state.body = set.to_string();
    }

    fn fetches(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).fetches
    }
}

fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_pem(include_bytes!("keys/rsa.pem")).expect("a key")
}

fn ec() -> EncodingKey {
    EncodingKey::from_ec_pem(include_bytes!("keys/ec.pem")).expect("a key")
}

fn key_set(keys: &[(&str, &EncodingKey, Algorithm)]) -> Value {
    let jwk = |(id, key, algorithm): &(&str, &EncodingKey, Algorithm)| {
        let mut jwk = Jwk::from_encoding_key(key, *algorithm).expect("a key");
        jwk.common.key_id = Some((*id).to_owned());
        jwk
    };
    json!({"keys": keys.iter().map(jwk).collect::<Vec<_>>()})
}

fn signed_by(key: &EncodingKey, algorithm: Algorithm, id: Option<&str>) -> String {
    let mut header = Header::new(algorithm);
    header.kid = id.map(str::to_owned);
    format!("Bearer {}", encode(&header, &claims("ann"), key).expect("it signs"))
}

/// What a call with this `Authorization` is answered with.
async fn ask(client: &Client, authorization: &str) -> u16 {
    let request = client.request(Method::GET, "/api/billing/balance");
    Reply::to(request.header("authorization", authorization)).await.status
}

async fn a_key_set_names_its_keys(engine: Engine) {
    let (rsa, ec) = (rsa(), ec());
    let shared = EncodingKey::from_secret(SECRET.as_bytes());
    let keys = [
        ("r", &rsa, Algorithm::RS256),
        ("e", &ec, Algorithm::ES256),
        ("s", &shared, Algorithm::HS256),
    ];
    let set = key_set(&keys);
    let issuer = Issuer::new(&set);
    let server = Server::start_as(engine, issuer.known_to(Launch::new()));
    let client = server.client();
    for (header, status) in [
        (signed_by(&rsa, Algorithm::RS256, Some("r")), 200),
        (signed_by(&ec, Algorithm::ES256, Some("e")), 200),
        (signed_by(&rsa, Algorithm::RS256, Some("e")), 401),
        (signed_by(&rsa, Algorithm::RS512, Some("r")), 401),
        (signed_by(&rsa, Algorithm::RS256, None), 401),
        // A shared secret has no place in a public set.
        (signed_by(&shared, Algorithm::HS256, Some("s")), 401),
        (signed_by(&rsa, Algorithm::RS256, Some("../r")), 401),
        (signed_by(&rsa, Algorithm::RS256, Some("unknown")), 401),
        (signed_by(&rsa, Algorithm::RS256, Some("r")), 200),
    ] {
        assert_eq!(ask(&client, &header).await, status, "{header}");
    }
    // Unknown keys are no way to have it fetched again and again.
    assert_eq!(issuer.fetches(), 1);
}

async fn a_key_set_is_fetched_again_once_a_minute_has_passed(engine: Engine) {
    let (rsa, ec) = (rsa(), ec());
    let old = key_set(&[("old", &rsa, Algorithm::RS256)]);
    let both = key_set(&[("old", &rsa, Algorithm::RS256), ("new", &ec, Algorithm::ES256)]);
    let by_old = signed_by(&rsa, Algorithm::RS256, Some("old"));
    let by_new = signed_by(&ec, Algorithm::ES256, Some("new"));
    let by_none = signed_by(&ec, Algorithm::ES256, Some("none"));
    let (issuer, clock) = (Issuer::new(&old), Clock::new());
    let server = Server::start_as(engine, clock.timing(issuer.known_to(Launch::new())));

    assert_eq!(ask(&server.client(), &by_old).await, 200);
    issuer.serve("200 OK", &both);
    assert_eq!(ask(&server.client(), &by_new).await, 401);
    assert_eq!(issuer.fetches(), 1);
    // Each time with connections of their own: those that were open have timed out.
    clock.pass(61);
    assert_eq!(ask(&server.client(), &by_new).await, 200);
    assert_eq!(issuer.fetches(), 2);

    issuer.serve("500 Internal Server Error", &json!({"keys": []}));
    clock.pass(122);
    assert_eq!(ask(&server.client(), &by_none).await, 503);
    assert_eq!(issuer.fetches(), 3);
    // What was known stays.
    assert_eq!(ask(&server.client(), &by_old).await, 200);
    assert_eq!(ask(&server.client(), &by_new).await, 200);
    assert_eq!(issuer.fetches(), 3);
}

async fn a_key_set_that_can_not_be_had_judges_nobody(engine: Engine) {
    let issuer = Issuer::new(&json!({"keys": []}));
    let by_any = signed_by(&rsa(), Algorithm::RS256, Some("r"));
    for (status, set) in [
        ("500 Internal Server Error", json!({"keys": []})),
        ("404 Not Found", json!({"keys": []})),
        ("302 Found", json!({"keys": []})),
        ("200 OK", json!("garbage")),
        ("200 OK", json!({"keys": "none"})),
        ("200 OK", json!({})),
    ] {
        issuer.serve(status, &set);
        let server = Server::start_as(engine, issuer.known_to(Launch::new()));
        assert_unavailable(&server.client(), &by_any).await;
        assert_eq!(ready(&server.client()).await, (503, json!("login_unavailable")));
    }
    let launch = Launch::new().set("BILLING_AUTH", "jwt");
    let launch = launch.set("BILLING_JWKS_URL", "http://127.0.0.1:1/keys");
    let server = Server::start_as(engine, launch);
    assert_unavailable(&server.client(), &by_any).await;
    server.client().get("/pricing").await.ok();
}

async fn ready(client: &Client) -> (u16, Value) {
    let reply = Reply::to(client.request(Method::GET, "/readyz")).await;
    (reply.status, reply.json()["code"].clone())
}

/// The app erases its login on a 401, so a token that nobody judged must not get one.
async fn assert_unavailable(client: &Client, authorization: &str) {
    let request = client.request(Method::GET, "/api/billing/balance");
    let reply = Reply::to(request.header("authorization", authorization)).await;
    assert_eq!((reply.status, &reply.json()["code"]), (503, &json!("login_unavailable")));
    assert_eq!(reply.header("retry-after"), Some("1"), "{reply:?}");
}

async fn a_key_set_that_could_not_be_had_is_asked_for_again_in_growing_pauses(engine: Engine) {
    let (rsa, broken) = (rsa(), "500 Internal Server Error");
    let set = key_set(&[("r", &rsa, Algorithm::RS256)]);
    let by_r = signed_by(&rsa, Algorithm::RS256, Some("r"));
    let (issuer, clock) = (Issuer::new(&set), Clock::new());
    issuer.serve(broken, &set);
    let server = Server::start_as(engine, clock.timing(issuer.known_to(Launch::new())));

    // What can be no token of the issuer's is judged without its keys.
    let kept = signed_by(&rsa, Algorithm::RS256, None);
    let (head, _) = by_r.rsplit_once('.').expect("three parts");
    let (head, _) = head.rsplit_once('.').expect("three parts");
    for none in ["Bearer nonsense", &kept, &format!("{head}.e30.x"), &format!("{head}.%.x")] {
        assert_eq!(ask(&server.client(), none).await, 401, "{none}");
    }
    assert_eq!(issuer.fetches(), 0);

    assert_eq!(ask(&server.client(), &by_r).await, 503);
    assert_eq!(issuer.fetches(), 1);
    let mut passed = 0;
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        let fetches = issuer.fetches();
        // The test itself may take as long as half of a short pause, and then it would be asked for twice.
        if pause > 10 {
            clock.pass(passed + pause / 2);
            assert_eq!(ask(&server.client(), &by_r).await, 503);
            assert_eq!(issuer.fetches(), fetches, "before {pause} s have passed");
        }
        passed += pause;
        clock.pass(passed);
        assert_eq!(ask(&server.client(), &by_r).await, 503);
        assert_eq!(issuer.fetches(), fetches + 1, "once {pause} s have passed");
    }
    issuer.serve("200 OK", &set);
    clock.pass(passed + 61);
    assert_eq!(ask(&server.client(), &by_r).await, 200);
    assert_eq!(ready(&server.client()).await, (200, json!(null)));
}

async fn keys_that_are_not_for_us_are_passed_over(engine: Engine) {
    let (rsa, ec) = (rsa(), ec());
    let whole = |id: &str, key: &EncodingKey, algorithm, changes: &[(&str, Value)]| {
        let mut set = key_set(&[(id, key, algorithm)]);
        let mut key = set["keys"][0].take();
        for (name, value) in changes {
            key[*name] = value.clone();
        }
        key
    };
    let signing = |id: &str, changes: &[_]| whole(id, &rsa, Algorithm::RS256, changes);
    let set = json!({"keys": [
        null, 7, "key", [], {}, {"kty": "RSA", "kid": "half"},
        signing("number", &[("kid", json!(7))]),
        signing("encrypts", &[("use", json!("enc"))]),
        signing("signs", &[("key_ops", json!(["sign", "encrypt"]))]),
        signing("verifies", &[("key_ops", json!(["verify"])), ("use", json!("sig"))]),
        signing("pss", &[("alg", json!("PS256"))]),
        signing("wraps", &[("alg", json!("RSA-OAEP"))]),
        signing("new", &[("alg", json!("XS256"))]),
        signing("without", &[("alg", Value::Null)]),
        signing("both", &[]),
        signing("both", &[("use", json!("enc")), ("alg", json!("RSA-OAEP"))]),
        whole("two", &ec, Algorithm::ES256, &[]),
        signing("two", &[]),
        signing("last", &[]),
    ]});
    let issuer = Issuer::new(&set);
    let server = Server::start_as(engine, issuer.known_to(Launch::new()));
    let client = server.client();
    for (id, status) in [
        ("encrypts", 401),
        ("signs", 401),
        ("verifies", 200),
        ("pss", 401),
        ("wraps", 401),
        ("new", 401),
        ("without", 200),
        ("both", 200),
        ("two", 200),
        ("last", 200),
    ] {
        let token = signed_by(&rsa, Algorithm::RS256, Some(id));
        assert_eq!(ask(&client, &token).await, status, "{id}");
    }
    assert_eq!(ask(&client, &signed_by(&ec, Algorithm::ES256, Some("two"))).await, 200);
    assert_eq!(issuer.fetches(), 1);
}

async fn what_a_token_holds_critical_must_be_understood(engine: Engine) {
    let rsa = rsa();
    let issuer = Issuer::new(&key_set(&[("r", &rsa, Algorithm::RS256)]));
    let by_set = Server::start_as(engine, issuer.known_to(Launch::new()));
    let launch = Launch::new().set("BILLING_AUTH", "jwt").set("BILLING_JWT_SECRET", SECRET);
    let by_secret = Server::start_as(engine, launch);
    let shared = EncodingKey::from_secret(SECRET.as_bytes());
    for (server, key, algorithm) in
        [(by_set, &rsa, Algorithm::RS256), (by_secret, &shared, Algorithm::HS256)]
    {
        let client = server.client();
        let plain = Header { kid: Some("r".to_owned()), ..Header::new(algorithm) };
        let (mut unencoded, mut private) = (plain.clone(), plain.clone());
        unencoded.extras.insert("b64", false);
        private.extras.insert("tenant", "a");
        let critical = |names: &[&str], header: &Header| Header {
            crit: Some(names.iter().map(|name| (*name).to_owned()).collect()),
            ..header.clone()
        };
        for (header, status) in [
            (critical(&["tenant"], &private), 401),
            (critical(&["exp"], &plain), 401),
            (critical(&["b64"], &unencoded), 401),
            (critical(&[], &plain), 401),
            (unencoded, 401),
            // What is not critical may be passed over.
            (private, 200),
            (plain, 200),
        ] {
            let token = encode(&header, &claims("ann"), key).expect("it signs");
            assert_eq!(ask(&client, &format!("Bearer {token}")).await, status, "{header:?}");
        }
    }
}

async fn whoever_asks_and_goes_away_breaks_off_no_fetch(engine: Engine) {
    let rsa = rsa();
    let set = key_set(&[("r", &rsa, Algorithm::RS256)]);
    let by_r = signed_by(&rsa, Algorithm::RS256, Some("r"));
    eventually("the issuer answers before it is given up", async || {
        let issuer = Issuer::new(&set);
        let server = Server::start_as(engine, issuer.known_to(Launch::new()));
        let asked_at = Instant::now();
        let status = ask_and_go_away(&server, &issuer, &by_r).await;
        if asked_at.elapsed() > GIVEN_UP_AFTER {
            return None;
        }
        assert_eq!((status, issuer.fetches()), (200, 1));
        Some(())
    })
    .await;
}

/// Has an issuer asked for a caller who goes away before it answers. Tells what the next one is answered with.
async fn ask_and_go_away(server: &Server, issuer: &Issuer, by_r: &str) -> u16 {
    let client = server.client();
    issuer.gate.set(true);
    let mut connection = RawConnection::open(server.address());
    connection.send(format!(
        "GET /api/billing/balance HTTP/1.1\r\nhost: service\r\nauthorization: {by_r}\r\n\r\n"
    ));
    eventually("the issuer is asked", async || {
        (issuer.gate.asked.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    drop(connection);
    // By the time these are answered the service knows.
    for _ in 0..20 {
        client.get("/pricing").await.ok();
    }
    issuer.gate.set(false);
    ask(&client, by_r).await
}
