//! The database engines, and the macros that stamp tests onto them.

use super::cluster;

/// What the service keeps its books in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// A file in the service's working directory.
    Sqlite,
    /// A database of the tests' own server.
    Postgres,
}

impl Engine {
    /// Whether this machine has it. Says so loudly where it has not, and panics where it must.
    pub(crate) fn is_here(self) -> bool {
        match self {
            Self::Sqlite => true,
            Self::Postgres => cluster::is_here(),
        }
    }
}

/// Makes `name::sqlite` and `name::postgres` of every `async fn name(engine: Engine)` listed. One that is
/// not listed is dead code, of which the compiler warns.
macro_rules! on_both_engines {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            use crate::harness::Engine;

            #[tokio::test]
            async fn sqlite() {
                Box::pin(super::$test(Engine::Sqlite)).await;
            }

            #[tokio::test]
            async fn postgres() {
                if Engine::Postgres.is_here() {
                    Box::pin(super::$test(Engine::Postgres)).await;
                }
            }
        })+
    };
}

/// Makes `name::postgres` of every `async fn name()` listed.
macro_rules! on_postgres {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            use crate::harness::Engine;

            #[tokio::test]
            async fn postgres() {
                if Engine::Postgres.is_here() {
                    Box::pin(super::$test()).await;
                }
            }
        })+
    };
}

pub(crate) use {on_both_engines, on_postgres};
