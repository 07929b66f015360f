//! What a relay passes on, and until when.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A bound socket, and its address.
fn bound(udp: bool) -> (OwnedFd, SocketAddr) {
    if udp {
        let socket = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let at = socket.local_addr().unwrap();
        return (socket.into(), at);
    }
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET6, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).unwrap();
    let at = rustix::net::getsockname(&socket).unwrap();
    (socket, at.try_into().unwrap())
}

/// Says its name to who has said something, and hangs up.
async fn server(name: &'static str) -> (SocketAddr, impl Future<Output = ()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let serve = async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).await.unwrap();
            stream.write_all(&[name.as_bytes(), &asked].concat()).await.unwrap();
        }
    };
    (at, serve)
}

async fn ask(at: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(b" hears").await?;
    // One direction ends before the other.
    stream.shutdown().await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    Ok(said)
}

#[tokio::test]
async fn connections_of_one_family_lead_to_the_other_wherever_that_is_now() {
    let root = Task::root("test");
    let ((first, one), (second, other)) = (server("first").await, server("second").await);
    let asked = async {
        let (socket, at) = bound(false);
        let relay = Relay::tcp(&root, socket, first).unwrap();
        assert_eq!(ask(at).await.unwrap(), "first hears");
        relay.lead(second);
        assert_eq!(ask(at).await.unwrap(), "second hears");
        relay.end().await;
        assert_eq!(ask(at).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    };
    tokio::select! {
        () = one => {}
        () = other => {}
        () = asked => {}
    }
}

#[tokio::test]
async fn datagrams_are_answered_to_the_client_that_sent_them() {
    let root = Task::root("test");
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (socket, at) = bound(true);
    let _relay = Relay::udp(&root, socket, server.local_addr().unwrap()).unwrap();
    let serve = async {
        let mut buffer = [0; 100];
        loop {
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            server.send_to(&buffer[..length], from).await.unwrap();
        }
    };
    let asked = async {
        let clients = [UdpSocket::bind("[::1]:0").await.unwrap(), UdpSocket::bind("[::1]:0").await.unwrap()];
        for round in 0..2 {
            for (number, client) in clients.iter().enumerate() {
                client.send_to(format!("{round} {number}").as_bytes(), at).await.unwrap();
            }
            for (number, client) in clients.iter().enumerate() {
                let mut buffer = [0; 100];
                let (length, from) = client.recv_from(&mut buffer).await.unwrap();
                assert_eq!((&buffer[..length], from), (format!("{round} {number}").as_bytes(), at));
            }
        }
    };
    tokio::select! {
        () = serve => {}
        () = asked => {}
    }
}
