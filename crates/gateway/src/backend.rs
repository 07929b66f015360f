//! Backends: a Service's port and its endpoints, kept while anything refers to them, whatever becomes of routes.
//!
//! An endpoint is known by its address alone: when routes or slices change, its connections, its count of requests and its
//! health stay.

use std::{
    cell::Cell,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serve::lanes;

use crate::{
    balance::{self, Health, Look, Outcome},
    pool::Pool,
};

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The Service's namespace.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// The port.
    pub port: u16,
}

/// A port of a Service, and where requests to it go.
#[derive(Debug)]
pub struct Backend {
    /// Which.
    pub key: Key,
    http2: AtomicBool,
    endpoints: RwLock<Arc<[Arc<Endpoint>]>>,
}

/// One address.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: SocketAddr,
    /// Its connections: of each lane its own.
    pools: Box<[Pool]>,
    active: AtomicU32,
    health: Mutex<Health>,
    /// Whether `health` says more than that all is well.
    troubled: AtomicBool,
    /// [`Health::until`], to be read without the lock.
    until: AtomicU64,
}

/// A request under way at an endpoint.
#[derive(Debug)]
pub struct Turn(Arc<Endpoint>);

impl Turn {
    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

impl Endpoint {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            pools: (0..lanes::count()).map(|_| Pool::new(address)).collect(),
            active: AtomicU32::new(0),
            health: Mutex::default(),
            troubled: AtomicBool::new(false),
            until: AtomicU64::new(0),
        }
    }

    /// The connections of the lane that asks.
    pub fn pool(&self) -> &Pool {
        &self.pools[lanes::here()]
    }

    fn look(&self, now: u64) -> Look {
        Look { active: self.active.load(Relaxed), well: self.until.load(Relaxed) <= now }
    }

    /// Remembers what came of a request.
    pub fn learn(&self, outcome: Outcome) {
        if outcome == Outcome::Well && !self.troubled.load(Relaxed) {
            return;
        }
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *health;
        *health = before.after(outcome, now());
        if health.until > before.until {
            tracing::info!(address = %self.address, times = health.ejections, "endpoint gets no requests for a while");
        }
        self.until.store(health.until, Relaxed);
        let well = Health { until: health.until, ..Health::default() };
        self.troubled.store(*health != well, Relaxed);
    }
}

impl Backend {
    /// Takes a turn at the endpoint that is to get the next request; none of `tried` if it can be helped. `None` where there
    /// is no endpoint at all.
    pub fn turn(&self, tried: &[SocketAddr]) -> Option<Turn> {
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner).clone();
        let now = now();
        let seen: Vec<usize> = match tried {
            [] => Vec::new(),
            tried => (0..endpoints.len()).filter(|index| tried.contains(&endpoints[*index].address)).collect(),
        };
        let index = balance::choose(endpoints.len(), |index| endpoints[index].look(now), &seen, random())?;
        let endpoint = endpoints[index].clone();
        endpoint.active.fetch_add(1, Relaxed);
        Some(Turn(endpoint))
    }

    /// Whether its endpoints speak HTTP/2 without being asked.
    pub fn http2(&self) -> bool {
        self.http2.load(Relaxed)
    }

    /// How many endpoints there are.
    pub fn count(&self) -> usize {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Milliseconds since this was asked first.
fn now() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    // Never zero: that is what an endpoint that was never ejected is compared with.
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

thread_local! {
    static SEED: Cell<u64> = Cell::new(seed());
}

fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::thread::current().id()) | 1
}

