//! The node's own API, which the API server uses for logs, exec, attach and port-forward, and others for figures.
//!
//! ```text
//! request ─ rights ─┬─ /containerLogs/NAMESPACE/POD/CONTAINER      logs
//!                   ├─ /exec /attach /run /portForward             stream
//!                   ├─ /pods /stats/summary /metrics ...           usage, stats, metrics, cadvisor
//!                   ├─ /metrics/host                               crate `host`
//!                   ├─ /volumes/NAME                               volumes
//!                   ├─ /builds/NAMESPACE/NAME/log ...              crate `engine`
//!                   └─ /healthz /configz
//! ```
//!
//! In reading order: [`rights`], [`logs`], [`stream`], [`usage`], [`stats`], [`metrics`], [`cadvisor`], [`volumes`].

pub mod rights;

pub mod logs;

pub mod stream;

pub mod usage;

pub mod stats;

pub mod metrics;

pub mod cadvisor;

pub mod volumes;

use std::sync::Arc;

use access::gate::Gate;
use bytes::Bytes;
use host::{clock::Clock, machine::Machine};
use http::{Method, Request, Response, StatusCode, header};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use runtime::record::ContainerRecord;
use serde_json::json;
use serve::{Body, Peer, body};
use task::Task;

use crate::{config::Shared, pods::Pods};

/// Why a request is not answered as it wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 400.
    Bad(String),
    /// 404.
    NotFound(String),
    /// 405.
    Method,
    /// 500.
    Internal(String),
}

/// A plain text answer.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", body::full(text))
}

