//! Which endpoint gets a request, and which get none for a while. Decisions only: chance and time are handed in.
//!
//! ```text
//! well ── failures in a row: FAILURES ──► ejected 10 s, 20 s ... 5 min ──► well again, on probation:
//!   ▲                                                                       one failure ejects it
//!   └───────────────────────────── an answer ◄───────────────────────────────────┘
//! ```
//!
//! Of two endpoints picked by chance the one with fewer requests under way gets the next; of few, the least busy of all.
//! Where more than half would be ejected, none is: then it is not the endpoints that are ill.

/// How an endpoint fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Failures since the last answer.
    pub failures: u32,
    /// Ejections since it last was well for long.
    pub ejections: u32,
    /// Until when it gets nothing, milliseconds.
    pub until: u64,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer.
    Well,
    /// An answer that says that the endpoint cannot work: 502, 503, 504.
    Ill,
    /// No connection, or a broken one.
    Lost,
}

/// Failures in a row after which an endpoint is ejected; a lost connection counts twice.
const FAILURES: u32 = 6;
/// The first time without requests, milliseconds.
const FIRST: u64 = 10_000;
/// The longest.
const LONGEST: u64 = 300_000;
/// Up to this many endpoints all are compared.
const FEW: usize = 8;

impl Health {
    /// What is known after another request.
    pub fn after(self, outcome: Outcome, now: u64) -> Self {
        let failures = match outcome {
            Outcome::Well => {
                // Well for as long as the last ejection: forgiven.
                let forgiven = self.ejections == 0 || now > self.until + pause(self.ejections);
                return Self { failures: 0, ejections: if forgiven { 0 } else { self.ejections }, until: self.until };
            }
            Outcome::Ill => self.failures + 1,
            Outcome::Lost => self.failures + 2,
        };
        // Requests that were under way when it was ejected say nothing new.
        if now < self.until {
            return self;
        }
        let probation = self.ejections > 0;
        if failures < FAILURES && !probation {
            return Self { failures, ..self };
        }
        let ejections = self.ejections.saturating_add(1);
        Self { failures: 0, ejections, until: now + pause(ejections) }
    }

    /// Whether it gets requests.
    pub fn is_in(self, now: u64) -> bool {
        now >= self.until
    }
}

fn pause(ejections: u32) -> u64 {
    FIRST.saturating_mul(1 << ejections.saturating_sub(1).min(10)).min(LONGEST)
}

/// What is looked at of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Requests under way.
    pub active: u32,
    /// Whether it gets requests.
    pub well: bool,
}

/// The endpoint that gets the next request, of `count`: none of `tried`, unless all were.
pub fn choose(count: usize, look: impl Fn(usize) -> Look, tried: &[usize], random: u64) -> Option<usize> {
    match count {
        0 => return None,
        1 => return Some(0),
        _ => {}
    }
    let start = random as u32 as usize % count;
    if count > FEW && tried.is_empty() {
        let other = (random >> 32) as usize % count;
        let (one, two) = (look(start), look(other));
        match (one.well, two.well) {
            (true, true) => return Some(if two.active < one.active { other } else { start }),
            (true, false) => return Some(start),
            (false, true) => return Some(other),
            (false, false) => {}
        }
    }
    let mut best: Option<(bool, u32, usize)> = None;
    let mut ejected = 0;
    for step in 0..count {
        let index = (start + step) % count;
        let seen = look(index);
        ejected += usize::from(!seen.well);
        let key = (!seen.well || tried.contains(&index), seen.active, index);
        if best.is_none_or(|best| (key.0, key.1) < (best.0, best.1)) {
            best = Some(key);
        }
    }
    if ejected * 2 > count {
        // Most seem ill: take no notice of it.
        let mut indexes = (0..count).map(|step| (start + step) % count);
        let untried = indexes.clone().filter(|index| !tried.contains(index));
        return untried.min_by_key(|index| look(*index).active).or_else(|| indexes.next());
    }
    best.map(|best| best.2)
}

#[cfg(test)]
mod tests;
