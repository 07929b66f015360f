//! HorizontalPodAutoscaler: as many replicas of a target as its figures ask for.
//!
//! ```text
//! scale of the target ─► figures ([`figures`]) ─► replicas for each metric ([`replicas`]) ─► the most of them
//!                     ─► held back and limited ([`behavior`]) ─► scale written ─► status
//! ```
//! Each autoscaler looks at its figures every 15 s; where there is none, nothing wakes up.
//! <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/>

pub mod behavior;
pub mod figures;
pub mod replicas;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::{quantity::Quantity as Exact, selector::Labels};
use client::{
    cache::Key,
    events::{Recorder, Severity},
    queue::{Next, Queue},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        autoscaling::{
            v1::Scale,
            v2::{
                ContainerResourceMetricStatus, CrossVersionObjectReference, ExternalMetricStatus,
                HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricSpec,
                MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus,
                ResourceMetricStatus,
            },
        },
        core::v1::Pod,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, PostParams},
};
use serde_json::json;
use task::Task;

use self::{
    behavior::Memory,
    replicas::{Proposal, Target, Tolerance},
};
use crate::{caches::Caches, hands::refusal, namespace::discover};

/// How often figures are looked at.
const PERIOD: Duration = Duration::from_secs(15);
/// How far use may be from the target before anything changes, unless the behavior says otherwise.
const TOLERANCE: f64 = 0.1;

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Caches,
    events: Recorder,
    memory: Arc<Mutex<HashMap<Key, Memory>>>,
}

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let add = queue.clone();
    caches.autoscalers.listen(move |change| {
        let spec = |autoscaler: &Option<Arc<HorizontalPodAutoscaler>>| autoscaler.as_ref().map(|own| own.spec.clone());
        if spec(&change.old) != spec(&change.new) {
            add.add(change.key.clone());
        }
    });
    let controller = Controller {
        client: client.clone(),
        caches: caches.clone(),
        events: Recorder::new(task, client, "horizontal-pod-autoscaler", None),
        memory: Arc::default(),
    };
    queue.run("autoscaler", 2, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// Sets a condition; its time changes with its status alone.
fn set(
    conditions: &mut Vec<HorizontalPodAutoscalerCondition>,
    kind: &str,
    holds: bool,
    reason: &str,
    message: impl Into<String>,
) {
    let status = if holds { "True" } else { "False" };
    let new = HorizontalPodAutoscalerCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Some(Time(Timestamp::now())),
        observed_generation: None,
    };
    match conditions.iter_mut().find(|known| known.type_ == kind) {
        Some(known) => {
            let since = if known.status == status { known.last_transition_time.take() } else { None };
            *known = new;
            known.last_transition_time = since.or(known.last_transition_time.take());
        }
        None => conditions.push(new),
    }
}

/// A number of thousandths as a quantity.
fn quantity(milli: i64) -> Quantity {
    let text = format!("{milli}m");
    Quantity(Exact::parse(&text).map_or(text, |exact| exact.to_string()))
}

fn milli(quantity: Option<&Quantity>) -> Option<i64> {
    Exact::parse(&quantity?.0).ok().map(|exact| exact.milli())
}

fn average(proposal: &Proposal) -> MetricValueStatus {
    MetricValueStatus {
        average_utilization: proposal.utilization,
        average_value: Some(quantity(proposal.usage)),
        value: None,
    }
}

/// What is known of the target.
struct Scaled {
    resource: ApiResource,
    scale: Scale,
    pods: Vec<Arc<Pod>>,
    selector: String,
}

impl Scaled {
    fn wanted(&self) -> i32 {
        self.scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
    }

    fn there(&self) -> i32 {
        self.scale.status.as_ref().map_or(0, |status| status.replicas)
    }
}

/// A metric's proposal, its description and what the status tells of it.
type Judged = (i32, String, MetricStatus);

