//! Where a URL says that a database is, read as libpq reads it: several hosts, sockets, and what the environment
//! adds. What libpq would understand and we would not is refused, never left out. Nothing is connected here.

use std::{env, path::Path, str::FromStr};

use sqlx::{ConnectOptions, postgres::PgConnectOptions};

/// What the server calls our connections.
const APPLICATION_NAME: &str = "token-billing";

/// Parameters that our library reads as libpq does, or has besides.
const PASSED_ON: [&str; 13] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "options",
    "ssl-mode",
    "ssl-root-cert",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "user",
    "password",
    "dbname",
];
/// Parameters that change nothing we rely on: we have limits and a name of our own.
const WITHOUT_EFFECT: [&str; 10] = [
    "application_name",
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "statement-cache-capacity",
    "tcp_user_timeout",
];
/// Parameters with the values that ask for nothing more than we do.
const ONLY_AS: [(&str, &[&str]); 4] = [
    ("channel_binding", &["disable", "prefer"]),
    ("gssencmode", &["disable", "prefer"]),
    ("load_balance_hosts", &["disable"]),
    ("sslnegotiation", &["postgres"]),
];

/// Where a database is.
#[derive(Clone)]
pub(super) struct Address {
    /// The hosts, in the order in which they are tried; at least one.
    pub(super) hosts: Vec<PgConnectOptions>,
    /// Whether a host counts only while it takes writes.
    pub(super) must_take_writes: bool,
    /// What people call it, without user and password.
    pub(super) name: String,
}

impl Address {
    /// Reads a URL such as `postgres://billing@a.example,b.example/billing?target_session_attrs=read-write`.
    ///
    /// # Errors
    /// What is wrong with it, to be said after its variable; nothing of it is repeated that may be a password.
    pub(super) fn of_url(url: &str) -> Result<Self, String> {
        let parts = Parts::of_url(url)?;
        let hosts = parts.urls()?.into_iter().map(|url| {
            let options = PgConnectOptions::from_str(&url).map_err(|_| no_url())?;
            // Floating point numbers are none of our business, and poolers mind the parameter.
            let options = options.application_name(APPLICATION_NAME).extra_float_digits(None);
            Ok(options.disable_statement_logging())
        });
        let hosts: Vec<_> = hosts.collect::<Result<_, String>>()?;
        Ok(Self { name: name(&hosts), hosts, must_take_writes: parts.must_take_writes })
    }
}

/// What stands in a URL, decoded.
#[derive(Default)]
struct Parts {
    /// None: what the environment says.
    hosts: Vec<String>,
    /// One for each host, or one for all; empty ones are the usual one.
    ports: Vec<String>,
    must_take_writes: bool,
    /// What our library is told as it stands.
    others: Vec<(String, String)>,
}

