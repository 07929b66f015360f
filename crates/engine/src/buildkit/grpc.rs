//! gRPC over a connection that was taken over, as a server and as a client.
//!
//! ```text
//! /grpc      client's requests ──▶ serve ─▶ one handler a method
//! /session   Channel ──requests──▶ services that the client offers; or inside a call of /grpc
//! ```
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, TryStreamExt as _, future::BoxFuture};
use http::{Request, Response, Uri, uri::PathAndQuery};
use hyper::{body::Incoming, client::conn::http2::SendRequest, service::service_fn};
use hyper_util::rt::TokioExecutor;
use prost::Message;
use task::Task;
use tonic::{
    Status, Streaming,
    body::Body,
    metadata::MetadataMap,
    server::{ServerStreamingService, StreamingService, UnaryService},
};
use tonic_prost::ProstCodec;

use crate::upgrade::Connection;

/// Largest message that is taken; pieces of files come in far smaller ones.
const MESSAGE: usize = 16 << 20;
/// Bytes of one stream, and of a connection, that may be on their way.
const WINDOW: u32 = 2 << 20;

/// What a method that streams answers with, here or at the other end.
pub type Answers<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

/// Answers requests on a connection until it ends.
pub async fn serve<H, F>(connection: Connection, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.initial_stream_window_size(WINDOW).initial_connection_window_size(2 * WINDOW);
    let service = service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    if let Err(error) = http.serve_connection(connection.into_inner(), service).await {
        tracing::debug!(%error, "connection of a build client");
    }
}

/// A method that takes a message and answers with one.
pub fn unary<M, R, H, F>(request: Request<Incoming>, handle: H) -> BoxFuture<'static, Response<Body>>
where
    M: Message + Default + Send + 'static,
    R: Message + Send + 'static,
    H: FnOnce(tonic::Request<M>) -> F + Send + 'static,
    F: Future<Output = Result<R, Status>> + Send + 'static,
{
    Box::pin(async move { server::<R, M>().unary(Unary(Some(handle)), request).await })
}

/// A method that takes a message and answers with many.
pub fn streamed<M, R, H, F>(request: Request<Incoming>, handle: H) -> BoxFuture<'static, Response<Body>>
where
    M: Message + Default + Send + 'static,
    R: Message + Send + 'static,
    H: FnOnce(tonic::Request<M>) -> F + Send + 'static,
    F: Future<Output = Result<Answers<R>, Status>> + Send + 'static,
{
    Box::pin(async move { server::<R, M>().server_streaming(Streamed(Some(handle)), request).await })
}

/// A method that streams both ways.
pub fn duplex<M, R, H, F>(request: Request<Incoming>, handle: H) -> BoxFuture<'static, Response<Body>>
where
    M: Message + Default + Send + 'static,
    R: Message + Send + 'static,
    H: FnOnce(Streaming<M>) -> F + Send + 'static,
    F: Future<Output = Result<Answers<R>, Status>> + Send + 'static,
{
    Box::pin(async move { server::<R, M>().streaming(Both(Some(handle)), request).await })
}

fn server<R, M>() -> tonic::server::Grpc<ProstCodec<R, M>>
where
    R: Message + Send + 'static,
    M: Message + Default + Send + 'static,
{
    tonic::server::Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE)
}

/// A refusal, of whatever method.
pub fn refuse(status: &Status) -> Response<Body> {
    status.clone().into_http()
}

struct Unary<H>(Option<H>);

impl<M, R, H, F> UnaryService<M> for Unary<H>
where
    R: Send + 'static,
    H: FnOnce(tonic::Request<M>) -> F,
    F: Future<Output = Result<R, Status>> + Send + 'static,
{
    type Response = R;
    type Future = BoxFuture<'static, Result<tonic::Response<R>, Status>>;

    fn call(&mut self, request: tonic::Request<M>) -> Self::Future {
        let answer = self.0.take().map(|handle| handle(request));
        Box::pin(async move {
            match answer {
                Some(answer) => Ok(tonic::Response::new(answer.await?)),
                None => Err(Status::internal("a handler answers once")),
            }
        })
    }
}

struct Streamed<H>(Option<H>);

