//! What bounds, scales and admits: autoscalers, limit ranges, quotas, disruption budgets, certificate requests, webhooks.
//! <https://github.com/kubernetes/kube-state-metrics/tree/main/docs/metrics/policy>

use counts::page::Page;
use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, ServiceReference, ValidatingWebhookConfiguration, WebhookClientConfig,
        },
        autoscaling::v2::{HorizontalPodAutoscaler, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus},
        certificates::v1::CertificateSigningRequest,
        core::v1::{LimitRange, ResourceQuota},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::{
    Allowed,
    rows::{Rows, amount_of, text, whole},
};

pub(super) fn autoscaler(page: &mut Page, allowed: &Allowed, object: &HorizontalPodAutoscaler) {
    let meta = &object.metadata;
    let own = [("namespace", text(&meta.namespace)), ("horizontalpodautoscaler", text(&meta.name))];
    let mut rows = Rows::new(page, &own);
    rows.life("kube_horizontalpodautoscaler_created", Some("kube_horizontalpodautoscaler_deletion_timestamp"), meta);
    rows.allowed("kube_horizontalpodautoscaler_labels", "kube_horizontalpodautoscaler_annotations", allowed, meta);
    rows.numbers([("kube_horizontalpodautoscaler_metadata_generation", whole(meta.generation))]);
    let spec = &object.spec;
    let scaled = &spec.scale_target_ref;
    let mut labels = vec![("scaletargetref_kind", scaled.kind.as_str()), ("scaletargetref_name", &scaled.name)];
    if let Some(version) = scaled.api_version.as_deref().filter(|version| !version.is_empty()) {
        labels.insert(0, ("scaletargetref_api_version", version));
    }
    rows.info("kube_horizontalpodautoscaler_info", &labels);
    rows.numbers([
        ("kube_horizontalpodautoscaler_spec_max_replicas", Some(f64::from(spec.max_replicas))),
        ("kube_horizontalpodautoscaler_spec_min_replicas", Some(f64::from(spec.min_replicas.unwrap_or(1)))),
    ]);
    for (name, target) in spec.metrics.iter().flatten().filter_map(target) {
        let values = (&target.value, &target.average_value, target.average_utilization);
        targets(&mut rows, "kube_horizontalpodautoscaler_spec_target_metric", name, values);
    }
    let status = object.status.clone().unwrap_or_default();
    rows.numbers([
        ("kube_horizontalpodautoscaler_status_current_replicas", whole(status.current_replicas)),
        ("kube_horizontalpodautoscaler_status_desired_replicas", whole(status.desired_replicas)),
    ]);
    for (name, current) in status.current_metrics.iter().flatten().filter_map(current) {
        let values = (&current.value, &current.average_value, current.average_utilization);
        targets(&mut rows, "kube_horizontalpodautoscaler_status_target_metric", name, values);
    }
    for condition in status.conditions.iter().flatten() {
        let labels = [("condition", text(&condition.type_))];
        rows.condition("kube_horizontalpodautoscaler_status_condition", "status", &labels, text(&condition.status));
    }
}

fn target(metric: &MetricSpec) -> Option<(&str, &MetricTarget)> {
    match metric.type_.as_str() {
        "Object" => metric.object.as_ref().map(|source| (source.metric.name.as_str(), &source.target)),
        "Pods" => metric.pods.as_ref().map(|source| (source.metric.name.as_str(), &source.target)),
        "Resource" => metric.resource.as_ref().map(|source| (source.name.as_str(), &source.target)),
        "ContainerResource" => metric.container_resource.as_ref().map(|source| (source.name.as_str(), &source.target)),
        "External" => metric.external.as_ref().map(|source| (source.metric.name.as_str(), &source.target)),
        _ => None,
    }
}

fn current(metric: &MetricStatus) -> Option<(&str, &MetricValueStatus)> {
    match metric.type_.as_str() {
        "Object" => metric.object.as_ref().map(|source| (source.metric.name.as_str(), &source.current)),
        "Pods" => metric.pods.as_ref().map(|source| (source.metric.name.as_str(), &source.current)),
        "Resource" => metric.resource.as_ref().map(|source| (source.name.as_str(), &source.current)),
        "ContainerResource" => metric.container_resource.as_ref().map(|source| (source.name.as_str(), &source.current)),
        "External" => metric.external.as_ref().map(|source| (source.metric.name.as_str(), &source.current)),
        _ => None,
    }
}

/// Value, average, and average in hundredths of what was requested.
type Values<'a> = (&'a Option<Quantity>, &'a Option<Quantity>, Option<i32>);

fn targets(rows: &mut Rows<'_>, name: &'static str, metric: &str, (value, average, utilization): Values<'_>) {
    for (kind, value) in [
        ("value", value.as_ref().map(amount_of)),
        ("average", average.as_ref().map(amount_of)),
        ("utilization", utilization.map(f64::from)),
    ] {
        if let Some(value) = value {
            rows.value(name, &[("metric_name", metric), ("metric_target_type", kind)], value);
        }
    }
}

