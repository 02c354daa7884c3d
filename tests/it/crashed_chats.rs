//! SIGKILL between the steps of a chat that is held, settled, taken back and returned: each step happens once, and
//! what was answered is answered again.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    crashes::random_steps,
    harness::{Client, Engine, Reply, Server, on_both_engines},
};

on_both_engines![
    a_kill_after_each_step_of_a_chat_loses_nothing,
    kills_under_a_load_of_chats_lose_nothing,
];

const MODEL: &str = "gemini-2.0-flash";
/// What each allocation spends, and buys.
const SPENT: i64 = 75;
const BOUGHT: i64 = 1_000_000;
/// What each user has at first.
const CREDITS: i64 = 1_000_000;
/// Who chats at the same time, each on an account of their own.
const CHATTERS: usize = 6;
/// How often the service is killed under load, at least.
const ROUNDS: usize = 8;
/// How often at most, until a kill has hit what was being written.
const MOST_ROUNDS: usize = 80;
/// The steps of a chat.
const STEPS: usize = 5;

/// What a user has done, step by step, and what was answered.
#[derive(Debug, Clone)]
struct Chatter {
    user: String,
    /// Steps that were answered with success.
    done: usize,
    hold: Value,
    transaction: Value,
    /// The last answer.
    last: Option<Value>,
}

impl Chatter {
    fn new(number: usize) -> Self {
        let (hold, transaction) = (Value::Null, Value::Null);
        Self { user: format!("chatter-{number}"), done: 0, hold, transaction, last: None }
    }

    async fn post(
        &self,
        client: &Client,
        key: &str,
        path: &str,
        body: &Value,
    ) -> reqwest::Result<Reply> {
        let path = format!("/api/billing{path}");
        let request = client.request(reqwest::Method::POST, &path).json(body);
        let request = request.header("billing-user", &self.user).header("idempotency-key", key);
        Reply::try_to(request).await
    }

    async fn buy(&self, client: &Client) {
        let record = json!({"transactionId": format!("GPA.{}", self.user)});
        let body = json!({"credits": CREDITS, "purchase_record": record});
        self.post(client, "buy", "/credits/add", &body).await.expect("an answer").ok();
    }

    /// Carries out a step, whether or not it was before.
    async fn send(&self, client: &Client, step: usize) -> reqwest::Result<Reply> {
        let hold = self.hold.as_str().unwrap_or_default();
        let (path, body) = match step % STEPS {
            0 => {
                let items = json!([{"model_id": MODEL, "credits": SPENT}]);
                ("/credits/allocate".to_owned(), json!({"allocations": items}))
            }
            1 => ("/holds".to_owned(), json!({"model_id": MODEL, "tokens": 1_000})),
            2 => {
                let used = json!({"input_tokens": 600, "output_tokens": 100});
                (format!("/holds/{hold}/settle"), used)
            }
            3 => {
                let back = json!({
                    "transaction_id": self.transaction, "tokens": 200, "reason": "it broke off",
                });
                ("/tokens/reverse".to_owned(), back)
            }
            _ => ("/credits/return".to_owned(), json!({"model_id": MODEL})),
        };
        self.post(client, &format!("step-{step}"), &path, &body).await
    }

    /// What the answer to a step is.
    fn expected(&self, step: usize) -> Value {
        let chats = i64::try_from(step / STEPS).expect("few");
        match step % STEPS {
            0 => json!({"success": true}),
            1 => json!({
                "hold_id": self.hold, "status": "held", "model_id": MODEL, "held_tokens": 1_000,
                "available_tokens": BOUGHT - 1_000,
            }),
            2 => json!({
                "hold_id": self.hold, "status": "settled", "consumed_tokens": 700,
                "released_tokens": 300, "shortfall_tokens": 0, "remaining_tokens": BOUGHT - 700,
                "transaction_id": self.transaction,
            }),
            3 => json!({
                "success": true, "reversed_tokens": 200, "reversible_tokens": 500,
                "remaining_tokens": BOUGHT - 500,
            }),
            // A credit is lost with the 500 tokens that were used.
            _ => json!({
                "success": true, "returned_tokens": BOUGHT - 500, "returned_credits": SPENT - 1,
                "credits": CREDITS - chats - 1, "remaining_tokens": 0,
            }),
        }
    }

