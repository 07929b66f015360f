//! Addresses as people write them, and as they are made to deceive.

use super::*;

fn parsed(text: &str) -> Option<(Option<String>, String, u16, String)> {
    let Address { user, host, port, path, .. } = Address::parse(text).unwrap()?;
    Some((user, host, port, path))
}

#[test]
fn both_forms_name_user_host_port_and_path() {
    let some = |user: Option<&str>, host: &str, port, path: &str| {
        Some((user.map(str::to_owned), host.to_owned(), port, path.to_owned()))
    };
    for (text, expected) in [
        ("ssh://git@host/team/a.git", some(Some("git"), "host", 22, "/team/a.git")),
        ("ssh://Host.Example:2222/a%20b.git", some(None, "host.example", 2222, "/a b.git")),
        ("ssh://host:/a", some(None, "host", 22, "/a")),
        ("git+ssh://me@[::1]:29/a", some(Some("me"), "::1", 29, "/a")),
        ("ssh://host/~me/a", some(None, "host", 22, "~me/a")),
        ("git@github.com:team/a.git", some(Some("git"), "github.com", 22, "team/a.git")),
        ("host:a b/c", some(None, "host", 22, "a b/c")),
        ("host:/srv/it's", some(None, "host", 22, "/srv/it's")),
        ("me@host:a:b", some(Some("me"), "host", 22, "a:b")),
        ("me@[host:2222]:a", some(Some("me"), "host", 2222, "a")),
        ("[fe80::1]:a", some(None, "fe80::1", 22, "a")),
        ("a.b@c@host:p", some(Some("a.b@c"), "host", 22, "p")),
        ("https://host/a:b", None),
        ("/srv/a:b", None),
        ("./a:b", None),
        ("a/b:c", None),
        ("plain", None),
        (":a", None),
        ("file:///etc/passwd", None),
    ] {
        assert_eq!(parsed(text), expected, "{text}");
    }
}

#[test]
fn what_could_be_taken_for_something_else_is_refused() {
    for text in [
        "ssh://-oProxyCommand=touch%20x/a",
        "-oProxyCommand=x:a",
        "me@-host:a",
        "ssh://-me@host/a",
        "host:-x",
        "host:",
        "ssh://host",
        "ssh://host/",
        "ssh:///a",
        "ssh://host:70000/a",
        "ssh://host:+22/a",
        "ssh://host:0/a",
        "ssh://host:22x/a",
        "ssh://me:secret@host/a",
        "ssh://ho st/a",
        "ssh://host%0a/a",
        "ssh://host/a%0ab",
        "ssh://host/%00",
        "ssh://host/%ff",
        "host:a\nb",
        "ho;st:a",
        "ext::sh -c touch% x",
        "ssh://[::1/a",
        "ssh://[::1]x/a",
    ] {
        assert!(Address::parse(text).is_err(), "{text}");
    }
    let long = format!("host:{}", "a".repeat(LONGEST));
    assert!(matches!(Address::parse(&long), Err(Error::TooLarge { .. })));
    let error = Address::parse("ssh://me:secret@host/a").unwrap_err().to_string();
    assert!(error.contains("key"), "{error}");
}

#[test]
fn paths_are_one_word_to_the_other_sides_shell() {
    for path in ["/a", "/a b", "it's", "$(touch x)`y`\"z\"", "a!b\\c", "';touch x;'", "a*?[b]{c,d}~|&<>#"] {
        let address = Address::parse(&format!("host:{path}")).unwrap().unwrap();
        let command = address.command().replace("git-upload-pack ", "printf %s ");
        let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), path);
    }
    assert_eq!(Address::parse("host:a'b!c").unwrap().unwrap().command(), r"git-upload-pack 'a'\''b'\!'c'");
}

#[test]
fn a_place_has_its_port_where_that_is_another() {
    let place = |text: &str| Address::parse(text).unwrap().unwrap().place();
    assert_eq!(place("git@HOST:a"), "host");
    assert_eq!(place("ssh://host:2222/a"), "[host]:2222");
}
