//! Fields of records: each is named once, for reading and for printing.

use super::{
    Kind, Node, Print,
    value::{Problems, Stop, Value, read_into},
};

/// A map with known keys.
pub trait Record: Default + Clone + PartialEq {
    /// What error messages call it.
    const TYPE: &'static str;

    /// What reading starts from; `None` leaves what is there already.
    fn start() -> Option<Self> {
        None
    }

    /// Names the fields.
    fn fields(&mut self, fields: &mut Fields<'_>);

    /// Whether it makes sense; may fill in what follows from other fields.
    fn check(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Where the fields of a record are read from or printed to.
#[derive(Debug)]
pub struct Fields<'a>(Mode<'a>);

#[derive(Debug)]
enum Mode<'a> {
    Read { pairs: &'a [(Node, Node)], known: Vec<bool>, problems: &'a mut Problems, stopped: Option<Stop> },
    Print(Vec<(String, Print)>),
}

impl Fields<'_> {
    /// A field that is printed if there is something in it.
    pub fn field<T: Value>(&mut self, name: &str, value: &mut T) {
        self.visit(name, value, true);
    }

    /// A field that is always printed.
    pub fn always<T: Value>(&mut self, name: &str, value: &mut T) {
        self.visit(name, value, false);
    }

    /// A list in which `hole` is wrong where an item is null.
    pub fn list<T: Value + Default>(&mut self, name: &str, value: &mut Vec<T>, hole: &str) {
        if let Mode::Read { pairs, stopped, .. } = &mut self.0 {
            let holes = pairs
                .iter()
                .filter(|(key, _)| key.text() == Some(name))
                .any(|(_, node)| matches!(&node.kind, Kind::List(items) if items.iter().any(Node::is_null)));
            if holes && stopped.is_none() {
                *stopped = Some(Stop(hole.to_owned()));
            }
        }
        self.visit(name, value, true);
    }

    fn visit<T: Value>(&mut self, name: &str, value: &mut T, omit: bool) {
        match &mut self.0 {
            Mode::Read { pairs, known, problems, stopped } => {
                for (i, (key, node)) in pairs.iter().enumerate() {
                    if stopped.is_some() || key.text() != Some(name) {
                        continue;
                    }
                    if let Some(known) = known.get_mut(i) {
                        *known = true;
                    }
                    if let Err(stop) = read_into(value, node, problems) {
                        *stopped = Some(stop);
                    }
                }
            }
            Mode::Print(out) => {
                if !(omit && value.is_empty()) {
                    out.push((name.to_owned(), value.print()));
                }
            }
        }
    }
}

pub(super) fn read<T: Record>(record: &mut T, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
    if let Some(start) = T::start() {
        *record = start;
    }
    let Kind::Map(pairs) = &node.kind else {
        problems.mismatch(node, T::TYPE);
        return Ok(());
    };
    let before = problems.count();
    let mut fields = Fields(Mode::Read { pairs, known: vec![false; pairs.len()], problems, stopped: None });
    record.fields(&mut fields);
    let Mode::Read { known, problems, stopped, .. } = fields.0 else { return Ok(()) };
    for (i, (key, _)) in pairs.iter().enumerate() {
        let name = key.text().unwrap_or_default();
        if !known.get(i).copied().unwrap_or(false) && stopped.is_none() {
            problems.add(key.line, format!("field {name} not found in type {}", T::TYPE));
        } else if pairs.iter().take(i).any(|pair| pair.0.text() == Some(name)) {
            problems.add(key.line, format!("field {name} already set in type {}", T::TYPE));
        }
    }
    if let Some(stop) = stopped {
        return Err(stop);
    }
    if problems.count() == before {
        record.check()?;
    }
    Ok(())
}

pub(super) fn print<T: Record>(record: &mut T) -> Print {
    let mut fields = Fields(Mode::Print(Vec::new()));
    record.fields(&mut fields);
    match fields.0 {
        Mode::Print(pairs) => Print::Map(pairs),
        Mode::Read { .. } => Print::Map(Vec::new()),
    }
}
