//! Tests of `spec`: cases as data where there are many.

use super::*;
use crate::description::{Mount, Resources, Security};

fn available() -> BTreeSet<String> {
    CAPABILITIES.iter().map(|name| (*name).to_owned()).collect()
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/entry".into()],
        cmd: vec!["serve".into()],
        env: vec!["PATH=/bin".into(), "COLOUR=red".into()],
        volumes: vec!["/data".into()],
        ..Default::default()
    }
}

fn built(container: &ContainerConfig, sandbox: &SandboxConfig) -> Value {
    let input = Input {
        container,
        sandbox,
        image: &image(),
        user: &User { uid: 7, gid: 8, groups: vec![8, 9], home: None },
        sandbox_dir: Path::new("/s"),
        container_dir: Path::new("/c"),
        rootfs: Path::new("/root"),
        cgroups_path: Path::new("pods/x"),
        available: &available(),
        open_files: 1024,
        seccomp: None,
        host_devices: &[],
    };
    serde_json::to_value(build(&input).unwrap()).unwrap()
}

fn mount<'a>(spec: &'a Value, target: &str) -> Option<&'a Value> {
    spec["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == target)
}

#[test]
fn command_and_arguments_replace_the_images_as_upstream_documents() {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let cases = [
        ("", "", "/entry serve"),
        ("/other", "", "/other"),
        ("", "sleep", "/entry sleep"),
        ("/other", "sleep 1", "/other sleep 1"),
    ];
    for (command, args, wanted) in cases {
        let config = ContainerConfig { command: words(command), args: words(args), ..Default::default() };
        assert_eq!(command_line(&config, &image()).unwrap(), words(wanted));
    }
    assert!(command_line(&ContainerConfig::default(), &ImageConfig::default()).is_err());
}

#[test]
fn capabilities_are_added_to_and_dropped_from_the_default_set() {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let with = |add: &[&str], drop: &[&str]| {
        let security = Security { add_capabilities: list(add), drop_capabilities: list(drop), ..Default::default() };
        capabilities(&ContainerConfig { security, ..Default::default() }, &available())
    };
    assert_eq!(with(&[], &[]).unwrap().len(), DEFAULT_CAPABILITIES.len());
    assert_eq!(with(&["NET_ADMIN"], &["ALL"]).unwrap(), BTreeSet::from(["CAP_NET_ADMIN".to_owned()]));
    assert_eq!(with(&["ALL"], &["SYS_ADMIN"]).unwrap().len(), CAPABILITIES.len() - 1);
    assert!(!with(&[], &["chown"]).unwrap().contains("CAP_CHOWN"));
    assert!(with(&["NO_SUCH"], &[]).is_err());
}

#[test]
fn masks_of_the_kernel_name_capabilities() {
    assert_eq!(capabilities_of_mask("0000000000200001"), BTreeSet::from(["CAP_CHOWN".into(), "CAP_SYS_ADMIN".into()]));
}

#[test]
fn the_environment_is_the_images_and_then_the_requests() {
    let config = ContainerConfig {
        env: vec![("COLOUR".into(), "blue".into()), ("A.B".into(), "1".into())],
        ..Default::default()
    };
    let spec = built(&config, &SandboxConfig { hostname: "web".into(), ..Default::default() });
    assert_eq!(spec["process"]["env"], json!(["PATH=/bin", "HOSTNAME=web", "COLOUR=blue", "A.B=1", "HOME=/"]));
}

#[test]
fn an_unprivileged_container_is_masked_and_a_privileged_one_is_not() {
    let spec = built(&ContainerConfig::default(), &SandboxConfig::default());
    assert!(spec["linux"]["maskedPaths"].as_array().unwrap().len() > 5);
    assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], false);
    let security = Security { privileged: true, ..Default::default() };
    let spec = built(&ContainerConfig { security, ..Default::default() }, &SandboxConfig::default());
    assert!(spec["linux"]["maskedPaths"].is_null());
    assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], true);
    assert!(mount(&spec, "/sys").unwrap()["options"].as_array().unwrap().contains(&json!("rw")));
}

#[test]
fn a_mount_of_the_user_replaces_the_runtimes_own_file() {
    let config = ContainerConfig { mounts: vec![Mount::bind("/my/hosts", "/etc/hosts")], ..Default::default() };
    let spec = built(&config, &SandboxConfig::default());
    let hosts: Vec<_> =
        spec["mounts"].as_array().unwrap().iter().filter(|mount| mount["destination"] == "/etc/hosts").collect();
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0]["source"], "/my/hosts");
    assert_eq!(mount(&spec, "/etc/resolv.conf").unwrap()["source"], "/s/resolv.conf");
}

#[test]
fn image_volumes_become_directories_where_the_root_is_read_only() {
    let spec = built(&ContainerConfig::default(), &SandboxConfig::default());
    assert!(mount(&spec, "/data").is_none());
    let security = Security { readonly_root: true, ..Default::default() };
    let spec = built(&ContainerConfig { security, ..Default::default() }, &SandboxConfig::default());
    assert_eq!(mount(&spec, "/data").unwrap()["source"], "/c/volumes/0");
}

#[test]
fn namespaces_follow_the_sandbox() {
    let kinds = |sandbox: &SandboxConfig| {
        let spec = built(&ContainerConfig::default(), sandbox);
        let list = spec["linux"]["namespaces"].as_array().unwrap().iter();
        list.map(|namespace| namespace["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(!kinds(&SandboxConfig { pid: Sharing::Pod, ..Default::default() }).contains(&"pid".to_owned()));
    assert!(kinds(&SandboxConfig { pid: Sharing::Container, ..Default::default() }).contains(&"pid".to_owned()));
}

#[test]
fn limits_reach_the_specification() {
    let resources = Resources {
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        memory: Some(1 << 20),
        oom_score_adj: Some(-997),
        ..Default::default()
    };
    let spec = built(&ContainerConfig { resources, ..Default::default() }, &SandboxConfig::default());
    let limits = &spec["linux"]["resources"];
    assert_eq!(limits["cpu"], json!({"shares": 512, "quota": 50_000, "period": 100_000}));
    assert_eq!(limits["memory"]["limit"], 1 << 20);
    assert_eq!(spec["process"]["oomScoreAdj"], -997);
}

#[test]
fn files_belong_inside_to_whom_they_belong_outside_where_users_are_the_pods_own() {
    let config = ContainerConfig { mounts: vec![Mount::bind("/data", "/data")], ..Default::default() };
    for own_users in [false, true] {
        let spec = built(&config, &SandboxConfig { own_users, ..Default::default() });
        for target in ["/data", "/etc/hosts", "/dev/shm"] {
            let options = mount(&spec, target).unwrap()["options"].as_array().unwrap().clone();
            assert_eq!(options.contains(&json!("ridmap")), own_users, "{target}");
        }
        let unmapped = vec![Mount { unmapped: true, ..Mount::bind("/data", "/data") }];
        let config = ContainerConfig { mounts: unmapped, ..Default::default() };
        let spec = built(&config, &SandboxConfig { own_users, ..Default::default() });
        assert!(!mount(&spec, "/data").unwrap()["options"].as_array().unwrap().contains(&json!("ridmap")));
    }
}
