//! Label selectors of typed objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether `labels` satisfy every requirement. An empty selector matches all; an unknown operator matches none.
pub fn matches(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    let equal = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted));
    equal
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let found = value(&requirement.key);
            let listed = || found.is_some_and(|found| requirement.values.iter().flatten().any(|value| value == found));
            match requirement.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// Whether `labels` hold every pair of `wanted`: the selector of Services and node selectors.
pub fn holds(wanted: &BTreeMap<String, String>, labels: Option<&BTreeMap<String, String>>) -> bool {
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    use super::*;

    #[test]
    fn requirements_are_judged_one_by_one() {
        let labels: BTreeMap<_, _> = [("app".to_owned(), "shop".to_owned())].into();
        let cases = [
            ("In", "app", vec!["shop", "x"], true),
            ("In", "app", vec!["x"], false),
            ("NotIn", "app", vec!["x"], true),
            ("NotIn", "tier", vec!["x"], true),
            ("Exists", "app", vec![], true),
            ("Exists", "tier", vec![], false),
            ("DoesNotExist", "tier", vec![], true),
            ("Near", "app", vec!["shop"], false),
        ];
        for (operator, key, values, expected) in cases {
            let requirement = LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.into_iter().map(str::to_owned).collect()),
            };
            let selector = LabelSelector { match_expressions: Some(vec![requirement]), match_labels: None };
            assert_eq!(matches(&selector, Some(&labels)), expected, "{operator} {key}");
        }
        assert!(matches(&LabelSelector::default(), None));
        assert!(!holds(&labels, None));
    }
}
