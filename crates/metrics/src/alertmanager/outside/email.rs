//! Mail: a message with text and HTML.
//!
//! See <https://prometheus.io/docs/alerting/latest/configuration/#email_config>, <https://www.rfc-editor.org/rfc/rfc5322>
//! and <https://www.rfc-editor.org/rfc/rfc2045>.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{Timestamp, tz::TimeZone};

use super::{Expander, Failure, Kept, data, post, smtp};
use crate::{
    alertmanager::{center::Notification, config::receivers::Email},
    http_client::tls::Trust,
};

/// An address as it stands in a header: `Name <a@b>` or `a@b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    name: String,
    /// The address itself.
    pub address: String,
}

/// Reads addresses that commas separate.
pub fn mailboxes(text: &str) -> Result<Vec<Mailbox>, String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    let mailboxes = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).map(|part| {
        let (name, address) = match part.rsplit_once('<') {
            Some((name, rest)) => (name.trim().trim_matches('"'), rest.strip_suffix('>').unwrap_or_default().trim()),
            None => ("", part),
        };
        let sound = address.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        if !sound || address.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>')) {
            return Err(format!("{part:?} is no address"));
        }
        Ok(Mailbox { name: name.to_owned(), address: address.to_owned() })
    });
    mailboxes.collect()
}

/// A header's value: one line, encoded where it is not plain.
fn header_value(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.is_ascii() {
        return line;
    }
    let mut words: Vec<String> = Vec::new();
    let mut piece = String::new();
    for c in line.chars() {
        if piece.len() + c.len_utf8() > 45 {
            words.push(std::mem::take(&mut piece));
        }
        piece.push(c);
    }
    words.push(piece);
    let words: Vec<String> = words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word))).collect();
    words.join("\r\n ")
}

fn addresses(mailboxes: &[Mailbox]) -> String {
    let shown = mailboxes.iter().map(|mailbox| match mailbox.name.as_str() {
        "" => mailbox.address.clone(),
        name if name.is_ascii() => format!("\"{}\" <{}>", name.replace(['"', '\\', '\r', '\n'], ""), mailbox.address),
        name => format!("{} <{}>", header_value(name), mailbox.address),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// A body in lines of 76 characters at most, plain where it can be.
fn quoted_printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 5 / 4);
    let mut column = 0;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        at += 1;
        if byte == b'\n' {
            out.push_str("\r\n");
            column = 0;
            continue;
        }
        if byte == b'\r' && bytes.get(at) == Some(&b'\n') {
            continue;
        }
        let ends = bytes.get(at).is_none_or(|next| matches!(next, b'\n' | b'\r'));
        let plain = (b'!'..=b'~').contains(&byte) && byte != b'=' || matches!(byte, b' ' | b'\t') && !ends;
        let width = if plain { 1 } else { 3 };
        if column + width > 75 {
            out.push_str("=\r\n");
            column = 0;
        }
        if plain {
            out.push(char::from(byte));
        } else {
            write!(out, "={byte:02X}").expect("strings grow");
        }
        column += width;
    }
    out
}

/// Sends a message.
pub async fn send(email: &Email, expander: &Expander<'_>, notification: &Notification) -> Result<Kept, Failure> {
    let addressed = |what: &str, text: String| {
        mailboxes(&text).map_err(|error| Failure::never(format!("parse '{what}' addresses: {error}")))
    };
    let from = addressed("from", expander.text(&email.from)?)?;
    let to = addressed("to", expander.text(&email.to)?)?;
    let [from] = from.as_slice() else {
        return Err(Failure::never(format!("must be exactly one 'from' address (got: {})", from.len())));
    };
    if to.is_empty() {
        return Err(Failure::never("no 'to' address"));
    }
    let message = message(email, expander, notification, from, &to)?;
    let session = smtp::Session {
        server: email.smarthost.clone(),
        hello: if email.hello.is_empty() { "localhost".to_owned() } else { email.hello.clone() },
        trust: Trust::new(email.tls_config.clone().unwrap_or_default(), false),
        require_tls: email.require_tls.unwrap_or(true),
        implicit_tls: email.force_implicit_tls,
        username: email.auth_username.clone(),
        identity: email.auth_identity.clone(),
        password: post::text_or_file(&email.auth_password.0, &email.auth_password_file).await?,
        secret: post::text_or_file(&email.auth_secret.0, &email.auth_secret_file).await?,
    };
    let to: Vec<&str> = to.iter().map(|mailbox| mailbox.address.as_str()).collect();
    smtp::hand_over(&session, &from.address, &to, &message).await?;
    Ok(Kept::new())
}

