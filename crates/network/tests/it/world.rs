//! Network namespaces that live as long as a test, and small servers and clients in them.
//!
//! A namespace belongs to a thread that carries out what it is sent; when the thread ends, the kernel takes the
//! namespace and all in it away. Nothing is mounted, and nothing of the machine's own network is touched.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use network::{Config, HostPort, Network, Protocol, SandboxNet};

const PATIENCE: Duration = Duration::from_millis(1500);

#[allow(unsafe_code)]
fn leave_namespace() {
    // SAFETY: the calling thread gets a network namespace of its own; no memory is involved.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "unshare: {}", io::Error::last_os_error());
}

/// Runs `ip` with the words of `line` in the calling thread's namespace.
pub fn ip(line: &str) -> String {
    let output = Command::new("ip").args(line.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `test` as root on a thread in a namespace of its own, with nothing but a loopback link.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "root is needed");
        eprintln!("skipped: root is needed");
        return;
    }
    let thread = std::thread::spawn(|| {
        leave_namespace();
        ip("link set lo up");
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A namespace of its own.
pub struct Space {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    pub netns: PathBuf,
    stop: Arc<AtomicBool>,
}

impl Space {
    pub fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            leave_namespace();
            tell.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
            for job in inbox {
                job();
            }
        });
        let netns = format!("/proc/{}/task/{}/ns/net", std::process::id(), told.recv().unwrap());
        Self { jobs: Some(jobs), thread: Some(thread), netns: netns.into(), stop: Arc::default() }
    }

    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job = Box::new(move || drop(tell.send(work())));
        self.jobs.as_ref().unwrap().send(job).unwrap();
        told.recv().expect("the work did not panic")
    }

    /// Answers on TCP and UDP `port` with `name` and the client's address.
    pub fn serve(&self, port: u16, name: &str) {
        let (name, stop) = (name.to_owned(), self.stop.clone());
        self.run(move || serve(port, &name, &stop));
    }

    pub fn fetch(&self, to: &str) -> Result<String, io::ErrorKind> {
        let to = to.to_owned();
        self.run(move || fetch(&to))
    }

    pub fn ask(&self, to: &str) -> Result<String, io::ErrorKind> {
        let to = to.to_owned();
        self.run(move || ask(&client(), &to))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        let _ = self.thread.take().unwrap().join();
    }
}

fn serve(port: u16, name: &str, stop: &Arc<AtomicBool>) {
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let answer = {
        let name = name.to_owned();
        move |peer: IpAddr| format!("{name} {peer}")
    };
    let (tcp_answer, tcp_stop) = (answer.clone(), stop.clone());
    std::thread::spawn(move || {
        while !tcp_stop.load(Ordering::Relaxed) {
            match tcp.accept() {
                Ok((mut stream, peer)) => drop(stream.write_all(tcp_answer(peer.ip()).as_bytes())),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    });
    let stop = stop.clone();
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            if let Ok((_, peer)) = udp.recv_from(&mut [0; 64]) {
                let _ = udp.send_to(answer(peer.ip()).as_bytes(), peer);
            }
        }
    });
}

/// Connects by TCP and reads the answer, in the calling thread's namespace.
pub fn fetch(to: &str) -> Result<String, io::ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    let read = || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|error: io::Error| error.kind())
}

pub fn client() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Asks by UDP, in the namespace of the socket.
pub fn ask(socket: &UdpSocket, to: &str) -> Result<String, io::ErrorKind> {
    let exchange = || {
        socket.connect(to.parse::<SocketAddr>().unwrap())?;
        socket.send(b"?")?;
        let mut buffer = [0; 128];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    exchange().map_err(|error: io::Error| error.kind())
}

/// The name that answered.
pub fn who(answer: &str) -> &str {
    answer.split(' ').next().unwrap()
}

pub const NODE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

pub fn config(name: &str) -> Config {
    Config {
        name: name.into(),
        pod_cidr: "10.42.0.0/22".parse().unwrap(),
        cluster_cidr: "10.42.0.0/16".parse().unwrap(),
        service_cidr: "10.43.0.0/16".parse().unwrap(),
        node_ip: NODE,
        mtu: None,
        masquerade: true,
    }
}

/// A machine outside, at the other end of the node's uplink: 203.0.113.2, and by it 198.51.100.1.
pub fn outside() -> Space {
    let world = Space::new();
    let netns = world.netns.clone();
    let tid = netns.iter().nth(4).unwrap().to_str().unwrap().to_owned();
    ip(&format!("link add uplink mtu 1400 type veth peer name eth0 mtu 1400 netns {tid}"));
    ip(&format!("addr add {NODE}/24 dev uplink"));
    ip("link set uplink up");
    ip("route add default via 203.0.113.2");
    world.run(|| {
        ip("link set lo up");
        ip("link set eth0 up");
        ip("addr add 203.0.113.2/24 dev eth0");
        ip("addr add 198.51.100.1/32 dev lo");
    });
    // Before that, what is sent is lost.
    while !ip("-o link show uplink").contains("state UP") {
        std::thread::sleep(Duration::from_millis(1));
    }
    world
}

/// A pod that answers on port 8080 with its name.
pub struct Pod {
    pub space: Space,
    pub id: String,
    pub ip: Ipv4Addr,
}

impl Pod {
    pub async fn start(network: &Network, name: &str, ip: &str) -> Self {
        Self::with_ports(network, name, ip, &[]).await
    }

    pub async fn with_ports(network: &Network, name: &str, ip: &str, host_ports: &[HostPort]) -> Self {
        let pod = Self { space: Space::new(), id: format!("sandbox-{name}"), ip: ip.parse().unwrap() };
        network.attach(pod.sandbox(host_ports)).await.unwrap();
        pod.space.serve(8080, name);
        pod
    }

    pub fn sandbox(&self, host_ports: &[HostPort]) -> SandboxNet {
        SandboxNet {
            id: self.id.clone(),
            netns: self.space.netns.clone(),
            ip: self.ip,
            host_ports: host_ports.to_vec(),
        }
    }

    pub fn endpoint(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.ip, 8080)
    }
}

pub fn host_port(host_ip: &str, host_port: u16, protocol: Protocol) -> HostPort {
    HostPort { host_ip: host_ip.parse().unwrap(), host_port, container_port: 8080, protocol }
}
