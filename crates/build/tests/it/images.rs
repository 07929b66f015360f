//! What comes out: images, archives, layouts.

use std::{
    fs,
    process::Command,
    sync::{Arc, Mutex},
};

use ::image::Which;
use build::request::{
    ArchiveForm, CachePlace, CacheTo, Compression, Confined, Context, Output, Own, Realm, Request, Sink,
};
use oci::Digest;
use serde_json::Value;

use crate::place::{Place, as_root};

fn image(name: &str) -> Vec<Output> {
    vec![Output::Image { names: vec![name.parse().unwrap()], push: false, compression: Compression::default() }]
}

fn config(place: &Place, name: &str) -> Value {
    let image = place.store.get(name).unwrap();
    serde_json::from_slice(&fs::read(place.store.blob(&image.id).unwrap()).unwrap()).unwrap()
}

async fn built(place: &Place, mut request: Request, outputs: Vec<Output>) -> build::request::Built {
    request.outputs = outputs;
    let (built, told) = place.build(request).await;
    built.unwrap_or_else(|error| panic!("{}{}", error.show(), told.output))
}

#[test]
fn an_image_says_what_the_file_says() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[("a", "1")]);
        let dockerfile = "FROM test.madang.dev/busybox:1\nENV A=1\nCOPY a /\nRUN echo x > /x\nWORKDIR /w\nUSER 5\n\
                          EXPOSE 80\nVOLUME /v\nLABEL l=1\nENTRYPOINT [\"/bin/cat\"]\nSTOPSIGNAL SIGINT\n";
        let mut request = place.request(dockerfile, &context);
        request.options.labels.insert("from".into(), "outside".into());
        let made = built(&place, request, image("test.madang.dev/app:1")).await;
        let config = config(&place, "test.madang.dev/app:1");
        let inner = &config["config"];
        assert_eq!(inner["Env"][1], "A=1");
        assert_eq!(inner["User"], "5");
        assert_eq!(inner["WorkingDir"], "/w");
        assert_eq!(inner["Labels"], serde_json::json!({"from": "outside", "l": "1"}));
        assert_eq!(inner["Entrypoint"], serde_json::json!(["/bin/cat"]));
        assert_eq!(inner["StopSignal"], "SIGINT");
        assert_eq!(config["os"], "linux");
        let layers = config["rootfs"]["diff_ids"].as_array().unwrap().len();
        let history = config["history"].as_array().unwrap();
        let with_layer = history.iter().filter(|line| line["empty_layer"] != true).count();
        assert_eq!((layers, with_layer), (4, 4));
        assert!(history.iter().all(|line| line["created"].is_string()), "{history:?}");
        let store = place.store.get("test.madang.dev/app:1").unwrap();
        assert_eq!((Some(&store.id), store.layers.len()), (made.image.as_ref(), 4));
        // The same again is the same image.
        let request = place.request(dockerfile, &context);
        let again = built(&place, request, image("test.madang.dev/app:2")).await;
        assert_ne!(again.image, made.image, "a label is missing");
        let request = place.request(dockerfile, &context);
        assert_eq!(built(&place, request, image("test.madang.dev/app:3")).await.image, again.image);
    });
}

#[test]
fn with_a_fixed_time_two_machines_make_the_same_image() {
    as_root(async {
        let mut ids = Vec::new();
        for _ in 0..2 {
            let place = Place::new().await;
            let context = place.context("context", &[("a", "1"), ("d/b", "2")]);
            let mut request = place.request("FROM scratch\nCOPY . /x/\nWORKDIR /w\n", &context);
            request.options.arguments.insert("SOURCE_DATE_EPOCH".into(), "1000000000".into());
            ids.push(built(&place, request, image("test.madang.dev/fixed:1")).await.manifest.unwrap());
            assert_eq!(config(&place, "test.madang.dev/fixed:1")["created"], "2001-09-09T01:46:40Z");
        }
        assert_eq!(ids[0], ids[1]);
    });
}