fn message(
    email: &Email,
    expander: &Expander<'_>,
    notification: &Notification,
    from: &Mailbox,
    to: &[Mailbox],
) -> Result<String, Failure> {
    let mut out = String::new();
    let mut put = |name: &str, value: &str| writeln!(out, "{name}: {value}\r").expect("strings grow");
    let headers = &email.headers;
    let flush = &notification.flush;
    let group = data::hash(&flush.key);
    let host = from.address.rsplit('@').next().unwrap_or("localhost");
    let time = Timestamp::from_millisecond(flush.now).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC);
    for (name, text) in headers {
        put(name, &header_value(&expander.text(text)?));
    }
    if !headers.contains_key("Subject") {
        put("Subject", &header_value(&expander.text("{{ template \"email.default.subject\" . }}")?));
    }
    if !headers.contains_key("To") {
        put("To", &addresses(to));
    }
    if !headers.contains_key("From") {
        put("From", &addresses(std::slice::from_ref(from)));
    }
    if !headers.contains_key("Message-Id") {
        // The same notification is the same message, however often it is tried.
        put("Message-Id", &format!("<{}.{}.{}@{host}>", flush.now, &group[..16], notification.job.place));
    }
    if email.threading.enabled {
        let day = if email.threading.thread_by_date == "daily" {
            time.strftime("%Y-%m-%d").to_string()
        } else {
            String::new()
        };
        let thread = format!("<alert-{}-{day}@alertmanager>", &group[..32]);
        put("References", &thread);
        put("In-Reply-To", &thread);
    }
    put("Date", &time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string());
    put("MIME-Version", "1.0");
    let boundary = format!("{}{}", &group[..32], flush.now);
    put("Content-Type", &format!("multipart/alternative; boundary={boundary}"));
    let mut parts = Vec::new();
    if !email.text.is_empty() {
        parts.push(("text/plain", expander.text(&email.text)?));
    }
    if !email.html.is_empty() {
        parts.push(("text/html", expander.html(&email.html)?));
    }
    for (kind, text) in parts {
        write!(
            out,
            "\r\n--{boundary}\r\nContent-Type: {kind}; charset=UTF-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{}\r\n",
            quoted_printable(&text)
        )
        .expect("strings grow");
    }
    write!(out, "\r\n--{boundary}--\r\n").expect("strings grow");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_names() {
        let read = |text: &str| mailboxes(text).map(|all| addresses(&all));
        assert_eq!(read("a@b, \"X, Y\" <c@d>"), Ok("a@b, \"X, Y\" <c@d>".to_owned()));
        for wrong in ["a", "a@", "a@b\nc@d e", "<a@b", "a@b> RCPT TO:<c@d"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bodies_and_headers_are_lines_that_any_server_takes() {
        assert_eq!(quoted_printable("a=b \nc\u{e9}"), "a=3Db=20\r\nc=C3=A9");
        assert!(quoted_printable(&"x".repeat(500)).lines().all(|line| line.len() <= 76));
        assert_eq!(header_value("a\r\nBcc: x"), "a  Bcc: x");
        assert_eq!(header_value("\u{e9}"), "=?utf-8?B?w6k=?=");
    }
}
