//! From tokens to a tree, with the limits of nesting. What does not read is explained by `syntax`.
//!
//! upstream: vendor/github.com/google/cel-go/parser

use std::sync::Arc;

use crate::ast::{Ast, Entry, Expr, Id, Kind, Literal};
use crate::issue::{Issues, Location};
use crate::lexer::{self, Tok, Token};
use crate::macros::{self, Macros};
use crate::{escape, syntax, unescape};

/// Longest expression, in characters.
const CHARACTERS_MAX: usize = 100_000;
/// Deepest nesting of one rule of the grammar.
const RECURSION_MAX: usize = 250;
/// Deepest tree, with what macros add: evaluation goes as deep.
const DEPTH_MAX: u16 = 500;
/// Most nodes: a macro that repeats its target, of one that repeats its target, would grow without bound.
pub(crate) const NODES_MAX: usize = 100_000;

/// Operators that bind alike.
type Operators = [(Tok, &'static str)];

const RELATIONS: &Operators = &[
    (Tok::Less, "_<_"),
    (Tok::LessEquals, "_<=_"),
    (Tok::GreaterEquals, "_>=_"),
    (Tok::Greater, "_>_"),
    (Tok::Equals, "_==_"),
    (Tok::NotEquals, "_!=_"),
    (Tok::In, "@in"),
];
const SUMS: &Operators = &[(Tok::Plus, "_+_"), (Tok::Minus, "_-_")];
const PRODUCTS: &Operators = &[(Tok::Star, "_*_"), (Tok::Slash, "_/_"), (Tok::Percent, "_%_")];

/// Reads `source`.
pub fn parse(source: &str, macros: &Macros) -> Result<Ast, Issues> {
    let mut issues = Issues::new(source);
    let count = source.chars().count();
    if count > CHARACTERS_MAX {
        issues.report(
            Location::NONE,
            format!(
                "expression code point size exceeds limit: size: {count}, limit {CHARACTERS_MAX}"
            ),
        );
        return Err(issues);
    }
    let (tokens, bad) = lexer::lex(source);
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
        nodes: Nodes { locations: Vec::new() },
        issues,
        macros,
        nesting: [0; 3],
    };
    let outcome = parser.whole();
    let Parser { nodes, mut issues, .. } = parser;
    match outcome {
        Err(Stop::Depth(message)) => {
            issues.report(Location::NONE, message);
        }
        Err(Stop::Syntax) => {
            for (location, message) in syntax::explain(source, &tokens, bad) {
                issues.report(location, message);
            }
        }
        Ok(_) if !bad.is_empty() => {
            for bad in bad {
                issues.report(bad.location, format!("Syntax error: {}", bad.message));
            }
        }
        Ok(root) => return issues.finish().map(|()| Ast { root, locations: nodes.locations }),
    }
    match issues.finish() {
        Err(issues) => Err(issues),
        Ok(()) => {
            let mut issues = Issues::new(source);
            issues.report(Location::NONE, "Syntax error".to_owned());
            Err(issues)
        }
    }
}

/// Why reading ended early.
enum Stop {
    Syntax,
    Depth(String),
}

type Read<T> = Result<T, Stop>;

/// Numbers nodes and remembers where they are.
pub(crate) struct Nodes {
    locations: Vec<Location>,
}

impl Nodes {
    pub(crate) fn id(&mut self, location: Location) -> Id {
        self.locations.push(location);
        self.locations.len() - 1
    }

    pub(crate) fn count(&self) -> usize {
        self.locations.len()
    }

    pub(crate) fn location(&self, id: Id) -> Location {
        self.locations.get(id).copied().unwrap_or(Location::NONE)
    }

    pub(crate) fn expr(&mut self, location: Location, kind: Kind) -> Expr {
        Expr { id: self.id(location), depth: depth(&kind), kind }
    }
}

/// How deep a node of this kind is.
fn depth(kind: &Kind) -> u16 {
    let most = |depths: &mut dyn Iterator<Item = u16>| depths.max().unwrap_or(0);
    let below = match kind {
        Kind::Wrong | Kind::Literal(_) | Kind::Ident(_) => 0,
        Kind::Select { operand, .. } => operand.depth,
        Kind::Call { target, args, .. } => {
            most(&mut args.iter().chain(target.as_deref()).map(|arg| arg.depth))
        }
        Kind::List(elements) => most(&mut elements.iter().map(|(element, _)| element.depth)),
        Kind::Map(entries) => {
            most(&mut entries.iter().map(|entry| entry.key.depth.max(entry.value.depth)))
        }
        Kind::Struct(_, fields) => most(&mut fields.iter().map(|field| field.value.depth)),
        Kind::Fold(fold) => most(
            &mut [&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result]
                .iter()
                .map(|e| e.depth),
        ),
    };
    below + 1
}

/// Which rules count their nesting.
#[derive(Clone, Copy)]
enum Rule {
    Expr,
    Relation,
    Calc,
}

struct Parser<'s, 't> {
    tokens: &'t [Token<'s>],
    at: usize,
    nodes: Nodes,
    issues: Issues,
    macros: &'t Macros,
    nesting: [usize; 3],
}