impl Parts {
    fn of_url(url: &str) -> Result<Self, String> {
        let (_, rest) = url.split_once("://").ok_or_else(no_url)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, behind) = rest.split_at(end);
        // A user or a password reaches into what follows: something is mistyped, or a sign such as `/` not
        // percent-encoded. It would be taken for the name of the database, which is told.
        if behind.contains(['@', '#']) {
            return Err(no_url());
        }
        let mut parts = Self::default();
        parts.read_environment();
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let (path, query) = behind.split_once('?').unwrap_or((behind, ""));
        let database = path.strip_prefix('/').unwrap_or_default();
        for (key, value) in [("user", user), ("password", password), ("dbname", database)] {
            if !value.is_empty() {
                parts.others.push((key.to_owned(), decoded(value)?));
            }
        }
        if !hosts.is_empty() {
            let named: Vec<_> = hosts.split(',').map(host_and_port).collect::<Result<_, _>>()?;
            (parts.hosts, parts.ports) = named.into_iter().unzip();
        }
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').ok_or_else(no_url)?;
            parts.take(&decoded(key)?, decoded(value)?)?;
        }
        Ok(parts)
    }

    /// One host of the environment's is our library's to read.
    fn read_environment(&mut self) {
        if env::var_os("PGHOSTADDR").is_none()
            && let Ok(hosts) = env::var("PGHOST")
            && hosts.contains(',')
        {
            self.hosts = list(&hosts);
            self.ports = env::var("PGPORT").map(|ports| list(&ports)).unwrap_or_default();
        }
        let wanted = env::var("PGTARGETSESSIONATTRS");
        self.must_take_writes =
            wanted.is_ok_and(|wanted| ["read-write", "primary"].contains(&&*wanted));
    }

    fn take(&mut self, key: &str, value: String) -> Result<(), String> {
        match key {
            "host" | "hostaddr" => self.hosts = list(&value),
            "port" => self.ports = list(&value),
            "target_session_attrs" => {
                self.must_take_writes = match &*value {
                    "any" => false,
                    "read-write" | "primary" => true,
                    _ => {
                        return Err("must have target_session_attrs=read-write, for the service \
                                    writes"
                            .to_owned());
                    }
                }
            }
            key if PASSED_ON.contains(&key) || key.starts_with("options[") => {
                self.others.push((key.to_owned(), value));
            }
            key if WITHOUT_EFFECT.contains(&key) => {}
            key => return only_as(key, &value),
        }
        Ok(())
    }

    /// A URL of our library's for each host.
    fn urls(&self) -> Result<Vec<String>, String> {
        if self.hosts.is_empty() {
            return Ok(vec![self.url(None, self.ports.first())]);
        }
        if self.ports.len() > 1 && self.ports.len() != self.hosts.len() {
            let (hosts, ports) = (self.hosts.len(), self.ports.len());
            return Err(format!("names {hosts} hosts and {ports} ports"));
        }
        let urls = self.hosts.iter().enumerate().map(|(place, host)| {
            let port = self.ports.get(place).or_else(|| self.ports.first());
            self.url(Some(host), port)
        });
        Ok(urls.collect())
    }

    fn url(&self, host: Option<&String>, port: Option<&String>) -> String {
        let start = "postgres:///?".to_owned();
        let end = start.len();
        let mut query = form_urlencoded::Serializer::for_suffix(start, end);
        for (key, value) in [("host", host), ("port", port)] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                query.append_pair(key, value);
            }
        }
        query.extend_pairs(&self.others);
        query.finish()
    }
}

/// Says of a parameter that it can't be had.
fn only_as(key: &str, value: &str) -> Result<(), String> {
    if let Some((_, values)) = ONLY_AS.iter().find(|(known, _)| *known == key) {
        if values.contains(&value) {
            return Ok(());
        }
        return Err(format!("asks for {key}, which can't be had as it is set; leave it out"));
    }
    let is_a_word =
        key.len() <= 32 && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let key = if is_a_word { key } else { "of another name" };
    Err(format!("has a parameter that is not known here ({key}); leave it out"))
}

/// `host`, `host:port`, `[::1]:port`.
fn host_and_port(text: &str) -> Result<(String, String), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(no_url)?;
            let port =
                if port.is_empty() { "" } else { port.strip_prefix(':').ok_or_else(no_url)? };
            (host, port)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    if port.bytes().any(|byte| !byte.is_ascii_digit()) {
        return Err(no_url());
    }
    Ok((decoded(host)?, port.to_owned()))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

/// With `%20` and so on as what they stand for. Unlike in a form, `+` is itself.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next()), digit(rest.next()));
        let value = high.zip(low).map(|(high, low)| high.saturating_mul(16).saturating_add(low));
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(value) if value != 0 => bytes.push(value),
            _ => return Err(no_url()),
        }
    }
    String::from_utf8(bytes).map_err(|_| no_url())
}

fn no_url() -> String {
    let example = "postgres://user@host:5432/database?sslmode=verify-full";
    format!("is not the URL of a database, such as {example}")
}

