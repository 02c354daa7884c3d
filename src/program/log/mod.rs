//! Logs: to standard output, one line per event, written by a thread of its own.
//!
//! Requests only append to a buffer in memory; the thread writes it out some hundred lines at a time.
//! Waking a thread for every line is costly under load, and a log that nobody reads must not stop the
//! service: past a limit its lines are dropped, and counted.

mod text;

use std::{
    io::{self, IsTerminal, Write, stdout},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    filter::{ParseError, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use super::settings::LogFormat;

/// Bytes of log that may wait for whoever reads it.
const WAITING_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of memory that stay with the log when it was written out.
const KEPT_BYTES: usize = 256 * 1024;
/// How long the end of the program waits for the last lines to be read.
const LAST_LINES_WAIT: Duration = Duration::from_millis(400);
/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(10);

/// Starts logging. Lines still waiting are written when the guard is dropped.
///
/// # Errors
/// What is wrong with the filter, or that no thread can be started.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<LogGuard, String> {
    let wanted = wanted(filter)?;
    let buffer = Arc::new(Buffer::default());
    let writing = Arc::clone(&buffer);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || writing.write_all_out())
        .map_err(|error| error.to_string())?;
    let logs = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(stdout().is_terminal())
        .with_writer(Lines(Arc::clone(&buffer)));
    match format {
        LogFormat::Text if stdout().is_terminal() => logs.finish().with(wanted).init(),
        LogFormat::Text => logs.event_format(text::PlainText).finish().with(wanted).init(),
        LogFormat::Json => logs.json().flatten_event(true).finish().with(wanted).init(),
    }
    Ok(LogGuard { buffer })
}

/// What is to be logged: of each target that is named what its level says, of all others what the level
/// without a target says.
fn wanted(filter: &str) -> Result<Targets, String> {
    if filter.contains(['[', ']', '{', '}']) {
        return Err("names a span or a field, of which there are none".to_owned());
    }
    let pieces: Vec<_> = filter.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
    if pieces.is_empty() {
        return Ok(Targets::new().with_default(LevelFilter::ERROR));
    }
    pieces.join(",").parse().map_err(|error: ParseError| error.to_string())
}

/// Keeps the log going.
#[derive(Debug)]
pub(crate) struct LogGuard {
    buffer: Arc<Buffer>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let mut state = self.buffer.lock();
        state.closed = true;
        self.buffer.changed.notify_all();
        // Not joined: if nobody reads the log, the thread is stuck.
        drop(self.buffer.changed.wait_timeout_while(state, LAST_LINES_WAIT, |state| !state.done));
    }
}

/// Lines on their way out.
#[derive(Debug, Default)]
struct Buffer {
    state: Mutex<State>,
    /// There are lines, or no more of them.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    dropped: u64,
    closed: bool,
    done: bool,
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole lines are appended at once, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.bytes.len().saturating_add(line.len()) > WAITING_BYTES {
            state.dropped = state.dropped.saturating_add(1);
            return;
        }
        let first = state.bytes.is_empty();
        state.bytes.extend_from_slice(line);
        drop(state);
        if first {
            self.changed.notify_one();
        }
    }

    fn write_all_out(&self) {
        let mut bytes = Vec::new();
        loop {
            let (dropped, closed) = self.take(&mut bytes);
            // Without anyone to read the log there is nobody to tell either.
            let _ = write_out(&bytes, dropped);
            bytes.clear();
            bytes.shrink_to(KEPT_BYTES);
            if closed {
                self.lock().done = true;
                self.changed.notify_all();
                return;
            }
            thread::sleep(GATHER);
        }
    }

    /// Waits for lines and takes them, together with the number of those dropped.
    fn take(&self, bytes: &mut Vec<u8>) -> (u64, bool) {
        let state = self.lock();
        let mut state = self
            .changed
            .wait_while(state, |state| state.bytes.is_empty() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.bytes, bytes);
        (std::mem::take(&mut state.dropped), state.closed)
    }
}

fn write_out(bytes: &[u8], dropped: u64) -> io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(bytes)?;
    if dropped > 0 {
        writeln!(out, "{dropped} lines of the log were dropped, because it was not read in time")?;
    }
    out.flush()
}

/// Where the subscriber writes its lines: each comes in one call.
struct Lines(Arc<Buffer>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(&self.0)
    }
}

struct LineWriter<'a>(&'a Buffer);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.append(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_filter_says_what_is_logged_of_whom() {
        let would = |filter: &str, target: &str, level: &Level| {
            wanted(filter).expect("a filter").would_enable(target, level)
        };
        let (service, http) = ("token_billing", "token_billing::http");
        assert!(would("info", service, &Level::INFO));
        assert!(!would("info", service, &Level::DEBUG));
        for filter in ["info,token_billing::http=warn", "token_billing::http=WARN, info,"] {
            assert!(would(filter, service, &Level::INFO), "{filter}");
            assert!(!would(filter, http, &Level::INFO), "{filter}");
            assert!(would(filter, http, &Level::WARN), "{filter}");
        }
        assert!(would("token_billing::http", http, &Level::TRACE));
        assert!(!would("token_billing::http", service, &Level::ERROR));
        assert!(!would("off", service, &Level::ERROR));
        for filter in ["", ",", " "] {
            assert!(would(filter, service, &Level::ERROR), "{filter:?}");
            assert!(!would(filter, service, &Level::WARN), "{filter:?}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_in_a_line() {
        for filter in ["billing=loud", "a=info=warn", "[span]=info", "a[{user}]=info"] {
            let reason = wanted(filter).expect_err(filter);
            assert!(!reason.is_empty() && !reason.contains('\n'), "{filter}: {reason}");
        }
    }
}
