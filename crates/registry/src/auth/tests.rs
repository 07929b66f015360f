//! Scopes mean what clients and RBAC take them for; tokens say nothing that was not granted.

use super::*;

#[test]
fn scopes_are_read_as_clients_write_them() {
    let both = vec![Scope::repository("team/app", Action::Pull), Scope::repository("team/app", Action::Push)];
    let cases = [
        ("repository:team/app:pull,push", both.clone()),
        ("repository:team/app:push,pull", both),
        ("repository:app:delete", vec![Scope::repository("app", Action::Delete)]),
        ("repository:../app:pull", vec![]),
        ("repository:app:fly", vec![]),
        ("repository:app", vec![]),
        ("registry:catalog:*", vec![Scope::catalog()]),
        ("registry:other:*", vec![]),
        ("", vec![]),
    ];
    for (text, expected) in cases {
        assert_eq!(Scope::parse(text), expected, "{text}");
    }
    assert_eq!(Scope::parse("repository:app:*").len(), 3);
}

#[test]
fn repositories_are_objects_of_the_namespace_that_their_name_begins_with() {
    let cases = [
        ("team/app", Some("team"), "app"),
        ("team/sub/app", Some("team"), "sub/app"),
        ("app", None, "app"),
        ("docker.io/library/app", None, "docker.io/library/app"),
        ("under_score/app", None, "under_score/app"),
    ];
    for (repository, namespace, name) in cases {
        let attributes = Scope::repository(repository, Action::Push).attributes();
        assert_eq!(attributes.namespace.as_deref(), namespace, "{repository}");
        assert_eq!(attributes.name.as_deref(), Some(name), "{repository}");
        assert_eq!(attributes.group.as_deref(), Some("registry.madang.dev"));
        assert_eq!(attributes.verb.as_deref(), Some("update"));
    }
    assert_eq!(Scope::catalog().attributes().verb.as_deref(), Some("list"));
}

#[test]
fn only_unchanged_and_fresh_tokens_of_this_process_count() {
    let tokens = Tokens::new().unwrap();
    let scopes = vec![Scope::repository("a", Action::Pull)];
    let token = tokens.grant("jane".into(), scopes.clone(), LIFETIME).unwrap();
    let claims = tokens.read(&token).unwrap();
    assert_eq!((claims.user.as_str(), &claims.scopes), ("jane", &scopes));
    assert_eq!(Tokens::new().unwrap().read(&token), None);
    let old = tokens.grant("jane".into(), scopes, Duration::ZERO).unwrap();
    assert_eq!(tokens.read(&old), None);
    let other = tokens.grant("jane".into(), vec![Scope::repository("b", Action::Push)], LIFETIME).unwrap();
    let mixed = format!("{}.{}", other.split_once('.').unwrap().0, token.split_once('.').unwrap().1);
    for token in [mixed.as_str(), "", ".", "a.b", &token[1..], "x"] {
        assert_eq!(tokens.read(token), None, "{token}");
    }
}
