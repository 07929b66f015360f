//! Tests of `filter`: cases as data where there are many.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::json;

use super::*;
use crate::seccomp::runtime_default;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = RET_ERRNO | 1;
const ENOSYS: u32 = RET_ERRNO | 38;

/// Runs a program as the kernel does. Arguments are those of the call.
fn run(program: &[u8], table: Table, number: u32, arguments: &[u64]) -> u32 {
    let mut data = [0u8; 64];
    data[..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&table.audit.to_ne_bytes());
    for (index, argument) in arguments.iter().enumerate() {
        data[16 + 8 * index..24 + 8 * index].copy_from_slice(&argument.to_ne_bytes());
    }
    let (mut accumulator, mut at) = (0u32, 0usize);
    loop {
        let bytes = &program[at * 8..at * 8 + 8];
        let value = u32::from_ne_bytes(bytes[4..8].try_into().unwrap());
        let (yes, no) = (usize::from(bytes[2]), usize::from(bytes[3]));
        at += 1;
        let jump = |holds: bool| if holds { yes } else { no };
        match u16::from_ne_bytes([bytes[0], bytes[1]]) {
            LOAD => accumulator = u32::from_ne_bytes(data[value as usize..value as usize + 4].try_into().unwrap()),
            AND => accumulator &= value,
            JUMP => at += value as usize,
            JUMP_EQUAL => at += jump(accumulator == value),
            JUMP_GREATER => at += jump(accumulator > value),
            JUMP_GREATER_EQUAL => at += jump(accumulator >= value),
            RETURN => return value,
            code => panic!("{code:#x}"),
        }
    }
}

fn rules(value: serde_json::Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

fn call(seccomp: &Seccomp, name: &str, arguments: &[u64]) -> u32 {
    run(&seccomp.program, Table::NATIVE, Table::NATIVE.number(name).unwrap(), arguments)
}

#[test]
fn the_table_is_sorted_and_agrees_with_this_machine() {
    assert!(NUMBERS.is_sorted_by_key(|entry| entry.0));
    for (name, number) in [
        ("read", libc::SYS_read),
        ("clone3", libc::SYS_clone3),
        ("openat2", libc::SYS_openat2),
        ("seccomp", libc::SYS_seccomp),
        ("mount_setattr", libc::SYS_mount_setattr),
    ] {
        assert_eq!(Table::NATIVE.number(name).map(i64::from), Some(number), "{name}");
    }
    assert_eq!(X86.number("socketcall"), Some(102));
    assert_eq!(AARCH64.number("openat"), Some(56));
    assert_eq!(AARCH64.number("open"), None);
}

#[test]
fn the_default_profile_allows_its_list_and_nothing_else() {
    let filter = compile(&runtime_default([])).unwrap();
    assert!(filter.program.len() / 8 < 1000, "{} instructions", filter.program.len() / 8);
    for name in ["read", "write", "execve", "openat", "futex", "clone", "rseq", "statx", "landlock_create_ruleset"] {
        assert_eq!(call(&filter, name, &[0, 0]), ALLOW, "{name}");
    }
    for name in [
        "mount",
        "bpf",
        "reboot",
        "setns",
        "unshare",
        "init_module",
        "keyctl",
        "add_key",
        "kexec_load",
        "swapon",
        "io_uring_setup",
        "userfaultfd",
        "pivot_root",
        "settimeofday",
        "open_by_handle_at",
        "chroot",
        "syslog",
    ] {
        assert_eq!(call(&filter, name, &[0, 0]), EPERM, "{name}");
    }
    assert_eq!(call(&filter, "clone3", &[0]), ENOSYS);
    for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWPID, libc::CLONE_NEWNET, libc::CLONE_NEWCGROUP]
    {
        assert_eq!(call(&filter, "clone", &[flag as u64 | libc::SIGCHLD as u64]), EPERM, "{flag:#x}");
    }
    for (family, verdict) in [
        (libc::AF_UNIX, ALLOW),
        (libc::AF_INET6, ALLOW),
        (libc::AF_ALG, EPERM),
        (39, ALLOW),
        (libc::AF_VSOCK, EPERM),
        (44, ALLOW),
    ] {
        assert_eq!(call(&filter, "socket", &[family as u64]), verdict, "family {family}");
    }
    for (personality, verdict) in [
        (0, ALLOW),
        (8, ALLOW),
        (0x2_0000, ALLOW),
        (0x2_0008, ALLOW),
        (0xffff_ffff, ALLOW),
        (1, EPERM),
        (0x4_0000, EPERM),
        (0x1_0000_0000, EPERM),
    ] {
        assert_eq!(call(&filter, "personality", &[personality]), verdict, "{personality:#x}");
    }
}

#[test]
fn capabilities_open_what_belongs_to_them() {
    let filter = compile(&runtime_default(["CAP_SYS_ADMIN", "SYS_TIME"])).unwrap();
    for name in ["mount", "setns", "unshare", "clone3", "bpf", "settimeofday"] {
        assert_eq!(call(&filter, name, &[0]), ALLOW, "{name}");
    }
    assert_eq!(call(&filter, "clone", &[libc::CLONE_NEWUSER as u64]), ALLOW);
    assert_eq!(call(&filter, "reboot", &[]), EPERM);
}

