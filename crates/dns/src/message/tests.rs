//! Tests of `message`: cases as data where there are many.

use hickory_proto::rr::{Name, RData, rdata::A};

use super::*;

fn query(edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::query();
    message.queries = vec![Query::query(Name::from_ascii("many.test.").unwrap(), RecordType::A)];
    message.edns = edns.map(|payload| {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        edns
    });
    message.to_vec().unwrap()
}

fn request(bytes: &[u8], transport: Transport) -> Request {
    match read(bytes, transport) {
        Incoming::Query(request) => *request,
        other => panic!("{other:?}"),
    }
}

fn many(count: u32) -> Reply {
    let name = Name::from_ascii("many.test.").unwrap();
    let record = |n: u32| Record::from_rdata(name.clone(), 5, RData::A(A((0x0a00_0000 + n).into())));
    let additionals = vec![record(999_999)];
    Reply { answers: (0..count).map(record).collect(), additionals, ..Reply::empty(ResponseCode::NoError) }
}

#[test]
fn an_answer_is_no_longer_than_the_client_takes() {
    for (edns, transport, count, whole) in [
        (None, Transport::Udp, 20, true),
        (None, Transport::Udp, 40, false),
        (Some(4096), Transport::Udp, 60, true),
        (Some(4096), Transport::Udp, 100, false),
        (Some(100), Transport::Udp, 40, false),
        (None, Transport::Tcp, 1000, true),
        (None, Transport::Tcp, 5000, false),
    ] {
        let case = format!("{edns:?} {transport:?} {count}");
        let request = request(&query(edns), transport);
        let bytes = write(&request, many(count));
        let limit = match (transport, edns) {
            (Transport::Tcp, _) => 65_535,
            (_, None | Some(100)) => 512,
            _ => usize::from(UDP_PAYLOAD),
        };
        assert!(bytes.len() <= limit, "{case}: {}", bytes.len());
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.truncation, !whole, "{case}");
        assert_eq!(answer.answers.len() == count as usize, whole, "{case}");
        assert!(answer.answers.len() > 20 || whole, "{case}: as many as fit, not {}", answer.answers.len());
        assert_eq!(answer.edns.is_some(), edns.is_some(), "{case}");
    }
}

#[test]
fn what_cannot_be_used_is_told_so_and_what_is_no_query_is_left_alone() {
    let good = query(None);
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let code = |bytes: &[u8]| match read(bytes, Transport::Udp) {
        Incoming::Query(_) => "query".to_owned(),
        Incoming::Nothing => "nothing".to_owned(),
        Incoming::Unusable(answer) => {
            let answer = Message::from_vec(&answer).unwrap();
            assert_eq!(answer.metadata.id.to_be_bytes(), bytes[..2]);
            format!("{:?}", answer.metadata.response_code)
        }
    };
    for (case, bytes, want) in [
        ("whole", good.clone(), "query"),
        ("empty", vec![], "nothing"),
        ("short", good[..11].to_vec(), "nothing"),
        ("an answer", changed(|bytes| bytes[2] |= 0x80), "nothing"),
        ("another operation", changed(|bytes| bytes[2] |= 0x28), "NotImp"),
        ("no question", changed(|bytes| bytes[5] = 0), "FormErr"),
        ("cut short", good[..good.len() - 3].to_vec(), "FormErr"),
        ("counts that lie", changed(|bytes| bytes[7] = 9), "FormErr"),
        ("another class", changed(|bytes| *bytes.last_mut().unwrap() = 3), "Refused"),
        ("a transfer", changed(|bytes| *bytes.iter_mut().rev().nth(2).unwrap() = 252), "Refused"),
        ("a name that points at itself", changed(|bytes| bytes[12..14].copy_from_slice(&[0xc0, 12])), "FormErr"),
    ] {
        assert_eq!(code(&bytes), want, "{case}");
    }
}

#[test]
fn any_bytes_are_read_without_harm() {
    let mut state = 1u64;
    for length in 0..600 {
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(length)
        .collect();
        if length > 12 && length % 2 == 0 {
            bytes[2] = 1;
            bytes[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 1]);
        }
        if let Incoming::Query(request) = read(&bytes, Transport::Udp) {
            write(&request, many(3));
        }
    }
}
