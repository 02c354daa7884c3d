//! What stands around every page: the names of the rooms, who is in, and what was just done.

use super::{
    assets::{ASSETS, Assets},
    forms::Fields,
    visitor::Visitor,
    words::Words,
};

/// A room of the pages, as the list beside them shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Users,
    Purchases,
    Prices,
    Reports,
    Log,
    System,
}

impl Section {
    const ALL: [Self; 7] = [
        Self::Overview,
        Self::Users,
        Self::Purchases,
        Self::Prices,
        Self::Reports,
        Self::Log,
        Self::System,
    ];

    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Users => "/users",
            Self::Purchases => "/purchases",
            Self::Prices => "/prices",
            Self::Reports => "/reports",
            Self::Log => "/log",
            Self::System => "/system",
        }
    }

    pub(super) const fn name(self, words: &'static Words) -> &'static str {
        match self {
            Self::Overview => words.overview,
            Self::Users => words.users,
            Self::Purchases => words.purchases,
            Self::Prices => words.prices_and_products,
            Self::Reports => words.reports,
            Self::Log => words.log,
            Self::System => words.system,
        }
    }

    /// The lines of its picture, in a square of 24.
    pub(super) const fn icon(self) -> &'static str {
        match self {
            Self::Overview => "M4 13h6V4H4zM14 20h6v-9h-6zM4 20h6v-3H4zM14 7h6V4h-6z",
            Self::Users => {
                "M9 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM2 21v-1a6 6 0 0 1 14 0v1M17 4a4 4 0 0 1 0 7M19 15a6 6 0 0 1 3 5v1"
            }
            Self::Purchases => "M3 4h2l2.4 11h10.2L20 7H6M9 20h.01M17 20h.01",
            Self::Prices => "M3 12V4a1 1 0 0 1 1-1h8l9 9-9 9zM8 8h.01",
            Self::Reports => "M6 3h9l4 4v14H6zM14 3v5h5M9 13h7M9 17h7",
            Self::Log => "M4 6h16M4 12h16M4 18h10",
            Self::System => "M4 5h16v6H4zM4 13h16v6H4zM7 8h.01M7 16h.01",
        }
    }
}

/// What every page is given besides its own.
pub(super) struct Frame {
    pub(super) words: &'static Words,
    pub(super) assets: &'static Assets,
    pub(super) section: Section,
    pub(super) title: String,
    /// This page, for coming back to it.
    pub(super) here: String,
    /// Who is in, where the token says it.
    pub(super) operator: Option<String>,
    /// What was just done.
    pub(super) notice: Option<&'static str>,
    pub(super) sections: [Section; 7],
}

impl Frame {
    /// Around a page of `section`.
    pub(super) fn new(visitor: &Visitor, section: Section, title: impl Into<String>) -> Self {
        let query = visitor.here.split_once('?').map(|(_, query)| query);
        let done = Fields::of_query(query);
        Self {
            words: visitor.words,
            assets: &ASSETS,
            section,
            title: title.into(),
            here: visitor.here.clone(),
            operator: visitor.login.user().map(|user| user.as_str().to_owned()),
            notice: visitor.words.done(done.get("done")),
            sections: Section::ALL,
        }
    }
}
