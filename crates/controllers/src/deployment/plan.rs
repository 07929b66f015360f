//! The arithmetic of a rollout, as pure functions.

use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::util::intstr::IntOrString};

/// The sizes that a rollout keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolling {
    /// Pods wanted.
    pub replicas: i32,
    /// Pods allowed above that.
    pub surge: i32,
    /// Pods that may be missing from it.
    pub unavailable: i32,
}

impl Rolling {
    /// From a deployment's strategy: surge rounds up, unavailability rounds down, and both cannot be 0.
    pub fn of(deployment: &Deployment) -> Self {
        let spec = &deployment.spec;
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            return Self { replicas, surge: 0, unavailable: replicas };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".into());
        let surge = share(rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter), replicas, true);
        let unavailable =
            share(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter), replicas, false);
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable.min(replicas) };
        Self { replicas, surge, unavailable }
    }
}

/// A number, or a percentage of `whole`, rounded up or down.
pub fn share(amount: &IntOrString, whole: i32, up: bool) -> i32 {
    match amount {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let hundredths = percent * i64::from(whole);
            let pods = if up { (hundredths + 99) / 100 } else { hundredths / 100 };
            i32::try_from(pods).unwrap_or(i32::MAX)
        }
    }
}

/// The size of the new set when the old ones together have `old`.
pub fn new_replicas(rolling: &Rolling, new: i32, old: i32) -> i32 {
    if new > rolling.replicas {
        return rolling.replicas;
    }
    let room = (rolling.replicas + rolling.surge - new - old).max(0);
    new + room.min(rolling.replicas - new)
}

/// An old set.
#[derive(Clone, Copy, Debug)]
pub struct Old {
    /// Its size.
    pub wanted: i32,
    /// Its available pods.
    pub available: i32,
}

/// The sizes of the old sets, oldest first: what is not available goes first, then as many as availability allows.
pub fn old_replicas(rolling: &Rolling, new: i32, new_available: i32, new_unavailable: i32, old: &[Old]) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|old| old.wanted).collect();
    let total = new + sizes.iter().sum::<i32>();
    let least = rolling.replicas - rolling.unavailable;
    let mut spare = total - least - new_unavailable;
    if spare <= 0 {
        return sizes;
    }
    for (size, old) in sizes.iter_mut().zip(old) {
        let unhealthy = (old.wanted - old.available).max(0).min(spare);
        *size -= unhealthy;
        spare -= unhealthy;
    }
    let available = new_available + old.iter().map(|old| old.available).sum::<i32>();
    let mut spare = (available - least).max(0);
    for size in &mut sizes {
        let down = (*size).min(spare);
        *size -= down;
        spare -= down;
    }
    sizes
}

/// A set's part in a deployment whose size has changed in the middle of a rollout.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Its size.
    pub wanted: i32,
    /// The deployment's largest size when it was scaled last.
    pub maximum: Option<i32>,
    /// Its revision; a larger one is newer.
    pub age: i64,
}

/// New sizes of all sets, in proportion to their present ones; larger sets first, newer first among equals when growing
/// and older first when shrinking. What rounding leaves over goes to the first.
pub fn proportional(rolling: &Rolling, shares: &[Share]) -> Vec<i32> {
    let total: i32 = shares.iter().map(|share| share.wanted).sum();
    let allowed = if rolling.replicas > 0 { rolling.replicas + rolling.surge } else { 0 };
    let change = allowed - total;
    let mut sizes: Vec<i32> = shares.iter().map(|share| share.wanted).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&shares[*a], &shares[*b]);
        b.wanted.cmp(&a.wanted).then_with(|| if change > 0 { b.age.cmp(&a.age) } else { a.age.cmp(&b.age) })
    });
    let mut given = 0;
    for at in &order {
        if change == 0 {
            break;
        }
        let share = &shares[*at];
        let before = f64::from(share.maximum.unwrap_or(total).max(1));
        let target = (f64::from(share.wanted) * f64::from(allowed) / before).round() as i32;
        let mut part = target - share.wanted;
        let left = change - given;
        part = if change > 0 { part.max(0).min(left) } else { part.min(0).max(left) };
        sizes[*at] += part;
        given += part;
    }
    if let Some(first) = order.first() {
        sizes[*first] = (sizes[*first] + change - given).max(0);
    }
    sizes
}

#[cfg(test)]
mod tests;
