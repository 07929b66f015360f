//! Images of a script: what `docker` in it stands for.

use std::sync::Arc;

use super::{Failure, Far, failed};
use crate::{drive::Drive, run::world::Ask};

/// The image of `agent { dockerfile ... }`.
pub(super) async fn of_dockerfile(_drive: &Arc<Drive>, _ask: &Ask) -> Result<String, Failure> {
    Err(failed("agents from a Dockerfile are not made yet: build the image in a stage, and name it"))
}

/// `docker.build`, `image.push`, `image.inside`
pub(super) async fn docker(_drive: &Arc<Drive>, ask: &Ask) -> Far {
    Err(failed(format!(
        "{} is not there yet: run the docker client in sh, which has a socket to build through",
        ask.name
    )))
}
