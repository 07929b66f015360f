//! User namespaces of pods and of containers, and mounts with mapped identifiers.

use std::{fs, os::unix::fs::MetadataExt};

use container::{
    capability,
    shim::{IdRange, Rootfs, SandboxSpec, Users},
};
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, as_root, finish, typed};

const FIRST: u32 = 1_000_000;

fn with_users(spec: &mut SandboxSpec) {
    let range = IdRange { inside: 0, outside: FIRST, size: 65_536 };
    spec.users = Some(Users { uids: vec![range], gids: vec![range] });
}

fn all_capabilities(spec: &mut Value) {
    for set in ["bounding", "effective", "permitted"] {
        let all: Vec<_> = capability::NAMES.iter().map(|name| format!("CAP_{name}")).collect();
        spec["process"]["capabilities"][set] = json!(all);
    }
}

#[test]
fn a_pod_s_root_is_nobody_outside() {
    as_root(async {
        let pod = Sandbox::with(with_users).await;
        let script = "id -u; stat -c %u /etc/passwd /proc/1 /dev/null; echo new > /new; mount -t tmpfs none /tmp && echo mounted; \
                      hostname other && hostname; cat /proc/self/uid_map; ip link set lo down && ip link set lo up && echo net; \
                      ls /sys/class/net; echo x > /dev/null && echo null; echo done; sleep 1000";
        let mut spec = pod.spec(script);
        all_capabilities(&mut spec);
        let pid = pod.start("c", &spec).await.unwrap();
        while !pod.output("c").ends_with("done\n") {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let out = pod.output("c");
        let out: Vec<_> = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            out,
            ["0", "0", "0", "65534", "mounted", "other", "0 1000000 65536", "net", "lo", "null", "done"],
            "{out:?}"
        );
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains(&format!("Uid:\t{FIRST}\t")), "{status}");
        // What it read belongs to root on the disk, what it wrote to the namespace's root.
        assert_eq!(fs::metadata(pod.path("image/etc/passwd")).unwrap().uid(), 0);
        assert_eq!(fs::metadata(pod.path("c-upper/new")).unwrap().uid(), FIRST);
        let exec = pod.shim.exec("c", &pod.process(&["id", "-u"]), false, false).await.unwrap();
        assert_eq!(finish(exec).await.1, "0\n");
        pod.end().await;
    });
}

#[test]
fn containers_of_a_pod_with_users_share_them_and_their_processes() {
    as_root(async {
        let mut pod = Sandbox::with(|spec| {
            with_users(spec);
            spec.share_pid = true;
        })
        .await;
        let mut spec = pod.spec("sleep 1000");
        spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "cgroup"}]);
        let one = pod.start("one", &spec).await.unwrap();
        let two = pod.start("two", &spec).await.unwrap();
        for name in ["user", "pid", "net", "ipc", "uts"] {
            let link = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
            assert_eq!(link(one), link(two), "{name}");
            assert_ne!(link(one), link(std::process::id() as i32), "{name}");
        }
        let (exit, out) = {
            let mut spec = pod.spec("ps -o args | grep -c '^sleep 1000'; exit 3");
            spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "cgroup"}]);
            pod.run("three", &spec).await
        };
        assert_eq!((exit.code, out.as_str()), (3, "2\n"));
        pod.end().await;
    });
}

#[test]
fn failures_in_a_user_namespace_are_told() {
    as_root(async {
        let pod = Sandbox::with(with_users).await;
        let error = pod.create("c", &pod.spec_of(&["missing"])).await.unwrap_err();
        assert!(matches!(error, container::shim::Error::ProgramNotFound(_)), "{error:?}");
        let mut spec = pod.spec("true");
        spec["mounts"].as_array_mut().unwrap().push(json!({"destination": "/x", "type": "bind", "source": "/none"}));
        let error = pod.create("d", &spec).await.unwrap_err().to_string();
        assert!(error.contains("/none"), "{error}");
        let mut spec = pod.spec("true");
        spec["process"]["user"] = json!({"uid": 70_000, "gid": 0});
        let result = match pod.create("e", &spec).await {
            Ok(_) => pod.shim.start("e").await.map(drop),
            Err(error) => Err(error),
        };
        assert!(result.unwrap_err().to_string().contains("user 70000"));
        pod.end().await;
    });
}

