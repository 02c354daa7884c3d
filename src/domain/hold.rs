//! A hold: tokens that are put aside for a chat whose length is not known yet, and what became of them. What a user
//! may do with holds is in `hold_opening` and `hold_closing`.
//!
//! A hold is no entry: balances stay the sums of entries. It counts until it is closed or its time is over, for
//! which nobody has to do anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, mem,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use uuid::Uuid;

use super::{
    ModelId, Tokens, Usage, UserId,
    tracked::{microseconds, microseconds_if_any},
};

/// Length of a hold's id.
const HOLD_ID_CHARS: usize = 36;

/// A hold's name, one for all users: a UUID in its usual form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HoldId(Uuid);

impl HoldId {
    /// The hold that is called so, if a hold can be. Nothing is told of whether there is one.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        (name.len() == HOLD_ID_CHARS).then(|| Uuid::try_parse(name).ok().map(Self)).flatten()
    }

    /// One that nobody has, made by whoever has randomness. The ids of later holds are higher.
    pub(crate) const fn new(unique: Uuid) -> Self {
        Self(unique)
    }

    /// As it is kept.
    pub(crate) fn text(self) -> String {
        self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned()
    }
}

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl Serialize for HoldId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

impl<'de> Deserialize<'de> for HoldId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| D::Error::custom("a hold's id is a UUID"))
    }
}

/// What a hold is at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HoldStatus {
    /// It counts. As it is kept: it was not closed.
    Held,
    /// What was used was taken.
    Settled,
    /// It was given up.
    Released,
    /// Its time was over before it was closed. It can be closed still. Never kept, for it comes by itself.
    Expired,
}

impl HoldStatus {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Held, Self::Settled, Self::Released, Self::Expired];

    /// Its name on the wire.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Settled => "settled",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }
}

/// Tokens put aside. Its members are the columns of the table `holds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    #[serde(rename = "hold_id")]
    pub id: HoldId,
    #[serde(rename = "user_id")]
    pub user: UserId,
    #[serde(rename = "model_id")]
    pub model: ModelId,
    pub held_tokens: Tokens,
    pub status: HoldStatus,
    #[serde(serialize_with = "microseconds")]
    pub created_at: DateTime<Utc>,
    #[serde(serialize_with = "microseconds")]
    pub expires_at: DateTime<Utc>,
    #[serde(serialize_with = "microseconds_if_any")]
    pub closed_at: Option<DateTime<Utc>>,
    /// What was used, as it was reported.
    pub input_tokens: Option<Tokens>,
    pub output_tokens: Option<Tokens>,
    /// What of that was taken.
    pub consumed_tokens: Option<Tokens>,
    /// What became free when it was closed.
    pub released_tokens: Option<Tokens>,
    /// The model's balance when it was closed.
    pub remaining_tokens: Option<Tokens>,
    /// The entry of the consumption.
    pub transaction_id: Option<i64>,
}

/// The columns of the table, which are the members' names.
pub(crate) const HOLD_COLUMNS: [&str; 14] = [
    "hold_id",
    "user_id",
    "model_id",
    "held_tokens",
    "status",
    "created_at",
    "expires_at",
    "closed_at",
    "input_tokens",
    "output_tokens",
    "consumed_tokens",
    "released_tokens",
    "remaining_tokens",
    "transaction_id",
];

impl Hold {
    /// Whether its tokens are kept from others.
    pub(crate) fn counts(&self, now: DateTime<Utc>) -> bool {
        self.status_at(now) == HoldStatus::Held
    }

    /// What it is at a time.
    pub(crate) fn status_at(&self, now: DateTime<Utc>) -> HoldStatus {
        match self.status {
            HoldStatus::Held if self.expires_at <= now => HoldStatus::Expired,
            status => status,
        }
    }

    /// What was used, if it is settled.
    pub(super) fn usage(&self) -> Option<Usage> {
        Usage::new(self.input_tokens?, self.output_tokens?).ok()
    }
}

/// The holds of an account that are known: those that count when it is loaded, and those somebody asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holds {
    known: BTreeMap<HoldId, Hold>,
    /// Those made since, and those closed.
    opened: BTreeSet<HoldId>,
    closed: BTreeSet<HoldId>,
    open: Open,
}

