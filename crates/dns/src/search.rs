//! Which other names a pod's query may stand for.
//!
//! A pod with `dnsPolicy: ClusterFirst` has a search list and `ndots:5`, so its resolver asks for
//! `api.example.com.shop.svc.cluster.local` before it asks for `api.example.com`. Knowing the pod's namespace, the server
//! tries the rest of the list at once and answers the first question with an alias to the first name that exists, as if
//! the resolver had gone on by itself:
//!
//! ```text
//! api.example.com.shop.svc.cluster.local   asked for; not there
//! api.example.com.svc.cluster.local        not there
//! api.example.com.cluster.local            not there
//! api.example.com.HOST-SEARCH              asked outside; not there
//! api.example.com                          asked outside; there: CNAME and its addresses
//! ```
//!
//! Someone who asks for just that first name, and means it, must not be led outside by a name that happens to exist
//! there. So names that belong to the cluster by form are only ever looked for in the cluster: one label, those that end in
//! a namespace or in `svc`, and `POD.SERVICE` where there is such a service. The resolver then goes on by itself, which
//! is slower and never wrong. Only addresses are looked for in this way.

/// A name to try, by labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// In the zone; without the domain.
    Inside(Vec<String>),
    /// Wherever it is.
    Outside(Vec<String>),
}

/// The part of `name` before the first entry of the search list of `namespace`; `name` is without the domain.
pub(crate) fn base<'n, 's>(name: &'n [&'s str], namespace: &str) -> Option<&'n [&'s str]> {
    match name {
        [base @ .., found, "svc"] if *found == namespace && !base.is_empty() => Some(base),
        _ => None,
    }
}

/// What to try after the name itself was not found, in order. `contained` is whether the base belongs to the cluster,
/// `host` the host's own search list.
pub(crate) fn candidates(base: &[&str], contained: bool, host: &[Vec<String>]) -> Vec<Candidate> {
    let own = |extra: &[&str]| base.iter().chain(extra).map(|label| (*label).to_owned()).collect::<Vec<_>>();
    let mut candidates = vec![Candidate::Inside(own(&["svc"])), Candidate::Inside(own(&[]))];
    let hidden = base.iter().any(|label| label.starts_with('_'));
    if !contained && !hidden {
        for domain in host {
            let labels: Vec<&str> = domain.iter().map(String::as_str).collect();
            candidates.push(Candidate::Outside(own(&labels)));
        }
        candidates.push(Candidate::Outside(own(&[])));
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_pods_own_namespace_have_a_base() {
        for (name, want) in [
            ("api.example.com.shop.svc", Some("api.example.com")),
            ("web.shop.svc", Some("web")),
            ("shop.svc", None),
            ("api.example.com.other.svc", None),
            ("api.example.com.svc", None),
            ("api.example.com", None),
            ("1-2-3-4.shop.pod", None),
            ("", None),
        ] {
            let labels: Vec<&str> = name.split('.').filter(|label| !label.is_empty()).collect();
            assert_eq!(base(&labels, "shop").map(|base| base.join(".")).as_deref(), want, "{name}");
        }
    }

    #[test]
    fn names_of_the_cluster_are_not_looked_for_outside() {
        let host = [vec!["corp".to_owned(), "example".to_owned()]];
        let shown = |candidates: Vec<Candidate>| {
            let show = |candidate: &Candidate| match candidate {
                Candidate::Inside(labels) => format!("in {}", labels.join(".")),
                Candidate::Outside(labels) => format!("out {}", labels.join(".")),
            };
            candidates.iter().map(show).collect::<Vec<_>>()
        };
        let all = candidates(&["api", "test"], false, &host);
        assert_eq!(shown(all), ["in api.test.svc", "in api.test", "out api.test.corp.example", "out api.test"]);
        assert_eq!(shown(candidates(&["web"], true, &host)), ["in web.svc", "in web"]);
        assert_eq!(shown(candidates(&["_http", "_tcp", "a", "test"], false, &host)).len(), 2);
    }
}
