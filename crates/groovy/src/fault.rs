//! Exceptions, and other reasons for leaving a block.

use std::{fmt, sync::Arc};

use crate::{
    source::Span,
    value::{Value, bury, text::Text},
};

/// Why a block is left before its end.
#[derive(Clone, Debug)]
pub enum Stop {
    /// An exception, with where it was thrown.
    Throw(Value, Option<Place>),
    /// `return`
    Return(Value),
    /// `break`, with a label
    Break(Option<String>),
    /// `continue`, with a label
    Continue(Option<String>),
    /// A bound is reached: nothing in the script can catch it.
    Limit(String, Option<Place>),
    /// The host ends the script: nothing in it can catch that.
    Ended(String),
}

/// A place in a script.
#[derive(Clone, Debug)]
pub struct Place {
    /// In which.
    pub program: Arc<crate::interpret::Program>,
    /// Where in it.
    pub span: Span,
}

/// What a function of the interpreter gives.
pub type Outcome<T = Value> = Result<T, Stop>;

/// An exception of a class that is not the script's.
#[derive(Debug)]
pub struct Exception {
    /// Its class' simple name.
    pub class: Text,
    /// What happened.
    pub message: Option<Text>,
    /// Because of what.
    pub cause: Value,
    /// What else the host put into it.
    pub detail: Value,
}

impl Drop for Exception {
    fn drop(&mut self) {
        bury([std::mem::take(&mut self.cause), std::mem::take(&mut self.detail)]);
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&full_name(&self.class))?;
        match &self.message {
            Some(message) => write!(out, ": {message}"),
            None => Ok(()),
        }
    }
}

/// Throws an exception of a class.
pub fn throw(class: &str, message: impl Into<String>) -> Stop {
    Stop::Throw(exception(class, message), None)
}

/// An exception of a class.
pub fn exception(class: &str, message: impl Into<String>) -> Value {
    let message: String = message.into();
    Value::Exception(Arc::new(Exception {
        class: class.into(),
        message: Some(message.into()),
        cause: Value::Null,
        detail: Value::Null,
    }))
}

/// Classes of exceptions: simple name, package, parent.
const CLASSES: &[(&str, &str, &str)] = &[
    ("Throwable", "java.lang", "Object"),
    ("Exception", "java.lang", "Throwable"),
    ("Error", "java.lang", "Throwable"),
    ("AssertionError", "java.lang", "Error"),
    ("PowerAssertionError", "org.codehaus.groovy.runtime.powerassert", "AssertionError"),
    ("StackOverflowError", "java.lang", "Error"),
    ("RuntimeException", "java.lang", "Exception"),
    ("IllegalArgumentException", "java.lang", "RuntimeException"),
    ("NumberFormatException", "java.lang", "IllegalArgumentException"),
    ("PatternSyntaxException", "java.util.regex", "IllegalArgumentException"),
    ("IllegalStateException", "java.lang", "RuntimeException"),
    ("NullPointerException", "java.lang", "RuntimeException"),
    ("ArithmeticException", "java.lang", "RuntimeException"),
    ("ClassCastException", "java.lang", "RuntimeException"),
    ("GroovyCastException", "org.codehaus.groovy.runtime.typehandling", "ClassCastException"),
    ("IndexOutOfBoundsException", "java.lang", "RuntimeException"),
    ("StringIndexOutOfBoundsException", "java.lang", "IndexOutOfBoundsException"),
    ("UnsupportedOperationException", "java.lang", "RuntimeException"),
    ("NoSuchElementException", "java.util", "RuntimeException"),
    ("SecurityException", "java.lang", "RuntimeException"),
    ("RejectedAccessException", "org.jenkinsci.plugins.scriptsecurity.sandbox", "SecurityException"),
    ("GroovyRuntimeException", "groovy.lang", "RuntimeException"),
    ("MissingPropertyException", "groovy.lang", "GroovyRuntimeException"),
    ("MissingMethodException", "groovy.lang", "GroovyRuntimeException"),
    ("CloneNotSupportedException", "java.lang", "Exception"),
    ("InterruptedException", "java.lang", "Exception"),
    ("FlowInterruptedException", "org.jenkinsci.plugins.workflow.steps", "InterruptedException"),
    ("TimeoutException", "java.util.concurrent", "Exception"),
    ("IOException", "java.io", "Exception"),
    ("FileNotFoundException", "java.io", "IOException"),
    ("NoSuchFileException", "java.nio.file", "IOException"),
    ("AbortException", "hudson", "IOException"),
    ("AgentOfflineException", "org.jenkinsci.plugins.workflow.support.steps", "AbortException"),
    ("StepNotResumedException", "org.jenkinsci.plugins.workflow.support.steps", "AbortException"),
    ("JsonException", "groovy.json", "RuntimeException"),
];