    /// Takes note of the answer to the next step.
    fn note(&mut self, reply: &Reply) {
        let told = reply.ok();
        match self.done % STEPS {
            1 => self.hold = told["hold_id"].clone(),
            2 => self.transaction = told["transaction_id"].clone(),
            _ => {}
        }
        let mut known = told.clone();
        known.as_object_mut().expect("an object").remove("expires_at");
        assert_eq!(known, self.expected(self.done), "{self:?}");
        self.last = Some(told);
        self.done += 1;
    }

    /// After a kill: what was answered is answered again, and the next step may be carried out.
    async fn go_on(&mut self, client: &Client) {
        if let Some(last) = &self.last {
            let again = self.send(client, self.done - 1).await.expect("an answer");
            assert_eq!((&again.ok(), again.is_replayed()), (last, true), "{self:?}");
        }
        let next = self.send(client, self.done).await.expect("an answer");
        self.note(&next);
    }

    /// What the account is when so many steps were carried out.
    async fn check(&self, client: &Client) {
        let chats = i64::try_from(self.done / STEPS).expect("few");
        let spent = if self.done.is_multiple_of(STEPS) { 0 } else { SPENT };
        let held = if self.done % STEPS == 2 { 1_000 } else { 0 };
        let tokens = match self.done % STEPS {
            0 => 0,
            1 | 2 => BOUGHT,
            3 => BOUGHT - 700,
            _ => BOUGHT - 500,
        };
        let get = client.request(reqwest::Method::GET, "/api/billing/wallet");
        let wallet = Reply::to(get.header("billing-user", &self.user)).await.ok();
        assert_eq!(wallet["credits"]["total"], CREDITS - chats - spent, "{self:?}");
        let tokens = json!({"allocated": tokens, "held": held, "available": tokens - held});
        if self.done > 0 {
            assert_eq!(wallet["tokens"][MODEL], tokens, "{self:?}");
        }
    }
}

async fn kill_and_verify(server: &mut Server) {
    server.kill();
    crate::verify::check_clean(server.home()).await;
    server.start_again();
}

async fn a_kill_after_each_step_of_a_chat_loses_nothing(engine: Engine) {
    let mut server = Server::start(engine);
    let mut chatter = Chatter::new(0);
    chatter.buy(&server.client()).await;
    for _ in 0..2 * STEPS {
        chatter.go_on(&server.client()).await;
        kill_and_verify(&mut server).await;
        chatter.check(&server.client()).await;
    }
    server.stop().await;
}

/// Chats on until there are no answers any more; tells each step before it is sent and when it is answered.
async fn chat(
    mut chatter: Chatter,
    client: Client,
    steps: tokio::sync::mpsc::UnboundedSender<()>,
) -> Chatter {
    loop {
        // Nobody may be counting any more.
        let _ = steps.send(());
        match chatter.send(&client, chatter.done).await {
            Ok(reply) if reply.status == 200 => chatter.note(&reply),
            Ok(reply) => {
                assert_eq!(reply.status, 503, "{chatter:?}: {reply:?}");
                return chatter;
            }
            Err(_) => return chatter,
        }
        let _ = steps.send(());
    }
}

async fn kills_under_a_load_of_chats_lose_nothing(engine: Engine) {
    let mut server = Server::start(engine);
    let mut chatters: Vec<Chatter> = (0..CHATTERS).map(Chatter::new).collect();
    for chatter in &chatters {
        chatter.buy(&server.client()).await;
    }
    let mut happened = 0;
    for (round, steps) in random_steps().enumerate().take(MOST_ROUNDS) {
        if round >= ROUNDS && happened > 0 {
            break;
        }
        let (step, mut counted) = tokio::sync::mpsc::unbounded_channel();
        let client = server.client();
        let mut load = JoinSet::new();
        for chatter in chatters.drain(..) {
            load.spawn(chat(chatter, client.clone(), step.clone()));
        }
        // When all have been refused, nothing more is counted.
        drop(step);
        for _ in 0..steps / 2 {
            if counted.recv().await.is_none() {
                break;
            }
        }
        server.kill();
        chatters = load.join_all().await;
        crate::verify::check_clean(server.home()).await;
        server.start_again();
        let client = server.client();
        let going_on = chatters.iter_mut().map(async |chatter| {
            let next = chatter.send(&client, chatter.done).await.expect("an answer");
            chatter.go_on(&client).await;
            chatter.check(&client).await;
            next.is_replayed()
        });
        happened += join_all(going_on).await.into_iter().filter(|replayed| *replayed).count();
    }
    // Else the kills came when nothing was going on.
    assert!(happened > 0, "no answer was lost");
    server.stop().await;
}
