//! Tests of `model`.

use serde_json::json;

use super::{config::Config, host::HostConfig, *};

#[test]
fn null_is_absent_and_words_may_be_one_string() {
    let config: Config = lenient(json!({"Cmd": "ls", "Env": null, "Entrypoint": ["a", "b"], "Labels": null})).unwrap();
    assert_eq!((config.cmd, config.entrypoint), (Some(vec!["ls".to_owned()]), Some(vec!["a".into(), "b".into()])));
    assert!(config.env.is_empty());
    let host: HostConfig =
        lenient(json!({"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}, "PidsLimit": null})).unwrap();
    assert_eq!(host.port_bindings["80/tcp"][0].host_port, "8080");
    assert!(host.pids_limit.is_none());
}

#[test]
fn what_is_read_is_written_again() {
    let given = json!({"CpuShares": 5, "NanoCpus": 7, "IOMaximumIOps": 1, "Dns": ["1.1.1.1"], "UTSMode": "host"});
    let host: HostConfig = lenient(given.clone()).unwrap();
    let written = serde_json::to_value(&host).unwrap();
    for (name, value) in given.as_object().unwrap() {
        assert_eq!(&written[name], value, "{name}");
    }
}

#[test]
fn documents_that_nest_too_deeply_are_refused() {
    let mut value = json!(1);
    for _ in 0..100 {
        value = json!([value]);
    }
    assert!(lenient::<Value>(value).is_err());
}
