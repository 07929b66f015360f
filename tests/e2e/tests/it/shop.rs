//! The sample application as its users meet it: `examples/shop` deployed, asked, updated, rolled back, scaled, broken, and
//! recovered. The images are those that `cargo xtask images` makes.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use e2e::{Cluster, Kubectl};
use serde_json::Value;

use crate::shared::{self, fresh};

/// Where the inventory keeps its journal on the machine, as its manifest says.
const JOURNAL: &str = "/var/lib/shop/inventory";

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the project's root").join("examples/shop/k8s")
}

/// The shop in a cluster of its own.
struct Shop {
    cluster: Cluster,
    /// Of the NodePort Service.
    url: String,
}

impl Shop {
    /// Loads the images and applies the manifests, the journal in a directory of the test's own.
    fn open(cluster: Cluster, images: &std::ffi::OsStr) -> Self {
        for archive in std::env::split_paths(images) {
            cluster.load(&archive).expect("load an image of the shop");
        }
        let url = format!("http://{}:30080", cluster.place.address);
        let shop = Self { cluster, url };
        let journal = shop.cluster.data_dir().join("shop");
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(manifests()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(file).unwrap();
            shop.kubectl().apply(&text.replace(JOURNAL, journal.to_str().unwrap()));
        }
        shop
    }

    fn kubectl(&self) -> Kubectl<'_> {
        self.cluster.kubectl("shop")
    }

    /// A request to the storefront from outside of the cluster; status and body.
    fn ask(&self, path: &str, body: Option<&str>) -> (String, String) {
        let mut curl = self.cluster.place.command("curl");
        curl.args(["--silent", "--max-time", "10", "--write-out", "\n%{http_code}"]);
        if let Some(body) = body {
            curl.args(["--data", body]);
        }
        let output = curl.arg(format!("{}{path}", self.url)).output().expect("run curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, code) = text.rsplit_once('\n').unwrap_or_default();
        (code.to_owned(), body.to_owned())
    }

    /// Asks until the storefront and what is behind it answers.
    #[track_caller]
    fn get(&self, path: &str) -> String {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            if let (code, body) = self.ask(path, None)
                && code == "200"
            {
                return body;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{path}: {:?}\n{}", self.ask(path, None), self.kubectl().run(&["get", "pods,endpointslices"]).out);
    }

    /// How many cups there are.
    #[track_caller]
    fn cups(&self) -> i64 {
        let items: Value = serde_json::from_str(&self.get("/api/items")).expect("items");
        let cup = items.as_array().and_then(|items| items.iter().find(|item| item["sku"] == "cup")).expect("cups");
        cup["stock"].as_i64().expect("a stock")
    }

    /// Orders cups, which must be accepted.
    #[track_caller]
    fn order(&self, quantity: u32) {
        let order = format!(r#"{{"customer": "Ann", "lines": [{{"sku": "cup", "quantity": {quantity}}}]}}"#);
        let (code, body) = self.ask("/api/orders", Some(&order));
        assert_eq!(code, "201", "{body}");
        let accepted: Value = serde_json::from_str(&body).expect("an order");
        assert_eq!(accepted["total_cents"], 800 * quantity, "{body}");
    }

    #[track_caller]
    fn settled(&self, deployment: &str) {
        self.kubectl().run(&["rollout", "status", &format!("deployment/{deployment}"), "--timeout=90s"]).good();
    }

    /// The pods of a deployment by name, once there are as many.
    #[track_caller]
    fn pods(&self, name: &str, count: usize) -> Vec<String> {
        let selector = format!("app.kubernetes.io/name={name}");
        let list = ["get", "pods", "--selector", &selector, "--output=name"];
        let out = self.kubectl().until(&list, |out| out.lines().count() == count);
        out.lines().map(str::to_owned).collect()
    }

    /// Ends the first process of a pod's container as the machine would: `kill -9` from outside.
    #[track_caller]
    fn shoot(&self, pod: &str, program: &str) {
        let address = self.kubectl().field(pod, "{.status.podIP}");
        let mut victims = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if !String::from_utf8_lossy(&line).contains(program) {
                continue;
            }
            // The address of its network says whose it is.
            let table = std::fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).unwrap_or_default();
            if table.contains(&format!("-- {address}\n")) {
                victims.push(pid.to_string());
            }
        }
        assert!(!victims.is_empty(), "no process of {pod} runs {program}");
        assert!(std::process::Command::new("kill").arg("-9").args(victims).status().unwrap().success());
    }
}

