//! What every namespace has: the ServiceAccount `default`, and the ConfigMap `kube-root-ca.crt`.

use client::{
    cache::Key,
    queue::{Next, Queue},
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use task::Task;

use crate::{
    Config,
    caches::{ACCOUNT, AUTHORITY, Caches},
};

const DESCRIPTION: &str = "kubernetes.io/description";
const EXPLANATION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// Runs the controller; `publisher` writes the ConfigMaps.
pub fn run(task: &Task, client: &Client, publisher: &Client, caches: &Caches, config: &Config) {
    let queue: Queue<Key> = Queue::new(task);
    let (accounts, bundles) = (caches.accounts.clone(), caches.bundles.clone());
    let namespace = |key: &Key| Key::new("", &key.namespace);
    let (from_namespaces, from_accounts, from_bundles) = (queue.clone(), queue.clone(), queue.clone());
    caches.namespaces.listen(move |change| from_namespaces.add(change.key.clone()));
    accounts.listen(move |change| from_accounts.add(namespace(&change.key)));
    bundles.listen(move |change| from_bundles.add(namespace(&change.key)));
    let (namespaces, client, authority) = (caches.namespaces.clone(), client.clone(), config.authority.clone());
    let publisher = publisher.clone();
    queue.run("service account", 2, move |key| {
        let (namespaces, accounts, bundles) = (namespaces.clone(), accounts.clone(), bundles.clone());
        let (client, publisher, authority) = (client.clone(), publisher.clone(), authority.clone());
        async move {
            accounts.ready().await;
            bundles.ready().await;
            if !namespaces.get(&key).is_some_and(|namespace| is_active(&namespace)) {
                return Ok(Next::Done);
            }
            if accounts.get(&Key::new(&key.name, ACCOUNT)).is_none() {
                let account = object(json!({"metadata": {"name": ACCOUNT}}));
                create(&Api::<ServiceAccount>::namespaced(client.clone(), &key.name), &account).await?;
            }
            let api: Api<ConfigMap> = Api::namespaced(publisher, &key.name);
            let data = json!({"metadata": {"name": AUTHORITY, "annotations": {DESCRIPTION: EXPLANATION}},
                "data": {"ca.crt": authority}});
            match bundles.get(&Key::new(&key.name, AUTHORITY)) {
                None => create(&api, &object(data)).await?,
                Some(bundle) => {
                    let found = bundle.data.as_ref().and_then(|data| data.get("ca.crt"));
                    if found != Some(&authority) || bundle.data.as_ref().is_some_and(|data| data.len() != 1) {
                        let mut whole = object::<ConfigMap>(data);
                        whole.metadata.resource_version = bundle.metadata.resource_version.clone();
                        api.replace(AUTHORITY, &PostParams::default(), &whole).await?;
                    }
                }
            }
            Ok::<_, kube::Error>(Next::Done)
        }
    });
}

fn is_active(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none()
}

fn object<K: k8s_openapi::serde::de::DeserializeOwned>(value: serde_json::Value) -> K {
    serde_json::from_value(value).expect("a literal object has its kind's form")
}

/// Creates an object; one that is there already is as good, and one refused because its namespace ends is not needed.
async fn create<K>(api: &Api<K>, wanted: &K) -> kube::Result<()>
where
    K: Clone + std::fmt::Debug + k8s_openapi::serde::Serialize + k8s_openapi::serde::de::DeserializeOwned,
{
    match api.create(&PostParams::default(), wanted).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) || is_ending(&status) => Ok(()),
        other => other.map(drop),
    }
}

/// Whether a refusal is due to the namespace's end.
fn is_ending(status: &kube::core::Status) -> bool {
    status.code == 403 && status.message.contains("being terminated")
}
