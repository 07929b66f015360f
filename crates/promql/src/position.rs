//! Where in a query something stands.

/// Bytes of the query, from the first one to behind the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The first byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

impl Place {
    /// From the start of one to the end of another.
    pub fn to(self, last: Self) -> Self {
        Self { start: self.start, end: last.end }
    }

    /// `line:column` of the start, both from 1, columns in bytes.
    pub fn in_query(&self, query: &str) -> String {
        if query.is_empty() {
            return "unknown position".to_owned();
        }
        let Some(before) = query.as_bytes().get(..self.start) else { return "invalid position".to_owned() };
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        let column = match memchr::memrchr(b'\n', before) {
            Some(last) => self.start - last,
            None => self.start + 1,
        };
        format!("{line}:{column}")
    }
}
