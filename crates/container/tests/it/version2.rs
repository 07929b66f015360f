//! Cgroup version 2 on a machine of version 1: some tests again, in a mount namespace that shows nothing else. Its
//! controllers are version 1's there, so limits are not among them; a machine of version 2 runs all tests natively.

use std::process::Command;

use container::cgroup::Version;

use crate::sandbox::as_root;

/// Tests that need no controller.
const TESTS: [&str; 9] = [
    "cgroups::a_frozen_container_stands_still_and_can_be_killed",
    "cgroups::all_processes_go_with_their_container_also_those_that_hide",
    "cgroups::processor_time_is_counted",
    "confinement::a_container_has_the_namespaces_that_it_was_given",
    "confinement::devices_that_were_not_given_cannot_be_used",
    "execs::a_process_runs_in_the_containers_namespaces_and_groups",
    "lifecycle::a_container_runs_and_its_end_is_told_and_written_down",
    "mounts::control_groups_are_shown_as_the_containers_own_root",
    "pods::a_shared_process_namespace_has_an_init_that_is_nothing_else",
];

#[test]
fn containers_live_in_version_two_as_well() {
    as_root(async {
        if Version::detect().unwrap().is_v2() {
            return;
        }
        let script = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .arg("--exact")
            .args(TESTS)
            .output()
            .expect("this test needs unshare: apt-get install util-linux");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(&format!("{} passed", TESTS.len())), "{text}");
    });
}