impl Controller {
    async fn reconcile(&self, key: &Key) -> kube::Result<Next> {
        self.caches.pods.ready().await;
        let Some(autoscaler) = self.caches.autoscalers.get(key) else {
            self.memory.lock().expect("autoscaler memory").remove(key);
            return Ok(Next::Done);
        };
        let mut status = autoscaler.status.clone().unwrap_or_default();
        status.observed_generation = autoscaler.metadata.generation;
        let mut conditions = status.conditions.take().unwrap_or_default();
        self.turn(key, &autoscaler, &mut status, &mut conditions).await;
        status.conditions = Some(conditions).filter(|all| !all.is_empty());
        if autoscaler.status.as_ref() != Some(&status) {
            let mut whole = (*autoscaler).clone();
            whole.status = Some(status);
            let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &key.namespace);
            match api.replace_status(&key.name, &PostParams::default(), &whole).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                other => drop(other?),
            }
        }
        Ok(Next::After(PERIOD))
    }

    async fn turn(
        &self,
        key: &Key,
        autoscaler: &HorizontalPodAutoscaler,
        status: &mut HorizontalPodAutoscalerStatus,
        conditions: &mut Vec<HorizontalPodAutoscalerCondition>,
    ) {
        let about = autoscaler.object_ref(&());
        let warn = |reason: &str, message: &str| self.events.say(&about, Severity::Warning, reason, message);
        let spec = &autoscaler.spec;
        let target = match self.target(&key.namespace, &spec.scale_target_ref).await {
            Ok(target) => target,
            Err(error) => {
                let message = format!("the HPA controller was unable to get the target's current scale: {error}");
                set(conditions, "AbleToScale", false, "FailedGetScale", message);
                return warn("FailedGetScale", &error);
            }
        };
        let found = "the HPA controller was able to get the target's current scale";
        set(conditions, "AbleToScale", true, "SucceededGetScale", found);
        let now = Timestamp::now();
        let (current, least, most) = (target.wanted(), spec.min_replicas.unwrap_or(1), spec.max_replicas);
        let mut memory = self.memory.lock().expect("autoscaler memory").get(key).cloned().unwrap_or_default();
        memory.begin(current, now);
        status.current_replicas = Some(current);
        let behavior = spec.behavior.as_ref();
        let mut reason = String::new();
        let desired = if current == 0 && least != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            set(conditions, "ScalingActive", false, "ScalingDisabled", message);
            status.desired_replicas = 0;
            return;
        } else if current > most {
            reason.push_str("Current number of replicas above Spec.MaxReplicas");
            most
        } else if current < least {
            reason.push_str("Current number of replicas below Spec.MinReplicas");
            least
        } else {
            let (statuses, judged) = self.judge(key, autoscaler, &target, conditions).await;
            status.current_metrics = Some(statuses).filter(|all| !all.is_empty());
            let (proposed, metric) = match judged {
                Ok(judged) => judged,
                Err(error) => return warn("FailedComputeMetricsReplicas", &error),
            };
            let held = memory.stabilize(behavior, current, proposed, now);
            set(conditions, "AbleToScale", true, held.reason, held.message);
            let limited = memory.limit(behavior, current, held.replicas, (least, most), now);
            set(conditions, "ScalingLimited", limited.replicas != held.replicas, limited.reason, limited.message);
            if limited.replicas > current {
                reason = format!("{metric} above target");
            } else if limited.replicas < current {
                reason.push_str("All metrics below target");
            }
            limited.replicas
        };
        if desired != current {
            match self.scale(key, &target, desired).await {
                Ok(()) => {
                    let message = format!("the HPA controller was able to update the target scale to {desired}");
                    set(conditions, "AbleToScale", true, "SucceededRescale", message);
                    let message = format!("New size: {desired}; reason: {reason}");
                    self.events.say(&about, Severity::Normal, "SuccessfulRescale", message);
                    memory.scaled(current, desired, behavior, now);
                    status.last_scale_time = Some(Time(now));
                }
                Err(error) => {
                    let error = refusal(&error);
                    let message = format!("the HPA controller was unable to update the target scale: {error}");
                    set(conditions, "AbleToScale", false, "FailedUpdateScale", message);
                    let message = format!("New size: {desired}; reason: {reason}; error: {error}");
                    warn("FailedRescale", &message);
                }
            }
        }
        status.desired_replicas = desired;
        self.memory.lock().expect("autoscaler memory").insert(key.clone(), memory);
    }

    /// The target's scale and its pods.
    async fn target(&self, namespace: &str, reference: &CrossVersionObjectReference) -> Result<Scaled, String> {
        let resource = self.resource(reference).await?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let found = api.get_subresource("scale", &reference.name).await.map_err(|error| refusal(&error))?;
        let scale: Scale = serde_json::from_value(json!(found)).map_err(|error| error.to_string())?;
        let selector = scale.status.as_ref().and_then(|status| status.selector.clone()).unwrap_or_default();
        let labels = Labels::parse(&selector)?;
        let mut pods = self.caches.pods.list_in(namespace);
        pods.retain(|pod| {
            let own = pod.metadata.labels.as_ref();
            !selector.is_empty() && labels.matches_with(|key| own.and_then(|own| own.get(key)).map(String::as_str))
        });
        Ok(Scaled { resource, scale, pods, selector })
    }

    async fn resource(&self, reference: &CrossVersionObjectReference) -> Result<ApiResource, String> {
        let api_version = reference.api_version.clone().unwrap_or_else(|| "v1".into());
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let kinds = discover(&self.client).await.map_err(|error| refusal(&error))?;
        let kind = kinds.into_iter().find(|kind| kind.group == group && kind.kind == reference.kind);
        let missing = || format!("no matches for kind {:?} in group {group:?}", reference.kind);
        Ok(ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.clone(),
            kind: reference.kind.clone(),
            plural: kind.ok_or_else(missing)?.plural,
        })
    }

    async fn scale(&self, key: &Key, target: &Scaled, replicas: i32) -> kube::Result<()> {
        let resource = &target.resource;
        let name = target.scale.metadata.name.as_deref().unwrap_or_default();
        let mut scale = target.scale.clone();
        scale.spec.get_or_insert_default().replicas = Some(replicas);
        let root = match resource.group.is_empty() {
            true => format!("/api/{}", resource.version),
            false => format!("/apis/{}", resource.api_version),
        };
        let path = format!("{root}/namespaces/{}/{}/{name}/scale", key.namespace, resource.plural);
        let body = serde_json::to_vec(&scale).map_err(kube::Error::SerdeError)?;
        let request = http::Request::put(path).header(http::header::CONTENT_TYPE, "application/json").body(body);
        self.client.request_text(request.map_err(kube::Error::HttpError)?).await.map(drop)
    }

    /// What the metrics together ask for. One that cannot be had keeps the target from shrinking.
    async fn judge(
        &self,
        key: &Key,
        autoscaler: &HorizontalPodAutoscaler,
        target: &Scaled,
        conditions: &mut Vec<HorizontalPodAutoscalerCondition>,
    ) -> (Vec<MetricStatus>, Result<(i32, String), String>) {
        let metrics = autoscaler.spec.metrics.as_deref().unwrap_or_default();
        if target.selector.is_empty() {
            let message = "the HPA target's scale is missing a selector";
            set(conditions, "ScalingActive", false, "InvalidSelector", message);
            return (Vec::new(), Err("selector is required".into()));
        }
        let about = autoscaler.object_ref(&());
        let (mut statuses, mut best, mut first, mut failed) = (Vec::new(), None::<(i32, String)>, None, 0);
        for metric in metrics {
            match self.metric(&key.namespace, autoscaler, metric, target).await {
                Ok((replicas, text, status)) => {
                    statuses.push(status);
                    if best.as_ref().is_none_or(|(most, _)| replicas > *most) {
                        best = Some((replicas, text));
                    }
                }
                Err((reason, error)) => {
                    self.events.say(&about, Severity::Warning, reason, error.clone());
                    failed += 1;
                    first.get_or_insert((reason, error));
                }
            }
        }
        let shrinks = best.as_ref().is_some_and(|(replicas, _)| *replicas < target.wanted());
        match (best, first) {
            (Some((replicas, text)), error) if error.is_none() || !shrinks => {
                let message = format!("the HPA was able to successfully calculate a replica count from {text}");
                set(conditions, "ScalingActive", true, "ValidMetricFound", message);
                (statuses, Ok((replicas, text)))
            }
            (_, first) => {
                let (reason, error) = first.unwrap_or(("InvalidMetricSourceType", "no metrics".into()));
                let message = format!("the HPA was unable to compute the replica count: {error}");
                set(conditions, "ScalingActive", false, reason, message);
                let count = metrics.len();
                (statuses, Err(format!("invalid metrics ({failed} invalid out of {count}), first error is: {error}")))
            }
        }
    }

    async fn metric(
        &self,
        namespace: &str,
        autoscaler: &HorizontalPodAutoscaler,
        metric: &MetricSpec,
        scaled: &Scaled,
    ) -> Result<Judged, (&'static str, String)> {
        let behavior = autoscaler.spec.behavior.as_ref();
        let tolerance = |quantity: Option<&Quantity>| milli(quantity).map_or(TOLERANCE, |milli| milli as f64 / 1000.0);
        let up = behavior.and_then(|behavior| behavior.scale_up.as_ref()).and_then(|rules| rules.tolerance.as_ref());
        let down =
            behavior.and_then(|behavior| behavior.scale_down.as_ref()).and_then(|rules| rules.tolerance.as_ref());
        let target = Target {
            pods: &scaled.pods,
            current: scaled.wanted(),
            tolerance: Tolerance { up: tolerance(up), down: tolerance(down) },
            now: Timestamp::now(),
        };
        let mut status = MetricStatus { type_: metric.type_.clone(), ..MetricStatus::default() };
        let client = &self.client;
        let selector = scaled.selector.as_str();
        if let Some(source) = &metric.resource {
            let found = self.resource_metric(namespace, &target, selector, &source.name, None, &source.target).await;
            let (proposal, text) = found.map_err(|error| ("FailedGetResourceMetric", error))?;
            status.resource = Some(ResourceMetricStatus { name: source.name.clone(), current: average(&proposal) });
            return Ok((proposal.replicas, text, status));
        }
        if let Some(source) = &metric.container_resource {
            let container = Some(source.container.as_str());
            let found =
                self.resource_metric(namespace, &target, selector, &source.name, container, &source.target).await;
            let (proposal, text) = found.map_err(|error| ("FailedGetContainerResourceMetric", error))?;
            status.container_resource = Some(ContainerResourceMetricStatus {
                name: source.name.clone(),
                container: source.container.clone(),
                current: average(&proposal),
            });
            return Ok((proposal.replicas, text, status));
        }
        if let Some(source) = &metric.pods {
            let failed = |error| ("FailedGetPodsMetric", error);
            let name = &source.metric.name;
            let wanted =
                milli(source.target.average_value.as_ref()).ok_or_else(|| failed("no average value".into()))?;
            let samples = figures::of_pods(client, namespace, selector, name, source.metric.selector.as_ref()).await;
            let proposal = target.by_average(samples.map_err(failed)?, "", wanted).map_err(failed)?;
            status.pods = Some(PodsMetricStatus { metric: source.metric.clone(), current: average(&proposal) });
            return Ok((proposal.replicas, format!("pods metric {name}"), status));
        }
        if let Some(source) = &metric.object {
            let failed = |error| ("FailedGetObjectMetric", error);
            let (name, object) = (&source.metric.name, &source.described_object);
            let resource = self.resource(object).await.map_err(failed)?;
            let dot = if resource.group.is_empty() { "" } else { "." };
            let plural = format!("{}{dot}{}", resource.plural, resource.group);
            let labels = source.metric.selector.as_ref();
            let value = figures::of_object(client, namespace, &plural, &object.name, name, labels).await;
            let (proposal, current) =
                one(&target, scaled.there(), value.map_err(failed)?, &source.target).map_err(failed)?;
            status.object =
                Some(ObjectMetricStatus { metric: source.metric.clone(), described_object: object.clone(), current });
            return Ok((proposal.replicas, format!("{} metric {name}", object.kind), status));
        }
        if let Some(source) = &metric.external {
            let failed = |error| ("FailedGetExternalMetric", error);
            let name = &source.metric.name;
            let value = figures::external(client, namespace, name, source.metric.selector.as_ref()).await;
            let (proposal, current) =
                one(&target, scaled.there(), value.map_err(failed)?, &source.target).map_err(failed)?;
            status.external = Some(ExternalMetricStatus { metric: source.metric.clone(), current });
            let selector = figures::selector_text(source.metric.selector.as_ref());
            return Ok((proposal.replicas, format!("external metric {name}({selector})"), status));
        }
        Err(("InvalidMetricSourceType", format!("unknown metric source type {:?}", metric.type_)))
    }

    async fn resource_metric(
        &self,
        namespace: &str,
        target: &Target<'_>,
        selector: &str,
        resource: &str,
        container: Option<&str>,
        wanted: &MetricTarget,
    ) -> Result<(Proposal, String), String> {
        let failed = |error| format!("failed to get {resource} utilization: {error}");
        let samples = figures::resource(&self.client, namespace, selector, resource, container).await;
        let samples =
            samples.map_err(|error| failed(format!("unable to get metrics for resource {resource}: {error}")))?;
        let of = container.map_or_else(|| "resource".to_owned(), |name| format!("container resource of {name}"));
        if let Some(value) = milli(wanted.average_value.as_ref()) {
            let proposal = target.by_average(samples, resource, value).map_err(failed)?;
            return Ok((proposal, format!("{resource} {of}")));
        }
        let percent = wanted.average_utilization.ok_or_else(|| {
            "invalid resource metric source: neither an average utilization nor an average value was set".to_owned()
        })?;
        let proposal = target.by_utilization(samples, resource, container, percent).map_err(failed)?;
        Ok((proposal, format!("{resource} {of} utilization (percentage of request)")))
    }
}

