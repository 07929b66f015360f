//! Flags over file over defaults.

use super::{Cidr, Flags};

#[test]
fn flags_win_over_the_file_and_defaults_fill_the_rest() {
    let dir = std::env::temp_dir().join(format!("madang-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("config.yaml");
    std::fs::write(&file, "node-name: from-file\nmax-pods: 7\nport: [api=1000, node=2000]\n").unwrap();
    let flags = Flags {
        config: Some(file),
        node_name: Some("from-flag".into()),
        port: vec!["api=0".into()],
        ..Flags::default()
    };
    let config = flags.resolve().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
    assert_eq!(config.node_name, "from-flag");
    assert_eq!(config.max_pods, 7);
    assert_eq!((config.port("api"), config.port("node")), (0, 2000));
    assert_eq!(config.dns_address().to_string(), "10.43.0.10");
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let cases: &[(Flags, &str)] = &[
        (Flags { port: vec!["apo=1".into()], ..Flags::default() }, "there are api, node"),
        (Flags { port: vec!["api".into()], ..Flags::default() }, "expected NAME=N"),
        (Flags { without: vec!["coffee".into()], ..Flags::default() }, "--without coffee"),
        (Flags { store: vec!["mysql://x".into()], ..Flags::default() }, "expected etcd:"),
        (Flags { metric_labels_allowlist: vec!["pods".into()], ..Flags::default() }, "expected KIND=[NAMES]"),
    ];
    for (flags, expected) in cases {
        let error = flags.clone().resolve().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn networks_are_checked() {
    assert_eq!("10.42.0.0/16".parse::<Cidr>().unwrap().nth(10).to_string(), "10.42.0.10");
    for wrong in ["10.42.0.0", "10.42.0.0/33", "10.42.0.1/16", "fd00::/64", ""] {
        assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
    }
}
