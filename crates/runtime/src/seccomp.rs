//! The default system call filter, and profiles that users bring.
//!
//! A list of what is allowed, everything else fails with EPERM: what container engines agree on. Calls that a capability
//! guards in the kernel anyway are allowed when the container has that capability.
//! <https://docs.docker.com/engine/security/seccomp/> describes the list and its reasons,
//! <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp> the form.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Calls that every container may make, where the machine knows them.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown clock_adjtime
    clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2
    execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
    fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate
    futex futex_requeue futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid geteuid
    getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid
    getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getxattr
    getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents
    io_pgetevents ioprio_get ioprio_set io_setup io_submit kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr
    lseek lsetxattr lstat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat
    mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap
    mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat
    openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64
    preadv preadv2 prlimit64 process_mrelease pselect6 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
    recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall
    rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
    sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto setfsgid setfsuid setgid
    setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setrlimit set_robust_list setsid
    setsockopt set_thread_area set_tid_address setuid setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack
    signalfd signalfd4 socketpair splice stat statfs statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo
    tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
    timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat uretprobe utime utimensat utimes vfork
    vmsplice wait4 waitid write writev modify_ldt ptrace process_vm_readv process_vm_writev";

/// Calls that come with a capability.
const WITH_CAPABILITY: &[(&str, &str)] = &[
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd
         setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// `clone` flags that make namespaces.
const NAMESPACE_FLAGS: u64 = 0x7E02_0000;
/// Address families beside these are allowed: AF_VSOCK reaches the machine that virtualises this one.
const AF_VSOCK: u64 = 40;
const AF_ALG: u64 = 38;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

fn names(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// The default filter of a container with `capabilities` (`CAP_...`), in the OCI form.
pub fn default_profile(capabilities: &BTreeSet<String>) -> Value {
    let mut syscalls = vec![
        json!({"names": names(ALLOWED), "action": "SCMP_ACT_ALLOW"}),
        json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": AF_ALG, "op": "SCMP_CMP_LT"}]}),
        json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 39, "op": "SCMP_CMP_EQ"}]}),
        json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_GT"}]}),
    ];
    for persona in [0u64, 8, 0x20000, 0x20008, 0xffff_ffff] {
        syscalls.push(json!({
            "names": ["personality"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": persona, "op": "SCMP_CMP_EQ"}],
        }));
    }
    for (capability, calls) in WITH_CAPABILITY {
        if capabilities.contains(*capability) {
            syscalls.push(json!({"names": names(calls), "action": "SCMP_ACT_ALLOW"}));
        }
    }
    if !capabilities.contains("CAP_SYS_ADMIN") {
        syscalls.push(json!({
            "names": ["clone"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
        }));
        // Its flags lie in memory, which a filter cannot see; the C libraries fall back to clone.
        syscalls.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    }
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": EPERM, "syscalls": syscalls})
}

/// Reads a profile of a user: the OCI form, or the engines' with `archMap`, `includes` and `excludes`.
pub fn read_profile(path: &Path, capabilities: &BTreeSet<String>) -> Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("read seccomp profile {}", path.display()))?;
    let mut profile: Value =
        serde_json::from_slice(&text).with_context(|| format!("decode seccomp profile {}", path.display()))?;
    let Some(fields) = profile.as_object_mut() else {
        anyhow::bail!("seccomp profile {} is not an object", path.display());
    };
    fields.remove("archMap");
    fields.remove("architectures");
    if let Some(Value::Array(rules)) = fields.get_mut("syscalls") {
        rules.retain(|rule| applies(rule, capabilities));
        for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
            if let Some(name) = rule.remove("name") {
                rule.insert("names".into(), json!([name]));
            }
            for key in ["includes", "excludes", "comment"] {
                rule.remove(key);
            }
        }
    }
    Ok(profile)
}

/// Whether a rule's `includes` and `excludes` admit this machine and these capabilities.
fn applies(rule: &Value, capabilities: &BTreeSet<String>) -> bool {
    let list = |side: &str, key: &str| -> Vec<String> {
        let values = rule[side][key].as_array();
        values.into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let wanted = list("includes", "caps");
    let arches = list("includes", "arches");
    wanted.iter().all(|capability| capabilities.contains(capability))
        && (arches.is_empty() || arches.iter().any(|known| known == arch))
        && !list("excludes", "caps").iter().any(|capability| capabilities.contains(capability))
        && !list("excludes", "arches").iter().any(|known| known == arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules<'a>(profile: &'a Value, call: &str) -> Vec<&'a Value> {
        let rules = profile["syscalls"].as_array().unwrap().iter();
        rules.filter(|rule| rule["names"].as_array().unwrap().iter().any(|name| name == call)).collect()
    }

    #[test]
    fn mounting_needs_a_capability() {
        let plain = default_profile(&BTreeSet::new());
        assert!(rules(&plain, "mount").is_empty());
        assert_eq!(rules(&plain, "clone3")[0]["errnoRet"], ENOSYS);
        assert_eq!(rules(&plain, "clone")[0]["args"][0]["value"], NAMESPACE_FLAGS);
        let admin = default_profile(&BTreeSet::from(["CAP_SYS_ADMIN".to_owned()]));
        assert_eq!(rules(&admin, "mount").len(), 1);
        assert_eq!(rules(&admin, "clone3")[0]["action"], "SCMP_ACT_ALLOW");
        assert_eq!(rules(&admin, "clone").len(), 1);
    }

    #[test]
    fn the_profile_has_the_oci_form() {
        let profile = default_profile(&BTreeSet::new());
        let _: oci_spec::runtime::LinuxSeccomp = serde_json::from_value(profile).unwrap();
    }

    #[test]
    fn rules_of_engines_profiles_are_chosen_by_capability() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile.json");
        let text = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64"}],
            "syscalls": [
                {"name": "chmod", "action": "SCMP_ACT_ERRNO"},
                {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}, "comment": ""},
            ],
        });
        std::fs::write(&path, text.to_string()).unwrap();
        let profile = read_profile(&path, &BTreeSet::new()).unwrap();
        assert_eq!((rules(&profile, "chmod").len(), rules(&profile, "mkdir").len(), rules(&profile, "rmdir").len()), (1, 0, 1));
        let _: oci_spec::runtime::LinuxSeccomp = serde_json::from_value(profile).unwrap();
    }
}
