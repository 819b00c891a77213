//! Functions and types as a file defines them.

use super::sources::CodeToken;

/// A function with a body.
pub struct Function {
    pub name: String,
    pub line: usize,
    /// From the line of `fn` to the closing brace.
    pub lines: usize,
    /// Without `self`.
    pub parameters: usize,
}

/// A struct, an enum, a union, a trait or a type alias.
pub struct Type {
    pub name: String,
    pub line: usize,
}

/// Returns the types that `tokens` define. Associated types are none.
pub fn types(tokens: &[&CodeToken]) -> Vec<Type> {
    let (mut found, mut bodies, mut opens_body) = (Vec::new(), Vec::new(), false);
    for (index, token) in tokens.iter().enumerate() {
        let text = token.text.as_str();
        match text {
            "impl" | "trait" => opens_body = true,
            ";" => opens_body = false,
            "{" => bodies.push(std::mem::take(&mut opens_body)),
            "}" => drop(bodies.pop()),
            _ => {}
        }
        let is_associated = text == "type" && bodies.last() == Some(&true);
        // `union` is a name elsewhere.
        let before = index.checked_sub(1).map_or("", |before| tokens[before].text.as_str());
        let is_keyword = ["struct", "enum", "trait", "type"].contains(&text)
            || text == "union" && ["pub", ")", "}", ";", "]"].contains(&before);
        if is_keyword && !is_associated {
            let name = tokens.get(index + 1).filter(|name| name.text.starts_with(char::is_uppercase));
            found.extend(name.map(|name| Type { name: name.text.clone(), line: name.line }));
        }
    }
    found
}

/// Returns the functions of `tokens` that have a body.
pub fn functions(tokens: &[&CodeToken]) -> Vec<Function> {
    let starts = tokens.iter().enumerate().filter(|(_, token)| token.text == "fn");
    starts.filter_map(|(start, _)| function(tokens, start)).collect()
}

fn function(tokens: &[&CodeToken], start: usize) -> Option<Function> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let name = tokens.get(start + 1).filter(|name| name.text.starts_with(|c: char| c.is_alphabetic() || c == '_'))?;
    let open = (start + 2..tokens.len()).find(|at| text(*at) == "(")?;
    let close = matching(tokens, open);
    let body = (close..tokens.len()).find(|at| matches!(text(*at), "{" | ";")).filter(|at| text(*at) == "{")?;
    let end = matching(tokens, body);
    Some(Function {
        name: name.text.clone(),
        line: tokens[start].line,
        lines: tokens[end].line - tokens[start].line + 1,
        parameters: parameters(&tokens[open + 1..close]),
    })
}

fn parameters(tokens: &[&CodeToken]) -> usize {
    let (mut depth, mut lists, mut has_tokens) = (0, Vec::new(), false);
    let mut is_self = false;
    for token in tokens {
        match token.text.as_str() {
            "(" | "[" | "{" | "<" => depth += 1,
            ")" | "]" | "}" | ">" => depth -= 1,
            _ => {}
        }
        if token.text == "," && depth == 0 {
            lists.push(std::mem::take(&mut is_self));
            has_tokens = false;
        } else {
            is_self |= token.text == "self";
            has_tokens = true;
        }
    }
    lists.extend(has_tokens.then_some(is_self));
    lists.iter().filter(|is_self| !**is_self).count()
}

fn matching(tokens: &[&CodeToken], open: usize) -> usize {
    let (opening, closing) = if tokens[open].text == "(" { ("(", ")") } else { ("{", "}") };
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        depth += i32::from(token.text == opening) - i32::from(token.text == closing);
        if depth == 0 {
            return index;
        }
    }
    tokens.len() - 1
}
