//! What is found when a database is opened: whether it is ours, and of which version.

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};
use thiserror::Error;

/// Why a database can't be opened.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// The URL names no database.
    #[error("DATABASE_URL: {0}")]
    Url(String),
    /// The URL that migrations are to be run over names no PostgreSQL database.
    #[error("BILLING_MIGRATION_DATABASE_URL: {0}")]
    MigrationUrl(String),
    /// Made by a version of this program that knew more.
    #[error(
        "the database '{database}' was made by a newer version of token-billing (it has migration \
         {found}, this version knows {known}); start that version instead"
    )]
    Newer {
        /// The database.
        database: String,
        /// The migration it has.
        found: i64,
        /// The newest migration known here.
        known: i64,
    },
    /// Made by an earlier version of this program, and only to be read.
    #[error(
        "the database '{database}' was made by an older version of token-billing (it has migration \
         {found}, this version knows {known}); use that version, or start the service, which \
         migrates it"
    )]
    Older {
        /// The database.
        database: String,
        /// The migration it has.
        found: i64,
        /// The newest migration known here.
        known: i64,
    },
    /// Migrated, but not all of its older purchases have their names yet, and only to be read.
    #[error(
        "the database '{database}' was made by an older version of token-billing, and some of its \
         purchases have no names yet; start the service once, which names them"
    )]
    Unnamed {
        /// The database.
        database: String,
    },
    /// Not there, and only to be read.
    #[error("there is no database '{database}'")]
    Missing {
        /// The database.
        database: String,
    },
    /// Not a database, or somebody else's.
    #[error("'{database}' is not a token-billing database ({reason}); nothing was changed")]
    Foreign {
        /// The database.
        database: String,
        /// What gave it away.
        reason: String,
    },
    /// It was opened, but what it holds can't be read.
    #[error("cannot read the database '{database}': {reason}")]
    Unreadable {
        /// The database.
        database: String,
        /// What the engine says.
        reason: String,
    },
    /// Its migrations are said to be done, and are not.
    #[error(
        "the database '{database}' is incomplete ({reason}): an older version ran out of room when it made \
         or migrated it, or it was changed by hand; restore the copy made before, or, where nothing was \
         bought yet, remove it and start again"
    )]
    Incomplete {
        /// The database.
        database: String,
        /// What gave it away.
        reason: String,
    },
    /// A copy of it can't be written.
    #[error("cannot write '{database}': {reason}")]
    Unwritten {
        /// The copy.
        database: String,
        /// What the system or the engine says.
        reason: String,
    },
    /// It can't be opened, made or migrated.
    #[error("cannot open the database '{database}': {reason}")]
    Failed {
        /// The database.
        database: String,
        /// What the system or the engine says.
        reason: String,
    },
}

impl OpenError {
    /// That a database is not as it has to be to be served: it is another program's, or this program's in a
    /// version that knew more.
    pub(super) fn unfit(database: &str, schema: &FoundSchema, known: i64) -> Option<Self> {
        let database = database.to_owned();
        match schema {
            FoundSchema::Migrated(found) if *found > known => {
                Some(Self::Newer { database, found: *found, known })
            }
            FoundSchema::Foreign => {
                let reason = "it holds the tables of another program".to_owned();
                Some(Self::Foreign { database, reason })
            }
            FoundSchema::Migrated(_) | FoundSchema::Empty => None,
        }
    }

    /// That a database is not as it has to be to be only read: unfit, or not migrated by this version.
    pub(super) fn not_current(database: &str, schema: &FoundSchema, known: i64) -> Option<Self> {
        let name = database.to_owned();
        match schema {
            FoundSchema::Migrated(found) if *found < known => {
                Some(Self::Older { database: name, found: *found, known })
            }
            FoundSchema::Empty => {
                Some(Self::Foreign { database: name, reason: "it holds no tables".to_owned() })
            }
            FoundSchema::Migrated(_) | FoundSchema::Foreign => Self::unfit(database, schema, known),
        }
    }
}

/// What an existing database holds.
pub(super) enum FoundSchema {
    /// No tables at all.
    Empty,
    /// Tables, but no list of our migrations.
    Foreign,
    /// Our tables, as of this migration.
    Migrated(i64),
}

impl FoundSchema {
    /// What a list of migrations, by version and checksum, says that was found beside the tables.
    pub(super) fn of(applied: &[(i64, Vec<u8>)], ours: &Migrator) -> Self {
        // Another program may keep such a list too, but not of our migrations.
        let another = applied.iter().any(|(version, checksum)| {
            ours.iter()
                .find(|migration| migration.version == *version)
                .is_some_and(|migration| *migration.checksum != **checksum)
        });
        if another {
            return Self::Foreign;
        }
        Self::Migrated(applied.last().map_or(0, |(version, _)| *version))
    }
}

/// The names of the migrations, which are the same for every engine. They are numbered from 1 on.
const MIGRATIONS: [&str; 13] = [
    "schema",
    "seed",
    "idempotency keys",
    "ledger",
    "purchases",
    "money back",
    "holds",
    "usage",
    "bonus",
    "operator",
    "summary",
    "light holds",
    "erasures",
];

/// The migrations of an engine, of which the SQL is given.
///
/// `sqlx::migrate!` would find them by itself. But for the sake of sqlx's macros both engines, and TLS, are
/// compiled once more, for the compiler to run.
pub(super) fn migrator(sql: [&'static str; MIGRATIONS.len()]) -> Migrator {
    let migrations = (1..).zip(MIGRATIONS).zip(sql).map(|((version, name), sql)| {
        let sql = SqlStr::from_static(sql);
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// The newest migration known here.
pub(super) fn newest_known(ours: &Migrator) -> i64 {
    ours.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// What the engine itself says, without our library's decoration.
pub(super) fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{
        super::{postgres, sqlite},
        *,
    };

    #[tokio::test]
    async fn the_migrations_are_those_in_the_folders() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        for (engine, ours) in [("sqlite", &sqlite::MIGRATIONS), ("postgres", &postgres::MIGRATIONS)]
        {
            let found = Migrator::new(folder.join(engine)).await.expect("the folder can be read");
            let told = |migrator: &Migrator| -> Vec<_> {
                migrator
                    .iter()
                    .map(|it| (it.version, it.description.to_string(), it.checksum.to_vec()))
                    .collect()
            };
            assert_eq!(told(ours), told(&found), "{engine}");
        }
    }
}
