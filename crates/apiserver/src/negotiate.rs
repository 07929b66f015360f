//! Which encoding and which view of an object a client asked for, and which encoding it sent.
//!
//! ```text
//! Accept: application/json;as=Table;v=v1;g=meta.k8s.io, application/json
//!         └ format ───────┘└ view ──────────────────┘   └ second choice
//! ```
//!
//! Clauses are tried by descending `q`, then in the order in which they stand; parameters follow
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>.

use http::{HeaderMap, HeaderValue, header};

use crate::query::Query;

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// What of an object is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// The object itself.
    Object,
    /// `as=PartialObjectMetadata` or `as=PartialObjectMetadataList`: type and metadata only.
    Metadata,
    /// `as=Table`: what `kubectl get` prints.
    Table,
}

/// The outcome of negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Encoding of the answer.
    pub format: Format,
    /// What to show.
    pub view: View,
    /// Whether JSON is indented.
    pub pretty: bool,
}

/// What an endpoint can produce.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// Whether objects can be encoded as protobuf: built-in kinds can, custom resources cannot.
    pub protobuf: bool,
    /// Whether [`View::Metadata`] and [`View::Table`] may be asked for.
    pub views: bool,
}

impl Offer {
    /// Built-in kinds.
    pub const ALL: Offer = Offer { protobuf: true, views: true };
    /// Answers that are no stored objects: discovery documents, reviews.
    pub const PLAIN: Offer = Offer { protobuf: true, views: false };
}

impl Accepted {
    /// Plain JSON, for when nothing could be negotiated.
    pub const JSON: Accepted = Accepted { format: Format::Json, view: View::Object, pretty: false };
}

impl Format {
    /// The `Content-Type` of one answer.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
            Format::Protobuf => "application/vnd.kubernetes.protobuf",
        })
    }

    /// The `Content-Type` of a watch.
    pub fn stream_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml;stream=watch",
            Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        })
    }
}

/// The media types of `offer`, as upstream's 406 names them.
pub fn offered(offer: Offer) -> &'static [&'static str] {
    const ALL: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
    if offer.protobuf { ALL } else { &ALL[..2] }
}

/// Chooses for an answer; `None` when nothing that the client accepts is on offer.
pub fn answer(headers: &HeaderMap, query: &Query, offer: Offer) -> Option<Accepted> {
    let pretty = wants_indent(headers, query);
    let mut clauses = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        clauses.extend(value.to_str().ok()?.split(',').filter_map(Clause::parse));
    }
    if clauses.is_empty() {
        return Some(Accepted { pretty, ..Accepted::JSON });
    }
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses.iter().find_map(|clause| clause.matched(offer, pretty))
}

/// Chooses for the stream of a watch: as [`answer`], but YAML cannot be streamed.
pub fn watch(headers: &HeaderMap, query: &Query, offer: Offer) -> Option<Accepted> {
    answer(headers, query, offer).filter(|accepted| accepted.format != Format::Yaml)
}

/// The encoding of a request body; `Err` holds the media type that is not understood. No header means JSON.
pub fn body(headers: &HeaderMap) -> Result<Format, String> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Format::Json) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media.as_str() {
        "" | "application/json" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Format::Protobuf),
        _ => Err(text.into_owned()),
    }
}

fn wants_indent(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(value) = query.get("pretty").filter(|value| !value.is_empty()) {
        return matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    headers
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .is_some_and(|agent| agent.starts_with("curl") || agent.starts_with("Wget") || agent.starts_with("Mozilla/5.0"))
}

struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().filter(|media| !media.is_empty())?;
        let mut clause = Clause { media, parameters: Vec::new(), quality: 1.0 };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name == "q" {
                clause.quality = value.parse().unwrap_or(1.0);
            } else {
                clause.parameters.push((name, value));
            }
        }
        Some(clause)
    }

    fn matched(&self, offer: Offer, pretty: bool) -> Option<Accepted> {
        let format = match self.media {
            "application/json" | "application/*" | "*/*" => Format::Json,
            "application/yaml" => Format::Yaml,
            "application/vnd.kubernetes.protobuf" => Format::Protobuf,
            _ => return None,
        };
        let (mut kind, mut group, mut version, mut indent) = ("", "", "", pretty);
        for &(name, value) in &self.parameters {
            match name {
                "as" => kind = value,
                "g" => group = value,
                "v" => version = value,
                "stream" if !matches!(value, "" | "watch") => return None,
                "sv" if !value.is_empty() => return None,
                "pretty" => indent = value == "1" || pretty,
                _ => {}
            }
        }
        let view = match kind {
            "" if group.is_empty() && version.is_empty() => View::Object,
            "Table" if format != Format::Protobuf => View::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList" => View::Metadata,
            _ => return None,
        };
        if view != View::Object && !(offer.views && group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1")) {
            return None;
        }
        if format == Format::Protobuf && view == View::Object && !offer.protobuf {
            return None;
        }
        Some(Accepted { format, view, pretty: indent && format == Format::Json })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str, offer: Offer) -> Option<(Format, View)> {
        let mut headers = HeaderMap::new();
        if !text.is_empty() {
            headers.insert(header::ACCEPT, text.parse().unwrap());
        }
        answer(&headers, &Query::default(), offer).map(|accepted| (accepted.format, accepted.view))
    }

    #[test]
    fn the_first_clause_on_offer_wins() {
        let custom = Offer { protobuf: false, views: true };
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let cases = [
            ("", Offer::ALL, Some((Format::Json, View::Object))),
            ("*/*", Offer::ALL, Some((Format::Json, View::Object))),
            ("application/yaml", Offer::ALL, Some((Format::Yaml, View::Object))),
            (table, Offer::ALL, Some((Format::Json, View::Table))),
            (table, Offer::PLAIN, Some((Format::Json, View::Object))),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Offer::ALL,
                Some((Format::Protobuf, View::Object)),
            ),
            ("application/vnd.kubernetes.protobuf,application/json", custom, Some((Format::Json, View::Object))),
            ("application/json;q=0.1, application/yaml", Offer::ALL, Some((Format::Yaml, View::Object))),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                custom,
                Some((Format::Protobuf, View::Metadata)),
            ),
            ("application/json;as=Table;v=v2;g=meta.k8s.io", Offer::ALL, None),
            ("text/html", Offer::ALL, None),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Offer::ALL, Some((Format::Json, View::Object))),
        ];
        for (text, offer, expected) in cases {
            assert_eq!(accept(text, offer), expected, "{text}");
        }
    }

    #[test]
    fn people_get_indented_json() {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, "curl/8.0".parse().unwrap());
        assert!(answer(&headers, &Query::default(), Offer::ALL).unwrap().pretty);
        assert!(!answer(&headers, &Query::parse("pretty=false"), Offer::ALL).unwrap().pretty);
        assert!(answer(&HeaderMap::new(), &Query::parse("pretty=true"), Offer::ALL).unwrap().pretty);
    }

    #[test]
    fn bodies_default_to_json() {
        let typed = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, text.parse().unwrap());
            body(&headers)
        };
        assert_eq!(body(&HeaderMap::new()), Ok(Format::Json));
        assert_eq!(typed("application/json; charset=utf-8"), Ok(Format::Json));
        assert_eq!(typed("application/yaml"), Ok(Format::Yaml));
        assert_eq!(typed("text/plain"), Err("text/plain".to_owned()));
    }
}
