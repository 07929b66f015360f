//! Tests of `compile`: cases as data where there are many.

use serde_json::{Value, json};

use super::*;
use crate::plan::Source;

const V2: &str = "24 1 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
const V1: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
";

fn compiled(mounts: &str, change: impl FnOnce(&mut Value)) -> Result<Plan, String> {
    let mut spec = json!({
        "ociVersion": "1.2.0",
        "root": {"path": "/root"},
        "process": {"args": ["/bin/true"], "cwd": "/", "user": {"uid": 1, "gid": 2}, "env": ["A=b"]},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "cgroup"}]},
    });
    change(&mut spec);
    let spec: Spec = serde_json::from_value(spec).map_err(|error| error.to_string())?;
    let version = Version::from_mounts(mounts).unwrap();
    let group = Path::new("pod/c").unwrap();
    plan(&spec, Rootfs::Directory, &version, Some(&group)).map_err(|error| error.to_string())
}

fn mount_of(options: &[&str], kind: &str, source: &str) -> Result<crate::plan::Mount, String> {
    let plan = compiled(V2, |spec| {
        spec["mounts"] = json!([{"destination": "/m", "type": kind, "source": source, "options": options}]);
    })?;
    Ok(plan.mounts[0].clone())
}

#[test]
fn mount_options_become_attributes() {
    let mount = mount_of(&["rbind", "ro", "nosuid", "nodev", "noexec", "rslave"], "bind", "/s").unwrap();
    assert_eq!((mount.source(), mount.recursive, mount.set, mount.clear), (Source::Bind, true, 0xf, 0));
    assert_eq!((mount.propagation, mount.propagation_below), (libc::MS_SLAVE, true));
    let mount = mount_of(&["bind", "ro", "rw", "noatime", "rro", "private"], "none", "/s").unwrap();
    assert_eq!((mount.recursive, mount.set, mount.clear), (false, 0x10, 0x71));
    assert_eq!((mount.set_below, mount.propagation, mount.propagation_below), (1, libc::MS_PRIVATE, false));
    let mount = mount_of(&["nosuid", "mode=755", "size=64k", "tmpcopyup", "defaults"], "tmpfs", "tmpfs").unwrap();
    assert_eq!((mount.source(), mount.set, mount.copy_up), (Source::New, 2, true));
    assert_eq!(mount.options, ["mode=755", "size=64k"]);
}

#[test]
fn mounts_that_make_no_sense_are_refused() {
    assert!(mount_of(&["bind"], "bind", "relative").unwrap_err().contains("not absolute"));
    assert!(mount_of(&[], "", "/s").unwrap_err().contains("no type"));
    assert!(mount_of(&["a\0b"], "tmpfs", "tmpfs").unwrap_err().contains("zero byte"));
}

#[test]
fn control_groups_are_mounted_as_the_machine_has_them() {
    let cgroup = |spec: &mut Value| {
        spec["mounts"] =
            json!([{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}]);
    };
    let mount = compiled(V2, cgroup).unwrap().mounts[0].clone();
    assert_eq!((mount.source(), mount.kind.as_str(), mount.set), (Source::Cgroup, "cgroup2", 1));
    let mount = compiled(V1, cgroup).unwrap().mounts[0].clone();
    let shown: Vec<_> = mount.hierarchies.iter().map(|one| (one.name.as_str(), one.option.as_str())).collect();
    assert_eq!(shown, [("cpu,cpuacct", "cpu,cpuacct"), ("memory", "memory"), ("systemd", "name=systemd")]);
    assert!(mount.hierarchies.iter().all(|one| one.directory.is_empty()));
    // Without a namespace of its own a container is shown its own directories only.
    let without = |spec: &mut Value| {
        cgroup(spec);
        spec["linux"]["namespaces"] = json!([{"type": "mount"}]);
    };
    let mount = compiled(V1, without).unwrap().mounts[0].clone();
    let shown: Vec<_> = mount.hierarchies.iter().map(|one| one.directory.as_str()).collect();
    assert_eq!(shown, ["/sys/fs/cgroup/cpu,cpuacct/pod/c", "/sys/fs/cgroup/memory/pod/c"]);
    let mount = compiled(V2, without).unwrap().mounts[0].clone();
    assert_eq!((mount.source(), mount.from.as_str()), (Source::Bind, "/sys/fs/cgroup/pod/c"));
}

