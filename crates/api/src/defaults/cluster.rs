//! All other groups: RBAC, networking, storage, admission, extension and the rest.

use serde_json::{Value, json};

use super::edit::{self, Object, amount, down, items, made, member, resource_list, set, set_number, set_text};

const RBAC: &str = "rbac.authorization.k8s.io";

pub fn apply(group: &str, kind: &str, object: &mut Object) {
    match (group, kind) {
        (RBAC, "RoleBinding" | "ClusterRoleBinding") => binding(object),
        ("discovery.k8s.io", "EndpointSlice") => endpoint_slice(object),
        ("networking.k8s.io", "NetworkPolicy") => network_policy(object),
        ("networking.k8s.io", "IngressClass") => ingress_class(object),
        ("networking.k8s.io", "Ingress") => {
            if let Some(status) = made(object, "status") {
                set(status, "loadBalancer", json!({}));
            }
        }
        ("networking.k8s.io", "ServiceCIDR") => super::empty_status(object),
        ("events.k8s.io", "Event") => {
            set(object, "regarding", json!({}));
            set(object, "deprecatedSource", json!({}));
        }
        ("scheduling.k8s.io", "PriorityClass") => {
            set(object, "preemptionPolicy", "PreemptLowerPriority");
            set(object, "value", 0);
        }
        ("node.k8s.io", "RuntimeClass") => {
            if let Some(overhead) = member(object, "overhead") {
                resource_list(overhead, "podFixed");
            }
        }
        ("storage.k8s.io", _) => storage(kind, object),
        ("admissionregistration.k8s.io", _) => admission(kind, object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => custom_resource_definition(object),
        ("apiregistration.k8s.io", "APIService") => {
            if let Some(service) = down(object, &["spec", "service"]) {
                set(service, "port", 443);
            }
            super::empty_status(object);
        }
        ("authentication.k8s.io", "TokenRequest") => super::core::token_request(object),
        ("authentication.k8s.io", "TokenReview" | "SelfSubjectReview") => super::empty_status(object),
        ("authorization.k8s.io", _) => access_review(kind, object),
        ("certificates.k8s.io", "CertificateSigningRequest") => super::empty_status(object),
        ("certificates.k8s.io", "PodCertificateRequest") => {
            if let Some(spec) = made(object, "spec") {
                set(spec, "maxExpirationSeconds", 86400);
            }
            super::empty_status(object);
        }
        ("flowcontrol.apiserver.k8s.io", _) => flow_control(kind, object),
        ("resource.k8s.io", _) => devices(kind, object),
        ("storagemigration.k8s.io", _) => super::empty_status(object),
        _ => {}
    }
}

fn binding(object: &mut Object) {
    if let Some(role) = made(object, "roleRef") {
        set_text(role, "apiGroup", RBAC);
    }
    for subject in items(object, "subjects") {
        if matches!(edit::text(subject, "kind"), "User" | "Group") {
            set_text(subject, "apiGroup", RBAC);
        }
    }
}

fn endpoint_slice(object: &mut Object) {
    for port in items(object, "ports") {
        set(port, "name", "");
        set(port, "protocol", "TCP");
    }
}

fn network_policy(object: &mut Object) {
    let Some(spec) = made(object, "spec") else { return };
    set(spec, "podSelector", json!({}));
    if edit::empty(spec, "policyTypes") {
        let types = if edit::empty(spec, "egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
        spec.insert("policyTypes".to_owned(), types);
    }
    for direction in ["ingress", "egress"] {
        for rule in items(spec, direction) {
            for port in items(rule, "ports") {
                set(port, "protocol", "TCP");
            }
        }
    }
}

fn ingress_class(object: &mut Object) {
    set(object, "spec", json!({}));
    if let Some(parameters) = down(object, &["spec", "parameters"]) {
        set(parameters, "scope", "Cluster");
    }
}

fn storage(kind: &str, object: &mut Object) {
    match kind {
        "StorageClass" => {
            set(object, "reclaimPolicy", "Delete");
            set(object, "volumeBindingMode", "Immediate");
        }
        "CSIDriver" => {
            let Some(spec) = made(object, "spec") else { return };
            set(spec, "attachRequired", true);
            for key in [
                "podInfoOnMount",
                "storageCapacity",
                "requiresRepublish",
                "seLinuxMount",
                "preventPodSchedulingIfMissing",
            ] {
                set(spec, key, false);
            }
            set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            if edit::empty(spec, "volumeLifecycleModes") {
                spec.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
            }
        }
        "CSIStorageCapacity" => {
            amount(object, "capacity");
            amount(object, "maximumVolumeSize");
        }
        "VolumeAttachment" => {
            if let Some(status) = made(object, "status") {
                set(status, "attached", false);
            }
            if let Some(spec) = down(object, &["spec", "source", "inlineVolumeSpec"]) {
                resource_list(spec, "capacity");
                super::pod::volume_source(spec);
            }
        }
        _ => {}
    }
}

fn admission(kind: &str, object: &mut Object) {
    match kind {
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => {
            let mutating = kind.starts_with('M');
            for webhook in items(object, "webhooks") {
                set(webhook, "failurePolicy", "Fail");
                set(webhook, "matchPolicy", "Equivalent");
                set(webhook, "namespaceSelector", json!({}));
                set(webhook, "objectSelector", json!({}));
                set(webhook, "timeoutSeconds", 10);
                if mutating {
                    set(webhook, "reinvocationPolicy", "Never");
                }
                for rule in items(webhook, "rules") {
                    set(rule, "scope", "*");
                }
                if let Some(service) = down(webhook, &["clientConfig", "service"]) {
                    set(service, "port", 443);
                }
            }
        }
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => {
            if let Some(spec) = made(object, "spec") {
                set(spec, "failurePolicy", "Fail");
                match_resources(spec, "matchConstraints");
            }
            if kind.starts_with('V') {
                super::empty_status(object);
            }
        }
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            if let Some(spec) = made(object, "spec") {
                match_resources(spec, "matchResources");
            }
        }
        _ => {}
    }
}

fn match_resources(spec: &mut Object, key: &str) {
    let Some(resources) = member(spec, key) else { return };
    set(resources, "matchPolicy", "Equivalent");
    set(resources, "namespaceSelector", json!({}));
    set(resources, "objectSelector", json!({}));
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in items(resources, list) {
            set(rule, "scope", "*");
        }
    }
}

