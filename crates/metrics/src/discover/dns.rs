//! Names that DNS resolves to targets.
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#dns_sd_config>.

use hickory_resolver::{
    TokioResolver,
    proto::rr::{RData, RecordType},
};

use tsdb::labels::{Builder, Labels};

use super::{Teller, refresh};
use crate::{config::discovery::Dns, scrape::target::Group};

/// Records of a name at most.
const RECORDS: usize = 10_000;

/// Tells of the addresses, until it is dropped.
pub async fn run(settings: Dns, teller: Teller) {
    let failed = teller.clone();
    refresh("dns", settings.refresh_interval.0, teller, |known| ask(&settings, known, &failed)).await;
}

/// Asks once. A name that cannot be resolved for a reason other than that it is not there keeps the addresses it had.
async fn ask(settings: &Dns, before: Vec<Group>, teller: &Teller) -> Result<Vec<Group>, String> {
    let kind = match settings.kind.to_uppercase().as_str() {
        "A" => RecordType::A,
        "AAAA" => RecordType::AAAA,
        "MX" => RecordType::MX,
        "NS" => RecordType::NS,
        _ => RecordType::SRV,
    };
    // Made anew each time, so that changes of the configuration count.
    let resolver = TokioResolver::builder_tokio()
        .and_then(|builder| builder.build())
        .map_err(|error| format!("could not load resolv.conf: {error}"))?;
    let port = u16::try_from(settings.port).unwrap_or(0);
    let mut groups = Vec::new();
    for name in &settings.names {
        match resolver.lookup(name.as_str(), kind).await {
            Ok(found) => {
                let records = found.answers().iter().take(RECORDS);
                let targets = records.filter_map(|record| target(name, &record.data, port)).collect();
                groups.push(Group { source: name.clone(), targets, ..Group::default() });
            }
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => {}
            Err(error) => {
                teller.failed();
                tracing::error!(name, %error, "targets cannot be looked up; those known stay");
                groups.extend(before.iter().find(|group| group.source == *name).cloned());
            }
        }
    }
    Ok(groups)
}

/// The target that a record names.
pub fn target(name: &str, record: &RData, port: u16) -> Option<Labels> {
    let bare = |name: &hickory_resolver::proto::rr::Name| name.to_utf8().trim_end_matches('.').to_owned();
    let mut labels = Builder::default();
    let address = match record {
        RData::A(address) => format!("{address}:{port}"),
        RData::AAAA(address) => format!("[{address}]:{port}"),
        RData::SRV(service) => {
            labels.set("__meta_dns_srv_record_target", &service.target.to_utf8());
            labels.set("__meta_dns_srv_record_port", &service.port.to_string());
            format!("{}:{}", bare(&service.target), service.port)
        }
        RData::MX(exchange) => {
            labels.set("__meta_dns_mx_record_target", &exchange.exchange.to_utf8());
            format!("{}:{port}", bare(&exchange.exchange))
        }
        RData::NS(server) => {
            labels.set("__meta_dns_ns_record_target", &server.0.to_utf8());
            format!("{}:{port}", bare(&server.0))
        }
        _ => return None,
    };
    labels.set("__address__", &address).set("__meta_dns_name", name);
    Some(labels.labels())
}
