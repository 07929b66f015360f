//! What is made once and what is made again.

use std::fs;

use super::Files;
use crate::config::Flags;

#[test]
fn a_second_start_keeps_every_file_and_a_new_address_renews_the_servers_certificates() {
    let dir = std::env::temp_dir().join(format!("madang-pki-{}", std::process::id()));
    let uid = rustix::process::getuid().as_raw();
    let flags = Flags {
        data_dir: Some(dir.clone()),
        node_name: Some("one".into()),
        node_ip: Some([192, 0, 2, 7].into()),
        control_uid: Some(uid),
        ..Flags::default()
    };
    let mut config = flags.resolve().unwrap();
    let files = Files::of(&config);
    files.prepare(&config).unwrap();
    let all = ["ca.crt", "control/apiserver.crt", "control/kubelet-client.crt", "node/client.crt", "admin.key"];
    let first = all.map(|name| fs::read(files.path(name)).unwrap());
    files.prepare(&config).unwrap();
    assert_eq!(first, all.map(|name| fs::read(files.path(name)).unwrap()));
    config.node_ip = [192, 0, 2, 8].into();
    files.prepare(&config).unwrap();
    let third = all.map(|name| fs::read(files.path(name)).unwrap());
    fs::remove_dir_all(dir).unwrap();
    assert_eq!(first[0], third[0]);
    assert_ne!(first[1], third[1]);
    assert_eq!(first[3], third[3]);
}
