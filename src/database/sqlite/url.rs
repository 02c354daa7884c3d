//! What an SQLite URL names: a file, and what may be done with it. How the file is opened does not belong
//! here.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use sqlx::sqlite::SqliteConnectOptions;

use super::OpenError;

/// What the URL lets us do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// All, making the file included: `mode=rwc`, and no mode at all.
    Create,
    /// Write to a file that is there already: `mode=rw`.
    Write,
    /// Only read: `mode=ro`.
    Read,
}

/// The file a URL such as `sqlite://billing.db` names, as it is written there.
pub(super) fn parse(url: &str) -> Result<(PathBuf, Access), OpenError> {
    if !url.starts_with("sqlite:") {
        return Err(OpenError::Url("must begin with sqlite://".to_owned()));
    }
    let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
    let access = access(parameters)?;
    let options = SqliteConnectOptions::from_str(address)
        .map_err(|error| OpenError::Url(error.to_string()))?;
    let path = options.get_filename();
    if path.as_os_str().is_empty() || address.contains(":memory:") {
        return Err(OpenError::Url("must name a file, such as sqlite://billing.db".to_owned()));
    }
    if let Some(relative) = meant_as_relative(path) {
        return Err(OpenError::Url(format!(
            "names '{}', for three slashes begin at the root of the file system; write \
             sqlite://{relative} for a file in the working directory",
            path.display()
        )));
    }
    Ok((path.to_owned(), access))
}

/// Parameters that a library would take and we would not act upon must not seem to count.
fn access(parameters: &str) -> Result<Access, OpenError> {
    let mut access = Access::Create;
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        access = match parameter {
            "mode=rwc" => Access::Create,
            "mode=rw" => Access::Write,
            "mode=ro" => Access::Read,
            other => {
                return Err(OpenError::Url(format!(
                    "'{other}' can't be used with SQLite; only mode=rwc, mode=rw and mode=ro can"
                )));
            }
        };
    }
    Ok(access)
}

/// The path that is meant where `sqlite:///` was written as for other programs, in which it is relative. A
/// database directly below the root is likely such a mistake, unless it is there.
fn meant_as_relative(path: &Path) -> Option<&str> {
    let relative = path.to_str()?.strip_prefix('/')?;
    let is_dotted = relative.starts_with("./") || relative.starts_with("../");
    (is_dotted || (!relative.contains('/') && !path.exists())).then_some(relative)
}
