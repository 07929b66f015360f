//! Watches: where they start, what they show, how they end.

use crate::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// An open watch.
struct Watch {
    body: Body,
    text: Vec<u8>,
}

impl Watch {
    async fn open(cluster: &Cluster, query: &str) -> Self {
        Self::open_at(cluster, &format!("{MAPS}?watch=1&{query}"), "application/json").await
    }

    async fn open_at(cluster: &Cluster, path: &str, accept: &str) -> Self {
        let response = cluster.raw(Some(admin()), request("GET", path, &[("accept", accept)], "")).await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), text: Vec::new() }
    }

    /// The next event; `None` when the watch has ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame =
                tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await.expect("an event in time");
            match frame {
                None => return None,
                Some(frame) => self.text.extend_from_slice(&frame.unwrap().into_data().unwrap()),
            }
        }
    }

    /// Type and name of the next event.
    async fn seen(&mut self) -> (String, String) {
        let event = self.next().await.expect("an event");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }

    #[track_caller]
    fn is(seen: (String, String), kind: &str, name: &str) {
        assert_eq!((seen.0.as_str(), seen.1.as_str()), (kind, name));
    }
}

#[tokio::test]
async fn a_watch_without_revision_begins_with_what_is_there() {
    let cluster = Cluster::start().await;
    cluster.config_map("a").await;
    cluster.config_map("b").await;
    let mut watch = Watch::open(&cluster, "").await;
    Watch::is(watch.seen().await, "ADDED", "a");
    Watch::is(watch.seen().await, "ADDED", "b");
    cluster.patch(&format!("{MAPS}/a"), json!({"data": {"k": "2"}})).await.ok();
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["data"]["k"]), (&json!("MODIFIED"), &json!("2")));
    cluster.delete(&format!("{MAPS}/a")).await.ok();
    let gone = watch.next().await.unwrap();
    assert_eq!(gone["type"], "DELETED");
    let versions = [&event, &gone]
        .map(|event| event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap());
    assert!(versions[0] < versions[1], "a deletion has a revision of its own");
}

#[tokio::test]
async fn a_watch_resumes_after_its_revision() {
    let cluster = Cluster::start().await;
    let first = cluster.config_map("a").await;
    cluster.config_map("b").await;
    let revision = first["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = Watch::open(&cluster, &format!("resourceVersion={revision}")).await;
    Watch::is(watch.seen().await, "ADDED", "b");
    cluster.delete(&format!("{MAPS}/a")).await.ok();
    Watch::is(watch.seen().await, "DELETED", "a");
}

#[tokio::test]
async fn a_watch_resumes_from_the_stores_history_where_the_log_is_too_short() {
    let cluster = Cluster::start().await;
    let first = cluster.config_map("a").await;
    for round in 0..1500 {
        cluster.patch(&format!("{MAPS}/a"), json!({"data": {"k": round.to_string()}})).await.ok();
    }
    let revision = first["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = Watch::open(&cluster, &format!("resourceVersion={revision}")).await;
    for round in 0..1500 {
        let event = watch.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]["data"]["k"]), (&json!("MODIFIED"), &json!(round.to_string())));
    }
}

