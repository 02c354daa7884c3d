//! The machine the figures are of, in one line.

use std::{fs, process::Command, thread};

pub(crate) fn describe() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("an unknown processor", |(_, model)| model.trim());
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (kernel, date) = (told_by("uname", "-sr"), told_by("date", "+%Y-%m-%d"));
    format!("{model}, {cores} cores shared with the load, {kernel}, {date}")
}

fn told_by(program: &str, argument: &str) -> String {
    Command::new(program)
        .arg(argument)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
