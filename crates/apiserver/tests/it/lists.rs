//! Lists and gets: revisions, pages, selectors, formats and views.

use crate::*;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn names(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn five(cluster: &Cluster) {
    for name in ["a", "b", "c", "d", "e"] {
        cluster.config_map(name).await;
    }
}

#[tokio::test]
async fn a_list_shows_the_state_of_its_revision() {
    let cluster = Cluster::start().await;
    five(&cluster).await;
    let list = cluster.get(MAPS).await.ok();
    assert_eq!(names(&list), ["a", "b", "c", "d", "e"]);
    assert_eq!(list["kind"], "ConfigMapList");
    assert!(list["items"][0].get("kind").is_none(), "items of typed lists carry no type");
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    cluster.delete(&format!("{MAPS}/b")).await.ok();
    cluster.patch(&format!("{MAPS}/c"), json!({"data": {"k": "new"}})).await.ok();
    let old = cluster.get(&format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact")).await.ok();
    assert_eq!(names(&old), ["a", "b", "c", "d", "e"]);
    assert_eq!(old["items"][2]["data"]["k"], "v");
    assert_eq!(old["metadata"]["resourceVersion"], *revision);
    for query in ["", "?resourceVersion=0", "?resourceVersion=1&resourceVersionMatch=NotOlderThan"] {
        assert_eq!(names(&cluster.get(&format!("{MAPS}{query}")).await.ok()), ["a", "c", "d", "e"], "{query}");
    }
}

#[tokio::test]
async fn pages_continue_at_the_revision_of_the_first() {
    let cluster = Cluster::start().await;
    five(&cluster).await;
    let first = cluster.get(&format!("{MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    cluster.delete(&format!("{MAPS}/c")).await.ok();
    cluster.config_map("c1").await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = cluster.get(&format!("{MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = cluster.get(&format!("{MAPS}?limit=2&continue={token}")).await.ok();
    assert_eq!(names(&third), ["e"]);
    assert!(third["metadata"].get("continue").is_none());
}

#[tokio::test]
async fn an_expired_token_says_how_to_go_on() {
    let cluster = Cluster::start().await;
    five(&cluster).await;
    let first = cluster.get(&format!("{MAPS}?limit=2")).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    cluster.delete(&format!("{MAPS}/c")).await.ok();
    let now = cluster.store.revision().await.unwrap();
    cluster.store.compact(now).await.unwrap();
    let answer = cluster.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(answer.code, 410);
    let status = answer.value();
    assert_eq!(status["reason"], "Expired");
    let next = status["metadata"]["continue"].as_str().unwrap();
    let rest = cluster.get(&format!("{MAPS}?limit=2&continue={next}")).await.ok();
    assert_eq!(names(&rest), ["d", "e"]);
    let path = format!("{MAPS}?resourceVersion=2&resourceVersionMatch=Exact");
    cluster.get(&path).await.refused(410, "Expired", "too old");
}

#[tokio::test]
async fn selectors_choose() {
    let cluster = Cluster::start().await;
    five(&cluster).await;
    let list = |query: &str| {
        let path = format!("{MAPS}?{query}");
        let cluster = &cluster;
        async move { names(&cluster.get(&path).await.ok()) }
    };
    assert_eq!(list("labelSelector=app%3Db").await, ["b"]);
    assert_eq!(list("labelSelector=app%20in%20(a,c)").await, ["a", "c"]);
    assert_eq!(list("labelSelector=!app").await, [""; 0]);
    assert_eq!(list("fieldSelector=metadata.name%3Dd").await, ["d"]);
    assert_eq!(list("fieldSelector=metadata.name!%3Dd").await, ["a", "b", "c", "e"]);
    assert_eq!(list("fieldSelector=metadata.namespace%3Ddefault&limit=1").await, ["a"]);
    assert_eq!(list("labelSelector=app%20in%20(b,d,e)&limit=2").await, ["b", "d"]);
    let all = cluster.get("/api/v1/configmaps?fieldSelector=metadata.name%3Da").await.ok();
    assert_eq!(names(&all), ["a"]);
}

#[tokio::test]
async fn answers_come_in_every_format_and_view() {
    let cluster = Cluster::start().await;
    five(&cluster).await;
    let accept = |path: &str, accept: &str| {
        let request = request("GET", path, &[("accept", accept)], "");
        let cluster = &cluster;
        async move { cluster.send(Some(admin()), request).await }
    };
    let one = format!("{MAPS}/a");
    let yaml = accept(&one, "application/yaml").await;
    assert!(String::from_utf8_lossy(&yaml.bytes).contains("kind: ConfigMap"));
    let proto = accept(&one, "application/vnd.kubernetes.protobuf").await;
    assert_eq!(&proto.bytes[..4], b"k8s\0");
    let (gvk, value) = api::proto::decode_envelope(&proto.bytes).unwrap();
    assert_eq!((gvk.kind.as_str(), value["data"]["k"].as_str()), ("ConfigMap", Some("v")));
    let proto = accept(MAPS, "application/vnd.kubernetes.protobuf").await;
    let (gvk, value) = api::proto::decode_envelope(&proto.bytes).unwrap();
    assert_eq!((gvk.kind.as_str(), value["items"].as_array().map(Vec::len)), ("ConfigMapList", Some(5)));
    assert_eq!(value["items"][1]["metadata"]["name"], "b");
    for path in [MAPS, &one] {
        let table = accept(path, "application/json;as=Table;v=v1;g=meta.k8s.io").await.ok();
        assert_eq!(table["kind"], "Table");
        assert_eq!(table["columnDefinitions"][0]["name"], "Name");
        assert_eq!(table["rows"][0]["cells"][0], "a");
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    }
    let partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let value = accept(&one, partial).await.ok();
    assert_eq!(value["kind"], "PartialObjectMetadata");
    assert_eq!(value["metadata"]["labels"]["app"], "a");
    assert!(value.get("data").is_none());
    let list = accept(MAPS, &partial.replace("Metadata;", "MetadataList;")).await.ok();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(5));
    let proto = partial.replace("json", "vnd.kubernetes.protobuf").replace("Metadata;", "MetadataList;");
    assert_eq!(&accept(MAPS, &proto).await.bytes[..4], b"k8s\0");
    let secrets = accept("/api/v1/secrets", "application/json;as=Table;v=v1;g=meta.k8s.io").await.ok();
    assert_eq!(secrets["rows"], json!([]));
}

#[tokio::test]
async fn bodies_come_in_every_format() {
    let cluster = Cluster::start().await;
    let yaml = "kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: ya\ndata:\n  a: \"1\"\n";
    let answer =
        cluster.send(Some(admin()), request("POST", MAPS, &[("content-type", "application/yaml")], yaml)).await;
    assert_eq!(answer.ok()["data"]["a"], "1");
    let value = json!({"metadata": {"name": "p"}, "data": {"a": "2"}});
    let schema = api::schema::Type::named("io.k8s.api.core.v1.ConfigMap").unwrap();
    let gvk = api::meta::Gvk::new("", "v1", "ConfigMap");
    let bytes = api::proto::encode_envelope(&gvk, schema, &value).unwrap();
    let kind = "application/vnd.kubernetes.protobuf";
    let answer = cluster.send(Some(admin()), request("POST", MAPS, &[("content-type", kind)], bytes)).await;
    assert_eq!(answer.ok()["data"]["a"], "2");
}

#[tokio::test]
async fn a_long_list_is_sent_in_pieces_whose_length_is_known() {
    let cluster = Cluster::start().await;
    for at in 0..200 {
        let body = json!({"metadata": {"name": format!("m{at:03}")}, "data": {"k": "x".repeat(5000)}});
        cluster.post(MAPS, body).await.ok();
    }
    let answer = cluster.get(MAPS).await;
    let announced: usize = answer.headers["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(announced, answer.bytes.len());
    let list = answer.ok();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(200));
    assert_eq!(list["items"][199]["metadata"]["name"], "m199");
    let mut distant = request("GET", MAPS, &[("accept-encoding", "gzip")], "");
    distant.extensions_mut().insert(serve::Peer {
        address: Some("192.0.2.7:1234".parse().unwrap()),
        local: Some("192.0.2.1:6443".parse().unwrap()),
        certificates: std::sync::Arc::from([]),
    });
    let answer = cluster.send(Some(admin()), distant).await;
    assert_eq!(answer.headers["content-encoding"], "gzip");
    assert!(answer.bytes.len() < announced / 4);
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&answer.bytes[..]), &mut plain).unwrap();
    assert_eq!(plain.len(), announced);
}

#[tokio::test]
async fn events_are_selected_by_the_fields_of_either_group() {
    let cluster = Cluster::start().await;
    let event = json!({
        "metadata": {"name": "e"}, "regarding": {"namespace": "default", "kind": "Pod", "name": "p"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Do", "reason": "Test", "type": "Normal",
        "reportingController": "tester", "reportingInstance": "t", "note": "n",
    });
    cluster.post("/apis/events.k8s.io/v1/namespaces/default/events", event).await.ok();
    for (path, selector, found) in [
        ("/apis/events.k8s.io/v1", "reportingController=tester", 1),
        ("/apis/events.k8s.io/v1", "regarding.name=p,reason=Test", 1),
        ("/apis/events.k8s.io/v1", "reportingController=other", 0),
        ("/api/v1", "source=tester", 1),
        ("/api/v1", "reportingComponent=tester", 1),
        ("/api/v1", "involvedObject.name=q", 0),
    ] {
        let path = format!("{path}/namespaces/default/events?fieldSelector={selector}");
        let list = cluster.get(&path).await.ok();
        assert_eq!(list["items"].as_array().map_or(0, Vec::len), found, "{path}");
    }
}
