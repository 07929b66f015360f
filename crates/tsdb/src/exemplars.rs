//! Exemplars: the latest ones, a fixed number of them. See <https://prometheus.io/docs/prometheus/latest/feature_flags/#exemplars-storage>.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::sample::Exemplar;

/// Characters of an exemplar's labels at most, as OpenMetrics demands.
const CHARACTERS: usize = 128;

/// Why an exemplar was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Labels too long.
    #[error("label length for exemplar exceeds maximum of 128 UTF-8 characters")]
    TooLong,
    /// The same one again.
    #[error("duplicate exemplar")]
    Duplicate,
    /// Older than the newest of its series.
    #[error("out of order exemplar")]
    OutOfOrder,
    /// No such series.
    #[error("unknown series")]
    Unknown,
}

/// The exemplars of all series; the oldest one gives way to a new one.
#[derive(Debug)]
pub struct Exemplars {
    room: usize,
    /// Slots in the order in which their exemplars came.
    order: VecDeque<u32>,
    series: HashMap<u32, VecDeque<Exemplar>, foldhash::fast::RandomState>,
}

impl Exemplars {
    /// Room for so many; none at all with 0.
    pub fn new(room: usize) -> Self {
        Self { room, order: VecDeque::new(), series: HashMap::default() }
    }

    /// Makes room for so many; the oldest ones that have none any more are forgotten.
    pub fn resize(&mut self, room: usize) {
        self.room = room;
        while self.order.len() > room {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.order.pop_front() else { return };
        if let Some(series) = self.series.get_mut(&oldest) {
            series.pop_front();
            if series.is_empty() {
                self.series.remove(&oldest);
            }
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.order.len()
    }

    /// Whether an exemplar would be taken.
    pub fn check(&self, slot: u32, exemplar: &Exemplar) -> Result<(), Refused> {
        let characters: usize = exemplar.labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
        if characters > CHARACTERS {
            return Err(Refused::TooLong);
        }
        match self.series.get(&slot).and_then(VecDeque::back) {
            Some(last)
                if last.labels == exemplar.labels
                    && last.value.to_bits() == exemplar.value.to_bits()
                    && (last.timestamp == exemplar.timestamp || exemplar.timestamp.is_none()) =>
            {
                Err(Refused::Duplicate)
            }
            Some(last) if exemplar.timestamp < last.timestamp => Err(Refused::OutOfOrder),
            _ => Ok(()),
        }
    }

    /// Takes an exemplar.
    pub fn push(&mut self, slot: u32, exemplar: Exemplar) {
        if self.room == 0 {
            return;
        }
        while self.order.len() >= self.room {
            self.drop_oldest();
        }
        self.order.push_back(slot);
        self.series.entry(slot).or_default().push_back(exemplar);
    }

    /// Those of a series, oldest first.
    pub fn of(&self, slot: u32) -> impl Iterator<Item = &Exemplar> {
        self.series.get(&slot).into_iter().flatten()
    }

    /// All of them in the order in which they came.
    pub fn all(&self) -> Vec<(u32, &Exemplar)> {
        let mut taken: HashMap<u32, usize, foldhash::fast::RandomState> = HashMap::default();
        self.order
            .iter()
            .filter_map(|slot| {
                let nth = taken.entry(*slot).or_default();
                *nth += 1;
                Some((*slot, self.series.get(slot)?.get(*nth - 1)?))
            })
            .collect()
    }

    /// Forgets those of a series.
    pub fn remove(&mut self, slot: u32) {
        if self.series.remove(&slot).is_some() {
            self.order.retain(|have| *have != slot);
        }
    }
}
