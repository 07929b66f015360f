//! Tests of `cgroup`: cases as data where there are many.

use oci_spec::runtime::LinuxResources;

use super::*;

const HYBRID: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime shared:9 - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:36 / /elsewhere/pids rw,relatime - cgroup cgroup rw,pids
";
const UNIFIED: &str = "24 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

fn path(text: &str) -> Path {
    Path::new(text).unwrap()
}

#[test]
fn the_machine_s_version_is_read_from_its_mounts() {
    let hybrid = Version::from_mounts(HYBRID).unwrap();
    assert!(!hybrid.is_v2());
    let directories: Vec<_> =
        hybrid.directories(&path("madang/p")).iter().map(|one| one.to_str().unwrap().to_owned()).collect();
    assert_eq!(
        directories,
        [
            "/sys/fs/cgroup/cpu,cpuacct/madang/p",
            "/sys/fs/cgroup/cpuset/madang/p",
            "/sys/fs/cgroup/memory/madang/p",
            "/sys/fs/cgroup/freezer/madang/p",
            "/sys/fs/cgroup/pids/madang/p",
        ],
        "systemd's and the empty version 2 hierarchy are left alone, and one mounted twice counts once"
    );
    let unified = Version::from_mounts(UNIFIED).unwrap();
    assert!(unified.is_v2());
    assert_eq!(unified.directories(&path("a")), [std::path::Path::new("/sys/fs/cgroup/a")]);
    assert!(matches!(Version::from_mounts("1 1 0:1 / / rw - ext4 x rw\n"), Err(Error::Machine(_))));
}

#[test]
fn blanks_in_mount_points_are_understood() {
    let version = Version::from_mounts("1 1 0:1 / /a\\040b\\134c rw - cgroup2 x rw\n").unwrap();
    assert_eq!(version.directories(&path("d")), [std::path::Path::new("/a b\\c/d")]);
}

#[test]
fn paths_stay_below_the_root() {
    for good in ["a", "/a//b/", "kubepods/pod1234"] {
        Path::new(good).unwrap();
    }
    for bad in ["", "/", "..", "a/../b", "./a", "a\0", "a\nb", &"x".repeat(300), &"a/".repeat(40)] {
        assert!(matches!(Path::new(bad), Err(Error::Path(_))), "{bad:?}");
    }
    assert_eq!(path("a/b").parent(), Some(path("a")));
    assert_eq!(path("a").parent(), None);
    assert!(path("a").join("b/c").is_err());
}

fn writes(mounts: &str, resources: serde_json::Value) -> Result<Vec<String>, String> {
    let resources: LinuxResources = serde_json::from_value(resources).unwrap();
    let version = Version::from_mounts(mounts).unwrap();
    let line = |write: &crate::plan::Write| {
        let (name, value) = limits::short(write);
        format!("{}{name}={value}", if write.optional { "?" } else { "" })
    };
    let writes = limits::writes(&version, &path("g"), &resources).map_err(|error| error.to_string())?;
    Ok(writes.iter().map(line).collect())
}

#[test]
fn limits_become_control_files_of_either_version() {
    use serde_json::json;
    let cases = [
        (
            json!({"memory": {"limit": 100, "swap": 150, "reservation": 50}}),
            vec![
                "?memory.memsw.limit_in_bytes=150",
                "memory.limit_in_bytes=100",
                "?memory.memsw.limit_in_bytes=150",
                "memory.soft_limit_in_bytes=50",
            ],
            vec!["?memory.swap.max=50", "memory.max=100", "memory.low=50"],
        ),
        (
            json!({"memory": {"limit": -1, "swap": -1}}),
            vec!["?memory.memsw.limit_in_bytes=-1", "memory.limit_in_bytes=-1", "?memory.memsw.limit_in_bytes=-1"],
            vec!["?memory.swap.max=max", "memory.max=max"],
        ),
        (
            json!({"cpu": {"shares": 1024, "quota": 5000, "period": 10000, "cpus": "0-1", "mems": "0"}}),
            vec![
                "cpu.shares=1024",
                "cpu.cfs_period_us=10000",
                "cpu.cfs_quota_us=5000",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
            ],
            vec!["cpu.weight=100", "cpu.max=5000 10000", "cpuset.cpus=0-1", "cpuset.mems=0"],
        ),
        (json!({"cpu": {"quota": -1}}), vec!["cpu.cfs_quota_us=-1"], vec!["cpu.max=max 100000"]),
        (json!({"cpu": {"idle": 1, "shares": 2}}), vec!["cpu.shares=2", "cpu.idle=1"], vec!["cpu.idle=1"]),
        (json!({"pids": {"limit": 7}}), vec!["pids.max=7"], vec!["pids.max=7"]),
        (json!({"pids": {"limit": -1}}), vec!["pids.max=max"], vec!["pids.max=max"]),
        (json!({"pids": {"limit": 0}}), vec![], vec![]),
        (json!({}), vec![], vec![]),
    ];
    for (resources, one, two) in cases {
        assert_eq!(writes(HYBRID, resources.clone()).unwrap(), one, "{resources}");
        assert_eq!(writes(UNIFIED, resources.clone()).unwrap(), two, "{resources}");
    }
}

#[test]
fn what_a_version_cannot_do_is_refused() {
    use serde_json::json;
    assert!(writes(HYBRID, json!({"unified": {"memory.high": "5"}})).unwrap_err().contains("v1"));
    assert_eq!(
        writes(UNIFIED, json!({"unified": {"memory.oom.group": "1", "io.max": "8:0 rbps=1\n8:1 rbps=2"}})).unwrap(),
        ["io.max=8:0 rbps=1", "io.max=8:1 rbps=2", "memory.oom.group=1"]
    );
    assert!(writes(UNIFIED, json!({"unified": {"../x.y": "5"}})).unwrap_err().contains("not a control file"));
    assert!(writes(UNIFIED, json!({"memory": {"limit": 100, "swap": 50}})).unwrap_err().contains("less than"));
    assert!(
        writes(HYBRID, json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 5}]})).unwrap_err().contains("hugetlb")
    );
    assert!(writes(UNIFIED, json!({"hugepageLimits": [{"pageSize": "../x", "limit": 5}]})).is_err());
    assert!(writes(HYBRID, json!({"memory": {"swappiness": 101}})).unwrap_err().contains("101"));
}

#[test]
fn shares_become_weights_that_agree_on_the_default() {
    let cases = [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (1_000_000, 10_000)];
    for (shares, weight) in cases {
        assert_eq!(limits::weight(shares), weight, "{shares}");
    }
    assert!((2..262_144).step_by(997).is_sorted_by_key(limits::weight));
}
