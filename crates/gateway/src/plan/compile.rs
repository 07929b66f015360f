//! A route's rules, read once: matches, filters, backends; and what cannot be done or found of them.
//!
//! See <https://gateway-api.sigs.k8s.io/reference/spec/#httproutefilter>.

use std::{sync::Arc, time::Duration};

use api::span;
use client::cache::Key;
use http::{HeaderValue, StatusCode};

use super::{Lasting, World, condition::Condition, grant};
use crate::{
    backend::{self, Backend},
    cors::Cors,
    headers::Edit,
    kinds::{self, BackendRef, Filter, HttpRoute},
    rule::{Conditions, Mirror, PathChange, Redirect, Retry, Rewrite, Rule, Target},
    table::Entry,
    tally::Route,
};

/// A route, read.
#[derive(Debug)]
pub struct Compiled {
    /// One for each match.
    pub entries: Vec<Entry>,
    /// Whether it can be served.
    pub accepted: Result<(), Condition>,
    /// Whether all that it refers to is there.
    pub resolved: Condition,
}

/// Reads a route. Backends that nobody had before are added to `new`.
pub fn route(
    world: &World,
    lasting: &mut Lasting<'_>,
    route: &Arc<HttpRoute>,
    new: &mut Vec<Arc<Backend>>,
) -> Compiled {
    let mut reader = Reader { world, lasting, route, new, unresolved: None };
    let mut entries = Vec::new();
    let mut accepted = Ok(());
    for (place, rule) in route.spec.rules.iter().enumerate() {
        match reader.rule(rule, place) {
            Ok(read) => entries.extend(read),
            Err(condition) => accepted = accepted.and(Err(condition)),
        }
    }
    let resolved = reader.unresolved.take().unwrap_or_else(|| Condition::yes("ResolvedRefs", "ResolvedRefs"));
    if accepted.is_err() {
        entries.clear();
    }
    Compiled { entries, accepted, resolved }
}

struct Reader<'a, 'b> {
    world: &'a World,
    lasting: &'a mut Lasting<'b>,
    route: &'a HttpRoute,
    new: &'a mut Vec<Arc<Backend>>,
    unresolved: Option<Condition>,
}

/// What filters make of a rule or of one of its backends.
#[derive(Default)]
struct Filters {
    request: Edit,
    response: Edit,
    redirect: Option<Redirect>,
    rewrite: Option<Rewrite>,
    mirrors: Vec<Mirror>,
    cors: Option<Cors>,
}

impl Reader<'_, '_> {
    fn rule(&mut self, rule: &kinds::Rule, place: usize) -> Result<Vec<Entry>, Condition> {
        let unsupported = |why: String| Condition::no("Accepted", "UnsupportedValue", why);
        let filters = self.filters(&rule.filters)?;
        if filters.redirect.is_some() && filters.rewrite.is_some() {
            let why = "a rule that redirects cannot rewrite";
            return Err(Condition::no("Accepted", "IncompatibleFilters", why));
        }
        let duration = |text: &Option<String>| match text.as_deref().map(span::read) {
            None => Ok(None),
            Some(Some(time)) => Ok(Some(time).filter(|time| !time.is_zero())),
            Some(None) => Err(unsupported(format!("{}: no duration", text.as_deref().unwrap_or_default()))),
        };
        let timeouts = rule.timeouts.clone().unwrap_or_default();
        let retry = match &rule.retry {
            None => None,
            Some(retry) => Some(Retry {
                codes: retry.codes.clone(),
                attempts: retry.attempts.unwrap_or(1).min(10),
                backoff: duration(&retry.backoff)?.unwrap_or_default().min(Duration::from_secs(60)),
            }),
        };
        let mut targets = Vec::new();
        for reference in &rule.backend_refs {
            targets.push(self.target(reference)?);
        }
        let read = Arc::new(Rule {
            request: filters.request,
            response: filters.response,
            cors: filters.cors,
            redirect: filters.redirect,
            rewrite: filters.rewrite,
            mirrors: filters.mirrors,
            targets,
            timeout: duration(&timeouts.request)?,
            attempt: duration(&timeouts.backend_request)?,
            retry,
            series: self.lasting.tally.series(name(self.route), None),
        });
        let any = [kinds::Match::default()];
        let matches = if rule.matches.is_empty() { &any[..] } else { &rule.matches };
        let mut entries = Vec::new();
        for (index, wanted) in matches.iter().enumerate() {
            let conditions = Conditions::of(wanted).map_err(unsupported)?;
            entries.push(Entry { conditions, order: (false, self.route.age(), place, index), rule: read.clone() });
        }
        Ok(entries)
    }

