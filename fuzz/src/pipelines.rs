//! Readers of pipelines: documents of others, times, what scripts say to `docker`.

use pipeline::{
    docker::{build, name::Name, run, words::words},
    trigger::cron::Schedule,
    xml::{self, Element},
};

use crate::targets::{about, kind};

/// Words of XML documents.
pub const XML: &[&str] = &[
    "<a>",
    "</a>",
    "<a/>",
    "<a b=\"c\">",
    "<?xml version=\"1.1\"?>",
    "<!DOCTYPE a [",
    "<!ENTITY b \"c\">",
    "]>",
    "&b;",
    "&lt;",
    "&#65;",
    "&#x0;",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "xmlns:x=\"y\"",
    "<x:a>",
];

/// Words of times.
pub const CRON: &[&str] = &[
    "H",
    "H(0-29)",
    "/15",
    "*",
    "-",
    ",",
    "@daily",
    "@midnight",
    "TZ=Europe/Paris\n",
    "TZ=",
    "31",
    "2",
    "7",
    "0",
    "\n",
    "#",
    "MON",
    "99999999999",
];

/// Words of arguments and names.
pub const DOCKER: &[&str] = &[
    "--build-arg ",
    "A=b ",
    "-f ",
    "--target=",
    "--label ",
    "--network none ",
    "-u ",
    "0:0",
    "-e ",
    "--link ",
    "-p 80:80 ",
    "--entrypoint '' ",
    "'",
    "\"",
    "\\",
    "\n",
    "registry.example:5000/",
    "@sha256:",
    ":latest",
    ".",
    "..",
    "/",
];

/// How deep, and how many elements.
fn size(element: &Element) -> (usize, usize) {
    let below = element.children.iter().map(size);
    below.fold((1, 1), |(depth, count), (deeper, more)| (depth.max(deeper + 1), count + more))
}

/// A document as a tree.
pub fn xml(input: &[u8]) -> String {
    match xml::read(input, 1000) {
        Err(error) => format!("error {}", kind(&error.to_string())),
        Ok(root) => {
            let (depth, count) = size(&root);
            assert!(depth <= 64 && count <= 1000, "{depth} {count}");
            let escaped = xml::escaped(&root.text);
            assert!(!escaped.contains('<'), "{escaped:?}");
            format!("{} {} {}", about(depth), about(count), about(root.text.len()))
        }
    }
}

/// Times, and when they are due.
pub fn cron(input: &[u8]) -> String {
    match Schedule::read(&String::from_utf8_lossy(input), "fuzz") {
        Err(error) => format!("error {}", kind(&error)),
        Ok(schedule) => {
            let mut at = "2026-01-31T23:59:59Z".parse().expect("a time");
            let mut found = 0;
            while found < 3 {
                let Some(next) = schedule.next(at) else { break };
                assert!(next > at, "{next} is not after {at}");
                (at, found) = (next, found + 1);
            }
            format!("due {found}")
        }
    }
}

/// A line of arguments, and the name of an image.
pub fn docker(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let divided = words(&text);
    if let Ok(words) = &divided {
        assert!(words.iter().map(String::len).sum::<usize>() <= text.len(), "{words:?}");
    }
    let built = build::Wanted::parse(&text, true);
    if let Ok(wanted) = &built
        && let Some(inside) = build::within("/workspace/a", &wanted.context, wanted.file.as_deref().unwrap_or("x"))
    {
        assert!(!inside.starts_with('/') && !inside.split('/').any(|part| part == ".."), "{inside:?}");
    }
    let ran = run::Wanted::parse(&text, |_| None);
    if let Ok(wanted) = &ran {
        // They stand in a script.
        let plain = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        assert!(wanted.aliases.iter().all(plain) && wanted.hosts.iter().all(|(name, _)| plain(name)), "{wanted:?}");
    }
    let name = Name::parse(&text);
    if let Ok(name) = &name {
        assert_eq!(name.to_string(), text);
        assert!(!text.contains(['\n', ' ', '$', '\\']), "{text:?}");
    }
    let told =
        |result: Result<usize, String>| result.map_or_else(|error| kind(&error), |count| about(count).to_string());
    format!(
        "{} {} {} {}",
        told(divided.map(|words| words.len())),
        told(built.map(|wanted| wanted.arguments.len())),
        told(ran.map(|wanted| wanted.environment.len())),
        told(name.map(|name| name.path.len()))
    )
}
