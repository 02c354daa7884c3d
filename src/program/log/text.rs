//! How a log line reads as text: time, level, target, message, then `name=value` pairs.
//!
//! The library's own format, which stays in use on terminals, colours every piece and costs a request
//! several times as much as this one, which gathers a line in a buffer of its thread.

use std::{
    cell::RefCell,
    fmt::{self, Debug, Write},
    time::SystemTime,
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// One event, one line, no colours.
pub(super) struct PlainText;

impl<S, N> FormatEvent<S, N> for PlainText
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        LINE.with_borrow_mut(|line| {
            line.clear();
            write_line(line, event)?;
            writer.write_str(line)
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "when a line was written is no input of anything")]
fn write_line(line: &mut String, event: &Event<'_>) -> fmt::Result {
    let metadata = event.metadata();
    write!(line, "{}", humantime::format_rfc3339_micros(SystemTime::now()))?;
    write!(line, " {:>5} ", metadata.level().as_str())?;
    line.push_str(metadata.target());
    line.push(':');
    event.record(&mut Pairs(line));
    line.push('\n');
    Ok(())
}

/// Writes fields as they come.
struct Pairs<'a>(&'a mut String);

impl Pairs<'_> {
    fn name(&mut self, field: &Field) {
        self.0.push(' ');
        if field.name() != "message" {
            self.0.push_str(field.name());
            self.0.push('=');
        }
    }

    fn format(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        self.name(field);
        // Text can always be appended to a string; what can't be formatted is left out.
        let _ = OneLine(self.0).write_fmt(value);
    }
}

impl Visit for Pairs<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if value.is_empty() || !value.bytes().all(is_plain) {
            return self.format(field, format_args!("{value:?}"));
        }
        self.name(field);
        self.0.push_str(value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.format(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.format(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.format(field, format_args!("{value:?}"));
    }
}

/// Whether a text of such bytes reads the same without quotes.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b'/' | b':' | b',' | b'%')
}

/// Escapes what would end the line or reach a terminal as a command.
struct OneLine<'a>(&'a mut String);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            self.0.push_str(text);
            return Ok(());
        }
        for char in text.chars() {
            if char.is_control() {
                self.0.extend(char.escape_default());
            } else {
                self.0.push(char);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no test panics with it").write(line)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let lines = Lines::default();
        let subscriber =
            tracing_subscriber::fmt().with_writer(lines.clone()).event_format(PlainText).finish();
        tracing::subscriber::with_default(subscriber, || {
            let (none, esc): (Option<i64>, _) = (None, "\u{1b}[31m");
            tracing::info!(
                plain = "a-b_c.d/e:f,%", spaced = "a b", broken = "a\nb", empty = "", japanese = "日本",
                number = -7, count = 7_u64, none, shown = %esc, "it\nhappened"
            );
        });
        let text = String::from_utf8(lines.0.lock().expect("no test panics with it").clone());
        let text = text.expect("UTF-8");
        let (time, rest) = text.split_once(' ').expect("a time and more");
        assert_eq!(time.len(), "2026-11-24T10:34:57.699913Z".len(), "{time}");
        let expected = " INFO token_billing::program::log::text::tests: it\\nhappened plain=a-b_c.d/e:f,% \
            spaced=\"a b\" broken=\"a\\nb\" empty=\"\" japanese=\"日本\" number=-7 count=7 \
            shown=\\u{1b}[31m\n";
        assert_eq!(rest, expected);
    }
}
