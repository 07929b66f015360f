//! Hooks of a container's life: postStart and preStop.
//! <https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/>

use std::{net::IpAddr, time::Duration};

use anyhow::{Result, anyhow, bail};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use runtime::Runtime;

use crate::{
    command,
    reach::{self, Caller},
};

/// How hooks call themselves, as upstream's do.
pub const AGENT: &str = "kube-lifecycle/1.37";

/// Runs a hook in or against the container `id`, for at most `limit`.
pub async fn run(
    caller: &Caller,
    runtime: &Runtime,
    handler: &LifecycleHandler,
    container: &Container,
    id: &str,
    pod_ip: IpAddr,
    limit: Duration,
) -> Result<()> {
    if let Some(action) = &handler.exec {
        let outcome = command::run(runtime, id, action.command.clone().unwrap_or_default(), limit).await;
        let outcome = outcome.map_err(|message| anyhow!(message))?;
        if outcome.code != 0 {
            bail!("command exited with {}: {}", outcome.code, outcome.output);
        }
        return Ok(());
    }
    if let Some(action) = &handler.http_get {
        // Upstream asks again over plain HTTP where an HTTPS hook meets a server that speaks none.
        let answer = reach::http(caller, action, container, pod_ip, limit).await;
        let answer = match answer {
            Err(error) if action.scheme.as_deref() == Some("HTTPS") && format!("{error:#}").contains("tls") => {
                let mut plain = action.clone();
                plain.scheme = Some("HTTP".into());
                reach::http(caller, &plain, container, pod_ip, limit).await?
            }
            other => other?,
        };
        // Any answer will do: only whether the request was heard counts.
        tracing::trace!(status = answer.status, "hook answered");
        return Ok(());
    }
    if let Some(action) = &handler.sleep {
        let wanted = Duration::from_secs(action.seconds.max(0).unsigned_abs());
        tokio::time::sleep(wanted.min(limit)).await;
        return Ok(());
    }
    if handler.tcp_socket.is_some() {
        return Ok(());
    }
    bail!("invalid handler: neither exec, httpGet nor sleep")
}
