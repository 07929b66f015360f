//! The TARGETS column of autoscalers: each metric's present and wanted value.

use super::cells::{NONE, UNKNOWN};
use crate::meta::View;
use crate::quantity::Quantity;

pub(super) fn metrics(spec: View<'_>, status: View<'_>) -> String {
    const MOST: usize = 2;
    let amount =
        |view: View<'_>, member: &str| view.has(member).then(|| Quantity::of(view.at(member).value()).to_string());
    let percent = |view: View<'_>| view.int("averageUtilization").map(|percent| format!("{percent}%"));
    let unknown = || UNKNOWN.to_owned();
    let mut shown = Vec::new();
    for (position, metric) in spec.list("metrics").enumerate() {
        let current = status.slice("currentMetrics").get(position).map_or(View::nothing(), View::new);
        let kind = metric.text("type");
        let source = match kind {
            "External" => "external",
            "Pods" => "pods",
            "Object" => "object",
            "Resource" => "resource",
            "ContainerResource" => "containerResource",
            _ => {
                shown.push("<unknown type>".to_owned());
                continue;
            }
        };
        let (target, name) = (metric.at(source).at("target"), metric.at(source).text("name"));
        let current = current.at(source).at("current");
        shown.push(match source {
            "external" | "object" => match amount(target, "averageValue") {
                Some(average) => {
                    format!("{}/{average} (avg)", amount(current, "averageValue").unwrap_or_else(unknown))
                }
                None => {
                    let value = amount(target, "value").unwrap_or_default();
                    format!("{}/{value}", amount(current, "value").unwrap_or_else(unknown))
                }
            },
            "pods" => {
                let value = amount(target, "averageValue").unwrap_or_default();
                format!("{}/{value}", amount(current, "averageValue").unwrap_or_else(unknown))
            }
            _ => match amount(target, "averageValue") {
                Some(average) => {
                    format!("{name}: {}/{average}", amount(current, "averageValue").unwrap_or_else(unknown))
                }
                None => {
                    let wanted = percent(target).unwrap_or_else(|| "<auto>".to_owned());
                    format!("{name}: {}/{wanted}", percent(current).unwrap_or_else(unknown))
                }
            },
        });
    }
    match shown.len() {
        0 => NONE.to_owned(),
        count if count > MOST => format!("{} + {} more...", shown[..MOST].join(", "), count - MOST),
        _ => shown.join(", "),
    }
}