/// Asks for the page again and again in the background; what went wrong in between.
fn watched(shop: &Shop, work: impl FnOnce()) -> Vec<String> {
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut failed = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let (code, body) = shop.ask("/healthz", None);
                if code != "200" {
                    failed.push(format!("{code} {body}"));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            failed
        });
        work();
        stop.store(true, Ordering::Relaxed);
        watcher.join().expect("watch")
    })
}

#[test]
fn the_shop_is_deployed_updated_rolled_back_scaled_killed_and_recovered() {
    let Some(images) = std::env::var_os("MADANG_SHOP_IMAGES") else {
        shared::lacks(Some("MADANG_SHOP_IMAGES names no images of the shop: use cargo xtask test"));
        return;
    };
    let flags = ["--cluster-cidr", "10.62.0.0/16", "--service-cidr", "10.63.0.0/16"];
    let Some(cluster) = fresh(3, &flags) else { return };
    let mut shop = Shop::open(cluster, &images);
    for name in ["inventory", "orders", "storefront"] {
        shop.settled(name);
    }

    // It answers through the NodePort, and its parts find each other by name.
    assert!(shop.get("/").contains("<h1>The Pottery</h1>"));
    let first = shop.cups();
    shop.order(2);
    assert_eq!(shop.cups(), first - 2);
    let too_many = r#"{"customer": "Ann", "lines": [{"sku": "jar", "quantity": 1000}]}"#;
    assert_eq!(shop.ask("/api/orders", Some(too_many)).0, "409");
    let name = "fetch('http://storefront.shop.svc.cluster.local/api/items').then(a => a.text()).then(console.log)";
    let inside = shop.kubectl().run(&["exec", "deployment/storefront", "--", "node", "-e", name]).good();
    assert!(inside.contains("\"sku\":\"cup\"") || inside.contains("\"sku\": \"cup\""), "{inside}");
    let metrics = shop.get("/metrics");
    assert!(metrics.contains("http_requests_total") && metrics.contains("version=\"1\""), "{metrics}");

    // Updated without a gap, and back.
    let version = |wanted: &str| {
        let page = shop.get("/");
        assert!(page.contains(&format!("version {wanted}")), "not version {wanted}: {page}");
    };
    version("1");
    let failed = watched(&shop, || {
        let image = "storefront=shop.example/storefront:2";
        shop.kubectl().run(&["set", "image", "deployment/storefront", image]).good();
        shop.settled("storefront");
    });
    assert_eq!(failed, Vec::<String>::new(), "requests failed during the update");
    version("2");
    let failed = watched(&shop, || {
        shop.kubectl().run(&["rollout", "undo", "deployment/storefront"]).good();
        shop.settled("storefront");
    });
    assert_eq!(failed, Vec::<String>::new(), "requests failed during the way back");
    version("1");

    // More of it, and less.
    for replicas in [4, 1, 2] {
        let flag = format!("--replicas={replicas}");
        shop.kubectl().run(&["scale", "deployment/storefront", &flag]).good();
        shop.settled("storefront");
        shop.pods("storefront", replicas);
    }

    // A process is killed: its container comes again, and the journal is what it was.
    for (name, program) in [("inventory", "inventory"), ("orders", "orders.py"), ("storefront", "server.js")] {
        let pod = shop.pods(name, if name == "storefront" { 2 } else { 1 }).remove(0);
        shop.shoot(&pod, program);
        let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
        shop.kubectl().until(&["get", &pod, "-o", restarts], |out| out == "1");
        let last = "{.status.containerStatuses[0].lastState.terminated.exitCode}";
        assert_eq!(shop.kubectl().field(&pod, last), "137");
        shop.kubectl().run(&["wait", "--for=condition=Ready", &pod, "--timeout=60s"]).good();
    }
    assert_eq!(shop.cups(), first - 2);
    shop.order(1);

    // A pod is deleted.
    let old = shop.pods("inventory", 1).remove(0);
    shop.kubectl().run(&["delete", &old]).good();
    shop.settled("inventory");
    assert_eq!(shop.cups(), first - 3);

    // The server is killed while people look: their requests are answered, since it carries none. (Names are its to answer:
    // what the storefront asks of others by name has to wait for it.)
    let before =
        shop.kubectl().run(&["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].containerID}"]);
    shop.cluster.kill().unwrap();
    for path in ["/healthz", "/metrics"] {
        assert_eq!(shop.ask(path, None).0, "200", "{path}: the shop serves without the server");
    }
    shop.cluster.serve().unwrap();
    assert_eq!(shop.cups(), first - 3);
    let after =
        shop.kubectl().run(&["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].containerID}"]);
    assert_eq!(before.good(), after.good(), "containers were replaced");
    shop.order(1);
    assert_eq!(shop.cups(), first - 4);
    shop.kubectl().run(&["delete", "namespace", "shop", "--timeout=60s"]).good();
}
