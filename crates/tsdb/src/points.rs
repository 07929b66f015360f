//! Floats of many series in memory, in blocks of one pool.
//!
//! ```text
//!   run of slot 0   base, first ─▶ block │ 8 points │ next ─▶ block │ 3 points │
//!   run of slot 1   base, first ─▶ block │ ...
//! ```
//!
//! A block holds the next points of one series. Series that are appended to one after another, as those of a target are, get
//! neighbouring blocks, so that a commit writes memory from front to back. The pool grows by large pieces, which are used again
//! after a flush: nothing small is allocated, and nothing is left over.

use crate::column::Columns;

/// Points in a block.
const POINTS: usize = 8;
/// Blocks in a piece of the pool.
const PIECE: usize = 4096;

/// Points of one series: values, and their distances from the base of the run in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Block {
    values: [f64; POINTS],
    offsets: [u32; POINTS],
    next: u32,
}

impl Block {
    const EMPTY: Self = Self { values: [0.0; POINTS], offsets: [0; POINTS], next: 0 };
}

/// The points of one series.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    base: i64,
    first: u32,
    last: u32,
    count: u32,
}

/// Pieces of the pool, the last one not full.
#[derive(Debug, Default)]
struct Pool {
    pieces: Vec<Vec<Block>>,
    spare: Vec<Vec<Block>>,
}

impl Pool {
    fn add(&mut self) -> u32 {
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            // Memory that is reserved and not written to takes none.
            self.pieces.push(self.spare.pop().unwrap_or_else(|| Vec::with_capacity(PIECE)));
        }
        let full = self.pieces.len().saturating_sub(1) * PIECE;
        let Some(piece) = self.pieces.last_mut() else { return 0 };
        piece.push(Block::EMPTY);
        (full + piece.len() - 1) as u32
    }

    fn get(&self, number: u32) -> &Block {
        &self.pieces[number as usize / PIECE][number as usize % PIECE]
    }

    fn get_mut(&mut self, number: u32) -> &mut Block {
        &mut self.pieces[number as usize / PIECE][number as usize % PIECE]
    }
}

/// Floats by slot.
#[derive(Debug, Default)]
pub struct Points {
    runs: Vec<Run>,
    pool: Pool,
}

impl Points {
    /// Makes room for slots below `slots`.
    pub fn reach(&mut self, slots: usize) {
        if self.runs.len() < slots {
            self.runs.resize(slots, Run::default());
        }
    }

    /// Whether a slot has points.
    pub fn has(&self, slot: u32) -> bool {
        self.runs.get(slot as usize).is_some_and(|run| run.count > 0)
    }

    /// Slots that have points, ascending.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs.iter().enumerate().filter(|(_, run)| run.count > 0).map(|(slot, _)| slot as u32)
    }

    /// Appends a point behind the last of its slot; not one of a slot that there is no room for, nor one that is more than
    /// 49 days behind the first: says whether it did.
    #[inline]
    pub fn push(&mut self, slot: u32, time: i64, value: f64) -> bool {
        let Some(run) = self.runs.get_mut(slot as usize) else { return false };
        if run.count == 0 {
            run.base = time;
        }
        let Ok(offset) = u32::try_from(time.wrapping_sub(run.base)) else { return false };
        let at = run.count as usize % POINTS;
        if at == 0 {
            let added = self.pool.add();
            if run.count == 0 {
                run.first = added;
            } else {
                self.pool.get_mut(run.last).next = added;
            }
            run.last = added;
        }
        run.count += 1;
        let block = self.pool.get_mut(run.last);
        block.offsets[at] = offset;
        block.values[at] = value;
        true
    }

    /// Appends the points of a slot from `min` to `max`, both included.
    pub fn read(&self, slot: u32, min: i64, max: i64, into: &mut Columns) {
        let Some(run) = self.runs.get(slot as usize).filter(|run| run.count > 0) else { return };
        let time = |offset: u32| run.base.wrapping_add(i64::from(offset));
        let (mut number, mut left) = (run.first, run.count as usize);
        while left > 0 {
            let block = self.pool.get(number);
            let filled = left.min(POINTS);
            if time(block.offsets[filled - 1]) >= min {
                let offsets = &block.offsets[..filled];
                if time(offsets[0]) > max {
                    return;
                }
                let from = offsets.partition_point(|offset| time(*offset) < min);
                let to = offsets.partition_point(|offset| time(*offset) <= max);
                into.times.extend(offsets[from..to].iter().map(|offset| time(*offset)));
                into.values.extend_from_slice(&block.values[from..to]);
            }
            number = block.next;
            left -= filled;
        }
    }

    /// Takes all points out.
    pub fn take(&mut self) -> Self {
        let runs = std::mem::take(&mut self.runs);
        self.reach(runs.len());
        Self { runs, pool: Pool { pieces: std::mem::take(&mut self.pool.pieces), spare: Vec::new() } }
    }

    /// Takes the memory of points that were taken out and are not needed any more, to use it again.
    pub fn recycle(&mut self, taken: Self) {
        self.pool.spare.extend(taken.pool.pieces.into_iter().map(|mut piece| {
            piece.clear();
            piece
        }));
    }
}

#[cfg(test)]
mod tests;
