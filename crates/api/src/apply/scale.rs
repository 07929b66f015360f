//! Ownership of a workload's size, seen from its `scale` sub-resource and back.
//!
//! ```text
//! Deployment  f:spec f:replicas   apps/v1          ──► Scale  f:spec f:replicas   autoscaling/v1
//!             what became of it there              ◄──        written through `scale`
//! ```

use super::element::Element;
use super::entries::{self, Entry};
use super::set::Set;

/// `apiVersion` of a Scale.
pub const VERSION: &str = "autoscaling/v1";

/// Where the size stands in a version of the workload; none where that version has no scale.
pub type Places = [(String, Option<Vec<Element>>)];

fn replicas() -> Set {
    Set::of_names(&[&["spec", "replicas"]])
}

/// The path of a JSON pointer through fields.
pub fn place(pointer: &str) -> Vec<Element> {
    pointer.split('/').filter(|step| !step.is_empty()).map(Element::field).collect()
}

fn place_in<'p>(places: &'p Places, version: &str) -> Option<Option<&'p [Element]>> {
    places.iter().find(|(own, _)| own == version).map(|(_, place)| place.as_deref())
}

/// Entries of the Scale: those of the workload that own its size.
pub fn to_scale(workload: &[Entry], places: &Places) -> Vec<Entry> {
    let mut found: Vec<Entry> = workload
        .iter()
        .filter(|entry| {
            let place = place_in(places, &entry.api_version).flatten();
            place.is_some_and(|place| entry.fields.has(place))
        })
        .map(|entry| Entry { api_version: VERSION.to_owned(), fields: replicas(), ..entry.clone() })
        .collect();
    // One manager may own it in two versions of the workload, which are one here.
    found.dedup_by(|next, first| next.is_of(first));
    entries::sort(&mut found);
    found
}

/// Entries of the workload after a write of its Scale left `scale` there. `version` is the workload's in the request.
pub fn to_workload(workload: &[Entry], scale: Vec<Entry>, places: &Places, version: &str) -> Vec<Entry> {
    let mut left = scale;
    let mut found = Vec::with_capacity(workload.len() + 1);
    for entry in workload {
        let Some(place) = place_in(places, &entry.api_version) else { continue };
        let Some(place) = place.filter(|place| entry.fields.has(place)) else {
            found.push(entry.clone());
            continue;
        };
        let seen = Entry { api_version: VERSION.to_owned(), ..entry.clone() };
        match left.iter().position(|other| other.is_of(&seen)) {
            Some(at) => {
                let kept = left.remove(at);
                found.push(Entry { time: kept.time, ..entry.clone() });
            }
            None => {
                let mut stolen = Set::default();
                stolen.insert(place);
                let fields = entry.fields.difference(&stolen);
                if !fields.is_empty() {
                    found.push(Entry { fields, ..entry.clone() });
                }
            }
        }
    }
    let path = place_in(places, version).flatten().unwrap_or_default();
    for entry in left.into_iter().filter(|entry| !replicas().intersection(&entry.fields).is_empty()) {
        let mut fields = Set::default();
        fields.insert(path);
        found.push(Entry { api_version: version.to_owned(), fields, ..entry });
    }
    entries::sort(&mut found);
    found
}
