//! What a process prints, kept line by line while it runs.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

use super::PATIENCE;

/// The lines of one output stream.
#[derive(Debug, Default)]
pub(crate) struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Reads `stream` to its end, on a thread.
    pub(crate) fn follow(stream: impl Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                writer.lock().lines.push(text);
                writer.changed.notify_all();
            }
            writer.lock().ended = true;
            writer.changed.notify_all();
        });
        log
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the reading thread does not panic")
    }

    /// The first line that `matches`; `None` when the stream ended without one.
    pub(crate) fn wait_for(&self, matches: impl Fn(&str) -> bool) -> Option<String> {
        let (state, timeout) = self
            .changed
            .wait_timeout_while(self.lock(), PATIENCE, |state| {
                !state.ended && !state.lines.iter().any(|line| matches(line))
            })
            .expect("the reading thread does not panic");
        assert!(!timeout.timed_out(), "no such line: {:#?}", state.lines);
        state.lines.iter().find(|line| matches(line)).cloned()
    }

    /// All lines, once the process has closed the stream.
    pub(crate) fn until_end(&self) -> Vec<String> {
        let (state, timeout) = self
            .changed
            .wait_timeout_while(self.lock(), PATIENCE, |state| !state.ended)
            .expect("the reading thread does not panic");
        assert!(!timeout.timed_out(), "the stream does not end: {:#?}", state.lines);
        state.lines.clone()
    }
}