fn custom_resource_definition(object: &mut Object) {
    let mut stored = None;
    if let Some(spec) = made(object, "spec") {
        if let Some(names) = made(spec, "names") {
            let kind = edit::text(names, "kind").to_owned();
            if !kind.is_empty() {
                set_text(names, "singular", &kind.to_lowercase());
                set_text(names, "listKind", &format!("{kind}List"));
            }
        }
        set(spec, "conversion", json!({"strategy": "None"}));
        if let Some(service) = down(spec, &["conversion", "webhook", "clientConfig", "service"]) {
            set(service, "port", 443);
        }
        stored = items(spec, "versions")
            .find(|version| version.get("storage") == Some(&Value::Bool(true)))
            .map(|version| edit::text(version, "name").to_owned());
    }
    if let Some(status) = made(object, "status") {
        set(status, "acceptedNames", json!({"plural": "", "kind": ""}));
        if edit::empty(status, "storedVersions") {
            let versions: Vec<String> = stored.into_iter().collect();
            status.insert("storedVersions".to_owned(), versions.into());
        }
    }
}

fn access_review(kind: &str, object: &mut Object) {
    set(object, "spec", json!({}));
    if let Some(status) = made(object, "status") {
        if kind == "SelfSubjectRulesReview" {
            set(status, "resourceRules", json!([]));
            set(status, "nonResourceRules", json!([]));
            set(status, "incomplete", false);
        } else {
            set(status, "allowed", false);
        }
    }
}

fn flow_control(kind: &str, object: &mut Object) {
    match kind {
        "FlowSchema" => {
            if let Some(spec) = made(object, "spec") {
                set_number(spec, "matchingPrecedence", 1000);
            }
        }
        "PriorityLevelConfiguration" => {
            if let Some(exempt) = down(object, &["spec", "exempt"]) {
                set(exempt, "nominalConcurrencyShares", 0);
                set(exempt, "lendablePercent", 0);
            }
            if let Some(limited) = down(object, &["spec", "limited"]) {
                set(limited, "nominalConcurrencyShares", 30);
                set(limited, "lendablePercent", 0);
                if let Some(queuing) = down(limited, &["limitResponse", "queuing"]) {
                    set_number(queuing, "handSize", 8);
                    set_number(queuing, "queues", 64);
                    set_number(queuing, "queueLengthLimit", 50);
                }
            }
        }
        _ => return,
    }
    super::empty_status(object);
}

fn devices(kind: &str, object: &mut Object) {
    match kind {
        "ResourceClaim" => {
            requests(object);
            super::empty_status(object);
        }
        "ResourceClaimTemplate" => {
            if let Some(template) = down(object, &["spec"]) {
                set(template, "metadata", json!({}));
                requests(template);
            }
        }
        "ResourceSlice" => {
            let spec = member(object, "spec");
            for device in spec.into_iter().flat_map(|spec| items(spec, "devices")) {
                for capacity in member(device, "capacity").into_iter().flat_map(|list| list.values_mut()) {
                    if let Value::Object(capacity) = capacity {
                        amount(capacity, "value");
                    }
                }
            }
        }
        "DeviceTaintRule" => super::empty_status(object),
        _ => {}
    }
}

fn requests(holder: &mut Object) {
    for request in down(holder, &["spec", "devices"]).into_iter().flat_map(|devices| items(devices, "requests")) {
        if let Some(exactly) = member(request, "exactly") {
            device_request(exactly);
        }
        for one in items(request, "firstAvailable") {
            device_request(one);
        }
    }
}

fn device_request(request: &mut Object) {
    set_text(request, "allocationMode", "ExactCount");
    if edit::text(request, "allocationMode") == "ExactCount" {
        set_number(request, "count", 1);
    }
}
