//! What the server counts, under CoreDNS' names. A query costs a few additions and nothing else: no lock, no text.
//! <https://coredns.io/plugins/metrics/>

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use counts::{
    counter::Counts,
    page::{Page, braces},
};
use hickory_proto::{op::ResponseCode, rr::RecordType};

use crate::message::{Request, Transport};

/// Upper bounds of answers' times: a quarter of a millisecond, doubled fifteen times, in seconds.
const TIMES: [f64; 16] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192,
];
/// Upper bounds of messages' sizes, bytes.
const SIZES: [f64; 14] =
    [0.0, 100.0, 200.0, 300.0, 400.0, 511.0, 1023.0, 2047.0, 4095.0, 8291.0, 16_000.0, 32_000.0, 48_000.0, 64_000.0];
/// Types that are told by their names; all others are `other`.
const TYPES: [(RecordType, &str); 10] = [
    (RecordType::A, "A"),
    (RecordType::AAAA, "AAAA"),
    (RecordType::PTR, "PTR"),
    (RecordType::SRV, "SRV"),
    (RecordType::TXT, "TXT"),
    (RecordType::MX, "MX"),
    (RecordType::NS, "NS"),
    (RecordType::SOA, "SOA"),
    (RecordType::CNAME, "CNAME"),
    (RecordType::HTTPS, "HTTPS"),
];
/// Answers' codes, in the order of their numbers.
const CODES: [&str; 6] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
const PROTOCOLS: [&str; 2] = ["udp", "tcp"];
const FAMILIES: [&str; 2] = ["1", "2"];
const SERVER: (&str, &str) = ("server", "dns://:53");
const VIEW: (&str, &str) = ("view", "");
const ZONE: (&str, &str) = ("zone", ".");

/// A histogram without a lock: how many were at most each bound but not the one before.
struct Spread<const N: usize> {
    buckets: [AtomicU64; N],
    beyond: AtomicU64,
    /// Millionths of the unit.
    sum: AtomicU64,
}

impl<const N: usize> Spread<N> {
    const fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; N], beyond: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    fn add(&self, bounds: &[f64; N], value: f64) {
        let at = bounds.partition_point(|bound| *bound < value);
        self.buckets.get(at).unwrap_or(&self.beyond).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    fn write(&self, page: &mut Page, name: &'static str, labels: &[(&str, &str)], bounds: &[f64; N]) {
        let mut so_far = 0;
        let buckets = self.buckets.each_ref().map(|bucket| {
            so_far += bucket.load(Ordering::Relaxed);
            so_far
        });
        let count = so_far + self.beyond.load(Ordering::Relaxed);
        if count > 0 {
            let mut text = String::new();
            braces(&mut text, labels);
            let sum = self.sum.load(Ordering::Relaxed) as f64 / 1e6;
            page.family(name, "histogram").histogram(&text, bounds, &buckets, count, sum);
        }
    }
}

/// All of it.
struct Tally {
    /// By transport, family and type.
    requests: [[[AtomicU64; TYPES.len() + 1]; 2]; 2],
    responses: [AtomicU64; CODES.len() + 1],
    times: Spread<{ TIMES.len() }>,
    request_sizes: [Spread<{ SIZES.len() }>; 2],
    response_sizes: [Spread<{ SIZES.len() }>; 2],
    /// Forwarded answers that were remembered, what there is and what there is not; those that had to be asked for; those held.
    recalled: [AtomicU64; 2],
    forgotten: AtomicU64,
    remembered: [AtomicU64; 2],
}

static TALLY: Tally = Tally {
    requests: [const { [const { [const { AtomicU64::new(0) }; TYPES.len() + 1] }; 2] }; 2],
    responses: [const { AtomicU64::new(0) }; CODES.len() + 1],
    times: Spread::new(),
    request_sizes: [const { Spread::new() }; 2],
    response_sizes: [const { Spread::new() }; 2],
    recalled: [const { AtomicU64::new(0) }; 2],
    forgotten: AtomicU64::new(0),
    remembered: [const { AtomicU64::new(0) }; 2],
};

/// Kinds of remembered answers.
const KINDS: [&str; 2] = ["success", "denial"];

