//! What was deleted: ranges of time, both ends included, sorted and apart from each other.

/// Adds a range; ranges that touch become one.
pub fn add(ranges: &mut Vec<(i64, i64)>, (mut min, mut max): (i64, i64)) {
    let from = ranges.partition_point(|range| range.1.saturating_add(1) < min);
    let to = ranges.partition_point(|range| range.0 <= max.saturating_add(1));
    if from < to {
        min = min.min(ranges[from].0);
        max = max.max(ranges[to - 1].1);
    }
    ranges.splice(from..to.max(from), [(min, max)]);
}

/// Whether a time lies in one of them.
pub fn covers(ranges: &[(i64, i64)], time: i64) -> bool {
    let at = ranges.partition_point(|range| range.1 < time);
    ranges.get(at).is_some_and(|range| range.0 <= time)
}

#[cfg(test)]
mod tests;
