//! The file systems that a container sees.

use std::{fs, os::unix::fs::symlink};

use container::shim::Rootfs;
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, as_root, typed};

fn mount(spec: &mut Value, mount: Value) {
    spec["mounts"].as_array_mut().unwrap().push(mount);
}

#[test]
fn layers_show_through_and_writes_stay_in_the_upper() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let script = "cat /lower/file; echo changed > /lower/file; rm /etc/group; cat /lower/file; ls /etc";
        let (_, out) = pod.run("c", &pod.spec(script)).await;
        assert_eq!(out, "from below\nchanged\npasswd\n");
        assert_eq!(fs::read_to_string(pod.path("below/lower/file")).unwrap(), "from below\n");
        assert_eq!(fs::read_to_string(pod.path("c-upper/lower/file")).unwrap(), "changed\n");
        assert!(pod.path("image/etc/group").exists());
        // The machine never saw the mount.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(pod.path("root").to_str().unwrap()));
        pod.end().await;
    });
}

#[test]
fn many_layers_with_long_names_can_be_mounted() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let long = "layer".repeat(40);
        let mut lowers = vec![pod.path("image")];
        for number in 0..120 {
            let layer = pod.path(&format!("{long}/{number}"));
            fs::create_dir_all(&layer).unwrap();
            fs::write(layer.join(format!("file-{number}")), "").unwrap();
            lowers.push(layer);
        }
        let Rootfs::Overlay { upper, work, .. } = pod.rootfs("c") else { unreachable!() };
        let rootfs = Rootfs::Overlay { lowers, upper, work, options: Vec::new(), mapped: false };
        let spec = typed(&pod.spec("ls /file-* | wc -l"));
        pod.shim.create("c", &spec, &rootfs, &pod.stdio("c")).await.unwrap();
        pod.shim.start("c").await.unwrap();
        pod.exit("c").await;
        assert_eq!(pod.output("c"), "120\n");
        pod.end().await;
    });
}

#[test]
fn a_directory_may_be_the_root_and_be_read_only() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let mut spec = pod.spec("touch /file; echo $?; echo x > /dev/null && echo fine; touch /tmp/x && echo tmp");
        spec["root"] = json!({"path": pod.path("image"), "readonly": true});
        mount(&mut spec, json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
        pod.shim.create("c", &typed(&spec), &Rootfs::Directory, &pod.stdio("c")).await.unwrap();
        pod.shim.start("c").await.unwrap();
        pod.exit("c").await;
        assert_eq!(pod.output("c"), "touch: /file: Read-only file system\n1\nfine\ntmp\n");
        pod.end().await;
    });
}

#[test]
fn binds_show_files_and_directories_with_their_options() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let source = pod.path("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::write(source.join("file"), "bound\n").unwrap();
        let script = "exec 2>&1; cat /d/file /f; touch /d/new || echo refused; touch /w/new && echo written; \
                      grep -E ' (/d|/w|/f) ' /proc/self/mountinfo | awk '{print $5, $6}'; ls -d /deep/new/path";
        let mut spec = pod.spec(script);
        mount(
            &mut spec,
            json!({"destination": "/d", "type": "bind", "source": source, "options": ["rbind", "ro", "nosuid"]}),
        );
        mount(
            &mut spec,
            json!({"destination": "/w", "type": "bind", "source": source, "options": ["bind", "nodev", "noexec"]}),
        );
        mount(
            &mut spec,
            json!({"destination": "/f", "type": "bind", "source": source.join("file"), "options": ["bind"]}),
        );
        mount(
            &mut spec,
            json!({"destination": "/deep/new/path", "type": "bind", "source": source, "options": ["bind"]}),
        );
        let (_, out) = pod.run("c", &spec).await;
        assert_eq!(
            out,
            "bound\nbound\ntouch: /d/new: Read-only file system\nrefused\nwritten\n\
             /d ro,nosuid,relatime\n/w rw,nodev,noexec,relatime\n/f rw,relatime\n/deep/new/path\n"
        );
        pod.end().await;
    });
}

#[test]
fn recursively_read_only_means_what_is_mounted_below_too() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let source = pod.path("source");
        fs::create_dir_all(source.join("inner")).unwrap();
        rustix::mount::mount("tmpfs", source.join("inner"), "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        let mut spec = pod.spec("exec 2>&1; touch /a/inner/x && echo a; touch /b/inner/x || echo b");
        mount(&mut spec, json!({"destination": "/a", "type": "bind", "source": source, "options": ["rbind", "ro"]}));
        mount(&mut spec, json!({"destination": "/b", "type": "bind", "source": source, "options": ["rbind", "rro"]}));
        let (_, out) = pod.run("c", &spec).await;
        rustix::mount::unmount(source.join("inner"), rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(out, "a\ntouch: /b/inner/x: Read-only file system\nb\n");
        pod.end().await;
    });
}

#[test]
fn links_of_an_image_cannot_lead_a_mount_out() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let outside = pod.path("outside");
        fs::create_dir_all(&outside).unwrap();
        let image = pod.path("image");
        symlink(&outside, image.join("absolute")).unwrap();
        symlink("../../../../../../../..", image.join("climbing")).unwrap();
        symlink("dangling-target", image.join("dangling")).unwrap();
        let mut spec = pod.spec("ls -d /dangling-target/inner; find / -xdev -name marker 2>/dev/null | sort");
        let source = pod.path("source");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("marker"), "").unwrap();
        for to in ["/absolute/a", "/climbing/b", "/dangling/inner"] {
            mount(&mut spec, json!({"destination": to, "type": "bind", "source": source, "options": ["bind"]}));
        }
        let (_, out) = pod.run("c", &spec).await;
        assert!(out.starts_with("/dangling-target/inner\n"), "{out}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
        assert!(!std::path::Path::new("/b").exists());
        pod.end().await;
    });
}

