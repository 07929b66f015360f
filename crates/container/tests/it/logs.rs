//! Log files of containers.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use container::shim::{LogFile, Stdio};

use crate::sandbox::{Sandbox, as_root, typed};

#[test]
fn records_have_the_runtime_interfaces_form() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        pod.run("c", &pod.spec("echo out; sleep 0.01; echo err >&2; sleep 0.01; printf end")).await;
        let text = fs::read_to_string(pod.path("c.log")).unwrap();
        let lines: Vec<Vec<_>> = text.lines().map(|line| line.splitn(4, ' ').collect()).collect();
        let rest: Vec<_> = lines.iter().map(|line| (line[1], line[2], line[3])).collect();
        assert_eq!(rest, [("stdout", "F", "out"), ("stderr", "F", "err"), ("stdout", "P", "end")]);
        for line in &lines {
            assert!(line[0].len() == 30 && line[0].ends_with('Z') && &line[0][10..11] == "T", "{}", line[0]);
        }
        assert!(lines[0][0] < lines[1][0]);
        pod.end().await;
    });
}

#[test]
fn full_logs_are_rotated_without_losing_a_line() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let log = LogFile { path: pod.path("c.log"), max_bytes: 100_000, max_files: 200 };
        let stdio = Stdio { log: Some(log), ..Stdio::default() };
        let spec = typed(&pod.spec("seq 1 50000"));
        pod.shim.create("c", &spec, &pod.rootfs("c"), &stdio).await.unwrap();
        pod.shim.start("c").await.unwrap();
        assert_eq!(pod.exit("c").await.code, 0);
        let mut numbers = Vec::<u32>::new();
        let mut files: Vec<_> = (1..200).rev().map(|number| format!("c.log.{number}")).collect();
        files.push("c.log".into());
        for name in files {
            let Ok(text) = fs::read_to_string(pod.path(&name)) else { continue };
            assert!(text.len() <= 100_000, "{name} has {} bytes", text.len());
            numbers.extend(text.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u32>().unwrap()));
        }
        assert_eq!(numbers, (1..=50_000).collect::<Vec<_>>());
        pod.end().await;
    });
}

#[test]
fn a_log_that_was_moved_is_opened_anew_when_asked() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        pod.start("c", &pod.spec("echo one; sleep 0.3; echo two")).await.unwrap();
        while pod.output("c").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fs::rename(pod.path("c.log"), pod.path("old.log")).unwrap();
        pod.shim.reopen_log("c").await.unwrap();
        pod.exit("c").await;
        assert_eq!((pod.output("old").as_str(), pod.output("c").as_str()), ("one\n", "two\n"));
        pod.end().await;
    });
}

#[test]
fn a_container_may_have_no_log() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let spec = typed(&pod.spec("seq 1 100000; exit 4"));
        pod.shim.create("c", &spec, &pod.rootfs("c"), &Stdio::default()).await.unwrap();
        pod.shim.start("c").await.unwrap();
        assert_eq!(pod.exit("c").await.code, 4);
        pod.end().await;
    });
}

#[test]
fn a_log_is_complete_when_the_end_is_told_even_with_processes_left_behind() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        let mut spec = pod.spec("(sleep 100; echo late) & seq 1 1000; exit 2");
        // In the machine's process namespace the kernel does not end what is left.
        spec["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}]);
        pod.start("c", &spec).await.unwrap();
        assert_eq!(pod.exit("c").await.code, 2);
        assert_eq!(pod.output("c").lines().count(), 1000);
        pod.shim.delete("c", false).await.unwrap();
        pod.end().await;
    });
}

#[test]
fn a_log_on_a_full_disk_does_not_stop_the_container() {
    as_root(async {
        let mut pod = Sandbox::new().await;
        // A character device that refuses every write, reached through a directory of its own.
        let small = pod.path("small");
        fs::create_dir(&small).unwrap();
        rustix::mount::mount("tmpfs", &small, "tmpfs", rustix::mount::MountFlags::empty(), Some(c"size=4k")).unwrap();
        let log = LogFile { path: small.join("c.log"), max_bytes: 0, max_files: 1 };
        let stdio = Stdio { log: Some(log), ..Stdio::default() };
        let spec = typed(&pod.spec("seq 1 20000; exit 6"));
        pod.shim.create("c", &spec, &pod.rootfs("c"), &stdio).await.unwrap();
        pod.shim.start("c").await.unwrap();
        let exit = pod.exit("c").await;
        let size = fs::metadata(small.join("c.log")).unwrap().size();
        rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!((exit.code, size), (6, 4096));
        let complaints = fs::read_to_string(pod.path("state/shim.log")).unwrap();
        assert!(complaints.contains("No space left"), "{complaints}");
        fs::write(pod.path("state/shim.log"), "").unwrap();
        pod.end().await;
    });
}
