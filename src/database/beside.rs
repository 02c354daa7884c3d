//! Work that reads a whole database while a service runs: on a thread of its own that gives way to all others, and
//! given up when nobody waits for it any more. What is read does not belong here.

use std::{convert::Infallible, io, thread};

use rustix::process::setpriority_process;
use tokio::{runtime::Handle, select, sync::oneshot};

/// How far behind others whoever gives way is: where all are busy it gets a tenth of what each of them does.
const NICE: i32 = 10;

/// Has whatever runs on this thread from now on give way. It never gets its priority back.
pub(super) fn give_way() {
    // Linux takes none for the thread that asks. Elsewhere, or where it is refused, it just runs.
    let _ = setpriority_process(None, NICE);
}

/// Does `work` on a thread of its own. Dropped, it ends where it next waits.
///
/// # Errors
/// Where there can be no such thread, or it died.
pub(super) async fn beside<T: Send + 'static>(
    work: impl AsyncFnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (asker, nobody_waits) = oneshot::channel::<Infallible>();
    let (done, answer) = oneshot::channel();
    let runtime = Handle::current();
    thread::Builder::new().name("beside".to_owned()).spawn(move || {
        give_way();
        runtime.block_on(async {
            select! {
                result = work() => drop(done.send(result)),
                _ = nobody_waits => {}
            }
        });
    })?;
    let result = answer.await;
    drop(asker);
    result.map_err(|_| io::Error::other("the thread died"))
}