fn answer(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// A page of metrics.
fn page(page: counts::page::Page) -> Response<Body> {
    answer(StatusCode::OK, counts::page::MEDIA_TYPE, body::full(page.text()))
}

fn value(value: &serde_json::Value) -> Response<Body> {
    answer(StatusCode::OK, "application/json", body::full(value.to_string()))
}

/// The machine, without what pods have of it: their mounts, and the near ends of their links.
fn machine(shared: &Shared) -> Machine {
    let config = &shared.config;
    Machine::new(host::machine::Settings {
        hidden_mounts: vec![config.pods_dir.clone()],
        hidden_links: vec![network::Network::link_prefix(&config.instance)],
        ..host::machine::Settings::default()
    })
}

fn clock(timex: container::timex::Timex) -> Clock {
    Clock {
        synchronized: timex.synchronized,
        nanoseconds: timex.status & container::timex::NANO != 0,
        status: timex.status,
        offset: timex.offset,
        frequency: timex.frequency,
        largest_error: timex.largest_error,
        estimated_error: timex.estimated_error,
        constant: timex.constant,
        tick: timex.tick,
        pulse_frequency: timex.pulse_frequency,
        jitter: timex.jitter,
        shift: timex.shift,
        stability: timex.stability,
        jitter_exceeded: timex.jitter_exceeded,
        calibrations: timex.calibrations,
        calibration_errors: timex.calibration_errors,
        stability_exceeded: timex.stability_exceeded,
        tai: timex.tai,
    }
}

/// The node's API.
#[derive(Clone)]
pub struct Api {
    shared: Shared,
    pods: Pods,
    gate: Gate,
    rates: stats::Rates,
    host: Machine,
    task: Task,
}

impl Api {
    /// The API of `shared`'s node.
    pub fn new(shared: &Shared, pods: &Pods) -> Self {
        let gate = Gate::new(shared.client.clone());
        Self {
            shared: shared.clone(),
            pods: pods.clone(),
            gate,
            rates: stats::Rates::default(),
            host: machine(shared),
            task: shared.task.child("api"),
        }
    }

    /// Answers one request.
    pub async fn handle(self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let peer = request.extensions().get::<Peer>().cloned();
        let (node, method) = (&self.shared.config.name, request.method());
        if let Err(refusal) = rights::check(&self.gate, node, peer.as_ref(), request.headers(), method, &path).await {
            return text(refusal.status(), refusal.to_string());
        }
        match self.route(request, &path).await {
            Ok(response) => response,
            Err(Failure::Bad(message)) => text(StatusCode::BAD_REQUEST, message),
            Err(Failure::NotFound(message)) => text(StatusCode::NOT_FOUND, message),
            Err(Failure::Method) => text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"),
            Err(Failure::Internal(message)) => text(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }

    async fn route(&self, request: Request<Body>, path: &str) -> Result<Response<Body>, Failure> {
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let query = query(request.uri().query().unwrap_or(""));
        let reading = matches!(*request.method(), Method::GET | Method::HEAD);
        let streaming = matches!(*request.method(), Method::GET | Method::POST);
        match parts.as_slice() {
            ["healthz", ..] | ["livez", ..] if reading => Ok(text(StatusCode::OK, "ok")),
            ["pods"] | ["runningpods"] if reading => {
                let items: Vec<Arc<Pod>> = self.pods.list();
                let items: Vec<&Pod> = items.iter().map(|pod| &**pod).collect();
                Ok(value(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})))
            }
            ["stats", "summary"] if reading => {
                let only_use = query.iter().any(|(name, value)| name == "only_cpu_and_memory" && value == "true");
                let pass = self.pass().await?;
                Ok(value(&stats::summary(&self.shared, &self.pods, &self.rates, pass, only_use).await))
            }
            ["metrics"] if reading => Ok(page(metrics::node(&self.shared, &self.pods))),
            ["metrics", "probes"] if reading => Ok(page(metrics::probes(&self.shared))),
            ["metrics", "resource"] if reading => Ok(page(metrics::resource(&self.pass().await?))),
            ["metrics", "cadvisor"] if reading => Ok(page(self.cadvisor().await?)),
            ["metrics", "host"] if reading => Ok(page(self.host().await?)),
            ["metrics", "kube-proxy"] if reading => Ok(page(metrics::proxy(&self.shared))),
            ["metrics", "coredns"] if reading => Ok(page(metrics::names())),
            ["configz"] if reading => Ok(value(&self.settings())),
            ["containerLogs", namespace, pod, container] if reading => {
                self.logs(namespace, pod, container, &query).await
            }
            ["exec", namespace, pod, rest @ ..] if streaming => {
                let container = container_name(rest)?;
                let command = values(&query, "command");
                if command.is_empty() {
                    return Err(Failure::Bad("you must specify a command".into()));
                }
                let id = self.running(namespace, pod, container)?.id;
                stream::exec(&self.task, &self.shared.runtime, request, id, command, stream::wanted(&query))
            }
            ["attach", namespace, pod, rest @ ..] if streaming => {
                let id = self.running(namespace, pod, container_name(rest)?)?.id;
                stream::attach(&self.task, &self.shared.runtime, request, id, stream::wanted(&query))
            }
            ["run", namespace, pod, rest @ ..] if request.method() == Method::POST => {
                let id = self.running(namespace, pod, container_name(rest)?)?.id;
                let command: Vec<String> =
                    values(&query, "cmd").iter().flat_map(|text| text.split(' ')).map(str::to_owned).collect();
                stream::run(&self.shared.runtime, &id, command).await
            }
            ["portForward", namespace, pod, ..] if streaming => {
                let pod = self.pod(namespace, pod)?;
                let host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
                let sandbox = if host {
                    None
                } else {
                    let missing = || Failure::NotFound("the pod's sandbox is not running".into());
                    Some(self.pods.sandbox(&pod).ok_or_else(missing)?)
                };
                let ports = values(&query, "ports").into_iter().chain(values(&query, "port"));
                let ports = ports.flat_map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>());
                let ports = ports.filter_map(|port| port.trim().parse().ok()).collect();
                stream::port_forward(&self.task, &self.shared.runtime, request, sandbox, ports)
            }
            ["builds", ..] if let Some(builds) = &self.shared.config.builds => Ok((builds.0)(request).await),
            ["volumes", name] => volumes::answer(&self.shared.config.volumes_dir, request.method(), name).await,
            ["exec" | "attach" | "run" | "portForward" | "containerLogs" | "pods" | "stats" | "metrics", ..] => {
                Err(Failure::Method)
            }
            _ => Err(Failure::NotFound("404 page not found".into())),
        }
    }

    /// Reads what everything uses, away from the event loop.
    async fn pass(&self) -> Result<usage::Pass, Failure> {
        let shared = self.shared.clone();
        let read = tokio::task::spawn_blocking(move || usage::pass(&shared)).await;
        read.map_err(|error| Failure::Internal(format!("read statistics: {error}")))
    }

    /// Reads and writes in one go, since processes' open files are looked at too.
    async fn cadvisor(&self) -> Result<counts::page::Page, Failure> {
        let shared = self.shared.clone();
        let work = move || cadvisor::page(&shared.config.pods_dir, &usage::pass(&shared));
        let read = tokio::task::spawn_blocking(work).await;
        read.map_err(|error| Failure::Internal(format!("read statistics: {error}")))
    }

    async fn host(&self) -> Result<counts::page::Page, Failure> {
        let host = self.host.clone();
        let read =
            tokio::task::spawn_blocking(move || host.page(container::timex::read().ok().map(clock).as_ref())).await;
        read.map_err(|error| Failure::Internal(format!("read the machine's figures: {error}")))
    }

    /// `/configz`: the settings that others may want to know, in the form of upstream's.
    fn settings(&self) -> serde_json::Value {
        let config = &self.shared.config;
        json!({"kubeletconfig": {
            "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "clusterDNS": [config.cluster_dns], "clusterDomain": config.cluster_domain,
            "maxPods": config.max_pods, "port": config.api_port, "resolvConf": config.resolv_conf,
            "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}},
            "authorization": {"mode": "Webhook"},
            "imageGCHighThresholdPercent": 85, "imageGCLowThresholdPercent": 80, "imageMinimumGCAge": "2m0s",
            "evictionHard": {
                "memory.available": "100Mi", "imagefs.available": "4Gi", "imagefs.inodesFree": "5%",
                "nodefs.available": "4Gi", "nodefs.inodesFree": "5%",
            },
            "evictionPressureTransitionPeriod": "5m0s", "nodeLeaseDurationSeconds": 40,
            "containerLogMaxSize": "10Mi", "containerLogMaxFiles": 5, "failSwapOn": false,
        }})
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Pod>, Failure> {
        self.pods.get(namespace, name).ok_or_else(|| Failure::NotFound(format!("pod {name:?} not found")))
    }

    fn running(&self, namespace: &str, pod: &str, container: &str) -> Result<ContainerRecord, Failure> {
        let found = self.pods.containers(&*self.pod(namespace, pod)?, container).into_iter().next();
        found
            .filter(|record| record.started_at.is_some() && record.exit.is_none())
            .ok_or_else(|| Failure::NotFound(format!("container not found ({container:?})")))
    }

    async fn logs(
        &self,
        namespace: &str,
        name: &str,
        container: &str,
        query: &[(String, String)],
    ) -> Result<Response<Body>, Failure> {
        let options = logs::Options::parse(query, Timestamp::now()).map_err(Failure::Bad)?;
        let pod = self.pod(namespace, name)?;
        if crate::pod::state::container_spec(&pod, container).is_none() {
            return Err(Failure::NotFound(format!("container {container:?} not found in pod {name:?}")));
        }
        let record = self.logged(&pod, name, container, options.previous)?;
        let log = self
            .shared
            .runtime
            .container_log_path(&record.id)
            .map_err(|error| Failure::Internal(format!("{error:#}")))?;
        let follow = options.follow && !options.previous;
        let changes = if follow {
            Some(logs::Changes::of(&log).map_err(|error| Failure::Internal(error.to_string()))?)
        } else {
            None
        };
        let opened = {
            let log = log.clone();
            tokio::task::spawn_blocking(move || logs::Reader::open(&log, options)).await
        };
        let mut reader = match opened {
            Ok(Ok(reader)) => reader,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(text(StatusCode::OK, "")),
            Ok(Err(error)) => return Err(Failure::Internal(format!("failed to open log file: {error}"))),
            Err(error) => return Err(Failure::Internal(error.to_string())),
        };
        let (sender, body) = body::channel(4);
        let ended = self.shared.runtime.ended(&record.id);
        let task = self.task.clone();
        self.task.spawn("logs", async move {
            let work = async {
                let mut over = changes.is_none();
                loop {
                    let Ok((piece, back)) = tokio::task::spawn_blocking(move || (reader.piece(), reader)).await else {
                        return;
                    };
                    reader = back;
                    match piece {
                        Ok(piece) if !piece.is_empty() => {
                            if sender.send(Ok(piece.into())).await.is_err() {
                                return;
                            }
                        }
                        Ok(_) if over || reader.is_full() => return,
                        Ok(_) => {
                            let Some(changes) = &changes else { return };
                            let mut ended = ended.clone();
                            tokio::select! {
                                _ = changes.next() => {}
                                // What was written last is read once more before the end.
                                _ = ended.wait_for(|ended| *ended) => over = true,
                                () = sender.closed() => return,
                            }
                        }
                        Err(error) => {
                            let _ = sender.send(Err(error.into())).await;
                            return;
                        }
                    }
                }
            };
            task.until_cancelled(work).await;
        });
        Ok(answer(StatusCode::OK, "text/plain", body))
    }

    /// The container whose log is meant, or upstream's words for why there is none.
    fn logged(&self, pod: &Pod, name: &str, container: &str, previous: bool) -> Result<ContainerRecord, Failure> {
        let mut records = self.pods.containers(pod, container).into_iter();
        let newest = records.next();
        if previous {
            let status = pod.status.as_ref();
            let lists = [
                status.and_then(|status| status.container_statuses.as_ref()),
                status.and_then(|status| status.init_container_statuses.as_ref()),
            ];
            let mut statuses = lists.into_iter().flatten().flatten();
            let waits = statuses.any(|status| {
                status.name == container && status.state.as_ref().is_some_and(|state| state.waiting.is_some())
            });
            let ended = |record: &ContainerRecord| record.exit.is_some() || record.failure.is_some();
            let found = if waits { newest.filter(ended) } else { records.next() };
            return found.ok_or_else(|| {
                Failure::Bad(format!("previous terminated container {container:?} in pod {name:?} not found"))
            });
        }
        if let Some(record) = newest {
            return Ok(record);
        }
        let statuses = pod.status.as_ref().map(|status| {
            let lists =
                [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
            lists.into_iter().flatten().flatten().cloned().collect::<Vec<_>>()
        });
        let status = statuses.into_iter().flatten().find(|status| status.name == container);
        let reason =
            status.and_then(|status| status.state?.waiting?.reason).unwrap_or_else(|| "ContainerCreating".into());
        let message = match reason.as_str() {
            "ErrImagePull" | "ImagePullBackOff" => {
                format!("container {container:?} in pod {name:?} is waiting to start: trying and failing to pull image")
            }
            "InvalidImageName" | "ErrImageNeverPull" => {
                format!("container {container:?} in pod {name:?} is waiting to start: {reason}")
            }
            _ => format!("container {container:?} in pod {name:?} is waiting to start: {reason}"),
        };
        Err(Failure::Bad(message))
    }
}

/// The container of `/exec/NAMESPACE/POD/CONTAINER` or `/exec/NAMESPACE/POD/UID/CONTAINER`.
fn container_name<'a>(rest: &[&'a str]) -> Result<&'a str, Failure> {
    match rest {
        [container] | [_, container] => Ok(container),
        _ => Err(Failure::NotFound("404 page not found".into())),
    }
}

fn values(query: &[(String, String)], key: &str) -> Vec<String> {
    query.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
}

/// A query as pairs, decoded.
fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))
        })
        .collect()
}

/// Undoes percent encoding; what is malformed stays.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let code = (bytes[index] == b'%')
            .then(|| text.get(index + 1..index + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
            .flatten();
        match code {
            Some(byte) => {
                out.push(byte);
                index += 3;
            }
            None => {
                out.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let pairs = query("command=sh&command=-c&command=echo%20%22a%2Bb%22+c&tty=1&flag");
        assert_eq!(values(&pairs, "command"), ["sh", "-c", "echo \"a+b\" c"]);
        assert_eq!(values(&pairs, "flag"), [""]);
        assert_eq!(decode("%zz%"), "%zz%");
    }

    #[test]
    fn a_container_may_be_named_with_its_pods_uid() {
        assert_eq!(container_name(&["web"]).unwrap(), "web");
        assert_eq!(container_name(&["uid", "web"]).unwrap(), "web");
        assert!(container_name(&[]).is_err());
    }
}
