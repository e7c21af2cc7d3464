//! Reads a path.
//!
//! upstream: staging/src/k8s.io/client-go/util/jsonpath/parser.go

use serde_json::Value;

use super::{Operator, Slice, Step};

/// Paths inside of paths: unions and filters.
const DEPTH_MAX: usize = 16;
/// Steps of one path.
const STEPS_MAX: usize = 1000;

/// Parses a whole path.
pub(super) fn path(text: &str) -> Result<Vec<Step>, String> {
    action(text, 0)
}

fn action(text: &str, depth: usize) -> Result<Vec<Step>, String> {
    if depth > DEPTH_MAX {
        return Err("too deep".into());
    }
    let mut parser = Parser { rest: text, depth, steps: Vec::new() };
    while !parser.rest.is_empty() {
        if parser.steps.len() > STEPS_MAX {
            return Err("too long".into());
        }
        parser.step()?;
    }
    Ok(parser.steps)
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
    steps: Vec<Step>,
}

/// Whether a letter ends a name.
fn ends(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}')
}

fn is_word(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}

impl<'a> Parser<'a> {
    /// Takes so many bytes.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn step(&mut self) -> Result<(), String> {
        if let Some(rest) = self.rest.strip_prefix("..") {
            if matches!(self.steps.last(), Some(Step::Recursive)) {
                return Err("invalid multiple recursive descent".into());
            }
            self.rest = rest;
            self.steps.push(Step::Recursive);
            if rest.starts_with(is_word) {
                self.field();
            }
            return Ok(());
        }
        if let Some(rest) = self.rest.strip_prefix("[?(") {
            self.rest = rest;
            return self.filter();
        }
        let Some(first) = self.rest.chars().next() else { return Ok(()) };
        match first {
            '\r' | '\n' => Err("unclosed action".into()),
            // The present object is where every path starts.
            ' ' | '@' | '$' => {
                self.take(1);
                Ok(())
            }
            '[' => self.array(),
            '"' | '\'' => self.quoted(first),
            '.' => {
                self.take(1);
                self.field();
                Ok(())
            }
            '+' | '-' | '0'..='9' => self.number(),
            letter if is_word(letter) => {
                let end = self.rest.find(ends).unwrap_or(self.rest.len());
                let word = self.take(end);
                self.steps.push(match word {
                    "true" => Step::Literal(true.into()),
                    "false" => Step::Literal(false.into()),
                    _ => Step::Unknown,
                });
                Ok(())
            }
            other => Err(format!("unrecognized character in action: {other:?}")),
        }
    }

    /// A name up to a letter that ends it and is not escaped.
    fn field(&mut self) {
        let mut name = String::new();
        let mut letters = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, letter)) = letters.next() {
            if letter == '\\' {
                name.extend(letters.next().map(|(_, letter)| letter).filter(|l| *l != '\\'));
            } else if ends(letter) {
                end = at;
                break;
            } else {
                name.push(letter);
            }
        }
        let written = self.take(end);
        self.steps.push(if written == "*" { Step::Wildcard } else { Step::Field(name) });
    }

    fn number(&mut self) -> Result<(), String> {
        let digits = |letter: char| letter == '.' || letter.is_ascii_digit();
        let sign = usize::from(self.rest.starts_with(['+', '-']));
        let end = self.rest[sign..].find(|letter| !digits(letter));
        let text = self.take(end.map_or(self.rest.len(), |end| sign + end));
        let integer = text.parse::<i64>().map(Value::from);
        let float = || text.parse::<f64>().map(Value::from);
        let number = integer.or_else(|_| float());
        let number = number.map_err(|_| format!("cannot parse number {text}"))?;
        self.steps.push(Step::Literal(number));
        Ok(())
    }

    fn quoted(&mut self, quote: char) -> Result<(), String> {
        let mut text = String::new();
        let mut letters = self.rest.char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\n' => break,
                '\\' => match letters.next().map(|(_, letter)| letter) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(same) if same == quote || same == '\\' => text.push(same),
                    other => return Err(format!("unquote string error at {other:?}")),
                },
                letter if letter == quote => {
                    self.take(at + 1);
                    self.steps.push(Step::Literal(text.into()));
                    return Ok(());
                }
                other => text.push(other),
            }
        }
        Err("unterminated quoted string".into())
    }

    fn array(&mut self) -> Result<(), String> {
        let end = self.rest.find([']', '\n']).filter(|end| self.rest[*end..].starts_with(']'));
        let end = end.ok_or("unterminated array")?;
        let taken = self.take(end + 1);
        let text = &taken[1..end];
        let text = if text == "*" { ":" } else { text };
        if text.contains(',') {
            let paths = text.split(',').map(|part| {
                let part = part.trim_matches(' ');
                action(&format!("[{part}]"), self.depth + 1)
            });
            let paths: Vec<Vec<Step>> = paths.collect::<Result<_, _>>()?;
            self.steps.push(Step::Union(paths));
            return Ok(());
        }
        let key = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
        if let Some(key) = key.filter(|key| !key.is_empty()) {
            let steps = action(&format!(".{key}"), self.depth + 1)?;
            self.steps.extend(steps);
            return Ok(());
        }
        let slice = slice(text).ok_or_else(|| format!("invalid array index {text}"))?;
        self.steps.push(Step::Slice(slice));
        Ok(())
    }

    fn filter(&mut self) -> Result<(), String> {
        let (mut quote, mut closed, mut before, mut end) = (None, false, ' ', None);
        for (at, letter) in self.rest.char_indices() {
            match letter {
                '\n' => break,
                '"' | '\'' if quote.is_none() => quote = Some(letter),
                '"' | '\'' if quote == Some(letter) && before != '\\' => closed = true,
                ')' if quote.is_none() || closed => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
            before = letter;
        }
        let text = self.take(end.ok_or("unterminated filter")?);
        self.rest = self.rest.strip_prefix(")]").ok_or("unclosed array expect ]")?;
        let depth = self.depth + 1;
        let operators = ['!', '<', '>', '='];
        let parts = text.find(operators).filter(|at| *at > 0).and_then(|at| {
            let (left, rest) = text.split_at(at);
            let end = rest.find(|letter| !operators.contains(&letter))?;
            Some((left, &rest[..end], &rest[end..]))
        });
        let step = match parts {
            None => Step::Filter { left: action(text, depth)?, right: None },
            Some((left, operator, right)) => {
                let operator = match operator {
                    "<" => Operator::Less,
                    ">" => Operator::Greater,
                    "==" => Operator::Equal,
                    "!=" => Operator::NotEqual,
                    "<=" => Operator::LessOrEqual,
                    ">=" => Operator::GreaterOrEqual,
                    _ => Operator::Unknown,
                };
                let right = Some((operator, action(right, depth)?));
                Step::Filter { left: action(left, depth)?, right }
            }
        };
        self.steps.push(step);
        Ok(())
    }
}

/// Reads `from:to:step`.
fn slice(text: &str) -> Option<Slice> {
    let parts: Vec<&str> = text.split(':').collect();
    let number = |text: &str| match text {
        "" => Some(None),
        text if text.starts_with('+') => None,
        text => text.parse::<i64>().ok().map(Some),
    };
    let from = number(parts[0])?;
    let mut slice = Slice { from, ..Slice::default() };
    match parts.as_slice() {
        [_] => {
            slice.to = Some(from?.checked_add(1)?);
            slice.one = true;
        }
        [_, to] => slice.to = number(to)?,
        [_, to, step] => (slice.to, slice.step) = (number(to)?, number(step)?),
        _ => return None,
    }
    Some(slice)
}
