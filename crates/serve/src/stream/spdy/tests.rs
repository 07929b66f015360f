//! A client written here by hand speaks to the server's end over an in-memory pipe.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use task::Task;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{Connection, DICTIONARY};

struct Client {
    pipe: DuplexStream,
    deflate: Compress,
}

impl Client {
    fn new(pipe: DuplexStream) -> Self {
        let mut deflate = Compress::new(Compression::best(), true);
        deflate.set_dictionary(DICTIONARY).unwrap();
        Self { pipe, deflate }
    }

    async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for (name, value) in headers {
            for text in [name, value] {
                plain.extend((text.len() as u32).to_be_bytes());
                plain.extend(text.as_bytes());
            }
        }
        let mut block = Vec::with_capacity(plain.len() + 100);
        self.deflate.compress_vec(&plain, &mut block, FlushCompress::Sync).unwrap();
        let mut payload = id.to_be_bytes().to_vec();
        payload.extend([0; 6]);
        payload.extend(block);
        self.control(1, &payload).await;
    }

    async fn control(&mut self, kind: u16, payload: &[u8]) {
        let mut frame = 0x8003u16.to_be_bytes().to_vec();
        frame.extend(kind.to_be_bytes());
        frame.extend((payload.len() as u32).to_be_bytes());
        frame.extend(payload);
        self.pipe.write_all(&frame).await.unwrap();
    }

    async fn data(&mut self, id: u32, bytes: &[u8], flags: u8) {
        let mut frame = id.to_be_bytes().to_vec();
        frame.extend(((u32::from(flags) << 24) | bytes.len() as u32).to_be_bytes());
        frame.extend(bytes);
        self.pipe.write_all(&frame).await.unwrap();
    }

    async fn frame(&mut self) -> (u32, u8, Vec<u8>) {
        let mut head = [0; 8];
        self.pipe.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize];
        self.pipe.read_exact(&mut payload).await.unwrap();
        (u32::from_be_bytes(head[..4].try_into().unwrap()), head[4], payload)
    }
}

#[tokio::test]
async fn streams_carry_data_both_ways_and_end() {
    let task = Task::root("test");
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut server = Connection::start(&task, far);
    let mut client = Client::new(near);
    client.open(1, &[("streamType", "stdin"), ("port", "80")]).await;
    client.open(3, &[("streamType", "stdout"), ("port", "80")]).await;
    let mut stdin = server.accept().await.unwrap();
    let stdout = server.accept().await.unwrap();
    assert_eq!(stdin.headers["streamtype"], "stdin");
    assert_eq!(stdout.headers["streamtype"], "stdout");
    assert_eq!(client.frame().await.0, 0x8003_0002, "SYN_REPLY");
    assert_eq!(client.frame().await.0, 0x8003_0002, "SYN_REPLY");
    client.data(1, b"hello", 0).await;
    client.data(1, b"", 1).await;
    assert_eq!(stdin.input.recv().await.unwrap(), "hello");
    assert_eq!(stdin.input.recv().await, None);
    stdout.writer.data(Bytes::from_static(b"world"), true).await.unwrap();
    assert_eq!(client.frame().await, (3, 1, b"world".to_vec()));
    client.control(6, &7u32.to_be_bytes()).await;
    assert_eq!(client.frame().await, (0x8003_0006, 0, 7u32.to_be_bytes().to_vec()));
    server.close().await;
    assert_eq!(client.frame().await.0, 0x8003_0007, "GOAWAY");
    drop((stdin, stdout));
    assert!(task.drain(std::time::Duration::from_secs(5)).await);
}

#[tokio::test]
async fn hostile_frames_end_the_connection() {
    let huge = {
        let mut frame = vec![0x80, 3, 0, 1, 0];
        frame.extend([0xff; 3]);
        frame
    };
    let short = vec![0x80, 3, 0, 1, 0, 0, 0, 2, 9, 9];
    let garbage = {
        let mut frame = vec![0x80, 3, 0, 1, 0, 0, 0, 20];
        frame.extend([0xaa; 20]);
        frame
    };
    for frame in [huge, short, garbage] {
        let task = Task::root("test");
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let mut server = Connection::start(&task, far);
        near.write_all(&frame).await.unwrap();
        assert!(server.accept().await.is_none());
    }
}
