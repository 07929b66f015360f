//! Tests of `users`: cases as data where there are many.

use std::{fs, os::unix::fs::symlink};

use super::*;

const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nweb:x:33:34:www:/var/www:/bin/false\n1000:x:7:8::/digits:\n";
const GROUP: &str = "root:x:0:\nwww:x:34:\nlog:x:4:web,other\naudio:x:29:other,web\ndouble:x:4:web\n";

fn check(user: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
    find(PASSWD, GROUP, user)
        .map(|user| (user.uid, user.gid, user.groups, user.home))
        .map_err(|error| error.to_string())
}

#[test]
fn users_are_found_as_images_name_them() {
    let cases = [
        ("", (0, 0, vec![], "/root")),
        ("root", (0, 0, vec![], "/root")),
        ("web", (33, 34, vec![4, 29], "/var/www")),
        ("web:", (33, 34, vec![4, 29], "/var/www")),
        ("web:log", (33, 4, vec![], "/var/www")),
        ("web:5", (33, 5, vec![], "/var/www")),
        ("33", (33, 34, vec![4, 29], "/var/www")),
        ("77", (77, 0, vec![], "/")),
        ("77:78", (77, 78, vec![], "/")),
        (":29", (0, 29, vec![], "/root")),
        ("1000", (7, 8, vec![], "/digits")),
    ];
    for (user, (uid, gid, groups, home)) in cases {
        assert_eq!(check(user), Ok((uid, gid, groups, home.to_owned())), "{user:?}");
    }
}

#[test]
fn unknown_names_and_numbers_out_of_range_are_refused() {
    assert_eq!(check("nobody"), Err("unable to find user nobody: no matching entries in passwd file".into()));
    assert_eq!(check("web:nogroup"), Err("unable to find group nogroup: no matching entries in group file".into()));
    assert_eq!(check("4294967295"), Err("user or group number 4294967295 is out of range".into()));
    assert_eq!(check("99999999999999"), Err("user or group number 99999999999999 is out of range".into()));
}

#[test]
fn links_out_of_the_image_stay_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(directory.path().join("passwd"), "outside:x:5:5::/:\n").unwrap();
    symlink("../../passwd", root.join("etc/passwd")).unwrap();
    assert!(matches!(resolve(&root, "outside"), Err(Error::User(_))));
    fs::write(root.join("passwd"), "inside:x:6:6::/:\n").unwrap();
    assert_eq!(resolve(&root, "inside").unwrap().uid, 6);
}

#[test]
fn the_topmost_layer_with_the_file_counts() {
    let directory = tempfile::tempdir().unwrap();
    let layers: Vec<_> = ["top", "middle", "bottom"].iter().map(|name| directory.path().join(name)).collect();
    for layer in &layers {
        fs::create_dir_all(layer.join("etc")).unwrap();
    }
    fs::write(layers[1].join("etc/passwd"), "web:x:2:2::/:\n").unwrap();
    fs::write(layers[2].join("etc/passwd"), "web:x:3:3::/:\nold:x:4:4::/:\n").unwrap();
    assert_eq!(resolve_in_layers(&layers, "web").unwrap().uid, 2);
    assert!(resolve_in_layers(&layers, "old").is_err());
}

#[test]
fn a_pipe_in_place_of_a_file_is_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.path().join("etc/passwd"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert_eq!(resolve(root.path(), "5").unwrap().uid, 5);
}
