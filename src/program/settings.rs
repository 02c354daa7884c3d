//! The settings: one struct, read from environment variables, whose comments become `--help` and
//! `.env.example`.

use std::{env, ffi::OsString, fs, net::SocketAddr, ops::RangeInclusive, path::PathBuf};

use clap::{
    Arg, ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand,
    builder::{NonEmptyStringValueParser, Resettable},
    error::{ContextKind, ContextValue, ErrorKind},
};

use chrono::{NaiveDate, TimeDelta};
use chrono_tz::Tz;

use super::{
    receipts::{ReceiptArguments, ReceiptSettings, Receipts},
    unused_balance::ReportFormat,
};
use crate::{
    api::{ConsumeBy, Language},
    database::{EngineSettings, Pooler},
    domain::{CapacityLimits, Role, Tokens},
    http::{Authentication, Expected, Issuer, Origin, RateLimit, StaticTokens, UserLogins},
    ledger::Retention,
};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

/// Whether callers have to say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AuthMode {
    /// Everyone is the same user.
    None,
    /// A JSON Web Token says who it is.
    Jwt,
}

/// A billing backend for LLM apps: credits in, tokens out, correct to the last token.
///
/// Every option can be set as the environment variable shown with it, or in a file `.env` in the
/// working directory; an option wins over the environment, and the environment over the file.
#[derive(Debug, Clone, Parser)]
#[command(version, name = "token-billing", disable_help_subcommand = true)]
pub(crate) struct Config {
    /// What to do; without one, serve.
    #[command(subcommand)]
    pub task: Option<Task>,

    /// Address and port to listen on; port 0 picks a free one, which the first log line names (at `info`
    /// or finer).
    #[arg(long, env = "BILLING_LISTEN", default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,

    /// Address and port of a socket of its own that answers `GET /metrics` to Prometheus; unset, nothing is
    /// counted.
    #[arg(long, env = "BILLING_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,

    /// Address and port of a socket of its own that serves the admin pages to a browser, for whoever logs in
    /// with an operator's token; unset, there are none. Others than this machine reach it best through a proxy
    /// with TLS or an SSH tunnel.
    #[arg(long, env = "BILLING_ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,

    /// Origins of web pages that may call the API from a browser, such as `https://app.example`, separated by
    /// commas.
    #[arg(long, env = "BILLING_CORS_ORIGINS", value_delimiter = ',')]
    pub cors_origins: Vec<Origin>,

    /// Whether callers prove who they are: `none` (everyone is `default_user`) or `jwt`. It must be set
    /// where others than this machine can connect.
    #[arg(long, env = "BILLING_AUTH")]
    pub auth: Option<AuthMode>,

    /// Secret of HS256 tokens, at least 32 bytes; two, separated by a comma, while one replaces the other.
    #[arg(
        long,
        env = "BILLING_JWT_SECRET",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub jwt_secret: Option<String>,

    /// PEM file with the public key of RS256, ES256 or EdDSA tokens, instead of a secret.
    #[arg(long, env = "BILLING_JWT_PUBLIC_KEY")]
    pub jwt_public_key: Option<PathBuf>,

    /// Address of a JSON Web Key Set with the public keys of tokens, instead of a secret; https, or http on
    /// this machine. It is fetched again, at most once a minute, when a token names an unknown key.
    #[arg(long, env = "BILLING_JWKS_URL", value_parser = NonEmptyStringValueParser::new())]
    pub jwks_url: Option<String>,

    /// What tokens must say as `iss`; unset, it does not matter.
    #[arg(long, env = "BILLING_JWT_ISSUER", value_parser = NonEmptyStringValueParser::new())]
    pub jwt_issuer: Option<String>,

    /// What tokens must say as `aud`; unset, it does not matter.
    #[arg(long, env = "BILLING_JWT_AUDIENCE", value_parser = NonEmptyStringValueParser::new())]
    pub jwt_audience: Option<String>,

    /// Token by which the server that calls the LLM is known, besides JSON Web Tokens whose `scope` holds
    /// `billing:backend`: at least 32 visible ASCII characters; two, separated by a comma, while one replaces
    /// the other. With `BILLING_AUTH=jwt`, which needs no other key then.
    #[arg(long, env = "BILLING_BACKEND_TOKEN", hide_env_values = true)]
    pub backend_token: Option<StaticTokens>,

