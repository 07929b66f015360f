//! How the tests ask: one connection a request.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use bytes::Bytes;
use git::remote::{Body, Exchange};
use http::{Request, Response};

/// One connection a request, no TLS, no redirects.
pub fn exchange() -> Exchange {
    Arc::new(|request: Request<Bytes>| {
        Box::pin(async move {
            let uri = request.uri().clone();
            let work = tokio::task::spawn_blocking(move || ask(&request));
            Ok((uri, work.await.unwrap()?))
        })
    })
}

fn ask(request: &Request<Bytes>) -> std::io::Result<Response<Body>> {
    let authority = request.uri().authority().unwrap().as_str();
    let mut stream = TcpStream::connect(authority)?;
    let target = request.uri().path_and_query().unwrap();
    let mut head = format!("{} {target} HTTP/1.1\r\nHost: {authority}\r\n", request.method());
    for (name, value) in request.headers() {
        head += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", request.body().len()).as_bytes())?;
    stream.write_all(request.body())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let status: u16 = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
    let pieces: Vec<_> = answer[end + 4..].chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let body: Body = Box::pin(futures::stream::iter(pieces));
    Ok(Response::builder().status(status).body(body).unwrap())
}