/// What those come to that are not closed, so that not all have to be looked at for each act.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Open {
    count: usize,
    tokens: BTreeMap<ModelId, i128>,
    /// Until when all of them count. One that expires earlier than the others may be closed by now.
    until: Option<DateTime<Utc>>,
}

impl Open {
    const fn new() -> Self {
        Self { count: 0, tokens: BTreeMap::new(), until: None }
    }

    fn add(&mut self, hold: &Hold) {
        if hold.status != HoldStatus::Held {
            return;
        }
        self.count = self.count.saturating_add(1);
        self.change(hold, hold.held_tokens.get());
        let ends = Some(hold.expires_at);
        self.until = self.until.into_iter().chain(ends).min();
    }

    fn remove(&mut self, hold: &Hold) {
        if hold.status != HoldStatus::Held {
            return;
        }
        self.count = self.count.saturating_sub(1);
        self.change(hold, hold.held_tokens.get().saturating_neg());
    }

    fn change(&mut self, hold: &Hold, by: i64) {
        let by = i128::from(by);
        match self.tokens.get_mut(&hold.model) {
            Some(tokens) => *tokens = tokens.saturating_add(by),
            None => drop(self.tokens.insert(hold.model.clone(), by)),
        }
    }

    /// Whether all of them count.
    fn all_count(&self, now: DateTime<Utc>) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Holds {
    pub(super) const fn new() -> Self {
        Self {
            known: BTreeMap::new(),
            opened: BTreeSet::new(),
            closed: BTreeSet::new(),
            open: Open::new(),
        }
    }

    /// Takes note of one that is kept.
    pub(crate) fn insert_kept(&mut self, hold: Hold) {
        self.open.add(&hold);
        if let Some(before) = self.known.insert(hold.id, hold) {
            self.open.remove(&before);
        }
    }

    /// Adds one.
    pub(super) fn open(&mut self, hold: Hold) {
        self.opened.insert(hold.id);
        self.insert_kept(hold);
    }

    /// Closes one.
    pub(super) fn close(&mut self, hold: Hold) {
        self.closed.insert(hold.id);
        self.insert_kept(hold);
    }

    pub(crate) fn get(&self, id: HoldId) -> Option<&Hold> {
        self.known.get(&id)
    }

    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Those that count, the oldest first.
    pub(crate) fn counting(&self, now: DateTime<Utc>) -> Vec<&Hold> {
        let mut counting: Vec<_> = self.known.values().filter(|hold| hold.counts(now)).collect();
        counting.sort_by_key(|hold| (hold.created_at, hold.id));
        counting
    }

    /// How many count.
    pub(super) fn count(&self, now: DateTime<Utc>) -> usize {
        if self.open.all_count(now) {
            return self.open.count;
        }
        self.known.values().filter(|hold| hold.counts(now)).count()
    }

    /// Tokens of a model that are kept from others.
    pub(super) fn held(&self, model: &ModelId, now: DateTime<Utc>) -> i64 {
        let held = if self.open.all_count(now) {
            self.open.tokens.get(model).copied().unwrap_or_default()
        } else {
            let counting = self.known.values().filter(|hold| hold.counts(now));
            let of_model = counting.filter(|hold| hold.model == *model);
            of_model.map(|hold| i128::from(hold.held_tokens.get())).fold(0, i128::saturating_add)
        };
        i64::try_from(held).unwrap_or(i64::MAX)
    }

    /// Those that are new and open, in the order of their ids.
    pub(crate) fn opened(&self) -> impl Iterator<Item = &Hold> {
        self.opened.difference(&self.closed).filter_map(|id| self.known.get(id))
    }

    /// Those that were closed, new ones among them, in the order of their ids.
    pub(crate) fn closed(&self) -> impl Iterator<Item = &Hold> {
        self.closed.iter().filter_map(|id| self.known.get(id))
    }

    /// Whether there is anything to keep.
    pub(crate) fn are_changed(&self) -> bool {
        !(self.opened.is_empty() && self.closed.is_empty())
    }

    /// Those that count, once all are kept.
    pub(super) fn into_saved(mut self, now: DateTime<Utc>) -> Self {
        self.opened.clear();
        for id in mem::take(&mut self.closed) {
            self.known.remove(&id);
        }
        if self.open.all_count(now) && self.open.count == self.known.len() {
            return self;
        }
        self.known.retain(|_, hold| hold.counts(now));
        self.open = Open::new();
        self.known.values().for_each(|hold| self.open.add(hold));
        self
    }
}
