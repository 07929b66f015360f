//! pending
use crate::server::Server;
use std::sync::Arc;
/// x
pub async fn install(_server: &Arc<Server>) -> anyhow::Result<()> {
    Ok(())
}
