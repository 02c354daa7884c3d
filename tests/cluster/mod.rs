//! A throw-away PostgreSQL server, on a Unix socket in a temporary directory.
//!
//! A shell keeps it: the server is the shell's child, and the shell reads from a pipe that only the
//! tests hold open. So however their process ends, the server ends and its directory goes. Where a runner
//! gives each test a process of its own, they share a server all the same, which lasts as long as the
//! runner. It needs nothing but the standard library, `rustix` and `tempfile`, for whoever tests includes
//! it; nothing here knows the service's tables.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{DirBuilderExt, chown},
        process::{CommandExt, parent_id},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio, id},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use rustix::process::geteuid;

/// What a runner that gives each test a process of its own calls the run.
const RUN: &str = "NEXTEST_RUN_ID";
/// Set to `1` where a PostgreSQL that is missing must not go unnoticed.
const REQUIRE: &str = "REQUIRE_POSTGRES";
/// The folder of the programs of a version to test with, instead of the one that is found.
const PROGRAMS: &str = "POSTGRES_PROGRAMS";
/// Where distributions put the programs: a folder, what a name in it starts with before the version,
/// and the folder in that.
const USUAL_PLACES: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/local", "pgsql", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
];
/// A user without any rights; the server refuses to run as root.
pub(crate) const NOBODY: u32 = 65_534;
/// Who may do everything, and the database where that is done.
pub(crate) const OWNER: &str = "postgres";
/// What the server makes in its directory to be connected to.
pub(crate) const SOCKET: &str = ".s.PGSQL.5432";
/// Most bytes of a socket's path.
const SOCKET_PATH_BYTES: usize = 107;

/// Its arguments: the directory, the folder of the programs, the process to outlive the server, the roles to
/// make, the server's options. Without such a process it reads the signal to end the server with; if none comes, those who
/// would send it are gone.
const KEEPER: &str = r#"
directory=$1 programs=$2 runner=$3 roles=$4
shift 4
if ! [ -e "$directory/data" ]; then
    "$programs/initdb" --pgdata="$directory/data" --auth=trust --username=postgres \
        --encoding=UTF8 --no-locale --no-sync >/dev/null || exit
    printf '%s\n' "$roles" | "$programs/postgres" --single -D "$directory/data" postgres >/dev/null || exit
    printf '%s\n' 'local all secured scram-sha-256' 'local all all trust' \
        >"$directory/data/pg_hba.conf"
fi
"$programs/postgres" -D "$directory/data" "$@" &
exec 2>/dev/null
if [ "$runner" ]; then
    while [ -e "/proc/$runner" ]; do sleep 1; done
else
    read -r signal
fi
if [ "$signal" ]; then
    kill -"$signal" $!
    wait $!
else
    # As long as the server has not said otherwise, QUIT is ignored, as a shell has it for all of its
    # children, and TERM is not.
    kill -TERM $!
    kill -QUIT $!
    wait $!
    rm -rf "$directory"
fi
"#;

/// Loss of power is not among what is tested, so nothing is forced to disk. The log has only what
/// concerns the server as a whole.
const OPTIONS: [&str; 7] = [
    "port=5432",
    "listen_addresses=",
    "max_connections=1000",
    "fsync=off",
    "full_page_writes=off",
    "log_min_messages=log",
    "log_checkpoints=off",
];

/// An ordinary user, as the service should have one; owns the databases.
pub(crate) const USER: &str = "billing";
/// That one, and another who may do the same but has to say a password: made before the server is started.
const ROLES: &str = "CREATE ROLE billing LOGIN
CREATE ROLE secured LOGIN PASSWORD 'a-secret-password' IN ROLE billing";

/// A server with any number of databases.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) directory: PathBuf,
    options: Vec<&'static str>,
    /// While it runs, and is not shared by a run of tests.
    pub(crate) keeper: Option<Child>,
}

