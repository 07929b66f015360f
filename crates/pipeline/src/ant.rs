//! Patterns as Ant has them, for files and branches: `*` within a name, `**` over folders, `?` one letter; several with commas
//! (<https://ant.apache.org/manual/dirtasks.html#patterns>).

/// Whether a path fits one of some patterns, divided by commas or white space.
pub fn fits_any(patterns: &str, path: &str) -> bool {
    patterns.split([',', '\n']).map(str::trim).filter(|pattern| !pattern.is_empty()).any(|pattern| fits(pattern, path))
}

/// Whether a path fits a pattern.
pub fn fits(pattern: &str, path: &str) -> bool {
    let whole;
    let pattern = match pattern.strip_suffix('/') {
        // A folder is everything below it.
        Some(_) => {
            whole = format!("{pattern}**");
            whole.as_str()
        }
        None => pattern,
    };
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    segments(&pattern, &path)
}

/// Folders by folders. Each pair is decided once, so that many stars take no longer than their product.
fn segments(pattern: &[&str], path: &[&str]) -> bool {
    let mut row = vec![false; path.len() + 1];
    row[0] = true;
    for part in pattern {
        let mut next = vec![false; path.len() + 1];
        if *part == "**" {
            let mut any = false;
            for (at, slot) in next.iter_mut().enumerate() {
                any |= row[at];
                *slot = any;
            }
        } else {
            for at in 0..path.len() {
                next[at + 1] = row[at] && name(part, path[at]);
            }
        }
        row = next;
    }
    row[path.len()]
}

/// One name.
fn name(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests;
