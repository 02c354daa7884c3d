//! `cargo bench -- beside BINARY`: consumptions on an account without holds, second by second in turn with another
//! binary of the service, such as that of the last release.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};

use crate::{
    CONNECTIONS,
    client::Pace,
    limits::{Bound, Limits},
    requests::{Call, MODEL, Requests},
    runs::{median, median_of, print, print_heading},
    server::BINARY,
    service::Service,
};

/// How often each has its turn: as often first as second.
const TURNS: usize = 14;

pub(crate) async fn measure(other: &Path, duration: Duration) -> Result<()> {
    let mut limits = Limits::default();
    // It is started in another folder.
    let other = fs::canonicalize(other).with_context(|| format!("find {}", other.display()))?;
    let mut ours = Service::start_filled_with(Path::new(BINARY), &[], "").await?;
    let mut theirs = Service::start_filled_with(&other, &[], "").await?;
    let consume = Requests::one(&Call::consume(MODEL), "");
    print_heading();
    for connections in [CONNECTIONS, 1] {
        let (mut here, mut there, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0..TURNS {
            let pace = Pace::AtOnce(duration);
            let (run, other_run) = if turn.is_multiple_of(2) {
                let run = ours.load(connections, &consume, pace).await?;
                (run, theirs.load(connections, &consume, pace).await?)
            } else {
                let other_run = theirs.load(connections, &consume, pace).await?;
                (ours.load(connections, &consume, pace).await?, other_run)
            };
            ratios.push(run.figures.per_second / other_run.figures.per_second);
            here.push(run);
            there.push(other_run);
        }
        print("consume", connections, &median(&here));
        print("consume, the other binary", connections, &median(&there));
        let what = format!("consume / the other's, {connections} connections");
        limits.hold(&what, median_of(ratios), Bound::AtLeast(0.97));
    }
    ours.stop().await?;
    theirs.stop().await?;
    limits.print();
    Ok(())
}
