//! Strings, shared and charged.

use std::{fmt, ops::Deref, sync::Arc};

use crate::limit::Charge;

/// A string.
#[derive(Clone)]
pub struct Text(Arc<Inner>);

struct Inner {
    text: Box<str>,
    _charge: Charge,
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        let charge = Charge::new(text.len() + size_of::<Inner>());
        Self(Arc::new(Inner { text: text.into_boxed_str(), _charge: charge }))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.to_string().into()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.text
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, out)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self)
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
