//! Alertmanagers that service discovery finds: the notifier is told of them as they come and go.
//!
//! ```text
//!   one channel a section of `alertmanagers` ──▶ what is known, by group ──(quiet for a moment)──▶ Notifier::configure
//! ```
//!
//! Those that the configuration lists are known at once. See
//! <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#alertmanager_config>.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use task::{Clock, Task};
use tokio::sync::{mpsc, watch};
use tsdb::labels::{Builder, Labels};

use crate::{
    config::{alerting::Alerting, discovery::Discovery},
    discover::{self, Cluster},
    notify::{self, Notifier},
    scrape::target::Group,
};

/// How long further changes are waited for.
const QUIET: Duration = Duration::from_millis(200);
/// Changes that wait to be taken.
const WAITING: usize = 64;

/// Groups of one section, by name.
type Found = BTreeMap<String, Group>;

/// Takes over what a mechanism tells: a group without targets is gone.
pub fn take(found: &mut Found, told: Vec<Group>) {
    for group in told {
        if group.targets.is_empty() {
            found.remove(&group.source);
        } else {
            found.insert(group.source.clone(), group);
        }
    }
}

/// The labels of all targets; a target's own go before those of its group.
pub fn labels(found: &Found) -> Vec<Labels> {
    let of = |group: &Group| {
        let with_group = |target: &Labels| {
            let mut builder = Builder::new(&group.labels);
            for (name, value) in target {
                builder.set(name, value);
            }
            builder.labels()
        };
        group.targets.iter().map(with_group).collect::<Vec<_>>()
    };
    found.values().flat_map(of).collect()
}

/// Follows what is discovered, below a task that ends with it; none where everything is listed.
pub fn follow(
    task: &Task,
    clock: Clock,
    cluster: Option<&Cluster>,
    notifier: Notifier,
    alerting: Alerting,
    external: Labels,
) -> Option<Task> {
    let sections = alerting.alertmanagers.len();
    let (known, mut changed) = watch::channel(vec![Found::new(); sections]);
    let known = Arc::new(known);
    let task = task.child("alertmanagers");
    // What goes wrong is logged; counters are the jobs'.
    let failures = Arc::default();
    let mut any = false;
    for (at, target) in alerting.alertmanagers.iter().enumerate() {
        let mut dynamic = target.discovery.clone();
        dynamic.groups.clear();
        if dynamic == Discovery::default() {
            continue;
        }
        any = true;
        let (sender, mut told) = mpsc::channel(WAITING);
        let job = format!("config-{at}");
        discover::start(&task, &job, &dynamic, cluster, &failures, &sender);
        let known = known.clone();
        task.spawn_until_cancelled("take", async move {
            while let Some(groups) = told.recv().await {
                known.send_modify(|all| take(&mut all[at], groups));
            }
        });
    }
    if !any {
        return None;
    }
    task.spawn_until_cancelled("tell", async move {
        while changed.changed().await.is_ok() {
            clock.sleep(QUIET).await;
            let found: Vec<Vec<Labels>> = changed.borrow_and_update().iter().map(labels).collect();
            let (notifier, alerting, external) = (notifier.clone(), alerting.clone(), external.clone());
            let told = tokio::task::spawn_blocking(move || {
                let listed = alerting.alertmanagers.iter().map(notify::listed);
                let all: Vec<Vec<Labels>> = listed.zip(found).map(|(one, more)| [one, more].concat()).collect();
                notifier.configure(&alerting, external, &all)
            });
            match told.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!("send alerts to Alertmanagers that were found: {error}"),
                Err(error) => tracing::error!("send alerts to Alertmanagers that were found: {error}"),
            }
        }
    });
    Some(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(source: &str, targets: &[&str]) -> Group {
        Group {
            source: source.to_owned(),
            targets: targets.iter().map(|target| Labels::from_pairs([("__address__", *target)])).collect(),
            labels: Labels::from_pairs([("zone", "a"), ("__address__", "overridden:1")]),
        }
    }

    #[test]
    fn groups_come_change_and_go() {
        let mut found = Found::new();
        take(&mut found, vec![group("one", &["a:1", "b:1"]), group("two", &["c:1"])]);
        take(&mut found, vec![group("one", &["b:1"]), group("two", &[])]);
        assert_eq!(labels(&found), [Labels::from_pairs([("__address__", "b:1"), ("zone", "a")])]);
    }
}
