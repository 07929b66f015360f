//! Contexts and Dockerfiles that mean harm.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink};

use build::request::{Context, File, Options};
use oci::{Digest, media::OCI_INDEX};
use serde_json::{Value, json};

use crate::{
    place::{Place, as_root},
    web::{Web, answer},
};

#[test]
fn nothing_outside_of_a_context_is_read() {
    as_root(async {
        let place = Place::new().await;
        fs::write(place.path("secret"), "secret").unwrap();
        let context = place.context("context", &[("inside/file", "1"), ("up", "-> ../secret"), ("root", "-> /etc")]);
        symlink(place.path("secret"), context.join("absolute")).unwrap();
        symlink("/proc/self/root", context.join("magic")).unwrap();
        symlink("../../../../../../../../etc", context.join("far")).unwrap();
        for word in
            ["up", "absolute", "root/passwd", "../secret", "inside/../../secret", "magic/etc/passwd", "far/passwd"]
        {
            let dockerfile = format!("FROM scratch\nCOPY {word} /stolen\n");
            let error = place.files(place.request(&dockerfile, &context)).await.unwrap_err();
            assert!(error.contains("not found"), "{word}: {error}");
        }
        // Within a directory links are copied as links.
        let found = place.files(place.request("FROM scratch\nCOPY . /\n", &context)).await.unwrap();
        assert!(found.iter().any(|line| line.starts_with("absolute 777 0:0 -> ")), "{found:?}");
        assert!(!found.iter().any(|line| line.ends_with(" secret")), "{found:?}");
    });
}

#[test]
fn nothing_outside_of_a_layer_is_written() {
    as_root(async {
        let place = Place::new().await;
        let outside = place.path("outside");
        fs::create_dir(&outside).unwrap();
        let context = place.context("context", &[("a.txt", "a"), ("links/", "")]);
        symlink(&outside, context.join("links/absolute")).unwrap();
        symlink("../../../../../../../../..", context.join("links/up")).unwrap();
        let dockerfile = "FROM scratch\nCOPY links /\nCOPY a.txt /absolute/x\nCOPY a.txt /up/y\n";
        let found = place.files(place.request(dockerfile, &context)).await.unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(found.contains(&"y 644 0:0 a".to_owned()), "{found:?}");
        let inside = outside.strip_prefix("/").unwrap().join("x");
        assert!(found.contains(&format!("{} 644 0:0 a", inside.display())), "{found:?}");
    });
}

#[test]
fn what_is_ignored_is_not_there() {
    as_root(async {
        let place = Place::new().await;
        let files = [("a", "1"), ("b", "2"), ("d/x", "3"), ("d/y", "4"), (".dockerignore", "b\nd\n!d/x\n")];
        let context = place.context("context", &files);
        let found = place.files(place.request("FROM scratch\nCOPY . /\n", &context)).await.unwrap();
        let wanted = [".dockerignore 644 0:0 b|d|!d/x", "a 644 0:0 1", "d 755 0:0 dir", "d/x 644 0:0 3"];
        assert_eq!(found, wanted);
        for word in ["b", "d/y", "?/y"] {
            let dockerfile = format!("FROM scratch\nCOPY a {word} /to/\n");
            match place.files(place.request(&dockerfile, &context)).await {
                Err(error) => assert!(error.contains("not found"), "{word}: {error}"),
                Ok(found) => assert_eq!(found, ["to 755 0:0 dir", "to/a 644 0:0 1"], "{word}"),
            }
        }
        // The file beside the Dockerfile counts first.
        let mut request = place.request("FROM scratch\nCOPY . /\n", &context);
        request.dockerfile = File::InContext("My.Dockerfile".into());
        fs::write(context.join("My.Dockerfile"), "FROM scratch\nCOPY . /\n").unwrap();
        fs::write(context.join("My.Dockerfile.dockerignore"), "*\n!a\n").unwrap();
        assert_eq!(place.files(request).await.unwrap(), ["a 644 0:0 1"]);
    });
}

#[test]
fn archives_that_lead_out_stay_within() {
    as_root(async {
        let place = Place::new().await;
        let context = place.context("context", &[("a", "1")]);
        let header = |name: &str, kind: u8, link: &str, size: u64| {
            let mut block = [0_u8; 512];
            block[..name.len()].copy_from_slice(name.as_bytes());
            block[100..107].copy_from_slice(b"0000644");
            block[108..115].copy_from_slice(b"0000000");
            block[116..123].copy_from_slice(b"0000000");
            block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
            block[136..147].copy_from_slice(b"00000000000");
            block[156] = kind;
            block[157..157 + link.len()].copy_from_slice(link.as_bytes());
            block[257..265].copy_from_slice(b"ustar\x0000");
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            block.to_vec()
        };
        let outside = place.path("outside");
        fs::create_dir(&outside).unwrap();
        let escape = outside.to_str().unwrap();
        let archives = [
            ("dots.tar", [header("../../../../outside/x", b'0', "", 0)].concat()),
            ("link.tar", [header("l", b'2', escape, 0), header("l/x", b'0', "", 0)].concat()),
        ];
        for (name, bytes) in archives {
            fs::write(context.join(name), [bytes, vec![0; 1024]].concat()).unwrap();
            let dockerfile = format!("FROM scratch\nADD {name} /\n");
            // Refused or kept within: both are right, escaping is not.
            let _ = place.files(place.request(&dockerfile, &context)).await;
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{name}");
            // And as a context.
            let mut request = place.request("FROM scratch\nCOPY . /\n", &context);
            request.context = Context::Archive(Box::new(std::io::Cursor::new(fs::read(context.join(name)).unwrap())));
            let _ = place.files(request).await;
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{name}");
        }
    });
}

