//! Lanes: who gets a connection, and where it is served.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

async fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

#[tokio::test]
async fn connections_are_spread_over_all_lanes_and_stay_in_theirs() {
    let task = Task::root("test");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lanes: Vec<Lane> =
        (0..2).map(|number| Lane { runtime: start(number).unwrap(), open: Arc::default() }).collect();
    let mut clients = Vec::new();
    for _ in 0..6 {
        let (client, server) = pair(&listener).await;
        freest(&lanes)
            .unwrap()
            .take(&task, server, |mut socket| async move {
                let mut asked = [0; 1];
                while socket.read_exact(&mut asked).await.is_ok() {
                    let lane = u8::try_from(here()).unwrap();
                    socket.write_all(&[lane]).await.unwrap();
                }
            })
            .unwrap();
        clients.push(client);
    }
    let mut seen = [0; 2];
    for client in &mut clients {
        let mut told = Vec::new();
        for _ in 0..3 {
            client.write_all(b"?").await.unwrap();
            told.push(client.read_u8().await.unwrap());
        }
        assert!(told.iter().all(|lane| *lane == told[0]), "{told:?}");
        seen[usize::from(told[0])] += 1;
    }
    assert_eq!(seen, [3, 3]);

    // Who has gone counts no more, and draining ends what is still open.
    clients.truncate(1);
    while lanes.iter().map(|lane| lane.open.load(Relaxed)).sum::<usize>() > 1 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert!(!task.drain(std::time::Duration::from_millis(20)).await, "it waits for its client");
    assert_eq!(clients[0].read(&mut [0]).await.unwrap_or_default(), 0);
}

#[test]
fn a_thread_that_is_no_lane_has_a_number_too() {
    assert!(here() < count());
}
