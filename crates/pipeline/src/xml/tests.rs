//! Documents, whole and broken.

use super::*;

fn told(document: &str) -> String {
    read(document.as_bytes(), 1000).unwrap_err().to_string()
}

#[test]
fn a_document_is_a_tree() {
    let root = read(
        b"<?xml version='1.1' encoding='UTF-8'?>\n<!-- x --><a:r b='1 &amp; 2'>x<c/>&lt;&#65;<![CDATA[<y>]]><c d=\"e\">z</c></a:r>",
        10,
    )
    .unwrap();
    assert_eq!((root.name.as_str(), root.attribute("b"), root.text.as_str()), ("r", Some("1 & 2"), "x<A<y>"));
    assert_eq!(root.children.len(), 2);
    assert_eq!(root.children[1].attribute("d"), Some("e"));
    assert_eq!(root.below(&["c"]).map(|c| c.text.as_str()), Some(""));
}

#[test]
fn broken_documents_are_refused_where_they_are_broken() {
    assert!(told("<a>\n<b></a>").starts_with("line 2: "), "{}", told("<a>\n<b></a>"));
    for document in ["", "<a>", "<a/><b/>", "</a>", "<a b='1' b='2'/>", "<a>&x;</a>", "<a b='&x;'/>", "text"] {
        told(document);
    }
}

#[test]
fn entities_of_a_document_stand_for_nothing() {
    let bomb = "<!DOCTYPE a [<!ENTITY x 'y'><!ENTITY z SYSTEM 'file:///etc/passwd'>]><a>&z;</a>";
    assert!(told(bomb).contains("&z;"), "{}", told(bomb));
}

#[test]
fn documents_are_bounded() {
    assert!(told(&"<a>".repeat(100)).contains("within each other"));
    assert!(told(&format!("<a>{}</a>", "<b/>".repeat(1000))).contains("1000 elements"));
}

#[test]
fn other_encodings_are_read() {
    assert_eq!(read(b"<a>\xe9</a>", 1).unwrap().text, "é");
    let wide: Vec<u8> = "\u{FEFF}<a>é</a>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(read(&wide, 1).unwrap().text, "é");
}

#[test]
fn what_is_escaped_reads_the_same() {
    let text = "a<b>&\"'\n\tc";
    let document = format!("<a b=\"{0}\">{0}</a>", escaped(text));
    assert_eq!(read(document.as_bytes(), 1).unwrap().text, text);
    assert_eq!(escaped("a\u{0}\u{1b}b"), "ab");
}
