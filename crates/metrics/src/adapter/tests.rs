//! What is asked becomes queries, and what they have becomes objects.

use super::{
    custom::quantity,
    decoded,
    matcher::{any_of, described, of_selector, series},
    usage::{Used, gathered},
    *,
};

#[test]
fn selectors_become_matchers() {
    let of = |text: &str| of_selector(text).map(|all| all.join(","));
    assert_eq!(of("").unwrap(), "");
    assert_eq!(of("a=b,c!=d").unwrap(), r#"a="b",c!="d""#);
    assert_eq!(of("a in (x.y,z),b notin (q),c,!d").unwrap(), r#"a=~"x\\.y|z",b!~"q",c!="",d="""#);
    assert!(of("a/b=c").unwrap_err().contains("no label of a metric"));
    assert!(of("a>1").is_err());
}

#[test]
fn names_are_no_patterns() {
    assert_eq!(any_of(["a.b", "c"]), r#""a\\.b|c""#);
    assert_eq!(any_of(["\"} or vector(1) #"]), r#""\"\\} or vector\\(1\\) \\#""#);
}

#[test]
fn a_metric_is_itself_or_the_rate_of_its_counter() {
    assert_eq!(series("http_requests").iter().map(|(_, counter)| *counter).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(series("http_requests_total"), [("http_requests_total".to_owned(), true)]);
}

#[test]
fn resources_name_their_label_and_kind() {
    for (resource, label, kind) in [
        ("pods", "pod", "Pod"),
        ("ingresses.networking.k8s.io", "ingress", "Ingress"),
        ("deployments.apps", "deployment", "Deployment"),
        ("httproutes.gateway.networking.k8s.io", "httproute", "Httproute"),
        ("policies.example.org", "policy", "Policy"),
    ] {
        assert_eq!(described(resource), (label.to_owned(), kind.to_owned()), "{resource}");
    }
}

#[test]
fn quantities_are_whole_or_in_thousandths() {
    for (value, text) in [(3.0, "3"), (0.25, "250m"), (1e12, "1000000000000"), (0.0, "0"), (12.3456, "12346m")] {
        assert_eq!(quantity(value), text);
    }
}

#[test]
fn usage_needs_both_figures() {
    let of = |node: &str| Labels::from_pairs([("node", node)]);
    let all = gathered(vec![(of("a"), 0.25), (of("b"), 1.0)], vec![(of("a"), 2048.0)], |labels| {
        labels.get("node").to_owned()
    });
    assert_eq!(all["a"].quantities().unwrap(), json!({"cpu": "250000000n", "memory": "2Ki"}));
    assert_eq!((all["b"].quantities(), all["b"]), (None, Used { cpu: Some(1.0), memory: None }));
}

#[test]
fn queries_are_decoded_and_bounded() {
    let query = Query::read("labelSelector=a%3Db%2Cc+in+%28d%29&x").unwrap();
    assert_eq!((query.get("labelSelector"), query.get("x"), query.get("y")), ("a=b,c in (d)", "", ""));
    assert!(Query::read(&"a".repeat(5000)).is_err());
    assert!(Query::read("a=%ff").is_err());
    assert_eq!(decoded("a%2").as_deref(), Some("a%2"));
}
