//! Lanes: one thread a processor, each with a runtime of its own, for what passes many small requests on.
//!
//! ```text
//! accept ─► the lane with the fewest connections ─► all of that connection's requests, and what they open
//! ```
//!
//! What is served in a lane is woken by that lane's own events only: no request waits for another thread, or wakes one. In
//! exchange nothing is evened out later, so lanes are for work that never takes a thread for long. Each lane keeps to one
//! processor, since two of them that the kernel has put on the same one wait for each other.
//!
//! Lanes start when they are asked for first, and stay as long as the process; the tasks in them are cancelled and drained
//! with the [`Task`] that they belong to, as everywhere.

use std::{
    cell::Cell,
    future::Future,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use task::Task;
use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle},
};

/// Lanes at most: each costs a thread, a part of the allocator, and a set of connections to each endpoint.
const MOST: usize = 4;

static LANES: OnceLock<Vec<Lane>> = OnceLock::new();

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// One thread.
#[derive(Debug)]
pub struct Lane {
    runtime: Handle,
    open: Arc<AtomicUsize>,
}

/// A connection that counts while it is open.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// All lanes. None where no thread could be started, which has been logged.
pub fn all() -> &'static [Lane] {
    LANES.get_or_init(|| {
        let mut lanes = Vec::new();
        for number in 0..count() {
            match start(number) {
                Ok(runtime) => lanes.push(Lane { runtime, open: Arc::default() }),
                Err(error) => {
                    tracing::warn!(%error, number, "a thread for connections does not start; the others serve them");
                    break;
                }
            }
        }
        lanes
    })
}

/// How many lanes this machine has: what belongs to a lane is kept in that many parts.
pub fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from).min(MOST))
}

/// The number of the lane that this thread is, below [`count`]; 0 in threads that are none.
pub fn here() -> usize {
    HERE.get()
}

fn start(number: usize) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name(format!("lane {number}")).spawn(move || {
        HERE.set(number);
        if let Err(error) = keep_to(number) {
            tracing::debug!(%error, number, "a lane keeps to no processor");
        }
        runtime.block_on(std::future::pending::<()>());
    })?;
    Ok(handle)
}

/// Has this thread run on one processor only: the `number`th of those that this process may use.
fn keep_to(number: usize) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let Some(processor) = (0..CpuSet::MAX_CPU).filter(|one| allowed.is_set(*one)).nth(number) else { return Ok(()) };
    let mut own = CpuSet::new();
    own.set(processor);
    Ok(sched_setaffinity(None, &own)?)
}

/// The lane with the fewest connections; `None` if there are no lanes.
pub fn freest(lanes: &[Lane]) -> Option<&Lane> {
    lanes.iter().min_by_key(|lane| lane.open.load(Relaxed))
}

impl Lane {
    /// Serves a connection here, as part of `task`.
    pub fn take<F>(
        &self,
        task: &Task,
        socket: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send,
    {
        // Another thread's events are to wake it from now on.
        let socket = socket.into_std()?;
        self.open.fetch_add(1, Relaxed);
        let open = Open(self.open.clone());
        task.spawn_on(&self.runtime, "connection", async move {
            let _open = open;
            match TcpStream::from_std(socket) {
                Ok(socket) => serve(socket).await,
                Err(error) => tracing::debug!(%error, "connection"),
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