impl Cluster {
    /// The server that all tests share who do not stop it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| match env::var(RUN) {
            Ok(run) if cfg!(target_os = "linux") => Self::of_run(&run),
            _ => Self::start_with(&[]),
        })
    }

    /// The server of a run of which each test is a process, started by the first of them.
    #[expect(clippy::zombie_processes, reason = "the keeper stays when this process ends")]
    fn of_run(run: &str) -> Self {
        let directory = base().join(format!("billing-{run}"));
        let cluster = Self { directory, options: OPTIONS.to_vec(), keeper: None };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&cluster.directory);
        made.expect("a temporary directory can be made");
        let path = cluster.directory.join("state");
        let mut state = File::options().create(true).append(true).read(true).open(path);
        let state = state.as_mut().expect("a file can be made there");
        state.lock().expect("files can be locked");
        let mut found = String::new();
        state.read_to_string(&mut found).expect("just opened");
        if found.is_empty() {
            give_away(&cluster.directory);
            cluster.keep(&parent_id().to_string(), Stdio::null());
            state.write_all(b"ready").expect("just opened");
        }
        cluster
    }

    /// A new server with options such as `fsync=on`.
    pub(crate) fn start_with(options: &[&'static str]) -> Self {
        let options = OPTIONS.iter().chain(options).copied().collect();
        let directory = tempfile::Builder::new().prefix("billing-").tempdir_in(base());
        let directory = directory.expect("a temporary directory can be made").keep();
        give_away(&directory);
        let mut cluster = Self { directory, options, keeper: None };
        cluster.keeper = Some(cluster.keep("", Stdio::piped()));
        cluster
    }

    /// Has a shell start the server and keep it, and waits until it takes connections.
    pub(crate) fn keep(&self, runner: &str, orders: Stdio) -> Child {
        let mut command = Command::new("sh");
        command
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.directory)
            .arg(programs().expect("looked for before"))
            .args([runner, ROLES])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", self.directory.display()))
            .args(self.options.iter().flat_map(|option| ["-c", option]))
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C")
            .current_dir(&self.directory)
            // Ctrl-C is for the tests; their end is the keeper's signal.
            .process_group(0)
            .stdin(orders)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut keeper = command.spawn().expect("a shell starts");
        wait_until_ready(keeper.stderr.take().expect("standard error is piped"));
        keeper
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().expect("our own child can be waited for");
        } else {
            fs::remove_dir_all(&self.directory).expect("our own directory can be removed");
        }
    }
}

/// Reads what the server says until it takes connections, and whatever comes later on a thread.
fn wait_until_ready(log: impl Read + Send + 'static) {
    let mut log = BufReader::new(log);
    let mut told = String::new();
    while !told.contains("ready to accept") {
        let bytes = log.read_line(&mut told).expect("the server writes text");
        assert!(bytes > 0, "PostgreSQL does not start: {told}");
    }
    thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
}

/// A name for a database that none has yet.
pub(crate) fn new_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("billing_{}_{}", id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Where directories of servers are. In somebody's private directory another user finds nothing.
fn base() -> PathBuf {
    let usual = env::temp_dir();
    if geteuid().is_root() || !socket_fits(&usual) { PathBuf::from("/tmp") } else { usual }
}

/// Lets the server have its directory.
fn give_away(directory: &Path) {
    if geteuid().is_root() {
        chown(directory, Some(NOBODY), Some(NOBODY)).expect("root may give it away");
    }
}

fn socket_fits(base: &Path) -> bool {
    let path = base.join("billing-00000000-0000-0000-0000-000000000000").join(SOCKET);
    path.as_os_str().len() <= SOCKET_PATH_BYTES
}

/// Whether this machine has PostgreSQL.
pub(crate) fn is_here() -> bool {
    let found = programs().is_some();
    let required = env::var_os(REQUIRE).is_some_and(|value| value == "1");
    assert!(
        found || !required,
        "{REQUIRE}=1, but neither PATH nor the usual places have initdb and postgres"
    );
    found
}

/// The folder of `initdb` and `postgres`. Says so when there is none, where nobody captures it.
fn programs() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let found = find_programs();
            if found.is_none() {
                let _ = writeln!(
                    std::io::stderr(),
                    "\n!!! SKIPPED: every test named postgres. Neither PATH nor the usual places have \
                     PostgreSQL's initdb and postgres; on Debian: apt-get install postgresql !!!\n"
                );
            }
            found
        })
        .as_deref()
}

fn find_programs() -> Option<PathBuf> {
    let is_whole = |folder: &PathBuf| {
        ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file())
    };
    if let Some(folder) = env::var_os(PROGRAMS).map(PathBuf::from) {
        assert!(is_whole(&folder), "{PROGRAMS}: {} lacks initdb or postgres", folder.display());
        return Some(folder);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).find(is_whole);
    on_path.or_else(|| {
        let usual = USUAL_PLACES.iter().flat_map(|place| versions(*place));
        usual.filter(|(_, folder)| is_whole(folder)).max().map(|(_, folder)| folder)
    })
}

/// What there is in one of the usual places, by major version.
fn versions((parent, prefix, rest): (&str, &str, &str)) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?;
            let major = version.split('.').next().and_then(|major| major.parse().ok());
            Some((major.unwrap_or(0), entry.path().join(rest)))
        })
        .collect()
}
