//! Names, words and options, as people write them.

use super::{
    build::{self, Wanted},
    name::{Name, registry, staged},
    run,
    words::words,
};

#[test]
fn names_are_divided_into_their_parts_and_written_again() {
    let parts = |text: &str| {
        let name = Name::parse(text).unwrap();
        assert_eq!(name.to_string(), text);
        (name.host.unwrap_or_default(), name.path, name.tag.unwrap_or_default(), name.digest.unwrap_or_default())
    };
    let four = |a: &str, b: &str, c: &str, d: &str| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned());
    assert_eq!(parts("app"), four("", "app", "", ""));
    assert_eq!(parts("me/app:1"), four("", "me/app", "1", ""));
    assert_eq!(parts("registry:5000/me/app:1"), four("registry:5000", "me/app", "1", ""));
    assert_eq!(parts("localhost/app"), four("localhost", "app", "", ""));
    assert_eq!(parts("r.example/app:1@sha256:ab"), four("r.example", "app", "1", "sha256:ab"));
    for wrong in ["", "App", "a b", "a\nRUN b", "a:", "a@b", "a//b", "r.example/", "a:1:2", "$x"] {
        assert!(Name::parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_name_in_a_registry_has_that_registry_once() {
    for (name, host, expected) in [
        ("app:1", "r.example", "r.example/app:1"),
        ("r.example/app:1", "r.example", "r.example/app:1"),
        ("app", "docker.io", "docker.io/library/app"),
        ("me/app", "docker.io", "docker.io/me/app"),
        ("app", "", "app"),
    ] {
        assert_eq!(Name::parse(name).unwrap().within(host).to_string(), expected);
    }
    for (url, expected) in [
        ("https://r.example:5000/v2/", "r.example:5000"),
        ("r.example", "r.example"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("https://me@r.example", "r.example"),
        ("", ""),
    ] {
        assert_eq!(registry(url), expected);
    }
}

#[test]
fn what_nobody_has_pushed_is_in_a_repository_of_the_runs_own() {
    let of = |image: &str| staged("registry.madang.internal", "shop", image, "0a1b").to_string();
    assert_eq!(of("app:1"), "registry.madang.internal/shop/app/run-0a1b:latest");
    assert_eq!(of("r.example/me/app"), "registry.madang.internal/shop/me/app/run-0a1b:latest");
    assert_eq!(of("registry.madang.internal/shop/app:2"), "registry.madang.internal/shop/app/run-0a1b:latest");
    assert!(Name::parse(&of(&"x".repeat(400))).unwrap().path.len() < 200);
}

#[test]
fn words_are_divided_as_a_shell_divides_them() {
    for (line, expected) in [
        ("a  b\tc", vec!["a", "b", "c"]),
        ("'a b' \"c d\"", vec!["a b", "c d"]),
        ("--build-arg=A='x y'z", vec!["--build-arg=A=x yz"]),
        ("a\\ b \"c\\\"d\\e\" ''", vec!["a b", "c\"d\\e", ""]),
        ("a \\\n b", vec!["a", "b"]),
        ("", vec![]),
    ] {
        assert_eq!(words(line).unwrap(), expected, "{line}");
    }
    assert!(words("'a").is_err() && words("\"a").is_err() && words(&"x".repeat(100_000)).is_err());
}

#[test]
fn arguments_of_a_build_become_fields_of_an_object() {
    let wanted = Wanted::parse(
        "--build-arg A='x y' --build-arg B --build-arg=C -f docker/Dockerfile --target run --label a=b --no-cache --pull \
         --network none --cache-from type=registry,ref=r/c:1 -t more:1 ./src",
        true,
    )
    .unwrap();
    assert_eq!((wanted.context.as_str(), wanted.file.as_deref()), ("./src", Some("docker/Dockerfile")));
    assert_eq!(wanted.tags, ["more:1"]);
    let spec = wanted.spec(|name| (name == "B").then(|| "from here".to_owned()));
    let expected = serde_json::json!({
        "args": [{"name": "A", "value": "x y"}, {"name": "B", "value": "from here"}],
        "target": "run", "labels": {"a": "b"}, "network": "None", "noCache": true, "cacheFrom": ["r/c:1"],
    });
    assert_eq!(serde_json::Value::Object(spec), expected);
    for wrong in [
        "-f x",
        "",
        "--push .",
        "--secret id=a .",
        "--ssh default .",
        "--unknown .",
        ". ..",
        "https://a/b.git",
        "-",
        "--network host .",
        "--build-arg",
        "--cache-from type=local,src=x .",
    ] {
        assert!(Wanted::parse(wrong, true).is_err(), "{wrong}");
    }
    assert!(Wanted::parse("--build-arg A=b", false).is_ok() && Wanted::parse(".", false).is_err());
}

#[test]
fn a_dockerfile_is_in_the_context_or_beside_it() {
    for (context, file, expected) in [
        (".", "Dockerfile", Some("Dockerfile")),
        ("./src/", "src/docker/Dockerfile", Some("docker/Dockerfile")),
        ("src", "Dockerfile", None),
        ("src", "srcs/Dockerfile", None),
        ("/", "Dockerfile", Some("w/Dockerfile")),
        ("../../..", "Dockerfile", None),
    ] {
        assert_eq!(build::within("/w", context, file).as_deref(), expected, "{context} {file}");
    }
}

#[test]
fn arguments_of_a_container_are_those_that_a_pod_can_have() {
    let none = |_: &str| None;
    let wanted =
        run::Wanted::parse("-u root:10 -e A=b --env=C='d e' -v /x:/y --entrypoint= --link db:base -p 80:80", none);
    let wanted = wanted.unwrap();
    assert_eq!((wanted.user, wanted.group), (Some(0), Some(10)));
    assert_eq!(wanted.environment, [("A".to_owned(), "b".to_owned()), ("C".to_owned(), "d e".to_owned())]);
    assert_eq!((wanted.entrypoint.as_deref(), wanted.aliases), (Some(""), vec!["base".to_owned()]));
    let given = run::Wanted::parse("-e A -e B", |name| (name == "A").then(|| "1".to_owned())).unwrap();
    assert_eq!(given.environment, [("A".to_owned(), "1".to_owned())]);
    for wrong in ["--privileged", "-p 8080:80", "-u me", "--unknown", "image", "-e", "--link 'x;y'", "--add-host a:b"] {
        assert!(run::Wanted::parse(wrong, none).is_err(), "{wrong}");
    }
}
