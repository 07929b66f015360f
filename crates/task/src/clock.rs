//! Time as policy code sees it: the machine's, or one that a test moves by hand.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

/// A source of wall time and of delays. Cheap to clone; clones of a manual clock move together.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Manual>>);

#[derive(Debug)]
struct Manual {
    now: Mutex<SystemTime>,
    moved: watch::Sender<()>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `now` until [`Clock::advance`].
    pub fn manual(now: SystemTime) -> Self {
        Self(Some(Arc::new(Manual { now: Mutex::new(now), moved: watch::Sender::new(()) })))
    }

    /// The time of day.
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            None => SystemTime::now(),
            Some(manual) => *manual.now.lock().expect("clock lock"),
        }
    }

    /// Resolves `delay` from now.
    pub async fn sleep(&self, delay: Duration) {
        let Some(manual) = &self.0 else { return tokio::time::sleep(delay).await };
        let due = self.now() + delay;
        let mut moved = manual.moved.subscribe();
        while self.now() < due {
            if moved.changed().await.is_err() {
                return;
            }
        }
    }

    /// Moves a manual clock forward and wakes those whose time has come; the machine's clock stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.0 {
            *manual.now.lock().expect("clock lock") += by;
            manual.moved.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH);
        let sleeper = {
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(60)).await }
        };
        tokio::pin!(sleeper);
        assert!(futures_poll(sleeper.as_mut()).await.is_none());
        clock.advance(Duration::from_secs(60));
        sleeper.await;
        assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(60));
    }

    async fn futures_poll<F: Future>(future: F) -> Option<F::Output> {
        tokio::time::timeout(Duration::from_millis(1), future).await.ok()
    }
}
