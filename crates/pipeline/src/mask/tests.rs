//! Logs with secrets in them.

use super::*;

fn masked(secrets: &[&str], writes: &[&str]) -> String {
    let mut masker = Masker::default();
    for secret in secrets {
        masker.add(secret);
    }
    let mut out = Vec::new();
    for write in writes {
        out.extend(masker.write(write.as_bytes()));
    }
    out.extend(masker.finish());
    String::from_utf8(out).unwrap()
}

#[test]
fn a_secret_is_masked_wherever_it_is_split() {
    let text = "before hunter2 after";
    for at in 0..text.len() {
        for more in at..text.len() {
            let writes = [&text[..at], &text[at..more], &text[more..]];
            assert_eq!(masked(&["hunter2"], &writes), "before **** after", "{at} {more}");
        }
    }
    let letters: Vec<String> = text.chars().map(|c| c.to_string()).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    assert_eq!(masked(&["hunter2"], &letters), "before **** after");
}

#[test]
fn the_longest_secret_goes_first() {
    assert_eq!(masked(&["abc", "abcdef"], &["xabc", "def"]), "x****");
    assert_eq!(masked(&["abc", "abcdef"], &["xabc", "dex"]), "x****dex");
    assert_eq!(masked(&["abc"], &["ababc ab"]), "ab**** ab");
}

#[test]
fn lines_and_quoted_forms_of_a_secret_are_secrets() {
    assert_eq!(masked(&["line one\nline two\n"], &["+ line two"]), "+ ****");
    assert_eq!(masked(&["it's secret"], &["echo 'it'\"'\"'s secret'"]), "echo '****'");
    // One letter would mask everything.
    assert_eq!(masked(&["a", ""], &["banana"]), "banana");
}

#[test]
fn nothing_is_lost_or_held_for_ever() {
    let mut masker = Masker::default();
    masker.add("secret");
    assert_eq!(masker.write(b"plain\n"), b"plain\n");
    assert_eq!(masker.write(b"sec"), b"");
    assert_eq!(masker.finish(), b"sec");
}