#[tokio::test]
async fn a_compacted_revision_is_gone() {
    let cluster = Cluster::start().await;
    let first = cluster.config_map("a").await;
    for round in 0..1500 {
        cluster.patch(&format!("{MAPS}/a"), json!({"data": {"k": round.to_string()}})).await.ok();
    }
    let now = cluster.store.revision().await.unwrap();
    cluster.store.compact(now).await.unwrap();
    let revision = first["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = Watch::open(&cluster, &format!("resourceVersion={revision}")).await;
    let event = watch.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["code"], &event["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_watch_list_ends_its_beginning_with_a_bookmark() {
    let cluster = Cluster::start().await;
    cluster.config_map("a").await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = Watch::open(&cluster, query).await;
    Watch::is(watch.seen().await, "ADDED", "a");
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "BOOKMARK");
    assert_eq!(event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(event["object"]["kind"], "ConfigMap");
    cluster.config_map("b").await;
    Watch::is(watch.seen().await, "ADDED", "b");
}

#[tokio::test]
async fn objects_come_into_a_selection_and_leave_it() {
    let cluster = Cluster::start().await;
    cluster.config_map("a").await;
    let mut watch = Watch::open(&cluster, "labelSelector=app%3Dx").await;
    cluster.patch(&format!("{MAPS}/a"), json!({"metadata": {"labels": {"app": "x"}}})).await.ok();
    Watch::is(watch.seen().await, "ADDED", "a");
    cluster.patch(&format!("{MAPS}/a"), json!({"data": {"k": "2"}})).await.ok();
    Watch::is(watch.seen().await, "MODIFIED", "a");
    let left = cluster.patch(&format!("{MAPS}/a"), json!({"metadata": {"labels": {"app": "y"}}})).await.ok();
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["labels"]["app"], "x", "as it was when it matched last");
    assert_eq!(event["object"]["metadata"]["resourceVersion"], left["metadata"]["resourceVersion"]);
    cluster.delete(&format!("{MAPS}/a")).await.ok();
    cluster.config_map("x").await;
    Watch::is(watch.seen().await, "ADDED", "x");
}

#[tokio::test]
async fn one_object_is_watched_by_its_name() {
    let cluster = Cluster::start().await;
    let mut watch = Watch::open(&cluster, "fieldSelector=metadata.name%3Db").await;
    cluster.config_map("a").await;
    cluster.config_map("b").await;
    Watch::is(watch.seen().await, "ADDED", "b");
    let mut old = Watch::open_at(&cluster, "/api/v1/watch/namespaces/default/configmaps/a", "application/json").await;
    Watch::is(old.seen().await, "ADDED", "a");
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_up() {
    let cluster = Cluster::start().await;
    cluster.config_map("a").await;
    let mut watch = Watch::open(&cluster, "timeoutSeconds=1&allowWatchBookmarks=true").await;
    Watch::is(watch.seen().await, "ADDED", "a");
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "BOOKMARK", "what a client may resume after is told at the end");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn tables_name_their_columns_once() {
    let cluster = Cluster::start().await;
    cluster.config_map("a").await;
    let path = format!("{MAPS}?watch=1");
    let mut watch = Watch::open_at(&cluster, &path, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert!(!first["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    cluster.config_map("b").await;
    let second = watch.next().await.unwrap();
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
    assert!(second["object"]["columnDefinitions"].as_array().is_none_or(Vec::is_empty));
}

#[tokio::test]
async fn protobuf_events_are_framed_by_their_length() {
    let cluster = Cluster::start().await;
    cluster.config_map("a").await;
    let path = format!("{MAPS}?watch=1");
    let accept = "application/vnd.kubernetes.protobuf;stream=watch";
    let response = cluster.raw(Some(admin()), request("GET", &path, &[("accept", accept)], "")).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let bytes = response.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
    let length = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    assert_eq!(bytes.len(), 4 + length);
    assert_eq!(&bytes[4..11], b"\x0a\x05ADDED");
}

#[tokio::test]
async fn a_watcher_that_never_reads_is_ended_and_harms_nobody() {
    let cluster = Cluster::start().await;
    let idle = Watch::open(&cluster, "").await;
    cluster.config_map("a").await;
    for round in 0..5000 {
        cluster.patch(&format!("{MAPS}/a"), json!({"data": {"k": round.to_string()}})).await.ok();
    }
    let mut idle = idle;
    let mut seen = 0;
    while idle.next().await.is_some() {
        seen += 1;
    }
    assert!((1000..5000).contains(&seen), "{seen}");
}

#[tokio::test]
async fn watches_end_with_the_server() {
    let cluster = Cluster::start().await;
    let mut watch = Watch::open(&cluster, "").await;
    cluster.task.cancel();
    assert_eq!(watch.next().await, None);
}