/// Judges one value against a target for all or for each replica.
fn one(
    target: &Target<'_>,
    there: i32,
    value: i64,
    wanted: &MetricTarget,
) -> Result<(Proposal, MetricValueStatus), String> {
    if let Some(each) = milli(wanted.average_value.as_ref()) {
        let proposal = target.by_share(value, each, there);
        let current = average(&proposal);
        return Ok((proposal, current));
    }
    let all = milli(wanted.value.as_ref()).ok_or_else(|| {
        "invalid metric source: neither a value target nor an average value target was set".to_owned()
    })?;
    let proposal = target.by_value(value, all)?;
    let current =
        MetricValueStatus { value: Some(quantity(proposal.usage)), average_value: None, average_utilization: None };
    Ok((proposal, current))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousandths_are_written_as_quantities() {
        for (value, text) in [(1500, "1500m"), (2000, "2"), (5_000_000, "5k"), (0, "0")] {
            assert_eq!(quantity(value).0, text);
            assert_eq!(milli(Some(&quantity(value))), Some(value));
        }
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let mut all = Vec::new();
        set(&mut all, "AbleToScale", true, "A", "a");
        let first = Time("2026-01-01T00:00:00Z".parse().unwrap());
        all[0].last_transition_time = Some(first.clone());
        set(&mut all, "AbleToScale", true, "B", "b");
        assert_eq!((all.len(), all[0].reason.as_deref()), (1, Some("B")));
        assert_eq!(all[0].last_transition_time, Some(first.clone()));
        set(&mut all, "AbleToScale", false, "C", "c");
        assert_ne!(all[0].last_transition_time, Some(first));
    }
}
