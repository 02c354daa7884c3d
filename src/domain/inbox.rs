//! Messages of the stores as they are kept: written down before the store is answered, worked on afterwards, tried
//! again in growing pauses, and known by their ids, so that one that is told again is not worked on again.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Applied, Facts, Message, MessageId, Operation, Refusal, Store, UserId, Wanted, pause,
    tracked::{LEASE, microseconds, microseconds_if_any},
};

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// Its store pushed it.
    Push,
    /// It was found in a list.
    List,
}

/// A message as it is kept. The names of its fields are those of the columns.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TrackedMessage {
    #[serde(rename = "message_id")]
    pub id: MessageId,
    pub store: Store,
    pub way: Way,
    /// JSON of the [`Message`]'s event, until it is done.
    pub content: Option<String>,
    #[serde(serialize_with = "microseconds")]
    pub received_at: DateTime<Utc>,
    /// When it is to be worked on, or how long somebody has it for that.
    #[serde(serialize_with = "microseconds_if_any")]
    pub due_at: Option<DateTime<Utc>>,
    pub attempts: u32,
    /// What it came to.
    pub outcome: Option<String>,
    /// Whether it was kept before.
    #[serde(skip)]
    pub is_kept: bool,
}

/// The messages that operations ask for, as they find them and leave them.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    all: BTreeMap<MessageId, TrackedMessage>,
    changed: Vec<MessageId>,
}

impl Inbox {
    /// Takes note of one that is kept.
    pub(crate) fn insert_kept(&mut self, message: TrackedMessage) {
        let message = TrackedMessage { is_kept: true, ..message };
        self.all.insert(message.id.clone(), message);
    }

    /// Those to be kept as they are now.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &TrackedMessage> {
        self.all.values().filter(|message| self.changed.contains(&message.id))
    }

    fn change(&mut self, id: &MessageId) -> Option<&mut TrackedMessage> {
        let message = self.all.get_mut(id)?;
        if !self.changed.contains(id) {
            self.changed.push(id.clone());
        }
        Some(message)
    }

    /// Is done with one, if it is still open.
    pub(super) fn end(&mut self, id: &MessageId, outcome: &str) {
        if self.all.get(id).is_some_and(|message| message.due_at.is_some())
            && let Some(message) = self.change(id)
        {
            message.end(outcome);
        }
    }

    fn add(&mut self, message: TrackedMessage) {
        self.changed.push(message.id.clone());
        self.all.insert(message.id.clone(), message);
    }
}

/// Keeps a message. One that is known is a repetition.
#[derive(Debug)]
pub(crate) struct KeepMessage {
    pub message: Message,
    pub way: Way,
}

impl Operation for KeepMessage {
    type Outcome = ();

    fn entries(&self) -> usize {
        0
    }

    fn asks(&self, wanted: &mut Wanted) {
        wanted.messages.push(self.message.id.clone());
    }

    fn decide(&self, _: &UserId, facts: &mut Facts) -> Result<Applied<()>, Refusal> {
        let Message { id, store, event } = &self.message;
        if facts.inbox.all.contains_key(id) {
            return Ok(Applied::before(()));
        }
        let content = serde_json::to_string(event).expect("texts and numbers have a JSON form");
        facts.inbox.add(TrackedMessage {
            id: id.clone(),
            store: *store,
            way: self.way,
            content: Some(content),
            received_at: facts.now,
            due_at: Some(facts.now),
            attempts: 0,
            outcome: None,
            is_kept: false,
        });
        Ok(Applied::now(()))
    }
}

/// Takes the turn at a message that is due, for as long as a lease lasts.
#[derive(Debug)]
pub(crate) struct TakeMessage {
    pub id: MessageId,
}

/// What there is to do about a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum MessageTurn {
    /// It is to be worked on.
    Work {
        /// It.
        message: Message,
        received_at: DateTime<Utc>,
    },
    /// What is kept of it can't be read: another version wrote it, or somebody's hand. There may be a refund in it,
    /// so it stays, and is looked at again.
    Spoiled,
    /// Nothing now.
    NotDue,
}

impl Operation for TakeMessage {
    type Outcome = MessageTurn;

    fn entries(&self) -> usize {
        0
    }

    fn asks(&self, wanted: &mut Wanted) {
        wanted.messages.push(self.id.clone());
    }

    fn decide(&self, _: &UserId, facts: &mut Facts) -> Result<Applied<MessageTurn>, Refusal> {
        let now = facts.now;
        let latest = super::TrackedPurchase::latest_due(now);
        let is_due = |message: &TrackedMessage| {
            message.due_at.is_some_and(|due_at| due_at <= now || due_at > latest)
        };
        if !facts.inbox.all.get(&self.id).is_some_and(is_due) {
            return Ok(Applied::before(MessageTurn::NotDue));
        }
        let message = facts.inbox.change(&self.id).expect("it is kept, or nothing would be due");
        let event = message.content.as_deref().map(serde_json::from_str);
        let Some(Ok(event)) = event else {
            message.try_again(now);
            return Ok(Applied::now(MessageTurn::Spoiled));
        };
        message.due_at = now.checked_add_signed(LEASE);
        let (id, store, received_at) = (message.id.clone(), message.store, message.received_at);
        let message = Message { id, store, event };
        Ok(Applied::now(MessageTurn::Work { message, received_at }))
    }
}

/// Takes note of how far a message got.
#[derive(Debug)]
pub(crate) struct EndTurn {
    pub id: MessageId,
    pub how: Ended,
}

/// How far a message got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing is left to do; a constant sentence says what it came to.
    Done(&'static str),
    /// It was ended with what it told.
    Over,
    /// It is to be tried again.
    Again,
}

impl Operation for EndTurn {
    type Outcome = ();

    fn entries(&self) -> usize {
        0
    }

    fn asks(&self, wanted: &mut Wanted) {
        wanted.messages.push(self.id.clone());
    }

    fn decide(&self, _: &UserId, facts: &mut Facts) -> Result<Applied<()>, Refusal> {
        let now = facts.now;
        let is_open = |message: &TrackedMessage| message.due_at.is_some();
        if !facts.inbox.all.get(&self.id).is_some_and(is_open) {
            return Ok(Applied::before(()));
        }
        if let Some(message) = facts.inbox.change(&self.id) {
            match self.how {
                Ended::Done(outcome) => message.end(outcome),
                Ended::Over => {}
                Ended::Again => message.try_again(now),
            }
        }
        Ok(Applied::now(()))
    }
}

impl TrackedMessage {
    /// There may be a token in it, so it is forgotten.
    fn end(&mut self, outcome: &str) {
        self.content = None;
        self.due_at = None;
        self.outcome = Some(outcome.to_owned());
    }

    fn try_again(&mut self, now: DateTime<Utc>) {
        let pause = pause::scattered(pause::after(self.attempts), self.id.as_str(), self.attempts);
        self.due_at = now.checked_add_signed(pause);
        self.attempts = self.attempts.saturating_add(1);
    }
}