    /// The same for whoever runs the service (`billing:operator`), with `BILLING_AUTH=none` too.
    #[arg(long, env = "BILLING_OPERATOR_TOKEN", hide_env_values = true)]
    pub operator_token: Option<StaticTokens>,

    /// Who may use up tokens: `app`, a user's phone too, or `backend` alone.
    #[arg(long, env = "BILLING_CONSUME_BY", default_value = "app", value_parser = consume_by)]
    pub consume_by: ConsumeBy,

    /// Requests per second of each user, with twice as many at once; what is above is answered with 429.
    /// Requests without a valid token count for their address. Unset, nothing is limited.
    #[arg(long, env = "BILLING_RATE_LIMIT")]
    pub rate_limit: Option<RateLimit>,

    /// Seconds a connection may be idle before it is closed, 1 to 3600; longer than whatever stands in front
    /// keeps its own, which else sends requests down a connection that is being closed.
    #[arg(
        long,
        env = "BILLING_KEEP_ALIVE_SECONDS",
        default_value = "75",
        value_parser = clap::value_parser!(u16).range(1..=3_600)
    )]
    pub keep_alive_seconds: u16,

    /// The database: an SQLite file, which is created on first start, or a PostgreSQL database such as
    /// `postgres://user:password@host/database?sslmode=verify-full`, which must exist.
    #[arg(
        long,
        env = "DATABASE_URL",
        default_value = "sqlite://billing.db",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub database_url: String,

    /// Connections on which a PostgreSQL database is written to at the same time, 1 to 64.
    #[arg(
        long,
        env = "BILLING_PG_LANES",
        default_value = "4",
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    pub pg_lanes: u16,

    /// What stands between the service and a PostgreSQL server: `none`, a pooler in session mode too, or
    /// `transaction`, a pooler such as `PgBouncer` with `pool_mode = transaction`.
    #[arg(long, env = "BILLING_PG_POOLER", default_value = "none", value_parser = pooler)]
    pub pg_pooler: Pooler,

    /// The same PostgreSQL database by another way, which migrations take: directly to the server where
    /// `DATABASE_URL` leads through a pooler, or as the owner of the tables. `migrate-to` makes its tables by it, too.
    #[arg(
        long,
        env = "BILLING_MIGRATION_DATABASE_URL",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub migration_database_url: Option<String>,

    /// Most bytes an SQLite file may grow to, without its write-ahead log; purchases and chats are answered with 503 beyond.
    /// Unset, only the disk limits it.
    #[arg(long, env = "BILLING_DATABASE_MAX_BYTES")]
    pub database_max_bytes: Option<u64>,

    /// What to log: error, warn, info, debug, trace, or a tracing filter such as
    /// `info,token_billing::http=warn`.
    #[arg(long, env = "BILLING_LOG", default_value = "info")]
    pub log: String,

    /// How log lines look.
    #[arg(long, env = "BILLING_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Whether users may erase their own data with POST /api/billing/reset.
    #[arg(long, env = "BILLING_ALLOW_RESET", default_value = "false", action = ArgAction::Set)]
    pub allow_reset: bool,

    /// Language of texts for people where a client asks for neither: `ja` or `en`.
    #[arg(long, env = "BILLING_LANGUAGE", default_value = "ja")]
    pub language: Language,

    /// Days a repeated request is known by its `Idempotency-Key`; at least 7.
    #[arg(long, env = "BILLING_IDEMPOTENCY_DAYS", default_value = "7", value_parser = days)]
    pub idempotency_days: TimeDelta,

    /// Most tokens a user's quick models may hold together through allocations.
    #[arg(long, env = "BILLING_CAPACITY_QUICK", default_value = "5000000", value_parser = tokens)]
    pub capacity_quick: Tokens,

    /// Most tokens a user's think models may hold together through allocations.
    #[arg(long, env = "BILLING_CAPACITY_THINK", default_value = "1000000", value_parser = tokens)]
    pub capacity_think: Tokens,

    /// Most holds that a user may have open at a time, 1 to 10000.
    #[arg(
        long,
        env = "BILLING_MAX_HOLDS",
        default_value = "8",
        value_parser = clap::value_parser!(u16).range(1..=10_000)
    )]
    pub max_holds: u16,

    /// Purchases that the stores confirm.
    #[command(flatten)]
    pub receipts: ReceiptArguments,

    /// What the log must tell about how the settings were read.
    #[arg(skip)]
    pub notes: Vec<String>,
}

