//! What controllers of pods do: create and delete them, and say so in events.

use client::events::{Recorder, Severity};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
};
use task::Task;

/// Pods created or deleted in one turn at most.
pub const BURST: usize = 500;

/// A controller's means to act on pods. Cloning is cheap.
#[derive(Clone)]
pub struct Hands {
    /// With the rights of the controller.
    pub client: Client,
    /// In the controller's name.
    pub events: Recorder,
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hands({:?})", self.events)
    }
}

impl Hands {
    /// Acts with `client`; events are by `component`.
    pub fn new(task: &Task, client: &Client, component: &str) -> Self {
        Self { client: client.clone(), events: Recorder::new(task, client, component, None) }
    }

    /// Creates a pod for `owner`.
    pub async fn create(&self, owner: &ObjectReference, pod: &Pod) -> kube::Result<Pod> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), owner.namespace.as_deref().unwrap_or_default());
        match api.create(&PostParams::default(), pod).await {
            Ok(pod) => {
                let message = format!("Created pod: {}", pod.metadata.name.as_deref().unwrap_or_default());
                self.events.say(owner, Severity::Normal, "SuccessfulCreate", message);
                Ok(pod)
            }
            Err(error) => {
                if !is_ending(&error) {
                    let message = format!("Error creating: {}", refusal(&error));
                    self.events.say(owner, Severity::Warning, "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    /// Deletes a pod of `owner`; one that is gone is as good.
    pub async fn delete(&self, owner: &ObjectReference, pod: &Pod) -> kube::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), owner.namespace.as_deref().unwrap_or_default());
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(name, &params).await {
            Ok(_) => {
                self.events.say(owner, Severity::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"));
                Ok(())
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => {
                let message = format!("Error deleting: {}", refusal(&error));
                self.events.say(owner, Severity::Warning, "FailedDelete", message);
                Err(error)
            }
        }
    }
}

/// The API server's words, without those of the way to it.
pub fn refusal(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// A namespace that ends refuses new objects, which is nothing to tell and no reason to try again.
pub fn is_ending(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403 && status.message.contains("being terminated"))
}

/// Does `work` for each item in batches of 1, 2, 4 and so on, so that what is refused is refused once and not for each.
/// After a batch with a failure the rest is left. Returns how many were done, and the last failure.
pub async fn slowly<T, F>(items: Vec<T>, work: impl Fn(T) -> F) -> (usize, Option<kube::Error>)
where
    F: Future<Output = kube::Result<()>>,
{
    let (mut done, mut batch) = (0, 1);
    let mut items = items.into_iter();
    loop {
        let outcomes = join_all(items.by_ref().take(batch).map(&work)).await;
        if outcomes.is_empty() {
            return (done, None);
        }
        let mut failed = None;
        for outcome in outcomes {
            match outcome {
                Ok(()) => done += 1,
                Err(error) => failed = Some(error),
            }
        }
        if failed.is_some() {
            return (done, failed);
        }
        batch *= 2;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn what_is_refused_is_refused_once() {
        let tried = Cell::new(0);
        let work = |good: bool| {
            tried.set(tried.get() + 1);
            async move { if good { Ok(()) } else { Err(kube::Error::LinesCodecMaxLineLengthExceeded) } }
        };
        let (done, failed) = slowly(vec![false; 100], work).await;
        assert_eq!((tried.get(), done, failed.is_some()), (1, 0, true));
        let (done, failed) = slowly(vec![true; 100], work).await;
        assert_eq!((tried.get(), done, failed.is_some()), (101, 100, false));
    }
}