impl<'s> Parser<'s, '_> {
    fn peek(&self) -> Token<'s> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Token<'s> {
        let last = self.tokens.len() - 1;
        self.tokens[(self.at + ahead).min(last)]
    }

    fn next(&mut self) -> Token<'s> {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn accept(&mut self, tok: Tok) -> Option<Token<'s>> {
        (self.peek().tok == tok).then(|| self.next())
    }

    fn expect(&mut self, tok: Tok) -> Read<Token<'s>> {
        self.accept(tok).ok_or(Stop::Syntax)
    }

    fn wrong(&mut self, location: Location, message: String) -> Expr {
        self.issues.report(location, message);
        self.nodes.expr(location, Kind::Wrong)
    }

    fn enter(&mut self, rule: Rule) -> Read<()> {
        let depth = &mut self.nesting[rule as usize];
        *depth += 1;
        if *depth > RECURSION_MAX {
            return Err(Stop::Depth(format!(
                "expression recursion limit exceeded: {RECURSION_MAX}"
            )));
        }
        Ok(())
    }

    fn leave(&mut self, rule: Rule, count: usize) {
        self.nesting[rule as usize] -= count;
    }

    /// A node, unless it is nested too deep.
    fn node(&mut self, location: Location, kind: Kind) -> Read<Expr> {
        let expr = self.nodes.expr(location, kind);
        if expr.depth > DEPTH_MAX {
            return Err(Stop::Depth("max recursion depth exceeded".to_owned()));
        }
        Ok(expr)
    }

    fn operator(&mut self, location: Location, name: &str, args: Vec<Expr>) -> Read<Expr> {
        self.node(location, Kind::Call { target: None, function: name.into(), args })
    }

    fn whole(&mut self) -> Read<Expr> {
        let expr = self.expr()?;
        self.expect(Tok::Eof)?;
        Ok(expr)
    }

    fn expr(&mut self) -> Read<Expr> {
        self.enter(Rule::Expr)?;
        let condition = self.or()?;
        let out = match self.accept(Tok::Question) {
            None => condition,
            Some(op) => {
                let then = self.or()?;
                self.expect(Tok::Colon)?;
                let otherwise = self.expr()?;
                self.operator(op.location, "_?_:_", vec![condition, then, otherwise])?
            }
        };
        self.leave(Rule::Expr, 1);
        Ok(out)
    }

    fn or(&mut self) -> Read<Expr> {
        self.logic(Tok::Or, "_||_", Self::and)
    }

    fn and(&mut self) -> Read<Expr> {
        self.logic(Tok::And, "_&&_", Self::relation)
    }

    fn logic(&mut self, tok: Tok, name: &str, term: fn(&mut Self) -> Read<Expr>) -> Read<Expr> {
        let first = term(self)?;
        if self.peek().tok != tok {
            return Ok(first);
        }
        let (mut terms, mut ops) = (vec![first], Vec::new());
        while let Some(op) = self.accept(tok) {
            terms.push(term(self)?);
            ops.push(op.location);
        }
        self.balanced(name, terms, &ops)
    }

    /// Long chains become balanced trees, so that their length is no depth.
    fn balanced(&mut self, name: &str, terms: Vec<Expr>, ops: &[Location]) -> Read<Expr> {
        let mut terms: Vec<Option<Expr>> = terms.into_iter().map(Some).collect();
        self.balance(name, &mut terms, ops, 0, ops.len() - 1)
    }

    fn balance(
        &mut self,
        name: &str,
        terms: &mut [Option<Expr>],
        ops: &[Location],
        low: usize,
        high: usize,
    ) -> Read<Expr> {
        let middle = (low + high).div_ceil(2);
        let left = if middle == low {
            terms[middle].take().ok_or(Stop::Syntax)?
        } else {
            self.balance(name, terms, ops, low, middle - 1)?
        };
        let right = if middle == high {
            terms[middle + 1].take().ok_or(Stop::Syntax)?
        } else {
            self.balance(name, terms, ops, middle + 1, high)?
        };
        self.operator(ops[middle], name, vec![left, right])
    }

    fn relation(&mut self) -> Read<Expr> {
        self.enter(Rule::Relation)?;
        self.chain(Rule::Relation, RELATIONS, Self::sum, 1)
    }

    fn sum(&mut self) -> Read<Expr> {
        self.enter(Rule::Calc)?;
        self.chain(Rule::Calc, SUMS, Self::product, 1)
    }

    /// A part of a sum, of which it counts as a part.
    fn product(&mut self) -> Read<Expr> {
        self.chain(Rule::Calc, PRODUCTS, Self::unary, 0)
    }

    /// Operands with operators between them, from left to right. `entered`: how often the rule was entered for it.
    fn chain(
        &mut self,
        rule: Rule,
        operators: &Operators,
        operand: fn(&mut Self) -> Read<Expr>,
        mut entered: usize,
    ) -> Read<Expr> {
        let mut left = operand(self)?;
        while let Some((_, name)) = operators.iter().find(|(tok, _)| *tok == self.peek().tok) {
            let op = self.next();
            self.enter(rule)?;
            entered += 1;
            let right = operand(self)?;
            left = self.operator(op.location, name, vec![left, right])?;
        }
        self.leave(rule, entered);
        Ok(left)
    }

    fn unary(&mut self) -> Read<Expr> {
        let tok = self.peek().tok;
        let signs_number =
            tok == Tok::Minus && matches!(self.peek_at(1).tok, Tok::Int | Tok::Float);
        if !matches!(tok, Tok::Exclam | Tok::Minus) || signs_number {
            return self.member();
        }
        let first = self.peek();
        let mut count = 0;
        while self.accept(tok).is_some() {
            count += 1;
        }
        let operand = self.member()?;
        if count % 2 == 0 {
            return Ok(operand);
        }
        let name = if tok == Tok::Exclam { "!_" } else { "-_" };
        self.operator(first.location, name, vec![operand])
    }

    fn member(&mut self) -> Read<Expr> {
        let mut left = self.primary()?;
        let mut chain = 1;
        loop {
            let op = self.peek();
            if !matches!(op.tok, Tok::Dot | Tok::LBracket) {
                return Ok(left);
            }
            chain += 1;
            if chain > RECURSION_MAX {
                return Err(Stop::Depth(format!(
                    "expression recursion limit exceeded: {RECURSION_MAX}"
                )));
            }
            self.next();
            left =
                if op.tok == Tok::Dot { self.selection(left, op)? } else { self.index(left, op)? };
        }
    }

    fn selection(&mut self, left: Expr, op: Token<'s>) -> Read<Expr> {
        let optional = self.accept(Tok::Question).is_some();
        let name = self.next();
        if name.tok == Tok::EscIdent {
            return Ok(self.wrong(name.location, "unsupported syntax: '`'".to_owned()));
        }
        if name.tok != Tok::Ident {
            return Err(Stop::Syntax);
        }
        if optional {
            let field =
                self.nodes.expr(name.location, Kind::Literal(Literal::String(name.text.into())));
            return self.operator(op.location, "_?._", vec![left, field]);
        }
        if let Some(open) = self.accept(Tok::LParen) {
            let args = self.arguments()?;
            return self.call(open.location, name.text, Some(left), args);
        }
        self.node(
            op.location,
            Kind::Select { operand: Box::new(left), field: name.text.into(), test: false },
        )
    }

    fn index(&mut self, left: Expr, op: Token<'s>) -> Read<Expr> {
        let name = if self.accept(Tok::Question).is_some() { "_[?_]" } else { "_[_]" };
        let index = self.expr()?;
        self.expect(Tok::RBracket)?;
        self.operator(op.location, name, vec![left, index])
    }

    /// What is between parentheses, with the closing one.
    fn arguments(&mut self) -> Read<Vec<Expr>> {
        let mut args = Vec::new();
        if self.accept(Tok::RParen).is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if self.accept(Tok::Comma).is_none() {
                break;
            }
        }
        self.expect(Tok::RParen)?;
        Ok(args)
    }

    fn call(
        &mut self,
        location: Location,
        name: &str,
        target: Option<Expr>,
        args: Vec<Expr>,
    ) -> Read<Expr> {
        let call = macros::Call { location, name, target, args };
        let expr = match macros::expand(self.macros, &mut self.nodes, call) {
            macros::Outcome::Expanded(expr) => expr,
            macros::Outcome::Wrong(at, message) => self.wrong(at, message),
            macros::Outcome::None(call) => {
                let target = call.target.map(Box::new);
                self.nodes
                    .expr(location, Kind::Call { target, function: name.into(), args: call.args })
            }
        };
        if expr.depth > DEPTH_MAX {
            return Err(Stop::Depth("max recursion depth exceeded".to_owned()));
        }
        Ok(expr)
    }

    fn primary(&mut self) -> Read<Expr> {
        let first = self.peek();
        match first.tok {
            Tok::LParen => {
                self.next();
                let inner = self.expr()?;
                self.expect(Tok::RParen)?;
                Ok(inner)
            }
            Tok::LBracket => self.list(),
            Tok::LBrace => self.map(),
            Tok::Dot | Tok::Ident => self.named(),
            _ => self.literal(),
        }
    }

    fn named(&mut self) -> Read<Expr> {
        let first = self.peek();
        let dot = self.accept(Tok::Dot).is_some();
        let mut ahead = 0;
        while self.peek_at(ahead).tok == Tok::Ident && self.peek_at(ahead + 1).tok == Tok::Dot {
            ahead += 2;
        }
        if self.peek_at(ahead).tok == Tok::Ident && self.peek_at(ahead + 1).tok == Tok::LBrace {
            return self.message(dot, ahead + 1);
        }
        let name = self.expect(Tok::Ident)?;
        let open = self.accept(Tok::LParen);
        let args = if open.is_some() { self.arguments()? } else { Vec::new() };
        if escape::is_reserved(name.text) {
            return Ok(self.wrong(first.location, format!("reserved identifier: {}", name.text)));
        }
        let full = if dot { format!(".{}", name.text) } else { name.text.to_owned() };
        match open {
            Some(open) => self.call(open.location, &full, None, args),
            None => Ok(self.nodes.expr(name.location, Kind::Ident(full.into()))),
        }
    }

    /// `a.b.C{field: value}`, of which the name has `length` tokens.
    fn message(&mut self, dot: bool, length: usize) -> Read<Expr> {
        let mut name = String::from(if dot { "." } else { "" });
        for _ in 0..length {
            name.push_str(self.next().text);
        }
        let open = self.expect(Tok::LBrace)?;
        let mut fields = Vec::new();
        self.elements(Tok::RBrace, |parser, optional| {
            let field = parser.next();
            if field.tok == Tok::EscIdent {
                parser.issues.report(field.location, "unsupported syntax: '`'".to_owned());
            } else if field.tok != Tok::Ident {
                return Err(Stop::Syntax);
            }
            let (id, value) = parser.entry()?;
            fields.push(Entry { id, key: Arc::from(field.text), value, optional });
            Ok(())
        })?;
        self.node(open.location, Kind::Struct(name.into(), fields))
    }

    fn list(&mut self) -> Read<Expr> {
        let open = self.next();
        let mut elements = Vec::new();
        self.elements(Tok::RBracket, |parser, optional| {
            elements.push((parser.expr()?, optional));
            Ok(())
        })?;
        self.node(open.location, Kind::List(elements))
    }

    fn map(&mut self) -> Read<Expr> {
        let open = self.next();
        let mut entries = Vec::new();
        self.elements(Tok::RBrace, |parser, optional| {
            let key = parser.expr()?;
            let (id, value) = parser.entry()?;
            entries.push(Entry { id, key, value, optional });
            Ok(())
        })?;
        self.node(open.location, Kind::Map(entries))
    }

    /// What stands between brackets; it is told whether an element may be left out. One comma may come at the end,
    /// also where nothing else does.
    fn elements(
        &mut self,
        close: Tok,
        mut element: impl FnMut(&mut Self, bool) -> Read<()>,
    ) -> Read<()> {
        let mut first = true;
        while self.peek().tok != close {
            if !first {
                self.expect(Tok::Comma)?;
            }
            if self.peek().tok == close || (first && self.accept(Tok::Comma).is_some()) {
                break;
            }
            first = false;
            let optional = self.accept(Tok::Question).is_some();
            element(self, optional)?;
        }
        self.expect(close).map(drop)
    }

    /// The value after a key.
    fn entry(&mut self) -> Read<(Id, Expr)> {
        let colon = self.expect(Tok::Colon)?;
        let value = self.expr()?;
        Ok((self.nodes.id(colon.location), value))
    }

    fn literal(&mut self) -> Read<Expr> {
        let first = self.next();
        let at = first.location;
        let minus = first.tok == Tok::Minus;
        let token = if minus { self.next() } else { first };
        let sign = if minus { "-" } else { "" };
        let literal = match token.tok {
            Tok::Int => integer(sign, token.text).map(Literal::Int).ok_or("invalid int literal"),
            Tok::Float => format!("{sign}{}", token.text)
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
                .map(Literal::Double)
                .ok_or("invalid double literal"),
            _ if minus => return Err(Stop::Syntax),
            Tok::Uint => unsigned(token.text).map(Literal::Uint).ok_or("invalid uint literal"),
            Tok::String => unescape::string(token.text).map(|text| Literal::String(text.into())),
            Tok::Bytes => {
                unescape::bytes(&token.text[1..]).map(|bytes| Literal::Bytes(bytes.into()))
            }
            Tok::True => Ok(Literal::Bool(true)),
            Tok::False => Ok(Literal::Bool(false)),
            Tok::Null => Ok(Literal::Null),
            _ => return Err(Stop::Syntax),
        };
        match literal {
            Ok(literal) => Ok(self.nodes.expr(at, Kind::Literal(literal))),
            Err(message) => Ok(self.wrong(at, message.to_owned())),
        }
    }
}

fn integer(sign: &str, text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(&format!("{sign}{hex}"), 16).ok(),
        None => format!("{sign}{text}").parse().ok(),
    }
}

fn unsigned(text: &str) -> Option<u64> {
    let digits = &text[..text.len() - 1];
    match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}
