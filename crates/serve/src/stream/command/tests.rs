//! Messages of the resize channel.

use super::{Size, size};

#[test]
fn terminal_sizes_are_read_and_nonsense_is_ignored() {
    let cases: &[(&str, Option<Size>)] = &[
        (r#"{"Width":80,"Height":24}"#, Some(Size { width: 80, height: 24 })),
        ("{\"Width\": 120 , \"Height\" : 40}\n", Some(Size { width: 120, height: 40 })),
        (r#"{"Width":80}"#, None),
        (r#"{"Width":99999999,"Height":1}"#, None),
        ("\u{0}", None),
    ];
    for (message, expected) in cases {
        assert_eq!(size(message.as_bytes()), *expected, "{message}");
    }
}
