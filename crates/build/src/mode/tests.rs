//! Modes as `--chmod` writes them.

use super::ModeChange;

#[test]
fn modes_change_as_chmod_changes_them() {
    for (text, mode, directory, wanted) in [
        ("755", 0o600, false, 0o755),
        ("0644", 0o777, true, 0o644),
        ("4755", 0o644, false, 0o4755),
        ("u+x", 0o644, false, 0o744),
        ("+x", 0o644, false, 0o755),
        ("a-w", 0o666, false, 0o444),
        ("go=", 0o777, false, 0o700),
        ("u=rwX,go=rX", 0o600, false, 0o644),
        ("u=rwX,go=rX", 0o600, true, 0o755),
        ("u=rwX,go=rX", 0o700, false, 0o755),
        ("g=u", 0o640, false, 0o660),
        ("o=g-w", 0o660, false, 0o664),
        ("u+s,g+s", 0o755, false, 0o6755),
        ("+t", 0o755, true, 0o1755),
        ("u-s", 0o4755, false, 0o755),
    ] {
        assert_eq!(ModeChange::parse(text).unwrap().apply(mode, directory), wanted, "{text} on {mode:o}");
    }
}

#[test]
fn what_is_no_mode_is_refused() {
    for text in ["", "99", "77777", "u", "z+x", "u+q", "u+x,", "rwx"] {
        assert!(ModeChange::parse(text).is_err(), "{text}");
    }
}
