//! How a peer serves: what its routes are belongs to its own file.

use std::io::Read;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Serves on a free port, which the first line names, until it is asked to stop.
pub(crate) async fn serve(routes: axum::Router) -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("address={}", listener.local_addr()?);
    // Our input closes when the program that started us ends, however it ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = axum::serve(listener, routes) => Ok(done?),
        _ = terminate.recv() => Ok(()),
    }
}
