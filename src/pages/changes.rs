//! What a change comes to, for the second look before it is made.

/// A value before and after.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) what: String,
    pub(super) before: String,
    pub(super) after: String,
}

impl Change {
    pub(super) fn of(
        what: impl Into<String>,
        before: impl Into<String>,
        after: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), before: before.into(), after: after.into() }
    }
}