#[test]
fn a_bind_can_be_mapped() {
    as_root(async {
        let mut pod = Sandbox::with(with_users).await;
        let source = pod.path("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "x").unwrap();
        std::os::unix::fs::chown(source.join("file"), Some(33), Some(33)).unwrap();
        let mut spec = pod.spec("stat -c %u /mapped/file /plain/file; touch /mapped/new && stat -c %u /mapped/new");
        for (to, option) in [("/mapped", "idmap"), ("/plain", "rw")] {
            let mount = json!({"destination": to, "type": "bind", "source": source, "options": ["rbind", option]});
            spec["mounts"].as_array_mut().unwrap().push(mount);
        }
        let (_, out) = pod.run("c", &spec).await;
        assert_eq!(out, "33\n65534\n0\n");
        assert_eq!(fs::metadata(source.join("new")).unwrap().uid(), 0);
        pod.end().await;
        // The same with a mapping of its own, without a user namespace.
        let mut pod = Sandbox::new().await;
        let source = pod.path("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "x").unwrap();
        let mut spec = pod.spec("stat -c %u:%g /mapped/file");
        let map = json!([{"containerID": 0, "hostID": 5000, "size": 100}]);
        spec["mounts"].as_array_mut().unwrap().push(json!({"destination": "/mapped", "type": "bind", "source": source,
            "options": ["rbind", "idmap"], "uidMappings": map, "gidMappings": map}));
        let (_, out) = pod.run("c", &spec).await;
        assert_eq!(out, "5000:5000\n");
        pod.end().await;
    });
}

#[test]
fn a_container_may_have_a_user_namespace_of_its_own() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let mut spec = pod.spec("id -u; cat /proc/self/gid_map");
        spec["linux"]["namespaces"] =
            json!([{"type": "user"}, {"type": "pid"}, {"type": "mount"}, {"type": "cgroup"}, {"type": "network"}]);
        let map = json!([{"containerID": 0, "hostID": FIRST, "size": 1000}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        // Queues belong to the pod's IPC namespace, which this container is a stranger to.
        spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "mqueue");
        let (exit, out) = pod.run("c", &spec).await;
        let out: Vec<_> = out.split_whitespace().collect();
        assert_eq!((exit.code, out), (0, vec!["0", "0", "1000000", "1000"]));
        pod.end().await;
    });
}

#[test]
fn what_is_written_to_a_mapped_overlay_is_as_the_container_sees_it() {
    as_root(async {
        let mut pod = Sandbox::with(|spec| {
            // Every number that there is, as build steps have them.
            let range = IdRange { inside: 0, outside: 1 << 31, size: (1 << 31) - 1 };
            spec.users = Some(Users { uids: vec![range], gids: vec![range] });
        })
        .await;
        let marked = pod.path("below/lower/marked");
        fs::write(&marked, "x").unwrap();
        std::os::unix::fs::chown(&marked, Some(200_000), Some(7)).unwrap();
        // CAP_NET_BIND_SERVICE, effective and permitted: `struct vfs_cap_data` of <linux/capability.h>, version 2.
        let capability: Vec<u8> =
            [0x0200_0001_u32, 1 << 10, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
        rustix::fs::setxattr(&marked, "security.capability", &capability, rustix::fs::XattrFlags::empty()).unwrap();
        fs::create_dir_all(pod.path("draft/fs")).unwrap();
        fs::create_dir_all(pod.path("draft/work")).unwrap();
        let rootfs = Rootfs::Overlay {
            lowers: vec![pod.path("image"), pod.path("below")],
            upper: pod.path("draft/fs"),
            work: pod.path("draft/work"),
            options: vec!["redirect_dir=off".into(), "metacopy=off".into(), "index=off".into()],
            mapped: true,
        };
        let script = "stat -c %u:%g /lower/marked; touch /lower/marked; echo x > /new; chown 33:2147483000 /new; \
                      rm /etc/group; rm -r /lower/file; mkdir /lower/file; id -u";
        pod.shim.create("c", &typed(&pod.spec(script)), &rootfs, &pod.stdio("c")).await.unwrap();
        pod.shim.start("c").await.unwrap();
        pod.exit("c").await;
        assert_eq!(pod.output("c"), "200000:7\n0\n");
        let owner =
            |name: &str| fs::symlink_metadata(pod.path("draft/fs").join(name)).map(|it| (it.uid(), it.gid())).unwrap();
        assert_eq!(owner("new"), (33, 2_147_483_000));
        assert_eq!(owner("lower/marked"), (200_000, 7));
        assert_eq!(
            (owner(""), owner("lower"), owner("lower/file"), owner("etc/group")),
            ((0, 0), (0, 0), (0, 0), (0, 0))
        );
        let removed = fs::symlink_metadata(pod.path("draft/fs/etc/group")).unwrap();
        assert!(std::os::unix::fs::FileTypeExt::is_char_device(&removed.file_type()) && removed.rdev() == 0);
        let mut value = [0; 64];
        let marked = pod.path("draft/fs/lower/marked");
        let length = rustix::fs::getxattr(&marked, "security.capability", &mut value[..]).unwrap();
        assert_eq!(value[..length], capability);
        let length =
            rustix::fs::getxattr(pod.path("draft/fs/lower/file"), "trusted.overlay.opaque", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"y");
        // On the disk the two have to be on one mount.
        let Rootfs::Overlay { lowers, work, options, .. } = rootfs else { unreachable!() };
        let apart = Rootfs::Overlay { lowers, upper: pod.path("below"), work, options, mapped: true };
        let error = pod.shim.create("d", &typed(&pod.spec("true")), &apart, &pod.stdio("d")).await.unwrap_err();
        assert!(error.to_string().contains("not beside each other"), "{error}");
        pod.end().await;
    });
}
