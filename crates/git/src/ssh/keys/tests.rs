//! Keys as `ssh-keygen` and `openssl` write them.

use super::*;

const LOCK: &str = "pass phrase";

/// Name, text, passphrase, fingerprint as `ssh-keygen -l` prints it.
const KEYS: &[(&str, &str, bool, &str)] = &[
    (
        "ed25519",
        include_str!("../../../testdata/keys/ed25519"),
        false,
        "SHA256:C8gKNWOMAXYMfLTR7vxZNi7tjuXhSYUtA+Lh9xjLluY",
    ),
    (
        "locked",
        include_str!("../../../testdata/keys/locked"),
        true,
        "SHA256:Ppnz4Xp1hfhT2RkU3h/Q7ZgysPhfwhELdSiewVGWDMo",
    ),
    (
        "ecdsa",
        include_str!("../../../testdata/keys/ecdsa"),
        false,
        "SHA256:R5lvHMdaF1AdY0bLCpg2gF8RVj7eyhCX/jinB+G7psI",
    ),
    ("rsa", include_str!("../../../testdata/keys/rsa"), false, "SHA256:zaF1jyKZ6iar2qKOpXY1K7lrTJLQl5w7Ei0bM3q0Kj8"),
    (
        "rsa-pkcs1",
        include_str!("../../../testdata/keys/rsa-pkcs1"),
        false,
        "SHA256:lXB/Lu0zXIIXPX/Go5s2n4I3afwXJPXl4jQQcy4yhpg",
    ),
    (
        "rsa-pkcs1-locked",
        include_str!("../../../testdata/keys/rsa-pkcs1-locked"),
        true,
        "SHA256:FZjIPw/e18BIb7pf7iQ+/BQ/uvllCQ+d8C4/ndIkxqQ",
    ),
    (
        "rsa-pkcs8-locked",
        include_str!("../../../testdata/keys/rsa-pkcs8-locked"),
        true,
        "SHA256:pXSHdTbBsvZsXFRgaQo9T3IPfsZpVEGFy8fKOzb5YBE",
    ),
    (
        "ecdsa-sec1",
        include_str!("../../../testdata/keys/ecdsa-sec1"),
        false,
        "SHA256:wDPXZynA5wS2luewtejNPzy1eTMp1aKqI28G8rUQdKg",
    ),
    (
        "ecdsa-pkcs8",
        include_str!("../../../testdata/keys/ecdsa-pkcs8"),
        false,
        "SHA256:wDPXZynA5wS2luewtejNPzy1eTMp1aKqI28G8rUQdKg",
    ),
    (
        "ed25519-pkcs8",
        include_str!("../../../testdata/keys/ed25519-pkcs8"),
        false,
        "SHA256:JEwiSf1HCNnPY0Xr5B1G6hsnzUOOikmy49T9P5mhlT0",
    ),
    (
        "ed25519-scrypt-locked",
        include_str!("../../../testdata/keys/ed25519-scrypt-locked"),
        true,
        "SHA256:JEwiSf1HCNnPY0Xr5B1G6hsnzUOOikmy49T9P5mhlT0",
    ),
];

fn says(error: Result<Key, Error>) -> String {
    error.expect_err("it is none").to_string()
}

#[test]
fn keys_of_every_form_are_read() {
    for (name, text, locked, fingerprint) in KEYS {
        let key = Key::parse(text, locked.then_some(LOCK)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(key.fingerprint(), *fingerprint, "{name}");
        let pasted = format!("\r\n  {}  \r\n", text.trim().replace('\n', "\r\n"));
        assert!(Key::parse(&pasted, locked.then_some(LOCK)).is_ok(), "{name}, pasted");
        // One that is not needed does no harm; one that is needed is asked for, and has to be the right one.
        match locked {
            false => assert!(Key::parse(text, Some("not needed")).is_ok(), "{name}"),
            true => {
                assert!(says(Key::parse(text, None)).contains("not given"), "{name}");
                assert!(says(Key::parse(text, Some(""))).contains("not given"), "{name}");
                assert!(says(Key::parse(text, Some("other"))).contains("does not open"), "{name}");
            }
        }
        assert!(!format!("{key:?}").contains(text.lines().nth(1).unwrap()), "{name} is shown");
    }
}

#[test]
fn what_is_no_key_is_told_without_what_it_holds() {
    let public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKgzTaP1O59xnCMk1Jxv8/gh6KpCMgF1UcjblzBvmTOT one";
    let broken = KEYS[0].1.replacen('A', "B", 40);
    let cut: String = KEYS[0].1.lines().take(2).collect::<Vec<_>>().join("\n");
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in ["", "secret", public, certificate, &broken, &cut, "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n"] {
        let error = says(Key::parse(text, None));
        assert!(error.contains("private key") && !error.contains("secret"), "{text}: {error}");
    }
    let long = format!("{}{}", KEYS[0].1, "\n".repeat(LARGEST));
    assert!(matches!(Key::parse(&long, None), Err(Error::TooLarge { .. })));
}

#[test]
fn a_passphrase_that_takes_long_is_not_tried() {
    let slow = include_str!("../../../testdata/keys/slow");
    assert!(matches!(Key::parse(slow, Some("x")), Err(Error::TooLarge { .. })));
}