/// What the program can do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum Task {
    /// Serve the API; the same as no command at all.
    Serve,
    /// Check the database, also while it is served: every balance against its transactions, every
    /// reference, and the file. Nothing is written.
    ///
    /// Exit status 0 when everything is as it must be, 1 when something is not, 3 when that could not be
    /// found out or told.
    Verify,
    /// Write a copy of the database to a new file, also while it is served, and check the copy.
    ///
    /// Exit status 0 when the copy is there, complete and sound. Else there is no file: 1 when the books
    /// differ, 3 when the copy could not be made.
    Backup {
        /// The new file; it must not exist.
        file: PathBuf,
    },
    /// Copy the SQLite database, which nobody may be serving, to an empty PostgreSQL one, and check the copy.
    ///
    /// Exit status 0 when all of it is there. Else nothing of it is: 1 when the books differ, 3 when it
    /// could not be copied.
    MigrateTo {
        /// The new database, such as `postgres://user@host/database`; the password may be in PGPASSWORD.
        url: String,
    },
    /// What has to do with the app stores.
    #[command(subcommand, arg_required_else_help = false)]
    Purchases(PurchasesTask),
    /// Reports on the books, also while they are served. Nothing is written.
    #[command(subcommand, arg_required_else_help = false)]
    Report(ReportTask),
}

/// What the program can report.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum ReportTask {
    /// What was bought and not used by the end of a day: credits, and tokens at what returning all of them would have
    /// given back then. Given credits are told apart.
    ///
    /// Exit status 0 when it is told, 2 when the day is not over, 3 when it could not be found out or told.
    UnusedBalance {
        /// The day, such as 2026-09-30.
        #[arg(long)]
        at: NaiveDate,
        /// The time zone whose day it is, such as Asia/Tokyo.
        #[arg(long, value_parser = zone)]
        timezone: Tz,
        /// How it is printed.
        #[arg(long, value_enum, default_value = "json")]
        format: ReportFormat,
    },
}

/// What the program can do about the app stores.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum PurchasesTask {
    /// Try the settings against the stores, without touching a purchase or the database: a line for each thing
    /// tried.
    ///
    /// Exit status 0 when all of it is right or receipts are off, 1 when something is wrong, 2 when the
    /// settings can't be used, 3 when that could not be found out or told.
    Check,
}

/// The time zone of the IANA's database that is called so.
fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| "no such time zone; give an IANA name such as Asia/Tokyo".to_owned())
}

/// Why the program does not go on with its settings.
#[derive(Debug)]
pub(crate) enum ConfigError {
    /// `--help` or `--version` was asked for: the text to print.
    Answer(String),
    /// A setting is wrong: one line that names it.
    Invalid(String),
}