/// A number by chance, good enough to share requests by.
pub fn random() -> u64 {
    SEED.with(|seed| {
        let mut x = seed.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        seed.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}

/// All backends that anything refers to.
#[derive(Debug, Default)]
pub struct Backends {
    backends: Mutex<HashMap<Key, Weak<Backend>>>,
    endpoints: Mutex<HashMap<SocketAddr, Weak<Endpoint>>>,
}

impl Backends {
    /// The backend of that port, made without endpoints if it is new.
    pub fn get(&self, key: &Key) -> (Arc<Backend>, bool) {
        let mut all = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(key).and_then(Weak::upgrade) {
            return (known, false);
        }
        let none: [Arc<Endpoint>; 0] = [];
        let new = Arc::new(Backend {
            key: key.clone(),
            http2: AtomicBool::new(false),
            endpoints: RwLock::new(Arc::from(none)),
        });
        all.insert(key.clone(), Arc::downgrade(&new));
        (new, true)
    }

    /// The backends of a Service.
    pub fn of_service(&self, namespace: &str, service: &str) -> Vec<Arc<Backend>> {
        let all = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter(|(key, _)| key.namespace == namespace && key.service == service)
            .filter_map(|(_, backend)| backend.upgrade())
            .collect()
    }

    /// Says where the endpoints of a backend are.
    pub fn set(&self, backend: &Backend, addresses: &[SocketAddr], http2: bool) {
        let mut known = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoints: Arc<[Arc<Endpoint>]> = addresses
            .iter()
            .map(|address| match known.get(address).and_then(Weak::upgrade) {
                Some(endpoint) => endpoint,
                None => {
                    let new = Arc::new(Endpoint::new(*address));
                    known.insert(*address, Arc::downgrade(&new));
                    new
                }
            })
            .collect();
        backend.http2.store(http2, Relaxed);
        let before = std::mem::replace(
            &mut *backend.endpoints.write().unwrap_or_else(PoisonError::into_inner),
            endpoints.clone(),
        );
        for gone in before.iter().filter(|old| !endpoints.iter().any(|new| new.address == old.address)) {
            gone.pools.iter().for_each(Pool::clear);
        }
    }

    /// Forgets what nothing refers to any more.
    pub fn prune(&self) {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, backend| backend.strong_count() > 0);
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, endpoint| endpoint.strong_count() > 0);
    }
}

/// Where requests to a port of `service` go, and whether they are HTTP/2 without being asked.
pub fn addresses(service: &Service, port: u16, slices: &[Arc<EndpointSlice>]) -> (Vec<SocketAddr>, bool) {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let Some(port) = ports.iter().find(|one| one.port == i32::from(port)) else { return (Vec::new(), false) };
    let http2 = matches!(port.app_protocol.as_deref(), Some("kubernetes.io/h2c" | "grpc"));
    let name = port.name.as_deref().unwrap_or_default();
    let (mut ready, mut ending) = (Vec::new(), Vec::new());
    for slice in slices.iter().filter(|slice| slice.address_type != "FQDN") {
        let numbers = slice.ports.iter().flatten();
        let Some(number) = numbers
            .filter(|one| one.name.as_deref().unwrap_or_default() == name)
            .filter(|one| one.protocol.as_deref().unwrap_or("TCP") == "TCP")
            .find_map(|one| u16::try_from(one.port?).ok())
        else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let is_ready = conditions.ready.unwrap_or(true);
            let list = match (is_ready, conditions.serving.unwrap_or(is_ready)) {
                (true, _) => &mut ready,
                // What ends still answers: better than nothing.
                (false, true) => &mut ending,
                (false, false) => continue,
            };
            let read = endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
            list.extend(read.map(|address| SocketAddr::new(address, number)));
        }
    }
    let mut found = if ready.is_empty() { ending } else { ready };
    found.sort_unstable();
    found.dedup();
    (found, http2)
}

/// The number of a Service's port that is given by number or name.
pub fn port_number(service: &Service, port: &IntOrString) -> Option<u16> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let found = match port {
        IntOrString::Int(number) => ports.iter().find(|one| one.port == *number),
        IntOrString::String(name) => ports.iter().find(|one| one.name.as_ref() == Some(name)),
    };
    u16::try_from(found?.port).ok()
}

#[cfg(test)]
mod tests;
