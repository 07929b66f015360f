//! Which fields of an answer are wanted: `tree=jobs[name,url]{0,10}` and `depth=1` of the remote API
//! (<https://www.jenkins.io/doc/book/using/remote-access-api/>).
//!
//! Answers are built by asking a [`Shape`] for each field, so that nothing is looked up that nobody wants.

use serde_json::{Map, Value as Json};

/// Bytes of a tree.
const LONGEST: usize = 16 * 1024;
/// Brackets within brackets.
const DEEPEST: usize = 40;
/// Levels that `depth` shows.
const MOST_DEPTH: i32 = 10;

/// Fields that are named, with those below them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: String,
    below: Tree,
    range: (usize, usize),
}

/// What of an object is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    tree: Option<&'a Tree>,
    depth: i32,
    range: (usize, usize),
}

/// An object under construction.
#[derive(Debug)]
pub struct Fields<'a> {
    shape: Shape<'a>,
    map: Map<String, Json>,
}

impl Tree {
    /// Reads a tree.
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("a tree has {LONGEST} bytes at most"));
        }
        let mut rest = text;
        let tree = list(&mut rest, 0)?;
        match rest {
            "" => Ok(tree),
            rest => Err(format!("unexpected {rest:?} in the tree")),
        }
    }
}

fn list(rest: &mut &str, depth: usize) -> Result<Tree, String> {
    if depth > DEEPEST {
        return Err(format!("a tree has {DEEPEST} levels at most"));
    }
    let mut tree = Tree::default();
    loop {
        let end = rest.find(['[', ']', '{', '}', ',']).unwrap_or(rest.len());
        let name = rest[..end].trim().to_string();
        *rest = &rest[end..];
        if name.is_empty() {
            // `[]` has no names; `a,,b` and `a,` do no harm.
            if rest.starts_with(['[', '{']) {
                return Err("a name is missing in the tree".into());
            }
        } else {
            let mut field = Field { name, below: Tree::default(), range: (0, usize::MAX) };
            if let Some(inner) = rest.strip_prefix('[') {
                *rest = inner;
                field.below = list(rest, depth + 1)?;
                *rest = rest.strip_prefix(']').ok_or("a ] is missing in the tree")?;
            }
            if let Some(inner) = rest.strip_prefix('{') {
                let (inside, after) = inner.split_once('}').ok_or("a } is missing in the tree")?;
                field.range = range(inside)?;
                *rest = after;
            }
            tree.fields.push(field);
        }
        match rest.strip_prefix(',') {
            Some(after) => *rest = after,
            None => return Ok(tree),
        }
    }
}

/// `{2,5}`, `{2,}`, `{,5}`, `{2}`: from the first to before the second.
fn range(text: &str) -> Result<(usize, usize), String> {
    let number = |text: &str, default: usize| match text.trim() {
        "" => Ok(default),
        text => text.parse::<usize>().map_err(|_| format!("{text:?} is no number")),
    };
    match text.split_once(',') {
        Some((from, to)) => Ok((number(from, 0)?, number(to, usize::MAX)?)),
        None => {
            let at = number(text, 0)?;
            Ok((at, at.saturating_add(1)))
        }
    }
}

impl<'a> Shape<'a> {
    /// Of the outermost object.
    pub fn new(tree: Option<&'a Tree>, depth: i32) -> Self {
        Self { tree, depth: depth.clamp(0, MOST_DEPTH), range: (0, usize::MAX) }
    }

    fn below(self, name: &str, brief: bool) -> Option<Shape<'a>> {
        match self.tree {
            Some(tree) => {
                let field = tree.fields.iter().find(|field| field.name == name || field.name == "*")?;
                Some(Shape { tree: Some(&field.below), depth: self.depth - 1, range: field.range })
            }
            None if self.depth >= 0 || brief => {
                Some(Shape { tree: None, depth: self.depth - 1, range: (0, usize::MAX) })
            }
            None => None,
        }
    }
}

impl<'a> Fields<'a> {
    /// An object of a class.
    pub fn new(class: &str, shape: Shape<'a>) -> Self {
        let mut map = Map::new();
        if !class.is_empty() {
            map.insert("_class".into(), class.into());
        }
        Self { shape, map }
    }