impl Config {
    /// Reads options and environment.
    ///
    /// # Errors
    /// [`ConfigError`], with the text to show.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        let mut notes = Vec::new();
        let mut problem = None;
        // Options may also stand after the command.
        let mut command = Self::command().mut_args(|argument| {
            let argument = argument.global(true);
            let Some(variable) = argument.get_env().map(|name| name.to_string_lossy().into_owned())
            else {
                return argument;
            };
            match meant(&variable, &mut notes) {
                Ok(Meant::AsItStands) => argument,
                Ok(Meant::Nothing) => argument.env(Resettable::Reset),
                Ok(Meant::Trimmed(text)) => {
                    let text: &'static str = text.leak();
                    let secret = argument.is_hide_env_values_set();
                    let argument = argument.env(Resettable::Reset).default_value(text);
                    if secret { argument.hide_default_value(true) } else { argument }
                }
                Err(line) => {
                    problem.get_or_insert(line);
                    argument
                }
            }
        });
        if let Some(line) = problem {
            return Err(ConfigError::Invalid(line));
        }
        let parsed = command
            .try_get_matches_from_mut(arguments)
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map(|config| Self { notes, ..config });
        parsed.map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                ConfigError::Answer(error.to_string())
            }
            _ => ConfigError::Invalid(one_line(&error)),
        })
    }

    /// The capacity limits set.
    #[must_use]
    pub(crate) const fn capacity_limits(&self) -> CapacityLimits {
        CapacityLimits { quick: self.capacity_quick, think: self.capacity_think }
    }

    /// How callers prove who they are.
    ///
    /// # Errors
    /// A line that says which variable to set, or what is wrong with it.
    pub(crate) fn authentication(&self) -> Result<Authentication, String> {
        let users = self.user_logins()?;
        let (backend, operator) = (self.backend_token.clone(), self.operator_token.clone());
        if let (Some(backend), Some(operator)) = (&backend, &operator)
            && backend.overlap(operator)
        {
            return Err("BILLING_OPERATOR_TOKEN: must differ from BILLING_BACKEND_TOKEN".to_owned());
        }
        // Where nobody logs in, everyone is a backend already.
        let backend = backend.filter(|_| !matches!(users, UserLogins::None));
        let authentication = Authentication::new(users, backend, operator);
        if self.admin_listen.is_some() && !authentication.knows_operators() {
            return Err("BILLING_ADMIN_LISTEN: nobody could log in to the pages; set BILLING_OPERATOR_TOKEN"
                .to_owned());
        }
        Ok(authentication)
    }

    fn user_logins(&self) -> Result<UserLogins, String> {
        match self.auth {
            Some(AuthMode::Jwt) => self.token_logins(),
            Some(AuthMode::None) => Ok(UserLogins::None),
            None if self.key_sources() > 0 || self.backend_token.is_some() => {
                Err("BILLING_AUTH: set it to jwt, or unset the keys of tokens".to_owned())
            }
            None if self.listen.ip().is_loopback() => Ok(UserLogins::None),
            None => Err(format!(
                "BILLING_AUTH: others can connect to {}; set it to jwt (tokens say who asks) or to none \
                 (everyone is default_user)",
                self.listen
            )),
        }
    }

    fn key_sources(&self) -> usize {
        [self.jwt_secret.is_some(), self.jwt_public_key.is_some(), self.jwks_url.is_some()]
            .into_iter()
            .filter(|set| *set)
            .count()
    }

    fn token_logins(&self) -> Result<UserLogins, String> {
        match self.key_sources() {
            1 => {}
            // Then only backends log in.
            0 if self.backend_token.is_some() => return Ok(UserLogins::Keys(Vec::new())),
            _ => {
                return Err(
                    "BILLING_AUTH: jwt needs one of BILLING_JWT_SECRET, BILLING_JWT_PUBLIC_KEY and \
                     BILLING_JWKS_URL, or BILLING_BACKEND_TOKEN alone"
                        .to_owned(),
                );
            }
        }
        let expected =
            Expected { issuer: self.jwt_issuer.clone(), audience: self.jwt_audience.clone() };
        if let Some(secrets) = &self.jwt_secret {
            return UserLogins::with_secrets(secrets, &expected)
                .map_err(|reason| format!("BILLING_JWT_SECRET: {reason}"));
        }
        if let Some(path) = &self.jwt_public_key {
            return fs::read(path)
                .map_err(|error| format!("cannot read '{}': {error}", path.display()))
                .and_then(|pem| UserLogins::with_public_key(&pem, &expected))
                .map_err(|reason| format!("BILLING_JWT_PUBLIC_KEY: {reason}"));
        }
        Issuer::at(self.jwks_url.as_deref().unwrap_or_default(), expected)
            .map(|issuer| UserLogins::KeySet(Box::new(issuer)))
            .map_err(|reason| format!("BILLING_JWKS_URL: {reason}"))
    }

    /// The stores that confirm purchases, with all that is needed to ask them; none if receipts are off.
    ///
    /// # Errors
    /// A line that says which variable to set, or what is wrong with it.
    pub(crate) fn receipts(&self) -> Result<Option<ReceiptSettings>, String> {
        match &self.receipts.receipts {
            Some(receipts) => self.receipts.settings(receipts),
            None if self.auth != Some(AuthMode::Jwt) && self.listen.ip().is_loopback() => Ok(None),
            None => Err("BILLING_RECEIPTS: it must be chosen; set it to google, apple or google,apple (the \
                         stores confirm purchases) or to off (they are believed on the client's word)"
                .to_owned()),
        }
    }

    /// What an operator must not forget about purchases.
    pub(crate) fn receipt_warnings(&self) -> impl Iterator<Item = &'static str> {
        let off = self.receipts.receipts.as_ref().is_none_or(Receipts::are_off);
        let believed = (off && self.auth == Some(AuthMode::Jwt)).then_some(
            "purchases are believed on the client's word (BILLING_RECEIPTS=off): whoever logs in can have any \
             credits",
        );
        let root = self.receipts.judges_by_test_root().then_some(
            "the App Store's purchases are judged by a root for tests (BILLING_APPLE_ROOT): real ones are not \
             verified, and whoever has its key can make some",
        );
        believed.into_iter().chain(root)
    }

    /// What only one of the engines cares about.
    #[must_use]
    pub(crate) fn engine_settings(&self) -> EngineSettings<'_> {
        EngineSettings {
            max_bytes: self.database_max_bytes,
            postgres_lanes: self.pg_lanes,
            postgres_pooler: self.pg_pooler,
            postgres_migration_url: self.migration_database_url.as_deref(),
        }
    }

    /// How long what is kept.
    #[must_use]
    pub(crate) const fn retention(&self) -> Retention {
        Retention { keys: self.idempotency_days }
    }

    /// What `.env.example` must hold: every setting with its default and a sentence.
    #[cfg(test)]
    fn env_example() -> String {
        let mut text = String::from(
            "# Settings of token-billing. Copy to .env in the working directory and change what you need;\n\
             # environment variables win over the file.\n",
        );
        for argument in Self::command().get_arguments() {
            let Some(variable) = argument.get_env() else { continue };
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let default = argument.get_default_values().first();
            let variable = variable.to_string_lossy();
            let line = default.map_or_else(
                || format!("# {variable}="),
                |default| format!("{variable}={}", default.to_string_lossy()),
            );
            text.extend(["\n# ", &help, "\n", &line, "\n"]);
        }
        text
    }
}