impl<M, R, H, F> ServerStreamingService<M> for Streamed<H>
where
    R: Send + 'static,
    H: FnOnce(tonic::Request<M>) -> F,
    F: Future<Output = Result<Answers<R>, Status>> + Send + 'static,
{
    type Response = R;
    type ResponseStream = Answers<R>;
    type Future = BoxFuture<'static, Result<tonic::Response<Answers<R>>, Status>>;

    fn call(&mut self, request: tonic::Request<M>) -> Self::Future {
        let answer = self.0.take().map(|handle| handle(request));
        Box::pin(async move {
            match answer {
                Some(answer) => Ok(tonic::Response::new(answer.await?)),
                None => Err(Status::internal("a handler answers once")),
            }
        })
    }
}

struct Both<H>(Option<H>);

impl<M, R, H, F> StreamingService<M> for Both<H>
where
    R: Send + 'static,
    H: FnOnce(Streaming<M>) -> F,
    F: Future<Output = Result<Answers<R>, Status>> + Send + 'static,
{
    type Response = R;
    type ResponseStream = Answers<R>;
    type Future = BoxFuture<'static, Result<tonic::Response<Answers<R>>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<M>>) -> Self::Future {
        let answer = self.0.take().map(|handle| handle(request.into_inner()));
        Box::pin(async move {
            match answer {
                Some(answer) => Ok(tonic::Response::new(answer.await?)),
                None => Err(Status::internal("a handler answers once")),
            }
        })
    }
}

/// The client's end of a connection. Clones use the same connection.
#[derive(Clone)]
pub struct Channel(SendRequest<Body>);

impl Channel {
    /// Speaks HTTP/2 on a connection, until it ends; the future resolves then.
    pub async fn open<I>(connection: I) -> hyper::Result<(Self, impl Future<Output = ()> + Send + 'static)>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let mut http = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        http.initial_stream_window_size(WINDOW).initial_connection_window_size(2 * WINDOW);
        let (sender, connection) = http.handshake(connection).await?;
        let ended = async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "session of a build client");
            }
        };
        Ok((Self(sender), ended))
    }

    /// Calls a method that takes a message and answers with one.
    pub async fn unary<M, R>(&self, method: &'static str, message: M) -> Result<R, Status>
    where
        M: Message + Send + Sync + 'static,
        R: Message + Default + Send + 'static,
    {
        let mut client = self.client().await?;
        let codec = ProstCodec::<M, R>::default();
        let answer = client.unary(tonic::Request::new(message), PathAndQuery::from_static(method), codec).await?;
        Ok(answer.into_inner())
    }

    /// Calls a method that streams both ways. The call begins with the first look at the answers, and does not wait for them: many
    /// servers send nothing, headers included, before they have read.
    pub fn streaming<M, R>(
        &self,
        method: &'static str,
        metadata: MetadataMap,
        messages: impl Stream<Item = M> + Send + 'static,
    ) -> Answers<R>
    where
        M: Message + Send + Sync + 'static,
        R: Message + Default + Send + 'static,
    {
        let channel = self.clone();
        let call = async move {
            let mut client = channel.client().await?;
            let codec = ProstCodec::<M, R>::default();
            let mut request = tonic::Request::new(messages);
            *request.metadata_mut() = metadata;
            Ok::<Streaming<R>, Status>(
                client.streaming(request, PathAndQuery::from_static(method), codec).await?.into_inner(),
            )
        };
        Box::pin(futures::stream::once(call).try_flatten())
    }

    async fn client(&self) -> Result<tonic::client::Grpc<Self>, Status> {
        let mut client = tonic::client::Grpc::with_origin(self.clone(), Uri::from_static("http://session"))
            .max_decoding_message_size(MESSAGE);
        let ready = client.ready().await;
        ready.map_err(|error| Status::unavailable(format!("the client's session has ended: {error}")))?;
        Ok(client)
    }
}

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// A stream of what a channel gives.
pub fn from_channel<T: Send + 'static>(mut receiver: tokio::sync::mpsc::Receiver<T>) -> impl Stream<Item = T> + Send {
    futures::stream::poll_fn(move |context| receiver.poll_recv(context))
}

/// Runs work of a connection below `task`, until the task ends.
pub fn spawn(task: &Task, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    task.spawn_until_cancelled(name, work);
}
