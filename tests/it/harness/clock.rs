//! The wall clock as the service sees it, which a test can set.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::Launch;

/// A library that the service is started with, and the file from which it reads the shift.
#[derive(Debug)]
pub(crate) struct Clock {
    directory: TempDir,
}

impl Clock {
    /// A clock that is right, for now.
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let clock = Self { directory };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/clock.c");
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(clock.library())
            .arg(source)
            .status()
            .expect("a C compiler, which the service itself needs to be built");
        assert!(status.success(), "the library is made");
        clock.shift(0);
        clock
    }

    fn library(&self) -> PathBuf {
        self.directory.path().join("clock.so")
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("shift")
    }

    /// Has a service see this clock.
    pub(crate) fn given_to(&self, launch: Launch) -> Launch {
        launch
            .set("LD_PRELOAD", OsString::from(self.library()))
            .set("CLOCK_SHIFT_FILE", OsString::from(self.file()))
    }

    /// Has a service go by this clock's timers too.
    pub(crate) fn timing(&self, launch: Launch) -> Launch {
        self.given_to(launch).set("TIMER_SHIFT_FILE", OsString::from(self.timers()))
    }

    fn timers(&self) -> PathBuf {
        self.directory.path().join("timers")
    }

    /// Sets it this far from the true time.
    pub(crate) fn shift(&self, seconds: i64) {
        self.replace(&self.file(), seconds);
    }

    /// Has timers believe that this much more time has passed than there has since the start.
    pub(crate) fn pass(&self, seconds: i64) {
        self.replace(&self.timers(), seconds);
    }

    fn replace(&self, file: &Path, seconds: i64) {
        // In one step, for the service may be reading.
        let new = self.directory.path().join("new");
        std::fs::write(&new, seconds.to_string()).expect("the file can be written");
        std::fs::rename(new, file).expect("the file can be replaced");
    }
}
