//! The rules of the standards, each a function from a pod to what of it breaks the rule, in upstream's order and words.

use std::collections::BTreeSet;

use super::Level;
use crate::meta::View;

/// What a pod breaks: the rule, and what of the pod does.
type Found = Option<(String, String)>;

/// All rules of a level that a pod breaks.
pub fn broken(level: Level, minor: u32, pod: View<'_>) -> Vec<(String, String)> {
    let pod = Pod { spec: pod.at("spec"), annotations: pod.at("metadata").at("annotations"), minor };
    let restricted = level == Level::Restricted;
    let mut found: Vec<Found> = Vec::new();
    if restricted && minor >= 8 {
        found.push(pod.privilege_escalation());
    }
    found.push(pod.app_armor());
    found.push(if restricted && minor >= 22 { pod.few_capabilities() } else { pod.default_capabilities() });
    found.push(pod.host_namespaces());
    if !restricted {
        found.push(pod.host_paths());
    }
    found.push(pod.host_ports());
    if minor >= 34 {
        found.push(pod.probe_hosts());
    }
    found.push(pod.privileged());
    let unmasked = !restricted && minor >= 35 && pod.has_own_users();
    found.push(if unmasked { None } else { pod.proc_mount() });
    if restricted {
        found.push(pod.volumes());
        let relaxed = minor >= 35 && pod.has_own_users();
        if !relaxed {
            found.push(pod.run_as_non_root());
        }
        if minor >= 23 && !relaxed {
            found.push(pod.run_as_user());
        }
    }
    found.push(pod.se_linux());
    found.push(match (restricted, minor) {
        (true, 19..) => pod.some_seccomp(),
        (false, 19..) => pod.bad_seccomp(),
        _ => pod.seccomp_annotations(),
    });
    found.push(pod.sysctls());
    found.push(pod.host_process());
    found.into_iter().flatten().collect()
}

struct Pod<'a> {
    spec: View<'a>,
    annotations: View<'a>,
    minor: u32,
}

fn several(one: &'static str, more: &'static str, count: usize) -> &'static str {
    if count == 1 { one } else { more }
}

fn quoted<'s>(items: impl IntoIterator<Item = &'s str>) -> String {
    let items: Vec<&str> = items.into_iter().collect();
    if items.is_empty() { String::new() } else { format!("\"{}\"", items.join("\", \"")) }
}

/// `container "a"`, `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("{} {}", several("container", "containers", names.len()), quoted(names.iter().copied()))
}

/// `pod and container "a"`.
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let parts = [pod.then(|| "pod".to_owned()), (!names.is_empty()).then(|| containers(names))];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

fn rule(reason: &str, detail: impl Into<String>) -> Found {
    Some((reason.to_owned(), detail.into()))
}

