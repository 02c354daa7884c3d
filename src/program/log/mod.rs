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

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

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
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let buffer = Arc::new(Buffer::default());
    let writing = Arc::clone(&buffer);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || writing.write_all_out())
        .map_err(|error| error.to_string())?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stdout().is_terminal())
        .with_writer(Lines(Arc::clone(&buffer)));
    match format {
        LogFormat::Text if stdout().is_terminal() => logs.init(),
        LogFormat::Text => logs.event_format(text::PlainText).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(LogGuard { buffer })
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