    fn target(&mut self, reference: &BackendRef) -> Result<Target, Condition> {
        let filters = self.filters(&reference.filters)?;
        if filters.redirect.is_some() || filters.rewrite.is_some() || filters.cors.is_some() {
            let why = "a backend's filters change headers and copy requests, and nothing else";
            return Err(Condition::no("Accepted", "UnsupportedValue", why));
        }
        let backend = match self.backend(reference) {
            Ok(backend) => Ok(backend),
            Err(condition) => {
                self.unresolved.get_or_insert(condition);
                Err(StatusCode::INTERNAL_SERVER_ERROR)
            }
        };
        let namespace = reference.namespace.as_deref().unwrap_or(self.route.namespace());
        let named = (namespace, reference.name.as_str(), reference.port.unwrap_or_default());
        Ok(Target {
            weight: reference.weight.unwrap_or(1),
            backend,
            request: filters.request,
            response: filters.response,
            mirrors: filters.mirrors,
            series: self.lasting.tally.series(name(self.route), Some(named)),
        })
    }

    /// The backend that a reference means, or why there is none.
    fn backend(&mut self, reference: &BackendRef) -> Result<Arc<Backend>, Condition> {
        let no = |reason, why: String| Err(Condition::no("ResolvedRefs", reason, why));
        let name = &reference.name;
        let of_core = reference.group.as_deref().unwrap_or_default().is_empty();
        if !of_core || reference.kind.as_deref().unwrap_or("Service") != "Service" {
            return no("InvalidKind", format!("{name}: backends are Services"));
        }
        let own = self.route.namespace();
        let namespace = reference.namespace.as_deref().unwrap_or(own);
        if !grant::allows(&self.world.grants, ("HTTPRoute", own), ("Service", namespace, name)) {
            let why = format!("no ReferenceGrant in {namespace} lets routes of {own} refer to the Service {name}");
            return no("RefNotPermitted", why);
        }
        let Some(service) = self.world.services.get(&Key::new(namespace, name)) else {
            return no("BackendNotFound", format!("there is no Service {name} in {namespace}"));
        };
        let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        let Some(port) = reference.port.filter(|port| ports.iter().any(|one| one.port == i32::from(*port))) else {
            let wanted = reference.port.unwrap_or_default();
            return no("BackendNotFound", format!("the Service {namespace}/{name} has no port {wanted}"));
        };
        let key = backend::Key { namespace: namespace.to_owned(), service: name.clone(), port };
        let (backend, is_new) = self.lasting.backends.get(&key);
        if is_new {
            self.new.push(backend.clone());
        }
        Ok(backend)
    }

    fn filters(&mut self, filters: &[Filter]) -> Result<Filters, Condition> {
        let unsupported = |why: &str| Condition::no("Accepted", "UnsupportedValue", why);
        let mut read = Filters::default();
        for filter in filters {
            match filter.kind.as_str() {
                "RequestHeaderModifier" => {
                    let change = filter.request_header_modifier.as_ref();
                    read.request = read.request.and(change.map(Edit::of).unwrap_or_default());
                }
                "ResponseHeaderModifier" => {
                    let change = filter.response_header_modifier.as_ref();
                    read.response = read.response.and(change.map(Edit::of).unwrap_or_default());
                }
                "RequestRedirect" => read.redirect = filter.request_redirect.as_ref().map(redirect),
                "URLRewrite" => {
                    let wanted = filter.url_rewrite.clone().unwrap_or_default();
                    let host = wanted.hostname.as_deref().map(HeaderValue::from_str).transpose();
                    read.rewrite = Some(Rewrite {
                        host: host.map_err(|_| unsupported("the new hostname is no hostname"))?,
                        path: wanted.path.as_ref().map(PathChange::of),
                    });
                }
                "RequestMirror" => {
                    let wanted = filter.request_mirror.clone().unwrap_or_default();
                    match self.backend(&wanted.backend_ref) {
                        Ok(backend) => read.mirrors.push(mirror(&wanted, backend)),
                        Err(condition) => {
                            self.unresolved.get_or_insert(condition);
                        }
                    }
                }
                "CORS" => read.cors = filter.cors.as_ref().map(Cors::of),
                other => return Err(unsupported(&format!("filters of type {other} are not served"))),
            }
        }
        Ok(read)
    }
}

fn name(route: &HttpRoute) -> Route<'_> {
    Route { kind: "HTTPRoute", namespace: route.namespace(), name: route.name() }
}

fn redirect(wanted: &kinds::Redirect) -> Redirect {
    Redirect {
        scheme: wanted.scheme.clone(),
        host: wanted.hostname.clone(),
        path: wanted.path.as_ref().map(PathChange::of),
        port: wanted.port,
        status: wanted.status_code.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::FOUND),
    }
}

fn mirror(wanted: &kinds::Mirror, backend: Arc<Backend>) -> Mirror {
    let (numerator, denominator) = match (&wanted.fraction, wanted.percent) {
        (Some(fraction), _) => (fraction.numerator, fraction.denominator.unwrap_or(100)),
        (None, Some(percent)) => (percent, 100),
        (None, None) => (1, 1),
    };
    Mirror { backend, numerator, denominator }
}