/// Counts an answered query of so many bytes.
pub(crate) fn answered(request: &Request, client: IpAddr, query: usize, answer: &[u8], took: Duration) {
    let transport = usize::from(request.transport() == Transport::Tcp);
    let family = usize::from(client.is_ipv6());
    let wanted = request.question.query_type;
    let kind = TYPES.iter().position(|(known, _)| *known == wanted).unwrap_or(TYPES.len());
    TALLY.requests[transport][family][kind].fetch_add(1, Ordering::Relaxed);
    let code = answer.get(3).map_or(CODES.len(), |flags| usize::from(flags & 0xf).min(CODES.len()));
    TALLY.responses[code].fetch_add(1, Ordering::Relaxed);
    TALLY.times.add(&TIMES, took.as_secs_f64());
    TALLY.request_sizes[transport].add(&SIZES, query as f64);
    TALLY.response_sizes[transport].add(&SIZES, answer.len() as f64);
}

/// Counts an answer that was remembered.
pub(crate) fn recalled(denies: bool) {
    TALLY.recalled[usize::from(denies)].fetch_add(1, Ordering::Relaxed);
}

/// Counts a question that others had to be asked.
pub(crate) fn forgotten() {
    TALLY.forgotten.fetch_add(1, Ordering::Relaxed);
}

/// Says how many answers are remembered.
pub(crate) fn remembers(answers: usize, denials: usize) {
    for (gauge, count) in TALLY.remembered.iter().zip([answers, denials]) {
        gauge.store(count as u64, Ordering::Relaxed);
    }
}

/// Counts a question that another server was asked, which takes long enough for a lock.
pub(crate) fn forwarded(server: SocketAddr, code: Option<ResponseCode>, took: Duration) {
    let code = code.map_or(CODES.len(), |code| usize::from(code.low()).min(CODES.len()));
    let to = server.to_string();
    let labels = [("proxy_name", "forward"), ("rcode", CODES.get(code).copied().unwrap_or("other")), ("to", &to)];
    Counts::process().observe("coredns_proxy_request_duration_seconds", &TIMES, &labels, took.as_secs_f64());
}

/// Writes what the servers of this process have counted.
pub fn write(page: &mut Page) {
    Counts::process().write(page, "coredns_");
    for (index, kind) in KINDS.into_iter().enumerate() {
        let labels = [SERVER, ("type", kind), VIEW, ("zones", ".")];
        page.counter("coredns_cache_hits_total", &labels, TALLY.recalled[index].load(Ordering::Relaxed));
        page.gauge("coredns_cache_entries", &labels, TALLY.remembered[index].load(Ordering::Relaxed));
    }
    let missed = TALLY.forgotten.load(Ordering::Relaxed);
    page.counter("coredns_cache_misses_total", &[SERVER, VIEW, ("zones", ".")], missed);
    page.gauge("coredns_build_info", &[("goversion", ""), ("revision", ""), ("version", "")], 1);
    for (families, protocol) in TALLY.requests.iter().zip(PROTOCOLS) {
        for (kinds, family) in families.iter().zip(FAMILIES) {
            let names = TYPES.iter().map(|(_, name)| *name).chain(["other"]);
            for (count, kind) in kinds.iter().map(|count| count.load(Ordering::Relaxed)).zip(names) {
                if count > 0 {
                    let labels = [("family", family), ("proto", protocol), SERVER, ("type", kind), VIEW, ZONE];
                    page.counter("coredns_dns_requests_total", &labels, count);
                }
            }
        }
    }
    let codes = CODES.into_iter().chain(["other"]);
    for (count, code) in TALLY.responses.iter().map(|count| count.load(Ordering::Relaxed)).zip(codes) {
        if count > 0 {
            let labels = [("plugin", ""), ("rcode", code), SERVER, VIEW, ZONE];
            page.counter("coredns_dns_responses_total", &labels, count);
        }
    }
    TALLY.times.write(page, "coredns_dns_request_duration_seconds", &[SERVER, VIEW, ZONE], &TIMES);
    for (index, protocol) in PROTOCOLS.into_iter().enumerate() {
        let labels = [("proto", protocol), SERVER, VIEW, ZONE];
        TALLY.request_sizes[index].write(page, "coredns_dns_request_size_bytes", &labels, &SIZES);
        TALLY.response_sizes[index].write(page, "coredns_dns_response_size_bytes", &labels, &SIZES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_written_as_a_histogram() {
        let spread = Spread::<2>::new();
        for value in [0.5, 1.0, 1.5, 3.0] {
            spread.add(&[1.0, 2.0], value);
        }
        let mut page = Page::default();
        spread.write(&mut page, "a", &[], &[1.0, 2.0]);
        let wanted = "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"2\"} 3\na_bucket{le=\"+Inf\"} 4\na_sum 6\na_count 4\n";
        assert_eq!(page.text(), wanted);
    }
}