/// Names of classes that are no exceptions, with their packages.
const OTHERS: &[(&str, &str)] = &[
    ("Object", "java.lang"),
    ("String", "java.lang"),
    ("CharSequence", "java.lang"),
    ("Integer", "java.lang"),
    ("Long", "java.lang"),
    ("Short", "java.lang"),
    ("Byte", "java.lang"),
    ("Double", "java.lang"),
    ("Float", "java.lang"),
    ("Boolean", "java.lang"),
    ("Character", "java.lang"),
    ("Number", "java.lang"),
    ("Math", "java.lang"),
    ("System", "java.lang"),
    ("Thread", "java.lang"),
    ("StringBuilder", "java.lang"),
    ("StringBuffer", "java.lang"),
    ("Iterable", "java.lang"),
    ("Void", "java.lang"),
    ("Class", "java.lang"),
    ("BigDecimal", "java.math"),
    ("BigInteger", "java.math"),
    ("List", "java.util"),
    ("ArrayList", "java.util"),
    ("LinkedList", "java.util"),
    ("Map", "java.util"),
    ("HashMap", "java.util"),
    ("LinkedHashMap", "java.util"),
    ("TreeMap", "java.util"),
    ("Set", "java.util"),
    ("HashSet", "java.util"),
    ("LinkedHashSet", "java.util"),
    ("TreeSet", "java.util"),
    ("Collection", "java.util"),
    ("Collections", "java.util"),
    ("Arrays", "java.util"),
    ("Date", "java.util"),
    ("UUID", "java.util"),
    ("Pattern", "java.util.regex"),
    ("Matcher", "java.util.regex"),
    ("Closure", "groovy.lang"),
    ("GString", "groovy.lang"),
    ("Range", "groovy.lang"),
    ("IntRange", "groovy.lang"),
    ("JsonSlurper", "groovy.json"),
    ("JsonSlurperClassic", "groovy.json"),
    ("JsonOutput", "groovy.json"),
    ("JsonBuilder", "groovy.json"),
];

/// Whether one class is another, or extends it; exceptions only.
pub fn is_kind(class: &str, of: &str) -> bool {
    let of = of.rsplit('.').next().unwrap_or(of);
    let mut class = class.rsplit('.').next().unwrap_or(class);
    loop {
        if class == of {
            return true;
        }
        match CLASSES.iter().find(|(name, ..)| *name == class) {
            Some((_, _, parent)) => class = parent,
            None => return false,
        }
    }
}

/// Whether a class of exceptions has this name.
pub fn is_exception(name: &str) -> bool {
    let simple = name.rsplit('.').next().unwrap_or(name);
    CLASSES.iter().any(|(known, ..)| *known == simple)
}

/// Whether a class that is not the script's has this name.
pub fn is_class(name: &str) -> bool {
    let simple = name.rsplit('.').next().unwrap_or(name);
    is_exception(simple) || OTHERS.iter().any(|(known, _)| *known == simple)
}

/// A class' name with its package.
pub fn full_name(name: &str) -> String {
    if name.contains('.') {
        return name.to_string();
    }
    let package = CLASSES.iter().map(|(known, package, _)| (*known, *package)).chain(OTHERS.iter().copied());
    match package.into_iter().find(|(known, _)| *known == name) {
        Some((_, package)) => format!("{package}.{name}"),
        None => name.to_string(),
    }
}
