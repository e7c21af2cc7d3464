//! The query syntax of selectors.

use super::{FieldRequirement, Operator, Requirement};
use crate::field::{Error, Path};
use crate::names;

/// A selector that cannot be parsed: what is wrong with it, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Not,
    Equal,
    DoubleEqual,
    NotEqual,
    Greater,
    Less,
    Open,
    Close,
    Comma,
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Not => "!",
            Self::Equal => "=",
            Self::DoubleEqual => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::End => "",
        }
    }
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '=' if rest.starts_with("==") => (Token::DoubleEqual, 2),
            '=' => (Token::Equal, 1),
            '!' if rest.starts_with("!=") => (Token::NotEqual, 2),
            '!' => (Token::Not, 1),
            '>' => (Token::Greater, 1),
            '<' => (Token::Less, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            _ => {
                let end = rest.find(|c: char| is_special(c) || c.is_whitespace());
                let word = &rest[..end.unwrap_or(rest.len())];
                (Token::Word(word.to_owned()), word.len())
            }
        };
        out.push(token);
        rest = rest[length..].trim_start();
    }
    out.push(Token::End);
    Ok(out)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn requirement(&mut self) -> Result<Requirement, ParseError> {
        let negated = *self.peek() == Token::Not;
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(word) => word,
            other => {
                let text = format!("found '{}', expected: identifier", other.text());
                return Err(ParseError(text));
            }
        };
        check(&names::is_qualified_name(&key), &Path::default(), &key)?;
        if negated {
            let (operator, values) = (Operator::DoesNotExist, Vec::new());
            return Ok(Requirement { key, operator, values, set: false });
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            let (operator, values) = (Operator::Exists, Vec::new());
            return Ok(Requirement { key, operator, values, set: false });
        }
        let (operator, set) = self.operator()?;
        let mut values = if set { self.values()? } else { vec![self.value()?] };
        values.sort();
        values.dedup();
        check_values(&key, operator, &values)?;
        Ok(Requirement { key, operator, values, set })
    }

    fn operator(&mut self) -> Result<(Operator, bool), ParseError> {
        match self.next() {
            Token::Equal | Token::DoubleEqual => Ok((Operator::In, false)),
            Token::NotEqual => Ok((Operator::NotIn, false)),
            Token::Greater => Ok((Operator::GreaterThan, false)),
            Token::Less => Ok((Operator::LessThan, false)),
            Token::Word(word) if word == "in" => Ok((Operator::In, true)),
            Token::Word(word) if word == "notin" => Ok((Operator::NotIn, true)),
            other => Err(ParseError(format!(
                "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                other.text()
            ))),
        }
    }

    /// The value of an equality; nothing at all stands for the empty value.
    fn value(&mut self) -> Result<String, ParseError> {
        match self.peek() {
            Token::End | Token::Comma => Ok(String::new()),
            Token::Word(word) => {
                let word = word.clone();
                self.next();
                Ok(word)
            }
            other => Err(ParseError(format!("found '{}', expected: identifier", other.text()))),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, ParseError> {
        let open = self.next();
        if open != Token::Open {
            return Err(ParseError(format!("found '{}' expected: '('", open.text())));
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.push(word);
                    match self.next() {
                        Token::Comma => {
                            // A trailing comma stands for one more, empty value.
                            if *self.peek() == Token::Close {
                                values.push(String::new());
                            }
                        }
                        Token::Close => return Ok(values),
                        other => {
                            let text = format!("found '{}', expected: ',' or ')'", other.text());
                            return Err(ParseError(text));
                        }
                    }
                }
                Token::Comma => values.push(String::new()),
                Token::Close => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    return Ok(values);
                }
                other => {
                    let text =
                        format!("found '{}', expected: ',', ')' or identifier", other.text());
                    return Err(ParseError(text));
                }
            }
        }
    }
}

fn check(problems: &[String], path: &Path, value: &str) -> Result<(), ParseError> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(ParseError(Error::invalid(path, value, &problems.join("; ")).to_string()))
}

/// upstream: staging/src/k8s.io/apimachinery/pkg/labels/selector.go NewRequirement
fn check_values(key: &str, operator: Operator, values: &[String]) -> Result<(), ParseError> {
    let ordered = matches!(operator, Operator::GreaterThan | Operator::LessThan);
    let path = |i: usize| Path::new("values").index(i);
    let mut problems = Vec::new();
    for (i, value) in values.iter().enumerate() {
        if ordered && value.parse::<i64>().is_err() {
            let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
            problems.extend(check(&[detail.into()], &path(i), value).err());
        }
    }
    for (i, value) in values.iter().enumerate() {
        let found = names::is_valid_label_value(value);
        problems.extend(check(&found, &path(i).key(key), value).err());
    }
    match problems.len() {
        0 => Ok(()),
        1 => Err(problems.remove(0)),
        _ => {
            let texts: Vec<String> = problems.into_iter().map(|problem| problem.0).collect();
            Err(ParseError(format!("[{}]", texts.join(", "))))
        }
    }
}

/// Parses a label selector into requirements sorted by key.
pub(super) fn labels(text: &str) -> Result<Vec<Requirement>, ParseError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let mut requirements = Vec::new();
    match parser.peek() {
        Token::End => return Ok(requirements),
        Token::Word(_) | Token::Not => {}
        other => {
            return Err(ParseError(format!(
                "found '{}', expected: !, identifier, or 'end of string'",
                other.text()
            )));
        }
    }
    loop {
        let requirement = parser.requirement();
        requirements.push(
            requirement.map_err(|e| ParseError(format!("unable to parse requirement: {e}")))?,
        );
        match parser.next() {
            Token::End => break,
            Token::Comma if matches!(parser.peek(), Token::Word(_) | Token::Not) => {}
            Token::Comma => {
                let found = parser.peek().text().to_owned();
                return Err(ParseError(format!("found '{found}', expected: identifier after ','")));
            }
            other => {
                return Err(ParseError(format!(
                    "found '{}', expected: ',' or 'end of string'",
                    other.text()
                )));
            }
        }
    }
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(requirements)
}

/// Parses a field selector.
pub(super) fn fields(text: &str) -> Result<Vec<FieldRequirement>, ParseError> {
    let mut requirements = Vec::new();
    for term in split_terms(text).into_iter().filter(|t| !t.is_empty()) {
        let invalid =
            || ParseError(format!("invalid selector: '{text}'; can't understand '{term}'"));
        let at = operator_of(term).ok_or_else(invalid)?;
        let (field, rest) = term.split_at(at);
        let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
            (false, value)
        } else {
            let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='));
            (true, value.ok_or_else(invalid)?)
        };
        let value = unescape(value)?;
        if field.is_empty() && value.is_empty() {
            // Asks for nothing.
            continue;
        }
        requirements.push(FieldRequirement { field: field.to_owned(), equal, value });
    }
    Ok(requirements)
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn operator_of(term: &str) -> Option<usize> {
    term.char_indices()
        .map(|(i, _)| i)
        .find(|i| term[*i..].starts_with("!=") || term[*i..].starts_with('='))
}

fn unescape(text: &str) -> Result<String, ParseError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                Some(other) => {
                    let text =
                        format!("invalid field selector: invalid escape sequence: \\{other}");
                    return Err(ParseError(text));
                }
                None => {
                    let text = "invalid field selector: invalid escape sequence: \\";
                    return Err(ParseError(text.into()));
                }
            },
            ',' | '=' => {
                let code = u32::from(c);
                let text = format!("invalid field selector: unescaped character in value: {code}");
                return Err(ParseError(text));
            }
            other => out.push(other),
        }
    }
    Ok(out)
}
