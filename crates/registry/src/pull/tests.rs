//! Ranges are those of RFC 9110.

use super::*;

#[test]
fn ranges_are_read_as_the_standard_says() {
    let cases = [
        ("bytes=0-0", 10, Range::Part(0, 1)),
        ("bytes=2-4", 10, Range::Part(2, 5)),
        ("bytes=2-", 10, Range::Part(2, 10)),
        ("bytes=2-100", 10, Range::Part(2, 10)),
        ("bytes=-3", 10, Range::Part(7, 10)),
        ("bytes=-30", 10, Range::Part(0, 10)),
        ("bytes=10-", 10, Range::None),
        ("bytes=10-12", 10, Range::None),
        ("bytes=-0", 10, Range::None),
        ("bytes=0-", 0, Range::None),
        ("bytes=-1", 0, Range::None),
        ("bytes=99999999999999999999-", 10, Range::None),
        ("bytes=0-99999999999999999999", 10, Range::Part(0, 10)),
        ("bytes=4-2", 10, Range::Whole),
        ("bytes=0-1,3-4", 10, Range::Whole),
        ("bytes=a-b", 10, Range::Whole),
        ("bytes=-", 10, Range::Whole),
        ("lines=0-1", 10, Range::Whole),
        ("bytes=+1-2", 10, Range::Whole),
    ];
    for (header, size, expected) in cases {
        assert_eq!(Range::parse(header, size), expected, "{header} of {size}");
    }
}
