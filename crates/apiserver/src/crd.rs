//! pending
use crate::server::Server;
use std::sync::Arc;
/// x
pub async fn run(server: Arc<Server>) {
    server.task.cancelled().await;
}
