//! Lists as commands print them: a table, or what `--format` says.
//!
//! Of docker's templates, those that people write in scripts: fields (`{{.Names}}`), `{{json .}}`, and `table` in front, with
//! tabs between columns. <https://docs.docker.com/engine/cli/formatting/>

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// One field of a row: its name in templates, and its text.
#[derive(Clone, Debug)]
pub struct Field {
    /// `Names`.
    pub name: &'static str,
    /// What is shown.
    pub text: String,
}

/// A line of a list.
pub type Row = Vec<Field>;

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
    Json,
}

/// The list as text. `titles` are the fields that there are, in any order, for a list without rows; `usual` the columns without a
/// format.
pub fn text(
    format: Option<&str>,
    titles: &[(&'static str, &'static str)],
    usual: &[&str],
    rows: &[Row],
) -> Result<String> {
    let format = format.map(str::trim).filter(|format| !format.is_empty());
    match format {
        None | Some("table") => {
            let columns = usual.iter().map(|name| vec![Part::Field((*name).to_owned())]).collect();
            table(columns, titles, rows)
        }
        Some("json") => lines(&[Part::Json], titles, rows),
        Some(format) => match format.strip_prefix("table ") {
            Some(columns) => {
                let columns = unescaped(columns);
                let columns: Vec<Vec<Part>> = columns.split('\t').map(parts).collect::<Result<_>>()?;
                table(columns, titles, rows)
            }
            None => lines(&parts(&unescaped(format))?, titles, rows),
        },
    }
}

fn unescaped(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn parts(template: &str) -> Result<Vec<Part>> {
    let (mut found, mut left) = (Vec::new(), template);
    while let Some((before, rest)) = left.split_once("{{") {
        let Some((inside, after)) = rest.split_once("}}") else {
            bail!("--format {template}: a {{{{ without its }}}}")
        };
        if !before.is_empty() {
            found.push(Part::Text(before.to_owned()));
        }
        let words: Vec<&str> = inside.split_whitespace().collect();
        found.push(match words.as_slice() {
            ["json", "."] => Part::Json,
            [field] if field.starts_with('.') && field.len() > 1 => Part::Field(field[1..].to_owned()),
            _ => bail!("--format {template}: of templates only {{{{.FIELD}}}} and {{{{json .}}}} are understood"),
        });
        left = after;
    }
    if !left.is_empty() {
        found.push(Part::Text(left.to_owned()));
    }
    Ok(found)
}

fn check(parts: &[Part], titles: &[(&'static str, &'static str)]) -> Result<()> {
    for part in parts {
        if let Part::Field(name) = part
            && !titles.iter().any(|(known, _)| known == name)
        {
            let known: Vec<&str> = titles.iter().map(|(known, _)| *known).collect();
            bail!("--format: there is no field {name}: {}", known.join(", "));
        }
    }
    Ok(())
}

fn filled(parts: &[Part], row: &Row) -> Result<String> {
    let mut line = String::new();
    for part in parts {
        match part {
            Part::Text(text) => line += text,
            Part::Field(name) => {
                line += row.iter().find(|field| field.name == name).map_or("", |field| field.text.as_str());
            }
            Part::Json => {
                let all: BTreeMap<&str, &str> = row.iter().map(|field| (field.name, field.text.as_str())).collect();
                line += &serde_json::to_string(&all)?;
            }
        }
    }
    Ok(line)
}

fn lines(parts: &[Part], titles: &[(&'static str, &'static str)], rows: &[Row]) -> Result<String> {
    check(parts, titles)?;
    let mut text = String::new();
    for row in rows {
        text += &filled(parts, row)?;
        text.push('\n');
    }
    Ok(text)
}

fn table(columns: Vec<Vec<Part>>, titles: &[(&'static str, &'static str)], rows: &[Row]) -> Result<String> {
    let head = titles.iter().map(|(name, title)| Field { name, text: (*title).to_owned() }).collect();
    let mut cells: Vec<Vec<String>> = Vec::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = Vec::new();
        for column in &columns {
            check(column, titles)?;
            line.push(filled(column, row)?);
        }
        cells.push(line);
    }
    let width = |column: usize| cells.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &cells {
        let padded: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<0$}", *width)).collect();
        text += padded.join("   ").trim_end();
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLES: &[(&str, &str)] = &[("ID", "CONTAINER ID"), ("Names", "NAMES")];

    fn shown(format: &str) -> Result<String> {
        let row = |id: &str, name: &str| {
            vec![Field { name: "ID", text: id.into() }, Field { name: "Names", text: name.into() }]
        };
        text(Some(format), TITLES, &["ID", "Names"], &[row("1", "one"), row("2", "two")])
    }

    #[test]
    fn formats_are_filled_in() {
        for (format, expected) in [
            ("", "CONTAINER ID   NAMES\n1              one\n2              two\n"),
            ("{{.Names}}", "one\ntwo\n"),
            ("{{ .ID }}\\t<{{.Names}}>", "1\t<one>\n2\t<two>\n"),
            ("json", "{\"ID\":\"1\",\"Names\":\"one\"}\n{\"ID\":\"2\",\"Names\":\"two\"}\n"),
            ("{{json .}}", "{\"ID\":\"1\",\"Names\":\"one\"}\n{\"ID\":\"2\",\"Names\":\"two\"}\n"),
            ("table {{.Names}}\\t{{.ID}}", "NAMES   CONTAINER ID\none     1\ntwo     2\n"),
        ] {
            assert_eq!(shown(format).unwrap(), expected, "{format}");
        }
        for bad in ["{{.Nothing}}", "{{.ID", "{{range .}}{{end}}", "table {{.X}}"] {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }
}