pub(super) fn limit_range(page: &mut Page, _: &Allowed, object: &LimitRange) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("limitrange", text(&meta.name))]);
    rows.life("kube_limitrange_created", None, meta);
    for limit in object.spec.iter().flat_map(|spec| &spec.limits) {
        for (constraint, amounts) in [
            ("min", &limit.min),
            ("max", &limit.max),
            ("default", &limit.default),
            ("defaultRequest", &limit.default_request),
            ("maxLimitRequestRatio", &limit.max_limit_request_ratio),
        ] {
            for (resource, amount) in amounts.iter().flatten() {
                let labels = [("resource", resource.as_str()), ("type", &limit.type_), ("constraint", constraint)];
                rows.value("kube_limitrange", &labels, amount_of(amount));
            }
        }
    }
}

pub(super) fn quota(page: &mut Page, allowed: &Allowed, object: &ResourceQuota) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("resourcequota", text(&meta.name))]);
    rows.life("kube_resourcequota_created", None, meta);
    rows.allowed("kube_resourcequota_labels", "kube_resourcequota_annotations", allowed, meta);
    let status = object.status.clone().unwrap_or_default();
    for (kind, amounts) in [("hard", &status.hard), ("used", &status.used)] {
        for (resource, amount) in amounts.iter().flatten() {
            rows.value("kube_resourcequota", &[("resource", resource), ("type", kind)], amount_of(amount));
        }
    }
}

pub(super) fn budget(page: &mut Page, allowed: &Allowed, object: &PodDisruptionBudget) {
    let meta = &object.metadata;
    let mut rows = Rows::new(page, &[("namespace", text(&meta.namespace)), ("poddisruptionbudget", text(&meta.name))]);
    rows.life("kube_poddisruptionbudget_created", Some("kube_poddisruptionbudget_deletion_timestamp"), meta);
    rows.allowed("kube_poddisruptionbudget_labels", "kube_poddisruptionbudget_annotations", allowed, meta);
    let status = object.status.clone().unwrap_or_default();
    rows.numbers([
        ("kube_poddisruptionbudget_status_current_healthy", whole(status.current_healthy)),
        ("kube_poddisruptionbudget_status_desired_healthy", whole(status.desired_healthy)),
        ("kube_poddisruptionbudget_status_pod_disruptions_allowed", whole(status.disruptions_allowed)),
        ("kube_poddisruptionbudget_status_expected_pods", whole(status.expected_pods)),
        ("kube_poddisruptionbudget_status_observed_generation", whole(status.observed_generation)),
    ]);
}

pub(super) fn certificate(page: &mut Page, allowed: &Allowed, object: &CertificateSigningRequest) {
    let meta = &object.metadata;
    let own = [("certificatesigningrequest", text(&meta.name)), ("signer_name", object.spec.signer_name.as_str())];
    let mut rows = Rows::new(page, &own);
    rows.life("kube_certificatesigningrequest_created", None, meta);
    rows.allowed("kube_certificatesigningrequest_labels", "kube_certificatesigningrequest_annotations", allowed, meta);
    let status = object.status.clone().unwrap_or_default();
    for (condition, label) in [("Approved", "approved"), ("Denied", "denied"), ("Failed", "failed")] {
        let count = status.conditions.iter().flatten().filter(|found| found.type_ == condition).count();
        rows.value("kube_certificatesigningrequest_condition", &[("condition", label)], count as f64);
    }
    let length = status.certificate.as_ref().map_or(0, |certificate| certificate.0.len());
    rows.value("kube_certificatesigningrequest_cert_length", &[], length as f64);
}

pub(super) fn mutating(page: &mut Page, _: &Allowed, object: &MutatingWebhookConfiguration) {
    let meta = &object.metadata;
    let own = [("namespace", text(&meta.namespace)), ("mutatingwebhookconfiguration", text(&meta.name))];
    let mut rows = Rows::new(page, &own);
    rows.info("kube_mutatingwebhookconfiguration_info", &[]);
    rows.life("kube_mutatingwebhookconfiguration_created", None, meta);
    rows.version("kube_mutatingwebhookconfiguration_metadata_resource_version", meta);
    for hook in object.webhooks.iter().flatten() {
        let name = "kube_mutatingwebhookconfiguration_webhook_clientconfig_service";
        webhook(&mut rows, name, &hook.name, &hook.client_config);
    }
}

pub(super) fn validating(page: &mut Page, _: &Allowed, object: &ValidatingWebhookConfiguration) {
    let meta = &object.metadata;
    let own = [("namespace", text(&meta.namespace)), ("validatingwebhookconfiguration", text(&meta.name))];
    let mut rows = Rows::new(page, &own);
    rows.info("kube_validatingwebhookconfiguration_info", &[]);
    rows.life("kube_validatingwebhookconfiguration_created", None, meta);
    rows.version("kube_validatingwebhookconfiguration_metadata_resource_version", meta);
    for hook in object.webhooks.iter().flatten() {
        let name = "kube_validatingwebhookconfiguration_webhook_clientconfig_service";
        webhook(&mut rows, name, &hook.name, &hook.client_config);
    }
}

fn webhook(rows: &mut Rows<'_>, name: &'static str, hook: &str, config: &WebhookClientConfig) {
    let none = ServiceReference::default();
    let service = config.service.as_ref().unwrap_or(&none);
    let labels = [("webhook_name", hook), ("service_name", &service.name), ("service_namespace", &service.namespace)];
    rows.info(name, &labels);
}