#[test]
fn a_mount_namespace_is_always_made() {
    let plan = compiled(V2, |spec| spec["linux"]["namespaces"] = json!([])).unwrap();
    assert_eq!(plan.namespaces.iter().map(|one| one.kind).collect::<Vec<_>>(), [libc::CLONE_NEWNS as u64]);
    let error = compiled(V2, |spec| spec["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "pid"}]));
    assert!(error.unwrap_err().contains("twice"));
    let error = compiled(V2, |spec| spec["linux"]["namespaces"] = json!([{"type": "network", "path": "relative"}]));
    assert!(error.unwrap_err().contains("not absolute"));
    let error = compiled(V2, |spec| spec["linux"]["namespaces"] = json!([{"type": "user"}]));
    assert!(error.unwrap_err().contains("uidMappings"));
}

#[test]
fn sysctls_are_paths_that_stay_below() {
    let cases = [
        ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
        ("net/ipv4/conf/eth0.100/forwarding", Some("net/ipv4/conf/eth0.100/forwarding")),
        ("net.ipv4.conf.eth0/100.forwarding", Some("net/ipv4/conf/eth0.100/forwarding")),
        ("kernel.shmmax", Some("kernel/shmmax")),
        ("..", None),
        ("net..ip", None),
        ("net/../../etc", None),
        ("", None),
        ("/etc/passwd", None),
    ];
    for (name, path) in cases {
        assert_eq!(sysctl(name, "1").ok().map(|setting| setting.name).as_deref(), path, "{name}");
    }
}

#[test]
fn capabilities_are_masks_and_unknown_ones_are_left_out() {
    let plan = compiled(V2, |spec| {
        spec["process"]["capabilities"] = json!({"bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN"], "ambient": ["CAP_KILL"]});
    })
    .unwrap();
    let sets = plan.process.unwrap().capabilities.unwrap();
    assert_eq!((sets.bounding, sets.ambient, sets.effective), (1 | 1 << 21, 1 << 5, 0));
    let none = compiled(V2, |_| {}).unwrap().process.unwrap().capabilities.unwrap();
    assert_eq!(none, Capabilities::default());
}

#[test]
fn what_is_not_supported_is_refused() {
    let error = compiled(V2, |spec| spec["linux"]["intelRdt"] = json!({"closID": "x"})).unwrap_err();
    assert_eq!(error, "linux.intelRdt is not supported");
    let bind = |options: Value, maps: bool| {
        compiled(V2, |spec| {
            let mut mount = json!({"destination": "/m", "type": "bind", "source": "/s", "options": options});
            if maps {
                mount["uidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 2}]);
            }
            spec["mounts"] = json!([mount]);
        })
    };
    assert!(bind(json!(["bind", "idmap"]), false).unwrap().mounts[0].mapped);
    assert!(bind(json!(["bind", "idmap"]), true).is_err(), "users without groups");
    assert!(mount_of(&["idmap"], "tmpfs", "tmpfs").is_err());
}

#[test]
fn home_is_looked_up_unless_it_is_given() {
    assert!(compiled(V2, |_| {}).unwrap().process.unwrap().set_home);
    let plan = compiled(V2, |spec| spec["process"]["env"] = json!(["HOME=/x"])).unwrap();
    assert!(!plan.process.unwrap().set_home);
}

#[test]
fn devices_of_a_specification_take_the_place_of_the_usual_ones() {
    let plan = compiled(V2, |spec| {
        spec["linux"]["devices"] = json!([
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 5},
            {"path": "/dev/pipe", "type": "p", "major": -1, "minor": -1},
        ]);
    })
    .unwrap();
    assert_eq!(plan.devices.len(), DEVICES.len() + 1);
    let null = plan.devices.iter().find(|device| device.path == "/dev/null").unwrap();
    assert_eq!((null.mode, null.uid), (0o600, 5));
    assert!(
        compiled(V2, |spec| spec["linux"]["devices"] = json!([{"path": "/d", "type": "c", "major": -1, "minor": 0}]))
            .is_err()
    );
}

#[test]
fn hooks_keep_their_order_and_are_checked() {
    let plan = compiled(V2, |spec| {
        spec["hooks"] = json!({
            "poststop": [{"path": "/c"}],
            "createRuntime": [{"path": "/a", "args": ["a", "b"], "env": ["X=y"], "timeout": 3}, {"path": "/b"}],
        });
    })
    .unwrap();
    let hooks: Vec<_> = plan.hooks.iter().map(|hook| (hook.moment(), hook.path.as_str(), hook.timeout)).collect();
    assert_eq!(
        hooks,
        [(Moment::CreateRuntime, "/a", 3), (Moment::CreateRuntime, "/b", 0), (Moment::Poststop, "/c", 0)]
    );
    assert!(compiled(V2, |spec| spec["hooks"] = json!({"poststop": [{"path": "c"}]})).is_err());
    assert!(compiled(V2, |spec| spec["hooks"] = json!({"poststop": [{"path": "/c", "timeout": 0}]})).is_err());
}

#[test]
fn overlays_have_layers_but_not_too_many() {
    let spec: Spec = serde_json::from_value(json!({
        "ociVersion": "1.2.0", "root": {"path": "/root"},
        "process": {"args": ["x"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
    }))
    .unwrap();
    let version = Version::from_mounts(V2).unwrap();
    let compile = |count: usize| {
        let lowers: Vec<_> = (0..count).map(|number| PathBuf::from(format!("/l/{number}"))).collect();
        let rootfs = Rootfs::Overlay {
            lowers: &lowers,
            upper: FilePath::new("/u"),
            work: FilePath::new("/w"),
            options: &[],
            mapped: false,
        };
        plan(&spec, rootfs, &version, None)
    };
    assert!(compile(0).is_err() && compile(129).is_err());
    assert_eq!(compile(128).unwrap().root.unwrap().overlay.unwrap().lowers.len(), 128);
}
