//! What a service needs of its surroundings: a directory to work in, and a database of its own.

use std::thread;

use tempfile::TempDir;

use super::{Cluster, Database, Engine, Launch, Pooler, to_the_end};

/// A working directory and a database in which there is nothing yet.
#[derive(Debug)]
pub(crate) struct Home {
    /// The working directory.
    pub(crate) directory: TempDir,
    /// The database.
    pub(crate) database: Database,
}

impl Home {
    /// A new one.
    pub(crate) fn new(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => {
                let directory = TempDir::new().expect("a temporary directory can be made");
                // SQLite makes the file.
                let database = Database::at(&directory.path().join("billing.db"));
                Self { directory, database }
            }
            Engine::Postgres => Self::at(Cluster::shared()),
        }
    }

    /// A new one with its database at a server of the test's own, which must outlive it.
    pub(crate) fn at(cluster: &Cluster) -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        Self { directory, database: cluster.create_database() }
    }

    /// Another one with a copy of the database, which no service may have open.
    pub(crate) async fn copy(&self) -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let database = self.database.copy_to(&directory.path().join("billing.db")).await;
        Self { directory, database }
    }

    /// The same, where the service has to say a password.
    pub(crate) fn with_password(mut self) -> Self {
        self.database = self.database.with_password();
        self
    }

    /// How a service is started on the database.
    pub(crate) fn launch(&self) -> Launch {
        self.given_to(Launch::new())
    }

    /// Has a service use the database.
    pub(crate) fn given_to(&self, launch: Launch) -> Launch {
        match &self.database {
            // Where it is by default, and as it is called in what is printed.
            Database::Sqlite(_) => launch,
            database @ Database::Postgres(_) => match Pooler::of_all() {
                None => launch.set("DATABASE_URL", database.url()),
                Some(pooler) => pooler.given_to(database, launch),
            },
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A test that fails may have left its server stopped.
        if !thread::panicking() {
            to_the_end(|| self.database.remove());
        }
    }
}