#[test]
fn archives_and_layouts_hold_the_whole_image() {
    as_root(async {
        let place = Place::new().await;
        let context = place.context("context", &[("a", "1")]);
        let name = "test.madang.dev/packed:1";
        for (form, compression) in [
            (ArchiveForm::Docker, Compression::Uncompressed),
            (ArchiveForm::Docker, Compression::Gzip),
            (ArchiveForm::Oci, Compression::Zstd),
        ] {
            let to = place.path("image.tar");
            let output =
                Output::Archive { form, names: vec![name.parse().unwrap()], compression, to: Sink::File(to.clone()) };
            let made = built(&place, place.request("FROM scratch\nCOPY a /\n", &context), vec![output]).await;
            assert!(place.store.get(name).is_none(), "it was not asked for in the store");
            let archive = tokio::fs::File::open(&to).await.unwrap();
            let loaded = place.store.load(archive).await.unwrap();
            assert_eq!(Some(&loaded[0].id), made.image.as_ref(), "{form:?} {compression:?}");
            assert_eq!(loaded[0].names, [name]);
            place.store.remove(name).await.unwrap();
        }
        let to = place.path("layout");
        let output = Output::Archive {
            form: ArchiveForm::Oci,
            names: Vec::new(),
            compression: Compression::Gzip,
            to: Sink::Directory(to.clone()),
        };
        built(&place, place.request("FROM scratch\nCOPY a /\n", &context), vec![output]).await;
        assert!(to.join("oci-layout").exists() && to.join("index.json").exists());
        let files = Output::Files { to: Sink::File(place.path("files.tar")) };
        built(&place, place.request("FROM scratch\nCOPY a /\n", &context), vec![files]).await;
        let listed = Command::new("tar").arg("--list").arg("--file").arg(place.path("files.tar")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "a\n");
    });
}

#[test]
fn images_and_the_cache_share_layers_and_neither_loses_the_others() {
    as_root(async {
        let place = Place::new().await;
        let context = place.context("context", &[("a", "1")]);
        let name = "test.madang.dev/shared:1";
        built(&place, place.request("FROM scratch\nCOPY a /\n", &context), image(name)).await;
        // The cache goes, the image stays.
        place.builder.cache().prune(Default::default()).await.unwrap();
        let layers = place.store.get(name).unwrap().layers;
        assert_eq!(fs::read_to_string(layers[0].join("a")).unwrap(), "1");
        // The image goes, the cache stays.
        built(&place, place.request("FROM scratch\nCOPY a /\n", &context), image(name)).await;
        place.store.remove(name).await.unwrap();
        let found = place.files(place.request("FROM scratch\nCOPY a /\n", &context)).await.unwrap();
        assert_eq!(found, ["a 644 0:0 1"]);
    });
}

#[test]
fn contexts_by_name_take_the_place_of_images_and_stages() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[("a", "1")]);
        let other = place.context("other", &[("b", "2"), (".dockerignore", ".dockerignore\n")]);
        let dockerfile =
            "FROM scratch AS made\nCOPY a /wrong\nFROM base\nCOPY --from=made / /\nCOPY --from=base b /c\n";
        let mut request = place.request(dockerfile, &context);
        let directory = |path: &std::path::Path| build::request::Context::Directory(path.to_owned());
        request.named.insert("made".into(), directory(&context));
        request.named.insert("base".into(), directory(&other));
        assert_eq!(place.files(request).await.unwrap(), ["a 644 0:0 1", "b 644 0:0 2", "c 644 0:0 2"]);
    });
}

#[test]
fn results_travel_to_another_machine_by_a_layout() {
    as_root(async {
        let dockerfile = "FROM scratch AS made\nCOPY a /made\nFROM scratch\nCOPY --from=made /made /x\nWORKDIR /w\n";
        let (first, second, third) = (Place::new().await, Place::new().await, Place::new().await);
        let layout = CachePlace::Local { path: first.path("cache"), tag: Some("main".into()), digest: None };
        let to = |all, compression| CacheTo { place: layout.clone(), all, compression, may_fail: false };
        let build = async |place: &Place, from: Option<CachePlace>, to: Option<CacheTo>| {
            let context = place.context("context", &[("a", "1")]);
            let mut request = place.request(dockerfile, &context);
            (request.options.cache_from, request.options.cache_to) =
                (from.into_iter().collect(), to.into_iter().collect());
            built(place, request, image("test.madang.dev/carried:1")).await
        };
        let made = build(&first, None, Some(to(true, Compression::Zstd))).await;
        assert_eq!(made.steps, (3, 0));
        let carried = build(&second, Some(layout.clone()), None).await;
        assert_eq!(carried.steps, (0, 3));
        assert_eq!(config(&first, "test.madang.dev/carried:1"), config(&second, "test.madang.dev/carried:1"));
        // Known there now, without asking anybody.
        assert_eq!(build(&second, None, None).await.steps, (0, 3));
        // Only what the outcome consists of: the stage is made again, and what is copied from it is found.
        build(&first, None, Some(to(false, Compression::Gzip))).await;
        assert_eq!(build(&third, Some(layout.clone()), None).await.steps, (1, 2));
        // A cache that is damaged, or not there, costs time and nothing else.
        let fourth = Place::new().await;
        for blob in fs::read_dir(first.path("cache").join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap().path();
            let text = fs::read(&blob).unwrap();
            if !text.starts_with(b"{") {
                fs::write(&blob, vec![b'x'; text.len()]).unwrap();
            }
        }
        assert_eq!(build(&fourth, Some(layout), None).await.steps, (3, 0));
        let nowhere = CachePlace::Local { path: "/nowhere/at/all".into(), tag: None, digest: None };
        assert_eq!(build(&fourth, Some(nowhere), None).await.steps, (0, 3));
    });
}

