//! Servers that end when the suite does, however it ends: the system kills them with the thread that
//! started them.

use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result};
use rustix::process::{Signal, set_parent_process_death_signal};

/// A command that runs `program` guarded; arguments and environment are added to it as to any other.
pub(crate) fn guarded(program: impl Into<OsString>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.args(["guard", "--"]).arg(program.into());
    Ok(command)
}

/// Turns this process into another program. Comes back only with an error.
pub(crate) fn become_program(command: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let (program, arguments) = command.split_first().context("no program to become")?;
    let failed = Command::new(program).args(arguments).exec();
    Err(failed).with_context(|| format!("run {}", program.display()))
}