fn name(hosts: &[PgConnectOptions]) -> String {
    let socket = |host: &PgConnectOptions| match host.get_socket() {
        Some(socket) => Some(socket.display().to_string()),
        None => Some(host.get_host().to_owned()).filter(|host| Path::new(host).is_absolute()),
    };
    let database = |host: &PgConnectOptions| {
        host.get_database().unwrap_or_else(|| host.get_username()).to_owned()
    };
    let all: Vec<_> = hosts
        .iter()
        .map(|host| {
            let name = socket(host).unwrap_or_else(|| host.get_host().to_owned());
            let name = if name.contains(':') { format!("[{name}]") } else { name };
            format!("{name}:{}", host.get_port())
        })
        .collect();
    match hosts {
        [host] if socket(host).is_some() => {
            let directory = socket(host).unwrap_or_default();
            format!("postgres:///{}?host={directory}", database(host))
        }
        [host, ..] => format!("postgres://{}/{}", all.join(","), database(host)),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Vec<(String, u16)> {
        let address = Address::of_url(url).unwrap_or_else(|reason| panic!("{url} {reason}"));
        address.hosts.iter().map(|it| (it.get_host().to_owned(), it.get_port())).collect()
    }

    #[test]
    fn every_host_is_found() {
        let found = |url: &str| -> Vec<String> {
            hosts(url).into_iter().map(|(host, port)| format!("{host} {port}")).collect()
        };
        assert_eq!(found("postgres://ann@[::1]:6000/db"), ["::1 6000"]);
        assert_eq!(found("postgresql://[2001:db8::1]/db"), ["2001:db8::1 5432"]);
        assert_eq!(found("postgres://a,b:6000,[::1]/db"), ["a 5432", "b 6000", "::1 5432"]);
        assert_eq!(found("postgres://ann@/db?host=a,b&port=1,2"), ["a 1", "b 2"]);
        assert_eq!(found("postgres://a,b/db?port=7"), ["a 7", "b 7"]);
        assert_eq!(found("postgres://ann:p%40ss@h/db?hostaddr=10.0.0.1"), ["10.0.0.1 5432"]);
    }

    #[test]
    fn a_socket_is_found_wherever_it_stands() {
        for url in [
            "postgres://ann@/db?host=/cloudsql/project:place:name",
            "postgres://ann@localhost/db?host=%2Fcloudsql%2Fproject:place:name",
            "postgres://ann@%2Fcloudsql%2Fproject%3Aplace%3Aname/db",
            "postgres:///db?host=/cloudsql/project:place:name&user=ann",
        ] {
            let address = Address::of_url(url).unwrap_or_else(|reason| panic!("{url} {reason}"));
            assert_eq!(address.name, "postgres:///db?host=/cloudsql/project:place:name", "{url}");
            assert_eq!(address.hosts[0].get_username(), "ann");
        }
    }

    #[test]
    fn names_are_decoded_once() {
        let address = Address::of_url("postgres://a%20b+c:x@h/d%2Fe%25+f").expect("a URL");
        assert_eq!(address.hosts[0].get_username(), "a b+c");
        assert_eq!(address.hosts[0].get_database(), Some("d/e%+f"));
    }

    #[test]
    fn only_a_host_that_takes_writes_can_be_asked_for() {
        let writes = |attributes: &str| {
            let url = format!("postgres://a,b/db?target_session_attrs={attributes}");
            Address::of_url(&url).map(|address| address.must_take_writes)
        };
        assert_eq!(writes("read-write"), Ok(true));
        assert_eq!(writes("primary"), Ok(true));
        assert_eq!(writes("any"), Ok(false));
        for attributes in ["standby", "read-only", "prefer-standby", "secret"] {
            let reason = writes(attributes).expect_err("it is no primary");
            assert!(reason.contains("target_session_attrs=read-write"), "{reason}");
            assert!(!reason.contains("secret"), "{reason}");
        }
    }

    #[test]
    fn what_would_be_left_out_is_refused() {
        for (url, reason) in [
            ("postgres://h/db?channel_binding=require", "channel_binding"),
            ("postgres://h/db?gssencmode=require", "gssencmode"),
            ("postgres://h/db?service=x", "(service)"),
            ("postgres://h/db?Secret-1=x", "(of another name)"),
            ("postgres://a,b,c/db?port=1,2", "3 hosts and 2 ports"),
            ("postgres://h/db?sslmode", "is not the URL"),
            ("postgres://h/db%zz", "is not the URL"),
            ("postgres://h/db%00", "is not the URL"),
            ("postgres://::1/db", "is not the URL"),
        ] {
            let told = Address::of_url(url).map(|_| ()).expect_err(url);
            assert!(told.contains(reason), "{url} {told}");
        }
        Address::of_url("postgres://h/db?connect_timeout=3&gssencmode=disable")
            .map(drop)
            .expect("a URL");
    }
}