#[test]
fn images_that_lie_end_the_build_at_the_line_that_wants_them() {
    as_root(async {
        let place = Place::new().await;
        let context = place.context("context", &[("a", "1")]);
        let describe = |document: &str| json!({"mediaType": OCI_INDEX, "digest": Digest::sha256(document.as_bytes()), "size": document.len()});
        let index =
            |entry: Value| json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string();
        let mut deep = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).to_string();
        let mut served = BTreeMap::from([(Digest::sha256(deep.as_bytes()).to_string(), deep.clone())]);
        for _ in 0..50 {
            deep = index(describe(&deep));
            served.insert(Digest::sha256(deep.as_bytes()).to_string(), deep.clone());
        }
        let itself = Digest::sha256(b"itself").to_string();
        let circle = index(json!({"mediaType": OCI_INDEX, "digest": itself, "size": 300}));
        served.insert(itself, circle.clone());
        let other = index(json!({"mediaType": OCI_INDEX, "digest": Digest::sha256(deep.as_bytes()), "size": 1}));
        served.extend([
            ("deep".to_owned(), deep),
            ("circle".to_owned(), circle),
            ("size".to_owned(), other),
            ("large".to_owned(), " ".repeat(100 << 20)),
            ("nothing".to_owned(), "{}".to_owned()),
        ]);
        let web = Web::start(move |asked| match asked.path.rsplit_once("/manifests/") {
            Some((_, target)) => match served.get(target) {
                Some(document) => answer(&format!("200 OK\r\nContent-Type: {OCI_INDEX}"), document),
                None => answer("404 Not Found", ""),
            },
            None => answer("404 Not Found", ""),
        });
        let authority = web.url.trim_start_matches("http://");
        for (tag, reason) in [
            ("deep", "nested deeper than"),
            ("circle", "another digest"),
            ("size", "what refers to it says"),
            ("large", "longer than"),
            ("nothing", "neither a manifest nor an index"),
        ] {
            let name = format!("{authority}/team/app:{tag}");
            for dockerfile in [format!("FROM {name}\n"), format!("FROM scratch\nCOPY --from={name} /a /\n")] {
                let error = place.files(place.request(&dockerfile, &context)).await.unwrap_err();
                assert!(error.contains(reason) && error.contains(&name), "{tag}: {error}");
            }
        }
        for name in ["../../etc/passwd", "..", "a/../b", "a:../b", "/etc/passwd", "a@sha256:../../x"] {
            let dockerfile = format!("FROM {name}\n");
            let error = place.files(place.request(&dockerfile, &context)).await.unwrap_err();
            assert!(error.contains("invalid reference format"), "{name}: {error}");
        }
    });
}

#[test]
fn a_context_may_be_an_archive() {
    as_root(async {
        let place = Place::new().await;
        let context = place
            .context("context", &[("Dockerfile", "FROM scratch\nCOPY .wh.x dir /\n"), (".wh.x", "w"), ("dir/f", "1")]);
        let mut packed = std::process::Command::new("tar");
        packed.args(["--create", "--gzip", "--owner=7", "--directory"]).arg(&context).arg(".");
        let mut request = place.request("", &context);
        request.context = Context::Archive(Box::new(std::io::Cursor::new(packed.output().unwrap().stdout)));
        request.dockerfile = File::InContext("Dockerfile".into());
        // A name that marks removals in layers is a name like any other here.
        assert_eq!(place.files(request).await.unwrap(), [".wh.x 644 0:0 w", "f 644 0:0 1"]);
    });
}

#[test]
fn steps_get_no_more_than_the_build_was_given() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[("a", "1")]);
        for (instruction, wanted) in [
            ("RUN --security=insecure true", "security.insecure is not allowed"),
            ("RUN --network=host true", "network.host is not allowed"),
            ("RUN --device=vendor.com/gpu true", "devices are not given to steps"),
        ] {
            let dockerfile = format!("FROM test.madang.dev/busybox:1\n{instruction}\n");
            let error = place.files(place.request(&dockerfile, &context)).await.unwrap_err();
            assert!(error.contains(wanted), "{instruction}: {error}");
        }
        let mut request = place.request("FROM test.madang.dev/busybox:1\nRUN --network=host true\n", &context);
        request.options = Options { allow_host_network: true, ..request.options };
        place.files(request).await.unwrap();
    });
}