impl<'a> Pod<'a> {
    fn all(&self) -> impl Iterator<Item = View<'a>> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |list| spec.list(list))
    }

    /// The names of containers of which something holds.
    fn named(&self, holds: impl Fn(View<'a>) -> bool) -> Vec<&'a str> {
        self.all().filter(|container| holds(*container)).map(|container| container.text("name")).collect()
    }

    fn context(&self) -> View<'a> {
        self.spec.at("securityContext")
    }

    fn is_windows(&self) -> bool {
        self.minor >= 25 && self.spec.at("os").text("name") == "windows"
    }

    fn has_own_users(&self) -> bool {
        self.spec.bool("hostUsers") == Some(false)
    }

    fn privilege_escalation(&self) -> Found {
        if self.is_windows() {
            return None;
        }
        let bad = self.named(|one| one.at("securityContext").bool("allowPrivilegeEscalation") != Some(false));
        let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad));
        if bad.is_empty() { None } else { rule("allowPrivilegeEscalation != false", detail) }
    }

    fn app_armor(&self) -> Found {
        const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
        let kind = |context: View<'a>| {
            let profile = context.at("appArmorProfile");
            profile
                .exists()
                .then(|| profile.text("type"))
                .filter(|kind| !matches!(*kind, "RuntimeDefault" | "Localhost"))
        };
        let on_pod = kind(self.context());
        let bad = self.named(|one| kind(one.at("securityContext")).is_some());
        let mut values: BTreeSet<String> = on_pod.iter().map(|kind| (*kind).to_owned()).collect();
        values.extend(self.all().filter_map(|one| kind(one.at("securityContext"))).map(str::to_owned));
        let mut values: Vec<String> = values.into_iter().collect();
        let allowed = |text: &str| text.is_empty() || text == "runtime/default" || text.starts_with("localhost/");
        let entries = self.annotations.as_map().into_iter().flatten();
        let mut annotations: Vec<String> = entries
            .filter_map(|(key, value)| Some((key, value.as_str()?)))
            .filter(|(key, text)| key.starts_with(PREFIX) && !allowed(text))
            .map(|(key, text)| format!("{key}={text:?}"))
            .collect();
        annotations.sort();
        let mut by: Vec<String> = setters(on_pod.is_some(), &bad).into_iter().collect();
        if !annotations.is_empty() {
            by.push(several("annotation", "annotations", annotations.len()).to_owned());
            values.append(&mut annotations);
        }
        if by.is_empty() {
            return None;
        }
        let shown = quoted(values.iter().map(String::as_str));
        let reason = several("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
        rule(reason, format!("{} must not set AppArmor profile type to {shown}", by.join(" and ")))
    }

    fn added(&self, container: View<'a>, allowed: &[&str]) -> Vec<&'a str> {
        let capabilities = container.at("securityContext").at("capabilities");
        capabilities.list("add").map(View::string).filter(|name| !allowed.contains(name)).collect()
    }

    fn default_capabilities(&self) -> Found {
        const ALLOWED: &[&str] = &[
            "AUDIT_WRITE",
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "MKNOD",
            "NET_BIND_SERVICE",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
        ];
        let bad = self.named(|one| !self.added(one, ALLOWED).is_empty());
        let values: BTreeSet<&str> = self.all().flat_map(|one| self.added(one, ALLOWED)).collect();
        let detail =
            format!("{} must not include {} in securityContext.capabilities.add", containers(&bad), quoted(values));
        if bad.is_empty() { None } else { rule("non-default capabilities", detail) }
    }

    fn few_capabilities(&self) -> Found {
        if self.is_windows() {
            return None;
        }
        let undropped = self
            .named(|one| !one.at("securityContext").at("capabilities").list("drop").any(|name| name.string() == "ALL"));
        let adding = self.named(|one| !self.added(one, &["NET_BIND_SERVICE"]).is_empty());
        let mut details = Vec::new();
        if !undropped.is_empty() {
            details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&undropped)));
        }
        if !adding.is_empty() {
            let values: BTreeSet<&str> = self.all().flat_map(|one| self.added(one, &["NET_BIND_SERVICE"])).collect();
            let (by, values) = (containers(&adding), quoted(values));
            details.push(format!("{by} must not include {values} in securityContext.capabilities.add"));
        }
        if details.is_empty() { None } else { rule("unrestricted capabilities", details.join("; ")) }
    }

    fn host_namespaces(&self) -> Found {
        let set = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|name| self.spec.is(name));
        let set: Vec<String> = set.map(|name| format!("{name}=true")).collect();
        if set.is_empty() { None } else { rule("host namespaces", set.join(", ")) }
    }

    fn host_paths(&self) -> Found {
        let volumes = self.spec.list("volumes").filter(|volume| volume.has("hostPath"));
        let names: Vec<&str> = volumes.map(|volume| volume.text("name")).collect();
        let detail = format!("{} {}", several("volume", "volumes", names.len()), quoted(names.iter().copied()));
        if names.is_empty() { None } else { rule("hostPath volumes", detail) }
    }

    fn host_ports(&self) -> Found {
        let ports = |one: View<'a>| one.list("ports").filter_map(|port| port.int("hostPort")).filter(|port| *port != 0);
        let bad = self.named(|one| ports(one).next().is_some());
        let values: BTreeSet<String> = self.all().flat_map(ports).map(|port| port.to_string()).collect();
        let detail = format!(
            "{} {} {} {}",
            containers(&bad),
            several("uses", "use", bad.len()),
            several("hostPort", "hostPorts", values.len()),
            values.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        );
        if bad.is_empty() { None } else { rule("hostPort", detail) }
    }

    fn probe_hosts(&self) -> Found {
        let hosts = |one: View<'a>| -> Vec<&'a str> {
            let lifecycle = one.at("lifecycle");
            let handlers = [
                one.at("livenessProbe"),
                one.at("readinessProbe"),
                one.at("startupProbe"),
                lifecycle.at("postStart"),
                lifecycle.at("preStop"),
            ];
            let actions = handlers.into_iter().flat_map(|handler| [handler.at("httpGet"), handler.at("tcpSocket")]);
            actions.map(|action| action.text("host")).filter(|host| !host.is_empty()).collect()
        };
        let bad: BTreeSet<&str> = self.named(|one| !hosts(one).is_empty()).into_iter().collect();
        let values: BTreeSet<&str> = self.all().flat_map(hosts).collect();
        let names: Vec<&str> = bad.into_iter().collect();
        let detail = format!(
            "{} {} {} {}",
            containers(&names),
            several("uses", "use", names.len()),
            several("probe or lifecycle host", "probe or lifecycle hosts", values.len()),
            quoted(values)
        );
        if names.is_empty() { None } else { rule("probe or lifecycle host", detail) }
    }

    fn privileged(&self) -> Found {
        let bad = self.named(|one| one.at("securityContext").is("privileged"));
        let detail = format!("{} must not set securityContext.privileged=true", containers(&bad));
        if bad.is_empty() { None } else { rule("privileged", detail) }
    }

    fn proc_mount(&self) -> Found {
        let kind = |one: View<'a>| one.at("securityContext").at("procMount").as_str().filter(|kind| *kind != "Default");
        let bad = self.named(|one| kind(one).is_some());
        let values: BTreeSet<&str> = self.all().filter_map(kind).collect();
        let detail = format!("{} must not set securityContext.procMount to {}", containers(&bad), quoted(values));
        if bad.is_empty() { None } else { rule("procMount", detail) }
    }

    fn volumes(&self) -> Found {
        const ALLOWED: &[&str] = &[
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "image",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ];
        let source = |volume: View<'a>| -> &'a str {
            let members = volume.as_map().into_iter().flatten();
            let found = members.filter(|(key, value)| key.as_str() != "name" && !value.is_null()).map(|(key, _)| key);
            found.map(String::as_str).next().unwrap_or("unknown")
        };
        let bad: Vec<View<'a>> =
            self.spec.list("volumes").filter(|volume| !ALLOWED.contains(&source(*volume))).collect();
        let values: BTreeSet<&str> = bad.iter().map(|volume| source(*volume)).collect();
        let detail = format!(
            "{} {} {} {} {}",
            several("volume", "volumes", bad.len()),
            quoted(bad.iter().map(|volume| volume.text("name"))),
            several("uses", "use", bad.len()),
            several("restricted volume type", "restricted volume types", values.len()),
            quoted(values)
        );
        if bad.is_empty() { None } else { rule("restricted volume types", detail) }
    }

    fn run_as_non_root(&self) -> Found {
        const REASON: &str = "runAsNonRoot != true";
        let own = |context: View<'a>| context.bool("runAsNonRoot");
        let explicit = self.named(|one| own(one.at("securityContext")) == Some(false));
        if let Some(by) = setters(own(self.context()) == Some(false), &explicit) {
            return rule(REASON, format!("{by} must not set securityContext.runAsNonRoot=false"));
        }
        if own(self.context()) == Some(true) {
            return None;
        }
        let implicit = self.named(|one| own(one.at("securityContext")).is_none());
        let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&implicit));
        if implicit.is_empty() { None } else { rule(REASON, detail) }
    }

    fn run_as_user(&self) -> Found {
        let root = |context: View<'a>| context.int("runAsUser") == Some(0);
        let by = setters(root(self.context()), &self.named(|one| root(one.at("securityContext"))))?;
        rule("runAsUser=0", format!("{by} must not set runAsUser=0"))
    }

    fn se_linux(&self) -> Found {
        let known: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
        let known = if self.minor >= 31 { known } else { &known[..4] };
        let options = |context: View<'a>| context.at("seLinuxOptions");
        let wrong = |options: View<'a>| {
            !known.contains(&options.text("type"))
                || !options.text("user").is_empty()
                || !options.text("role").is_empty()
        };
        let by = setters(wrong(options(self.context())), &self.named(|one| wrong(options(one.at("securityContext")))))?;
        let each = [self.context()].into_iter().chain(self.all().map(|one| one.at("securityContext")));
        let each: Vec<View<'a>> = each.map(options).collect();
        let types: BTreeSet<&str> =
            each.iter().map(|options| options.text("type")).filter(|kind| !known.contains(kind)).collect();
        let mut data = Vec::new();
        if !types.is_empty() {
            data.push(format!("{} {}", several("type", "types", types.len()), quoted(types)));
        }
        for member in ["user", "role"] {
            if each.iter().any(|options| !options.text(member).is_empty()) {
                data.push(format!("{member} may not be set"));
            }
        }
        rule("seLinuxOptions", format!("{by} set forbidden securityContext.seLinuxOptions: {}", data.join("; ")))
    }

    /// Who sets a seccomp profile of a kind that is not allowed.
    fn bad_seccomp(&self) -> Found {
        let bad = |context: View<'a>| {
            let profile = context.at("seccompProfile");
            profile
                .exists()
                .then(|| profile.text("type"))
                .filter(|kind| !matches!(*kind, "RuntimeDefault" | "Localhost"))
        };
        let on_pod = bad(self.context());
        let by = setters(on_pod.is_some(), &self.named(|one| bad(one.at("securityContext")).is_some()))?;
        let values: BTreeSet<&str> =
            on_pod.into_iter().chain(self.all().filter_map(|one| bad(one.at("securityContext")))).collect();
        let detail = format!("{by} must not set securityContext.seccompProfile.type to {}", quoted(values));
        rule("seccompProfile", detail)
    }

    fn some_seccomp(&self) -> Found {
        if self.is_windows() {
            return None;
        }
        if let Some(found) = self.bad_seccomp() {
            return Some(found);
        }
        if self.context().has("seccompProfile") {
            return None;
        }
        let bad = self.named(|one| !one.at("securityContext").has("seccompProfile"));
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&bad)
        );
        if bad.is_empty() { None } else { rule("seccompProfile", detail) }
    }

    fn seccomp_annotations(&self) -> Found {
        const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
        const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
        let allowed =
            |text: &str| matches!(text, "runtime/default" | "docker/default") || text.starts_with("localhost/");
        let keys = [POD.to_owned()].into_iter().chain(self.all().map(|one| format!("{CONTAINER}{}", one.text("name"))));
        let bad: BTreeSet<String> = keys
            .filter_map(|key| {
                let text = self.annotations.at(&key).as_str().filter(|text| !allowed(text))?;
                Some(format!("{key}={text:?}"))
            })
            .collect();
        let shown = bad.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let detail = format!("forbidden {} {shown}", several("annotation", "annotations", bad.len()));
        if bad.is_empty() { None } else { rule("seccompProfile", detail) }
    }

    fn sysctls(&self) -> Found {
        /// Names with the version since which they are allowed.
        const ALLOWED: &[(&str, u32)] = &[
            ("kernel.shm_rmid_forced", 0),
            ("net.ipv4.ip_local_port_range", 0),
            ("net.ipv4.tcp_syncookies", 0),
            ("net.ipv4.ping_group_range", 0),
            ("net.ipv4.ip_unprivileged_port_start", 0),
            ("net.ipv4.ip_local_reserved_ports", 27),
            ("net.ipv4.tcp_keepalive_time", 29),
            ("net.ipv4.tcp_fin_timeout", 29),
            ("net.ipv4.tcp_keepalive_intvl", 29),
            ("net.ipv4.tcp_keepalive_probes", 29),
            ("net.ipv4.tcp_rmem", 32),
            ("net.ipv4.tcp_wmem", 32),
            ("net.ipv4.tcp_slow_start_after_idle", 37),
            ("net.ipv4.tcp_notsent_lowat", 37),
        ];
        let allowed = |name: &str| ALLOWED.iter().any(|(known, since)| *known == name && self.minor >= *since);
        let bad: Vec<&str> =
            self.context().list("sysctls").map(|item| item.text("name")).filter(|name| !allowed(name)).collect();
        if bad.is_empty() { None } else { rule("forbidden sysctls", bad.join(", ")) }
    }

    fn host_process(&self) -> Found {
        let set = |context: View<'a>| context.at("windowsOptions").is("hostProcess");
        let by = setters(set(self.context()), &self.named(|one| set(one.at("securityContext"))))?;
        rule("hostProcess", format!("{by} must not set securityContext.windowsOptions.hostProcess=true"))
    }
}