#[test]
fn confined_builds_share_results_with_their_own_alone_and_name_nothing() {
    as_root(async {
        let place = Place::new().await;
        let context = place.context("context", &[("a", "1")]);
        let name = "test.madang.dev/confined:1";
        let own: Mutex<Option<Own>> = Mutex::default();
        let build = async |realm: &str, dockerfile: &str| {
            let mut request = place.request(dockerfile, &context);
            request.outputs = image(name);
            if !realm.is_empty() {
                let own = own.lock().unwrap().clone();
                request.realm = Realm::Confined(Confined { name: realm.into(), registries: Default::default(), own });
            }
            place.build(request).await.0
        };
        let dockerfile = "FROM scratch\nCOPY a /\n";
        for (realm, steps) in [("one", (1, 0)), ("two", (1, 0)), ("one", (0, 1))] {
            assert_eq!(build(realm, dockerfile).await.unwrap().steps, steps, "{realm}");
            assert!(place.store.get(name).is_none(), "a name was given");
        }
        assert_eq!(build("", dockerfile).await.unwrap().steps, (1, 0));
        assert!(place.store.get(name).is_some());
        // The machine has it, its registry does not give it.
        let refused = build("one", &format!("FROM {name}\n")).await.unwrap_err().to_string();
        assert!(refused.contains("failed to resolve source metadata"), "{refused}");
        // By its id it has an image that is its own, and no other; nobody asks a registry for an id.
        let id = place.store.get(name).unwrap().id;
        let of_id = format!("FROM {id}\nCOPY a /b\n");
        let refused = build("one", &of_id).await.unwrap_err().to_string();
        assert!(refused.contains("no such image"), "{refused}");
        let known = id.clone();
        *own.lock().unwrap() =
            Some(Arc::new(move |asked: &str| (asked == known.as_str() || asked == "mine").then(|| known.clone())));
        for text in [&of_id, "FROM mine\n", &format!("FROM scratch\nCOPY --from={id} /a /\n")] {
            build("one", text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        for text in [format!("FROM {}\n", Digest::sha256(b"other")), format!("FROM {name}\n")] {
            let refused = build("one", &text).await.unwrap_err().to_string();
            assert!(refused.contains("failed to resolve source metadata"), "{text}: {refused}");
        }
        // The machine has them all.
        for text in [of_id, format!("FROM {}\n", id.hex()), format!("FROM {}\n", &id.hex()[..12])] {
            build("", &text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        let refused = build("", &format!("FROM {}\n", Digest::sha256(b"x").hex())).await.unwrap_err().to_string();
        assert!(refused.contains("no such image"), "{refused}");
        // Somebody listens there, and is not for others.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("FROM scratch\nADD http://{}/x /\n", listener.local_addr().unwrap());
        let refused = build("one", &url).await.unwrap_err().to_string();
        assert!(refused.contains("this machine itself"), "{refused}");
    });
}

#[test]
fn several_platforms_make_an_index_of_images() {
    as_root(async {
        let place = Place::new().await;
        let context = place.context("context", &[("amd64", "x"), ("arm64", "a")]);
        let request = |dockerfile: &str, platform: &str| {
            let mut request = place.request(dockerfile, &context);
            request.options.platform = Some(platform.to_owned());
            request
        };
        let both = "linux/amd64,linux/arm64";
        let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\nENV ARCH=$TARGETARCH\n";
        let layout = place.directory.path().join("layout");
        let archive = |form: ArchiveForm, to: Sink| Output::Archive {
            form,
            names: vec!["test.madang.dev/both:1".parse().unwrap()],
            compression: Compression::Zstd,
            to,
        };
        let output = archive(ArchiveForm::Oci, Sink::Directory(layout.clone()));
        let made = built(&place, request(dockerfile, both), vec![output]).await;
        let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(layout.join(name)).unwrap()).unwrap() };
        let blob = |entry: &Value| {
            let digest = entry["digest"].as_str().unwrap().trim_start_matches("sha256:");
            read(&format!("blobs/sha256/{digest}"))
        };
        let entry = &read("index.json")["manifests"][0];
        assert_eq!(entry["digest"], serde_json::json!(made.manifest));
        let mut layers = Vec::new();
        for (entry, architecture) in blob(entry)["manifests"].as_array().unwrap().iter().zip(["amd64", "arm64"]) {
            assert_eq!(entry["platform"], serde_json::json!({"os": "linux", "architecture": architecture}));
            let manifest = blob(entry);
            layers.push(manifest["layers"][0]["digest"].clone());
            let config = blob(&manifest["config"]);
            assert_eq!(
                (&config["architecture"], &config["config"]["Env"][1]),
                (&serde_json::json!(architecture), &serde_json::json!(format!("ARCH={architecture}")),)
            );
        }
        assert_ne!(layers[0], layers[1]);
        // Nothing of it stays.
        assert!(place.store.list().is_empty());

        let nowhere = [
            (image("test.madang.dev/both:1"), "is not kept here"),
            (vec![archive(ArchiveForm::Docker, Sink::Directory(layout.clone()))], "hold one platform"),
            (vec![Output::Files { to: Sink::Directory(layout.clone()) }], "to one place"),
        ];
        for (outputs, why) in nowhere {
            let asked = Request { outputs, ..request(dockerfile, both) };
            let error = place.build(asked).await.0.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        // Files can be put together for any machine, programs run on their own.
        let foreign = request("FROM scratch\nCOPY amd64 /x\nRUN [\"/x\"]\n", "linux/sparc64");
        let error = place.build(foreign).await.0.unwrap_err();
        assert!(error.to_string().contains("runs no programs for linux/sparc64"), "{error}");
    });
}

#[test]
fn a_context_may_be_an_image_of_a_layout_and_a_base_with_its_configuration() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[]);
        let layout = place.path("layout");
        let base =
            "FROM test.madang.dev/busybox:1\nENV FROM=layout\nWORKDIR /w\nRUN echo kept > /w/file\nCMD [\"it\"]\n";
        let output = Output::Archive {
            form: ArchiveForm::Oci,
            names: vec!["test.madang.dev/base:2.0".parse().unwrap()],
            compression: Compression::Gzip,
            to: Sink::Directory(layout.clone()),
        };
        let made = built(&place, place.request(base, &context), vec![output]).await;
        let (digest, base) = (made.manifest.unwrap(), made.image.unwrap());
        let tag = |tag: &str| Which::Tag(tag.to_owned());
        let used = "FROM base\nRUN echo $FROM $(cat file) > /said\n";
        let copied = "FROM test.madang.dev/busybox:1\nCOPY --from=Base /w/file /said\n";
        let replaced = "FROM scratch AS base\nFROM base\nRUN echo $FROM $(cat file) > /said\n";
        for (dockerfile, which, said) in [
            (used, tag("2.0"), "layout kept"),
            // The only image of a layout is meant whatever its tag is.
            (used, tag("latest"), "layout kept"),
            (used, Which::Digest(digest.clone()), "layout kept"),
            (copied, tag("2.0"), "kept"),
            (replaced, tag("2.0"), "layout kept"),
        ] {
            let request = || {
                let mut request = place.request(dockerfile, &context);
                request.named.insert("base".into(), Context::Layout(layout.clone(), which.clone()));
                request
            };
            let found = place.files(request()).await.unwrap();
            assert!(found.contains(&format!("said 644 0:0 {said}")), "{dockerfile}{which:?}: {found:?}");
            let named = format!("test.madang.dev/of-layout:{}", said.len());
            built(&place, request(), image(&named)).await;
            let command = config(&place, &named)["config"]["Cmd"].clone();
            assert_eq!(command == serde_json::json!(["it"]), dockerfile != copied, "{dockerfile}: {command}");
            place.store.untag(&named.parse().unwrap()).await.unwrap();
        }
        // What came out of the layout is gone again.
        assert!(place.store.get(base.as_str()).is_none());
        let mut request = place.request(used, &context);
        let missing = Which::Digest(oci::Digest::sha256(b"none"));
        request.named.insert("base".into(), Context::Layout(layout.clone(), missing));
        let (failed, _) = place.build(request).await;
        assert!(failed.unwrap_err().show().contains("is not in it"));
        // Blobs are what their names say.
        let config = fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
        config.for_each(|blob| fs::write(blob, "{}").unwrap());
        let mut request = place.request(used, &context);
        request.named.insert("base".into(), Context::Layout(layout, tag("2.0")));
        let (failed, _) = place.build(request).await;
        assert!(failed.unwrap_err().show().contains("has another digest"));
    });
}