/// What the environment means by a variable.
enum Meant {
    AsItStands,
    /// It counts as unset.
    Nothing,
    Trimmed(String),
}

/// Looks for what is around a value by accident, such as the line end of a file that holds a secret.
fn meant(variable: &str, notes: &mut Vec<String>) -> Result<Meant, String> {
    let Some(value) = env::var_os(variable) else { return Ok(Meant::AsItStands) };
    let value = value.to_str().ok_or_else(|| format!("{variable}: the value is not UTF-8"))?;
    // White space at its ends may belong to a secret, a line end never does.
    let trimmed = if variable == "BILLING_JWT_SECRET" {
        value.trim_end_matches(['\r', '\n'])
    } else {
        value.trim()
    };
    if trimmed.is_empty() {
        notes.push(format!("{variable} is empty and counts as unset"));
        return Ok(Meant::Nothing);
    }
    if trimmed.contains(char::is_control) {
        return Err(format!("{variable}: the value holds a line end or another control character"));
    }
    if trimmed.len() == value.len() {
        return Ok(Meant::AsItStands);
    }
    notes.push(format!("{variable} has white space at its ends, which is left out"));
    Ok(Meant::Trimmed(trimmed.to_owned()))
}

/// The contract promises a week; ten years are as good as for ever.
const IDEMPOTENCY_DAYS: RangeInclusive<i64> = 7..=3_650;

fn days(text: &str) -> Result<TimeDelta, String> {
    let days: i64 = text.parse().map_err(|error| format!("{error}"))?;
    let (least, most) = (IDEMPOTENCY_DAYS.start(), IDEMPOTENCY_DAYS.end());
    Some(days)
        .filter(|days| IDEMPOTENCY_DAYS.contains(days))
        .and_then(TimeDelta::try_days)
        .ok_or_else(|| format!("must be between {least} and {most}"))
}

