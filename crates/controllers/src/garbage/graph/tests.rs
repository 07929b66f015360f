//! Owners come and go.

use kube::api::PropagationPolicy;

use super::{Graph, Item, Node, Owner, Step, Uid};

fn uid(n: u128) -> Uid {
    Uid::parse(&format!("00000000-0000-0000-0000-{n:012}")).unwrap()
}

fn item(name: &str) -> Item {
    Item { api_version: "v1".into(), kind: "Thing".into(), namespace: "default".into(), name: name.into() }
}

fn node(name: &str, owners: &[u128]) -> Node {
    Node {
        group: String::new(),
        plural: "things".into(),
        item: item(name),
        owners: owners.iter().map(|n| Owner { uid: uid(*n), item: item("owner"), blocks: true }).collect(),
        leaving: false,
        foreground: false,
        orphan: false,
    }
}

#[test]
fn what_has_lost_all_owners_is_deleted_and_what_has_one_left_forgets_the_other() {
    let mut graph = Graph::default();
    graph.put(uid(1), node("a", &[]));
    graph.put(uid(2), node("b", &[]));
    graph.put(uid(3), node("c", &[1, 2]));
    assert!(matches!(graph.decide(uid(3)), Step::Nothing));
    assert_eq!(graph.remove(uid(1)), [uid(3)]);
    assert!(matches!(graph.decide(uid(3)), Step::DropOwners { gone, .. } if gone == [uid(1)]));
    graph.put(uid(3), node("c", &[2]));
    assert_eq!(graph.remove(uid(2)), [uid(3)]);
    assert!(matches!(graph.decide(uid(3)), Step::Delete { .. }));
}

#[test]
fn an_owner_never_seen_is_asked_for_first() {
    let mut graph = Graph::default();
    assert_eq!(graph.put(uid(3), node("c", &[9])), [uid(3)]);
    assert_eq!(graph.unknown_owners(uid(3)).len(), 1);
    assert!(matches!(graph.decide(uid(3)), Step::Nothing));
    graph.learn(uid(9), false);
    assert!(graph.unknown_owners(uid(3)).is_empty());
    assert!(matches!(graph.decide(uid(3)), Step::Delete { .. }));
}

#[test]
fn foreground_deletion_waits_for_those_that_block_it() {
    let mut graph = Graph::default();
    graph.put(uid(2), node("dependent", &[1]));
    let owner = Node { leaving: true, foreground: true, ..node("owner", &[]) };
    let look = graph.put(uid(1), owner);
    assert_eq!(look, [uid(1), uid(2)]);
    assert!(matches!(graph.decide(uid(1)), Step::DeleteDependents { dependents } if dependents == [uid(2)]));
    assert!(matches!(graph.decide(uid(2)), Step::Delete { .. }));
    graph.put(uid(2), Node { leaving: true, ..node("dependent", &[1]) });
    assert!(matches!(graph.decide(uid(1)), Step::DeleteDependents { dependents } if dependents.is_empty()));
    assert_eq!(graph.remove(uid(2)), [uid(1)]);
    assert!(matches!(graph.decide(uid(1)), Step::Unblock { .. }));
}

#[test]
fn a_circle_of_owners_in_foreground_deletion_is_broken_where_it_closes() {
    let mut graph = Graph::default();
    let leaving = |node| Node { leaving: true, foreground: true, ..node };
    graph.put(uid(1), leaving(node("a", &[3])));
    graph.put(uid(2), node("b", &[1]));
    graph.put(uid(3), node("c", &[2]));
    assert!(matches!(graph.decide(uid(2)), Step::Delete { policy: PropagationPolicy::Foreground, .. }));
    graph.put(uid(2), leaving(node("b", &[1])));
    assert!(matches!(graph.decide(uid(3)), Step::BreakCircle { owners, .. } if owners == [uid(2)]));
    let mut third = node("c", &[2]);
    third.owners[0].blocks = false;
    graph.put(uid(3), third.clone());
    assert!(matches!(graph.decide(uid(3)), Step::Delete { policy: PropagationPolicy::Foreground, .. }));
    graph.put(uid(3), leaving(third));
    // Nobody waits for the third any more, so the second goes, and with it the rest.
    assert!(matches!(graph.decide(uid(2)), Step::Unblock { .. }));
    graph.remove(uid(2));
    assert!(matches!(graph.decide(uid(1)), Step::Unblock { .. }));
    graph.remove(uid(1));
    assert!(matches!(graph.decide(uid(3)), Step::Unblock { .. }));
}

#[test]
fn orphans_forget_their_owner() {
    let mut graph = Graph::default();
    graph.put(uid(2), node("dependent", &[1]));
    graph.put(uid(1), Node { leaving: true, orphan: true, ..node("owner", &[]) });
    assert!(matches!(graph.decide(uid(1)), Step::Orphan { dependents, .. } if dependents.len() == 1));
}

#[test]
fn a_new_list_removes_what_it_lacks() {
    let mut graph = Graph::default();
    graph.put(uid(1), node("owner", &[7]));
    graph.put(uid(2), node("dependent", &[1]));
    assert_eq!(graph.keep_only("", "things", &[uid(2)]), [uid(2)]);
    assert!(matches!(graph.decide(uid(2)), Step::Delete { .. }));
}
