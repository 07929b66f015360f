//! Delays between attempts: 10 seconds, doubled up to 5 minutes, forgotten after 10 minutes of peace.
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy>

use std::time::Duration;

use jiff::Timestamp;

/// The first delay.
pub const FIRST: Duration = Duration::from_secs(10);
/// The longest delay.
pub const LONGEST: Duration = Duration::from_secs(300);
/// Time without a failure after which the next one is the first again.
pub const FORGOTTEN: Duration = Duration::from_secs(600);

/// The memory of one thing that is tried again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// The delay in force; zero before the first failure.
    delay: Duration,
    /// End of the delay in force.
    until: Option<Timestamp>,
}

impl Backoff {
    /// Whether an attempt that failed at `failed` may be repeated at `now`; otherwise when. The first repetition comes at
    /// once, and begins the delays.
    pub fn restart(&mut self, began: Timestamp, failed: Timestamp, now: Timestamp) -> Result<(), Timestamp> {
        if failed.duration_since(began).unsigned_abs() >= FORGOTTEN {
            *self = Self::default();
        }
        if self.delay.is_zero() {
            self.delay = FIRST;
            return Ok(());
        }
        let until = failed + self.delay;
        if now < until {
            self.until = Some(until);
            return Err(until);
        }
        self.until = None;
        self.delay = (self.delay * 2).min(LONGEST);
        Ok(())
    }

    /// Notes a failure and tells when to try again.
    pub fn failed(&mut self, now: Timestamp) -> Timestamp {
        self.delay = if self.delay.is_zero() { FIRST } else { (self.delay * 2).min(LONGEST) };
        let until = now + self.delay;
        self.until = Some(until);
        until
    }

    /// Notes a success.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The delay in force.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// When the delay in force ends.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

/// A delay as Go prints it: `10s`, `1m20s`, `5m0s`.
pub fn in_words(delay: Duration) -> String {
    match delay.as_secs() {
        seconds if seconds < 60 => format!("{seconds}s"),
        seconds if seconds < 3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn restarts_are_delayed_more_and_more() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.restart(at(0), at(1), at(1)), Ok(()));
        assert_eq!(backoff.restart(at(1), at(2), at(2)), Err(at(12)));
        assert_eq!(backoff.restart(at(1), at(2), at(12)), Ok(()));
        assert_eq!(backoff.restart(at(12), at(13), at(13)), Err(at(33)));
        let mut end = at(33);
        let mut delays = Vec::new();
        for _ in 0..6 {
            assert_eq!(backoff.restart(end, end, end + backoff.delay()), Ok(()));
            delays.push(backoff.delay().as_secs());
            end += backoff.delay();
        }
        assert_eq!(delays, [40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn ten_minutes_of_work_forgive_everything() {
        let mut backoff = Backoff::default();
        for _ in 0..3 {
            let _ = backoff.restart(at(0), at(0), at(1000));
        }
        assert_eq!(backoff.restart(at(0), at(599), at(599)), Err(at(639)));
        assert_eq!(backoff.restart(at(0), at(600), at(600)), Ok(()));
    }

    #[test]
    fn failures_without_a_process_are_delayed_from_the_first() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.failed(at(0)), at(10));
        assert_eq!(backoff.failed(at(10)), at(30));
        backoff.succeeded();
        assert_eq!(backoff.failed(at(40)), at(50));
    }

    #[test]
    fn delays_are_printed_as_upstream_prints_them() {
        let cases = [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")];
        for (seconds, text) in cases {
            assert_eq!(in_words(Duration::from_secs(seconds)), text);
        }
    }
}
