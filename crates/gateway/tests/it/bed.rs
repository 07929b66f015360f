//! A gateway of some objects, and backends that tell what they were asked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use client::cache::Key;
use gateway::{
    backend::Backends,
    listen::{Given, Listeners},
    plan::{self, Lasting, Plan, Settings, World, certificate::Keys},
    proxy::Proxy,
};
use http::{Request, Response};
use serde_json::{Value, json};
use serve::{Body, body, http::Limits};
use task::Task;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway.
pub struct Bed {
    pub task: Task,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub proxy: Arc<Proxy>,
    listeners: Listeners,
    backends: Backends,
    keys: Keys,
    settings: Settings,
    /// Endpoints by Service.
    endpoints: HashMap<String, Vec<SocketAddr>>,
}

impl Bed {
    pub async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        let task = Task::root("test");
        let proxy = Proxy::new(&task);
        let (http, https) = (listener().await, listener().await);
        let address = |listener: &TcpListener| listener.local_addr().unwrap();
        let addresses = (address(&http), address(&https));
        let settings = Settings {
            address: addresses.0.ip(),
            ports: BTreeMap::from([(80, addresses.0.port()), (443, addresses.1.port())]),
            refused: BTreeSet::new(),
            doors: BTreeMap::new(),
        };
        let given = vec![Given { listener: http, secure: false }, Given { listener: https, secure: true }];
        let listeners = Listeners::new(&task, proxy.clone(), limits, given).unwrap();
        Self {
            task,
            http: addresses.0,
            https: addresses.1,
            proxy,
            listeners,
            backends: Backends::default(),
            keys: Keys::default(),
            settings,
            endpoints: HashMap::new(),
        }
    }

    /// Says where the endpoints of a Service are, from the next plan on.
    pub fn endpoints(&mut self, service: &str, addresses: &[SocketAddr]) {
        self.endpoints.insert(service.to_owned(), addresses.to_vec());
        for backend in self.backends.of_service("shop", service) {
            self.backends.set(&backend, addresses, backend.key.port == 81);
        }
    }

    /// Serves these objects, beside a class, and Services for all endpoints.
    pub fn serve(&mut self, objects: &[Value]) -> Plan {
        let services: Vec<Value> = self.endpoints.keys().map(|name| service(name)).collect();
        let class =
            json!({"kind": "GatewayClass", "metadata": {"name": "c"}, "spec": {"controllerName": plan::CONTROLLER}});
        let world = world(objects.iter().chain(&services).chain([&class]));
        let mut lasting = Lasting { backends: &self.backends, tally: &self.proxy.tally, keys: &mut self.keys };
        let mut plan = plan::plan(&world, &self.settings, &mut lasting);
        for backend in &plan.new {
            let addresses = self.endpoints.get(&backend.key.service).map(Vec::as_slice).unwrap_or_default();
            self.backends.set(backend, addresses, backend.key.port == 81);
        }
        assert!(self.listeners.change(&plan.ports, std::mem::take(&mut plan.certificates)).is_empty());
        self.proxy.change(Arc::new(std::mem::take(&mut plan.table)));
        plan
    }

    /// Sends bytes over a connection of their own; all that comes back until it is closed.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let asking = async {
            let mut stream = TcpStream::connect(self.http).await.unwrap();
            // The other end may close before all is sent.
            let _refused = stream.write_all(bytes).await;
            let mut answer = Vec::new();
            let _reset = stream.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("the connection is closed in time")
    }

    /// Asks for `path` of `host` with more header lines, each with its end.
    pub async fn get(&self, host: &str, path: &str, more: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n").as_bytes()).await
    }

    /// What is counted.
    pub fn page(&self) -> String {
        let mut page = counts::page::Page::default();
        self.proxy.tally.write(&mut page);
        page.text()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.task.cancel();
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap()
}

/// A Service with port 80, and port 81 for HTTP/2.
fn service(name: &str) -> Value {
    json!({
        "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ports": [
            {"name": "a", "port": 80}, {"name": "b", "port": 81, "appProtocol": "kubernetes.io/h2c"},
        ]},
    })
}

/// Objects by kind.
pub fn world<'a>(objects: impl Iterator<Item = &'a Value>) -> World {
    fn read<K: serde::de::DeserializeOwned>(object: &Value) -> Arc<K> {
        Arc::new(serde_json::from_value(object.clone()).unwrap())
    }
    let mut world = World::default();
    for object in objects {
        let metadata = &object["metadata"];
        let text = |name: &str| metadata[name].as_str().unwrap_or_default();
        let key = Key::new(text("namespace"), text("name"));
        match object["kind"].as_str().unwrap() {
            "GatewayClass" => world.classes.push(read(object)),
            "Gateway" => world.gateways.push(read(object)),
            "HTTPRoute" => world.routes.push(read(object)),
            "ReferenceGrant" => world.grants.push(read(object)),
            "Service" => drop(world.services.insert(key, read(object))),
            "Secret" => drop(world.secrets.insert(key, read(object))),
            "Namespace" => drop(world.namespaces.insert(key, read(object))),
            "Ingress" => world.ingresses.push(read(object)),
            "IngressClass" => world.ingress_classes.push(read(object)),
            other => panic!("{other}"),
        }
    }
    world
}

/// A gateway with one listener at port 80.
pub fn gateway() -> Value {
    json!({
        "kind": "Gateway", "metadata": {"name": "g", "namespace": "shop"},
        "spec": {"gatewayClassName": "c", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    })
}

/// A route with these rules.
pub fn route(rules: Value) -> Value {
    json!({
        "kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "shop"},
        "spec": {"parentRefs": [{"name": "g"}], "rules": rules},
    })
}

/// What backends were asked.
pub type Seen = Arc<Mutex<Vec<String>>>;

/// A backend that answers with its name and the request as it got it. Paths that begin with `/status/` get that status.
pub async fn echo(task: &Task, name: &'static str) -> (SocketAddr, Seen) {
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let shared = seen.clone();
    let handler = move |request: Request<Body>| {
        let seen = shared.clone();
        async move {
            let (parts, content) = request.into_parts();
            let content = body::read(content, 16 << 20).await.unwrap_or_default();
            let mut text = format!("{name}\n{} {}\n", parts.method, parts.uri);
            for (name, value) in &parts.headers {
                text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
            }
            text += &format!("body {} bytes\n", content.len());
            seen.lock().unwrap().push(text.clone());
            let status = parts.uri.path().strip_prefix("/status/").and_then(|code| code.parse::<u16>().ok());
            Response::builder().status(status.unwrap_or(200)).header("x-from", name).body(body::full(text)).unwrap()
        }
    };
    task.spawn("backend", serve::http::serve(task.clone(), listener, None, Limits::default(), handler));
    (address, seen)
}
