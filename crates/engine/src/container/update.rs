//! Changing a container that is there: limits, restart policy, name.

use std::sync::Arc;

use http::Response;
use oci_spec::runtime::LinuxResources;
use serde::Deserialize;
use serde_json::json;
use serve::Body;

use crate::{
    Engine, answer,
    call::Call,
    container::{Container, create, policy, spec},
    error::{Error, Result},
    model::{
        self,
        host::{Resources, RestartPolicy},
        record::Status,
    },
};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    #[serde(flatten)]
    resources: Resources,
    restart_policy: RestartPolicy,
}

/// `POST /containers/ID/update`.
pub(crate) async fn answer(engine: &Engine, container: &Arc<Container>, call: &mut Call) -> Result<Response<Body>> {
    let request: Request = model::lenient(call.json().await?)?;
    let _turn = container.turn.lock().await;
    let record = container.record();
    if matches!(record.state.status, Status::Removing | Status::Dead) {
        return Err(Error::conflict("Container is marked for removal and cannot be \"update\"."));
    }
    let mut limits = record.host.resources.clone();
    merge(&mut limits, &request.resources);
    create::check_resources(&limits)?;
    let policy = (!request.restart_policy.name.is_empty()).then_some(request.restart_policy);
    if let Some(policy) = &policy {
        if record.host.auto_remove && policy.name != "no" {
            return Err(Error::conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        policy::check(policy, record.host.auto_remove).map_err(Error::invalid)?;
    }
    if let Ok((shim, name)) = container.running() {
        let value = serde_json::Value::from(spec::limits(&limits)?);
        let wanted: LinuxResources =
            serde_json::from_value(value).map_err(|error| Error::failed(format!("limits: {error}")))?;
        shim.update(&name, &wanted)
            .await
            .map_err(|error| Error::failed(format!("Cannot update container {}: {error}", container.id)))?;
    }
    container.change(|record| {
        record.host.resources = limits;
        if let Some(policy) = policy {
            record.host.restart_policy = policy;
        }
    });
    container.save(engine).await?;
    container.tell(engine, "update", &[]);
    answer::json(&json!({"Warnings": null}))
}

/// What is not given stays.
fn merge(limits: &mut Resources, new: &Resources) {
    fn number<T: Default + PartialEq + Copy>(old: &mut T, new: T) {
        if new != T::default() {
            *old = new;
        }
    }
    fn text(old: &mut String, new: &str) {
        if !new.is_empty() {
            new.clone_into(old);
        }
    }
    number(&mut limits.cpu_shares, new.cpu_shares);
    number(&mut limits.memory, new.memory);
    number(&mut limits.memory_swap, new.memory_swap);
    number(&mut limits.memory_reservation, new.memory_reservation);
    number(&mut limits.blkio_weight, new.blkio_weight);
    number(&mut limits.cpu_realtime_period, new.cpu_realtime_period);
    number(&mut limits.cpu_realtime_runtime, new.cpu_realtime_runtime);
    if new.nano_cpus != 0 {
        (limits.nano_cpus, limits.cpu_period, limits.cpu_quota) = (new.nano_cpus, 0, 0);
    }
    if new.cpu_period != 0 || new.cpu_quota != 0 {
        limits.nano_cpus = 0;
        number(&mut limits.cpu_period, new.cpu_period);
        number(&mut limits.cpu_quota, new.cpu_quota);
    }
    text(&mut limits.cpuset_cpus, &new.cpuset_cpus);
    text(&mut limits.cpuset_mems, &new.cpuset_mems);
    if new.pids_limit.is_some() {
        limits.pids_limit = new.pids_limit;
    }
}

/// `POST /containers/ID/rename`.
pub(crate) async fn rename(engine: &Engine, container: &Arc<Container>, name: &str) -> Result<()> {
    let name = name.strip_prefix('/').unwrap_or(name);
    if name.is_empty() {
        return Err(Error::invalid("Neither old nor new names may be empty"));
    }
    create::check_name(name)?;
    let _turn = container.turn.lock().await;
    let old = container.name();
    if old == name {
        return Err(Error::invalid("Renaming a container with the same name as its current name"));
    }
    engine.containers().reserve(name, &container.id)?;
    container.change(|record| {
        name.clone_into(&mut record.name);
        for endpoint in record.networks.values_mut() {
            for known in endpoint.dns_names.iter_mut().flatten().filter(|known| **known == old) {
                name.clone_into(known);
            }
        }
    });
    if let Err(error) = container.save(engine).await {
        container.change(|record| record.name.clone_from(&old));
        engine.containers().release(name, &container.id);
        return Err(error);
    }
    engine.containers().release(&old, &container.id);
    container.tell(engine, "rename", &[("oldName", format!("/{old}"))]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays_and_one_way_of_limiting_processors_replaces_the_other() {
        let mut limits = Resources { memory: 64 << 20, nano_cpus: 5, cpuset_cpus: "0".into(), ..Resources::default() };
        merge(&mut limits, &Resources { cpu_quota: 20_000, pids_limit: Some(7), ..Resources::default() });
        assert_eq!((limits.memory, limits.nano_cpus, limits.cpu_quota), (64 << 20, 0, 20_000));
        assert_eq!((limits.pids_limit, limits.cpuset_cpus.as_str()), (Some(7), "0"));
    }
}