#[test]
fn a_link_in_place_of_proc_is_refused() {
    as_root(async {
        let pod = Sandbox::new().await;
        fs::remove_dir(pod.path("image/proc")).unwrap();
        symlink("etc", pod.path("image/proc")).unwrap();
        let mut spec = pod.spec("true");
        let error = pod.create("c", &spec).await.unwrap_err().to_string();
        assert!(error.starts_with("mount proc at /proc") && error.contains("symbolic links"), "{error}");
        // Nor are paths that are hidden found elsewhere.
        spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "proc");
        let error = pod.create("c", &spec).await.unwrap_err().to_string();
        assert!(error.contains("/proc/") && error.contains("symbolic links"), "{error}");
        pod.end().await;
    });
}

#[test]
fn masked_paths_are_empty_and_read_only_paths_cannot_be_written() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let script = "for f in kcore keys timer_list; do test ! -e /proc/$f || cat /proc/$f | wc -c; done | sort -u; \
                      ls /sys/firmware | wc -l; \
                      echo 1 > /proc/sys/kernel/domainname || echo refused; \
                      touch /sys/firmware/x || echo also; mount -o remount,rw /proc/sys || echo no";
        let (_, out) = pod.run("c", &pod.spec(&format!("({script}) 2>/dev/null"))).await;
        assert_eq!(out, "0\n0\nrefused\nalso\nno\n");
        pod.end().await;
    });
}

#[test]
fn devices_and_their_links_are_there() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let mut spec = pod.spec(
            "exec 2>&1; stat -c '%n %t:%T %a %u' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/mine; \
             for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; head -c 4 /dev/zero | wc -c; \
             echo x > /dev/full || echo full",
        );
        spec["linux"]["devices"] =
            json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 33, "gid": 0}]);
        let (_, out) = pod.run("c", &spec).await;
        assert_eq!(
            out,
            "/dev/null 1:3 666 0\n/dev/zero 1:5 666 0\n/dev/full 1:7 666 0\n/dev/random 1:8 666 0\n\
             /dev/urandom 1:9 666 0\n/dev/tty 5:0 666 0\n/dev/mine 1:3 640 33\n\
             /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n4\n\
             sh: write error: No space left on device\nfull\n"
        );
        pod.end().await;
    });
}

#[test]
fn a_tmpfs_can_begin_with_what_it_hides() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        fs::create_dir_all(pod.path("image/data/sub")).unwrap();
        fs::write(pod.path("image/data/sub/file"), "kept\n").unwrap();
        std::os::unix::fs::chown(pod.path("image/data/sub"), Some(33), Some(33)).unwrap();
        symlink("sub/file", pod.path("image/data/link")).unwrap();
        let mut spec = pod
            .spec("cat /data/link; stat -c %u /data/sub; stat -f -c %T /data; echo x > /data/sub/new && ls /data/sub");
        mount(
            &mut spec,
            json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "mode=755"]}),
        );
        let (_, out) = pod.run("c", &spec).await;
        assert_eq!(out, "kept\n33\ntmpfs\nfile\nnew\n");
        pod.end().await;
    });
}

#[test]
fn bidirectional_mounts_reach_the_machine_and_others_do_not() {
    as_root(async {
        let pod = Sandbox::new().await;
        let shared = pod.path("shared");
        fs::create_dir_all(shared.join("out")).unwrap();
        fs::create_dir_all(shared.join("kept")).unwrap();
        let path = shared.as_path();
        rustix::mount::mount_bind(path, path).unwrap();
        rustix::mount::mount_change(path, rustix::mount::MountPropagationFlags::SHARED).unwrap();
        let mut spec =
            pod.spec("mount -t tmpfs none /both/out && mount -t tmpfs none /one/kept && echo mounted; sleep 1000");
        for sets in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][sets].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
        }
        mount(
            &mut spec,
            json!({"destination": "/both", "type": "bind", "source": path, "options": ["rbind", "rshared"]}),
        );
        mount(
            &mut spec,
            json!({"destination": "/one", "type": "bind", "source": path, "options": ["rbind", "rprivate"]}),
        );
        pod.start("c", &spec).await.unwrap();
        for _ in 0..200 {
            if !pod.output("c").is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        pod.shim.delete("c", true).await.unwrap();
        while rustix::mount::unmount(path.join("out"), rustix::mount::UnmountFlags::DETACH).is_ok() {}
        rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(pod.output("c"), "mounted\n");
        assert!(mounts.contains(path.join("out").to_str().unwrap()));
        assert!(!mounts.contains(path.join("kept").to_str().unwrap()));
        pod.end().await;
    });
}

#[test]
fn control_groups_are_shown_as_the_containers_own_root() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let script = "exec 2>&1; if [ -d /sys/fs/cgroup/memory ]; then cd /sys/fs/cgroup/memory; else cd /sys/fs/cgroup; fi; \
                      grep -c . cgroup.procs; mkdir new || echo read-only; ls -d madang* 2>/dev/null; echo end";
        let (_, out) = pod.run("c", &pod.spec(script)).await;
        let lines: Vec<_> = out.lines().collect();
        assert!(lines[0].parse::<u32>().unwrap() <= 3, "{out}");
        assert_eq!(lines[1..], ["mkdir: can't create directory 'new': Read-only file system", "read-only", "end"]);
        pod.end().await;
    });
}
