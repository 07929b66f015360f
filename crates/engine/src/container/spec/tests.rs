//! Tests of `spec`.

use std::{collections::BTreeMap, time::SystemTime};

use super::*;
use crate::model::{config::Config, record::State};

fn record() -> Record {
    Record {
        id: "a".repeat(64),
        name: "web".into(),
        created_at: SystemTime::UNIX_EPOCH,
        image: String::new(),
        config: Config { hostname: "web".into(), env: vec!["A=1".into(), "B=2".into()], ..Config::default() },
        host: HostConfig::default(),
        mounts: Vec::new(),
        networks: BTreeMap::new(),
        state: State::default(),
    }
}

#[test]
fn later_variables_win_and_a_name_alone_takes_one_away() {
    let more = ["B=3".to_owned(), "A".to_owned()];
    let env = environment(&record(), true, Some("/srv"), 7, &more);
    assert_eq!(
        env,
        [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME=web",
            "TERM=xterm",
            "B=3",
            "HOME=/srv"
        ]
    );
}

#[test]
fn limits_reach_the_specification() {
    let resources = Resources {
        nano_cpus: 500_000_000,
        memory: 64 << 20,
        memory_swap: 128 << 20,
        pids_limit: Some(-1),
        cpuset_cpus: "0-1".into(),
        ..Resources::default()
    };
    let limits = Value::from(limits(&resources).unwrap());
    assert_eq!(limits["cpu"], json!({"period": 100_000, "quota": 50_000, "cpus": "0-1"}));
    assert_eq!(limits["memory"], json!({"limit": 64 << 20, "swap": 128 << 20}));
    assert_eq!(limits["pids"], json!({"limit": -1}));
    assert!(super::limits(&Resources::default()).unwrap().is_empty());
}

#[test]
fn security_options_are_read_in_both_forms() {
    let host = |list: &[&str]| HostConfig {
        security_opt: Some(list.iter().map(|option| (*option).to_owned()).collect()),
        ..HostConfig::default()
    };
    let found =
        options(&host(&["no-new-privileges", "seccomp=unconfined", "apparmor:profile", "label=disable"])).unwrap();
    assert!(found.no_new_privileges);
    assert_eq!((found.seccomp.as_deref(), found.apparmor.as_deref()), (Some("unconfined"), Some("profile")));
    assert!(options(&host(&["what=ever"])).is_err());
}

#[test]
fn rules_for_devices_are_read() {
    assert_eq!(device_rule("c 1:* rw").unwrap(), json!({"allow": true, "type": "c", "access": "rw", "major": 1}));
    for bad in ["", "c 1:3", "x 1:3 rwm", "c 1:3 q", "c 1 r", "c a:3 r"] {
        assert!(device_rule(bad).is_err(), "{bad}");
    }
}
