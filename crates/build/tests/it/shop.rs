//! The sample application's images, on the machine's own network: they fetch packages of Debian, Go and Python.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use build::request::{Context, File, NetworkMode, Options, Output};

use crate::place::{Place, as_root_within};

/// An archive of `debian:bookworm-slim`, as `cargo xtask images` makes it. Without it the test does not run.
const BASE: &str = "MADANG_SHOP_BASE";

#[test]
fn the_sample_application_builds_and_building_it_again_takes_no_time() {
    let Some(base) = std::env::var_os(BASE).map(PathBuf::from) else {
        eprintln!("not run: {BASE} names no archive of debian:bookworm-slim");
        return;
    };
    as_root_within(Duration::from_secs(1800), async {
        let place = Place::trusting().await;
        place.store.load(tokio::fs::File::open(&base).await.unwrap()).await.unwrap();
        let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop");
        for name in ["inventory", "orders", "storefront"] {
            for time in ["first", "again"] {
                let request = |name: &str| {
                    let mut request = place.request("", &shop);
                    request.options = Options { network: NetworkMode::Host, ..Options::default() };
                    request.context = Context::Directory(shop.join(name).canonicalize().unwrap());
                    request.dockerfile = File::InContext("Dockerfile".into());
                    let names = vec![format!("shop.example/{name}:1").parse().unwrap()];
                    request.outputs = vec![Output::Image { names, push: false, compression: Default::default() }];
                    request
                };
                let begin = Instant::now();
                let (built, told) = place.build(request(name)).await;
                let took = begin.elapsed();
                built.unwrap_or_else(|error| panic!("{}{}", error.show(), told.output));
                eprintln!("{name}, {time}: {took:?}, {} steps carried out", told.done().len());
                assert!(time == "first" || told.done().is_empty(), "{name}: {:?}", told.done());
            }
            let image = place.store.get(&format!("shop.example/{name}:1")).unwrap();
            eprintln!("{name}: {} layers, {} MB", image.layers.len(), image.size / 1_000_000);
        }
    });
}
