//! Rules and routes that objects of a cluster ask for: `PrometheusRule` and `AlertmanagerConfig`.
//!
//! An object that cannot be read is left out and told in the log; the others count.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use client::cache::Cache;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};
use task::Task;
use tokio::sync::watch;

use super::{Added, Alerts};
use crate::{
    kinds::{Named, Object},
    operator::cache,
    rule::{file::Reading, objects},
};

/// How long further changes are waited for.
const QUIET: Duration = Duration::from_millis(200);

/// How often secrets are looked up again.
const AGAIN: Duration = Duration::from_mins(5);

/// Groups of rules.
#[derive(Clone, Debug)]
struct PrometheusRule;

impl Named for PrometheusRule {
    const KIND: &'static str = "PrometheusRule";
    const PLURAL: &'static str = "prometheusrules";
    const VERSION: &'static str = "v1";
}

/// Routes and receivers of a namespace.
#[derive(Clone, Debug)]
struct AlertmanagerConfig;

impl Named for AlertmanagerConfig {
    const KIND: &'static str = "AlertmanagerConfig";
    const PLURAL: &'static str = "alertmanagerconfigs";
    const VERSION: &'static str = "v1alpha1";
}

/// Follows the objects and gives what they say to `alerts`, below `task`.
pub fn start(task: &Task, client: kube::Client, alerts: Alerts) {
    let task = task.child("alerting objects");
    let running = task.clone();
    task.spawn_until_cancelled("follow", async move {
        let (sender, changes) = watch::channel(0u64);
        let sender = Arc::new(sender);
        let follow = Follow {
            rules: cache(&running, &client, &sender),
            configs: cache(&running, &client, &sender),
            client,
            alerts,
        };
        follow.run(changes).await;
    });
}

/// An object as the API gives it, as far as it matters here.
fn whole<N>(object: &Object<N>) -> Value {
    let (namespace, name) = object.names();
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    json!({"metadata": {"namespace": namespace, "name": name, "uid": uid}, "spec": object.spec})
}

fn sorted<N: Named>(cache: &Cache<Object<N>>) -> Vec<Arc<Object<N>>> {
    let mut list = cache.list();
    list.sort_by(|a, b| a.names().cmp(&b.names()));
    list
}

struct Follow {
    rules: Cache<Object<PrometheusRule>>,
    configs: Cache<Object<AlertmanagerConfig>>,
    client: kube::Client,
    alerts: Alerts,
}

impl Follow {
    async fn run(self, mut changes: watch::Receiver<u64>) {
        tokio::join!(self.rules.ready(), self.configs.ready());
        loop {
            changes.borrow_and_update();
            if let Err(error) = self.apply().await {
                tracing::error!("take rules and routes of the cluster over: {error:#}");
            }
            let changed = tokio::time::timeout(AGAIN, changes.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return;
            }
            while tokio::time::timeout(QUIET, changes.changed()).await.is_ok_and(|changed| changed.is_ok()) {}
        }
    }

    async fn apply(&self) -> anyhow::Result<()> {
        let reading = Reading { features: self.alerts.features(), ..Reading::default() };
        let mut files = Vec::new();
        for object in sorted(&self.rules) {
            let object = whole(&object);
            let name = objects::name(&object);
            match objects::groups(&object, &reading) {
                Ok(file) => files.push((name, file)),
                Err(problems) => tracing::warn!(object = name, "PrometheusRule is left out: {}", problems.join("; ")),
            }
        }
        let mut configs = Vec::new();
        for object in sorted(&self.configs) {
            let object = whole(&object);
            let mut secrets = BTreeMap::new();
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
            let mut wanted = Vec::new();
            selectors(&object["spec"], &mut wanted);
            for (name, key) in wanted {
                match self.secret(&namespace, &name, &key).await {
                    Ok(text) => {
                        secrets.insert((name, key), text);
                    }
                    Err(error) => {
                        tracing::warn!(namespace, name, key, "read a Secret for an AlertmanagerConfig: {error}")
                    }
                }
            }
            configs.push((object, secrets));
        }
        self.alerts.add(Added { files, configs }).await
    }

    async fn secret(&self, namespace: &str, name: &str, key: &str) -> Result<String, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = api.get(name).await.map_err(|error| error.to_string())?;
        let bytes = secret.data.unwrap_or_default().remove(key).ok_or("it has no such key")?;
        String::from_utf8(bytes.0).map_err(|_| "it is no text".to_owned())
    }
}

/// All that looks like a reference to a key of a Secret.
fn selectors(value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| selectors(item, found)),
        Value::Object(pairs) => {
            if let (Some(Value::String(name)), Some(Value::String(key))) = (pairs.get("name"), pairs.get("key")) {
                found.push((name.clone(), key.clone()));
            }
            pairs.values().for_each(|value| selectors(value, found));
        }
        _ => {}
    }
}
