//! What pods ask for and nodes have, in integer units.

use std::collections::BTreeMap;

use api::quantity::Quantity as Exact;
use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity,
};

/// Amounts by resource name: `cpu` in thousandths of a core, everything else in whole units (bytes, pieces).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, i64>);

impl Amounts {
    /// Amounts of a resource list; what is no quantity counts as nothing, since validation refused it before.
    pub fn of(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        let amount = |name: &str, quantity: &Quantity| {
            let exact = Exact::parse(&quantity.0).ok()?;
            Some(if name == "cpu" { exact.milli() } else { exact.value() })
        };
        Self(
            list.into_iter()
                .flatten()
                .filter_map(|(name, quantity)| Some((name.clone(), amount(name, quantity)?)))
                .collect(),
        )
    }

    /// The amount of one resource, 0 where there is none.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Name and amount of each resource.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// Adds `other` to this.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Takes `other` from this.
    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let rest = self.0.entry(name.clone()).or_default();
            *rest = rest.saturating_sub(*amount);
        }
    }

    /// Raises each amount to that of `other` where that is larger.
    fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let most = self.0.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }
}

/// What a pod needs at its peak: all containers with their sidecars, or one init container with the sidecars started
/// before it, whichever is more, and the overhead.
/// <https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers>
pub fn of_pod(spec: &PodSpec) -> Amounts {
    let mut running = Amounts::default();
    for container in &spec.containers {
        running.add(&of_container(container));
    }
    let (mut sidecars, mut starting) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let own = of_container(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&own);
            starting.raise(&sidecars);
        } else {
            let mut peak = sidecars.clone();
            peak.add(&own);
            starting.raise(&peak);
        }
    }
    running.add(&sidecars);
    running.raise(&starting);
    if let Some(whole) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        for (name, amount) in Amounts::of(Some(whole)).0 {
            running.0.insert(name, amount);
        }
    }
    running.add(&Amounts::of(spec.overhead.as_ref()));
    running
}

fn of_container(container: &Container) -> Amounts {
    Amounts::of(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

#[cfg(test)]
mod tests;
