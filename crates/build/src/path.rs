//! Paths as Dockerfiles write them: text, before anything is looked up.

/// A path without `.`, `..`, doubled and outer slashes. `..` at the front is dropped: nothing is above the root.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_above_the_root() {
        for (path, expected) in
            [("", ""), ("/", ""), (".", ""), ("a//b/", "a/b"), ("./a/../b", "b"), ("../../a", "a"), ("a/../..", "")]
        {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
