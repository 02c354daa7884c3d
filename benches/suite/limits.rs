//! The limits the service has to keep, each with what was measured and a verdict.

/// What a value is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// Verdicts, gathered until everything was measured.
#[derive(Debug, Default)]
pub(crate) struct Limits(Vec<(String, f64, Bound)>);

impl Limits {
    pub(crate) fn hold(&mut self, what: &str, value: f64, bound: Bound) {
        self.0.push((what.to_owned(), value, bound));
    }

    pub(crate) fn print(&self) {
        println!("\n{:<52}{:>10}   limit", "", "measured");
        for (what, value, bound) in &self.0 {
            let (text, kept) = match bound {
                Bound::AtLeast(least) => (format!("at least {least}"), value >= least),
                Bound::AtMost(most) => (format!("at most {most}"), value <= most),
            };
            let verdict = if kept { "ok" } else { "MISSED" };
            println!("{what:<52}{value:>10.2}   {text:<16} {verdict}");
        }
    }
}
