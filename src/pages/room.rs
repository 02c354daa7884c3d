//! What all pages share: the API they are a client of, and who is logged in.

use std::{ops::Deref, sync::Arc};

use axum::http::{HeaderMap, HeaderValue, header};
use chrono::{DateTime, Utc};

use super::{attempts::Attempts, cookies, sessions::Sessions, words::Words};
use crate::{
    api::Language,
    http::{self, Authentication},
};

/// It, cheap to copy.
#[derive(Clone)]
pub(super) struct Room(Arc<Shared>);

pub(super) struct Shared {
    pub(super) api: http::Api,
    pub(super) authentication: Arc<Authentication>,
    pub(super) sessions: Sessions,
    pub(super) attempts: Attempts,
    language: Language,
    clock: fn() -> DateTime<Utc>,
}

impl Deref for Room {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Room {
    pub(super) fn new(
        api: http::Api,
        authentication: Arc<Authentication>,
        language: Language,
        clock: fn() -> DateTime<Utc>,
    ) -> Self {
        let (sessions, attempts) = (Sessions::default(), Attempts::new());
        Self(Arc::new(Shared { api, authentication, sessions, attempts, language, clock }))
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// The words of the language that was chosen, or else of the one that the browser likes best.
    pub(super) fn words(&self, headers: &HeaderMap) -> &'static Words {
        let chosen = cookies::language(headers).and_then(|tag| tag.parse().ok());
        chosen.map_or_else(
            || Words::accepted(headers.get(header::ACCEPT_LANGUAGE), self.language),
            Words::of,
        )
    }
}

impl Words {
    /// Those that an `Accept-Language` asks for.
    pub(super) fn accepted(accepted: Option<&HeaderValue>, default: Language) -> &'static Self {
        Self::of(Language::asked_for(accepted, default))
    }

    pub(super) fn of(language: Language) -> &'static Self {
        match language {
            Language::Japanese => &super::words::JAPANESE,
            Language::English => &super::words::ENGLISH,
        }
    }
}