    /// A field that also a mere mention of the object shows: its name, its address.
    pub fn brief(&mut self, name: &str, value: impl Into<Json>) {
        if self.shape.below(name, true).is_some() {
            self.map.insert(name.into(), value.into());
        }
    }

    /// A field of the object's own page.
    pub fn full(&mut self, name: &str, value: impl Into<Json>) {
        self.inner(name, |_| value.into());
    }

    /// A field with fields of its own.
    pub fn inner(&mut self, name: &str, value: impl FnOnce(Shape<'a>) -> Json) {
        if let Some(below) = self.shape.below(name, false) {
            self.map.insert(name.into(), value(below));
        }
    }

    /// A list, of which a part may be wanted.
    pub fn list<T>(&mut self, name: &str, items: impl IntoIterator<Item = T>, each: impl FnMut(T, Shape<'a>) -> Json) {
        if let Some(below) = self.shape.below(name, false) {
            let (from, to) = below.range;
            let mut each = each;
            let items = items.into_iter().skip(from).take(to.saturating_sub(from));
            self.map.insert(name.into(), items.map(|item| each(item, below)).collect());
        }
    }

    /// A list that also a mention shows.
    pub fn within<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        each: impl FnMut(T, Shape<'a>) -> Json,
    ) {
        if self.shape.below(name, true).is_some() {
            let shape = self.shape;
            self.shape.depth = shape.depth.max(0);
            self.list(name, items, each);
            self.shape = shape;
        }
    }

    /// A list that only a tree shows which names it.
    pub fn asked<T>(&mut self, name: &str, items: impl IntoIterator<Item = T>, each: impl FnMut(T, Shape<'a>) -> Json) {
        if self.shape.tree.is_some_and(|tree| tree.fields.iter().any(|field| field.name == name)) {
            self.list(name, items, each);
        }
    }

    /// Whether a field is wanted that is dear to find out.
    pub fn wants(&self, name: &str) -> bool {
        self.shape.below(name, false).is_some()
    }

    /// The object.
    pub fn done(self) -> Json {
        Json::Object(self.map)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(name: &str, shape: Shape<'_>) -> Json {
        let mut fields = Fields::new("Job", shape);
        fields.brief("name", name);
        fields.full("description", "d");
        fields.list("builds", [1, 2, 3], |number, shape| {
            let mut fields = Fields::new("", shape);
            fields.brief("number", number);
            fields.full("result", "SUCCESS");
            fields.done()
        });
        fields.done()
    }

    fn shown(tree: Option<&str>, depth: i32) -> Json {
        let tree = tree.map(|tree| Tree::read(tree).unwrap());
        job("a", Shape::new(tree.as_ref(), depth))
    }

    #[test]
    fn depth_shows_more() {
        assert_eq!(
            shown(None, 0),
            json!({"_class": "Job", "name": "a", "description": "d",
                "builds": [{"number": 1}, {"number": 2}, {"number": 3}]})
        );
        assert_eq!(shown(None, 1)["builds"][0], json!({"number": 1, "result": "SUCCESS"}));
        assert_eq!(job("a", Shape { tree: None, depth: -1, range: (0, 9) }), json!({"_class": "Job", "name": "a"}));
    }

    #[test]
    fn a_tree_shows_what_it_names() {
        assert_eq!(shown(Some("name"), 5), json!({"_class": "Job", "name": "a"}));
        assert_eq!(shown(Some("builds[number]{1,2}"), 0), json!({"_class": "Job", "builds": [{"number": 2}]}));
        assert_eq!(shown(Some("builds[result]{,1},x[y]"), 0)["builds"], json!([{"result": "SUCCESS"}]));
        assert_eq!(shown(Some("builds[*]{2}"), 0)["builds"], json!([{"number": 3, "result": "SUCCESS"}]));
        assert_eq!(shown(Some("builds"), 0)["builds"], json!([{}, {}, {}]));
        assert_eq!(shown(Some("builds[number]{2,1}"), 0)["builds"], json!([]));
        assert_eq!(shown(Some(""), 0), json!({"_class": "Job"}));
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        for text in ["a[b", "a]", "a{1", "a{x}", "[a]", "a}b", &"a[".repeat(100), &"a".repeat(20_000)] {
            assert!(Tree::read(text).is_err(), "{text}");
        }
        assert!(Tree::read("jobs[url,color,name,jobs[url,color,name,jobs]]").is_ok());
    }
}