#[test]
fn calls_newer_than_the_rules_do_not_exist() {
    let filter = compile(&runtime_default([])).unwrap();
    assert_eq!(run(&filter.program, Table::NATIVE, 1000, &[]), ENOSYS);
    let small = rules(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}]}));
    let filter = compile(&small).unwrap();
    assert_eq!(call(&filter, "read", &[]), ALLOW);
    assert_eq!(call(&filter, "clone3", &[]), ENOSYS);
    let deny = rules(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]}));
    let filter = compile(&deny).unwrap();
    assert_eq!(call(&filter, "read", &[]), RET_ERRNO | 5);
    assert_eq!(run(&filter.program, Table::NATIVE, 1000, &[]), ALLOW);
}

#[test]
fn other_architectures_have_their_own_numbers_or_none() {
    let filter = compile(&runtime_default([])).unwrap();
    if Table::NATIVE == X86_64 {
        assert_eq!(run(&filter.program, X86, X86.number("read").unwrap(), &[]), ALLOW);
        assert_eq!(run(&filter.program, X86, X86.number("mount").unwrap(), &[]), EPERM);
        // Number 165 is mount on one and getresuid on the other.
        assert_eq!(run(&filter.program, X86, 165, &[]), ALLOW);
        assert_eq!(run(&filter.program, X86_64, X32_BIT | 1, &[]), ENOSYS);
        assert_eq!(run(&filter.program, AARCH64, 63, &[]), RET_KILL_PROCESS);
    }
    let native = rules(json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    let filter = compile(&native).unwrap();
    assert_eq!(call(&filter, "read", &[]), ALLOW);
    assert_eq!(run(&filter.program, X86, 3, &[]), RET_KILL_PROCESS);
}

#[test]
fn arguments_are_compared_in_all_their_bits() {
    let high = 0x1_0000_0005u64;
    // Operator, value, second value; then arguments and whether each fits.
    let cases = [
        ("EQ", 5, 0, vec![(5, true), (4, false), (high, false)]),
        ("EQ", high, 0, vec![(high, true), (5, false)]),
        ("NE", 5, 0, vec![(5, false), (4, true), (high, true)]),
        ("LT", 5, 0, vec![(4, true), (5, false), (6, false), (high, false)]),
        ("LT", high, 0, vec![(4, true), (high - 1, true), (high, false), (2 * high, false)]),
        ("LE", 5, 0, vec![(4, true), (5, true), (6, false), (high, false)]),
        ("GT", 5, 0, vec![(5, false), (6, true), (high, true)]),
        ("GT", high, 0, vec![(6, false), (high, false), (high + 1, true), (2 * high, true)]),
        ("GE", high, 0, vec![(6, false), (high - 1, false), (high, true), (high + 1, true)]),
        ("MASKED_EQ", 0xff00, 0x1200, vec![(0x1234, true), (0x3412, false), (0x1_0000_1200, true)]),
    ];
    for (operator, value, two, arguments) in cases {
        let filter = compile(&rules(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 2, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{operator}")}]},
        ]})))
        .unwrap();
        for (argument, fits) in arguments {
            let verdict = if fits { ALLOW } else { EPERM };
            assert_eq!(call(&filter, "read", &[0, 0, argument]), verdict, "{argument:#x} {operator} {value:#x}");
        }
    }
}

#[test]
fn tests_of_one_rule_must_all_hold_unless_they_are_about_the_same_argument() {
    let rule = |second: usize| {
        compile(&rules(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": second, "value": 2, "op": "SCMP_CMP_EQ"}]},
        ]})))
        .unwrap()
    };
    let (both, either) = (rule(1), rule(0));
    assert_eq!(call(&both, "read", &[1, 2]), ALLOW);
    assert_eq!(call(&both, "read", &[1, 3]), EPERM);
    assert_eq!(call(&both, "read", &[3, 2]), EPERM);
    assert_eq!(
        (call(&either, "read", &[1]), call(&either, "read", &[2]), call(&either, "read", &[3])),
        (ALLOW, ALLOW, EPERM)
    );
}

#[test]
fn the_first_rule_that_fits_decides() {
    let filter = compile(&rules(json!({"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7, "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
        {"names": ["read", "no_such_call"], "action": "SCMP_ACT_LOG"},
        {"names": ["read"], "action": "SCMP_ACT_TRAP"},
    ]})))
    .unwrap();
    assert_eq!(call(&filter, "read", &[1]), RET_ERRNO | 7);
    assert_eq!(call(&filter, "read", &[2]), 0x7ffc_0000);
    assert_eq!(call(&filter, "write", &[2]), RET_KILL_PROCESS);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let notify = rules(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}),
    );
    assert!(matches!(compile(&notify), Err(Error::Action(_))));
    let sixth = rules(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}));
    assert!(matches!(compile(&sixth), Err(Error::Argument { index: 6, .. })));
}