fn consume_by(text: &str) -> Result<ConsumeBy, String> {
    match text {
        "app" => Ok(ConsumeBy(Role::App)),
        "backend" => Ok(ConsumeBy(Role::Backend)),
        _ => Err("must be app or backend".to_owned()),
    }
}

fn pooler(text: &str) -> Result<Pooler, String> {
    match text {
        "none" => Ok(Pooler::None),
        "transaction" => Ok(Pooler::Transaction),
        _ => Err("must be none or transaction".to_owned()),
    }
}

fn tokens(text: &str) -> Result<Tokens, String> {
    let value: i64 = text.parse().map_err(|error| format!("{error}"))?;
    Tokens::new(value).map_err(|error| error.to_string())
}

/// clap explains over several lines; an operator's log wants one, with the variable's name.
fn one_line(error: &clap::Error) -> String {
    if let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) {
        return format!("{} is missing; see token-billing --help", missing.join(", "));
    }
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (Some(argument), Some(value)) =
        (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue))
    else {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        return format!("{}; see token-billing --help", first.trim_start_matches("error: "));
    };
    let option = argument.split_whitespace().next().unwrap_or_default();
    let command = Config::command();
    let known = command
        .get_arguments()
        .find(|known| known.get_long().is_some_and(|long| option == format!("--{long}")));
    let variable = known
        .and_then(Arg::get_env)
        .map_or_else(|| option.to_owned(), |variable| variable.to_string_lossy().into_owned());
    let reason = match (std::error::Error::source(error), error.get(ContextKind::ValidValue)) {
        (Some(source), _) => source.to_string(),
        (None, Some(ContextValue::Strings(valid))) if !valid.is_empty() => {
            format!("must be one of {}", valid.join(", "))
        }
        (None, _) => "not a valid value".to_owned(),
    };
    if known.is_some_and(Arg::is_hide_env_values_set) {
        return format!("{variable}: {reason}");
    }
    format!("{variable}: invalid value '{value}': {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_example_is_what_the_code_takes() {
        let file = include_str!("../../.env.example");
        assert_eq!(file, Config::env_example(), "bring .env.example up to date");
    }

    fn read(arguments: &[&str]) -> Result<Config, ConfigError> {
        Config::read(["token-billing"].iter().chain(arguments).map(OsString::from))
    }

    #[test]
    fn options_stand_before_and_after_the_command_and_without_one() {
        let option = ["--listen", "127.0.0.1:9"];
        for task in [None, Some(Task::Serve), Some(Task::Verify)] {
            let name: Vec<_> = match task {
                None => Vec::new(),
                Some(Task::Serve) => vec!["serve"],
                Some(_) => vec!["verify"],
            };
            for arguments in [[&option, &name[..]].concat(), [&name[..], &option].concat()] {
                let config = read(&arguments).expect("settings that are right");
                assert_eq!((config.listen.port(), &config.task), (9, &task), "{arguments:?}");
            }
        }
        let config = read(&["backup", "new.db"]).expect("settings that are right");
        assert_eq!(config.task, Some(Task::Backup { file: "new.db".into() }));
    }

    #[test]
    fn a_command_that_is_wrong_is_one_line() {
        for (arguments, reason) in [
            (&["backup"][..], "<FILE> is missing"),
            (&["backup", "a", "b"], "unexpected argument 'b'"),
            (&["verfy"], "unrecognized subcommand 'verfy'"),
            (&["purchases"], "'token-billing purchases' requires a subcommand"),
        ] {
            let Err(ConfigError::Invalid(line)) = read(arguments) else {
                panic!("{arguments:?} was taken");
            };
            assert!(line.starts_with(reason), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }

    #[test]
    fn a_bad_value_is_one_line_that_names_its_variable() {
        let arguments = ["token-billing", "--capacity-quick=-5"].map(OsString::from);
        let Err(ConfigError::Invalid(line)) = Config::read(arguments) else {
            panic!("a negative capacity was taken");
        };
        assert!(line.starts_with("BILLING_CAPACITY_QUICK: "), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}
