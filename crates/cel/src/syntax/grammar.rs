//! The grammar as states and steps between them.
//!
//! upstream: vendor/github.com/google/cel-go/parser/gen/CEL.g4

use std::sync::LazyLock;

use crate::lexer::Tok;

/// The number of a state.
pub type StateId = usize;

/// How many rules there are.
pub const RULES: usize = 17;

/// A rule of the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Start,
    Expr,
    Or,
    And,
    Relation,
    Calc,
    Unary,
    Member,
    Primary,
    ExprList,
    ListInit,
    FieldList,
    OptField,
    MapList,
    EscapeIdent,
    OptExpr,
    Literal,
}

/// Tokens, and perhaps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(u64);

/// The end of a rule.
pub const EPSILON: Set = Set(1 << 63);

impl Set {
    pub const fn of(tok: Tok) -> Self {
        Self(1 << tok as u8)
    }
    pub fn has(self, tok: Tok) -> bool {
        self.0 & (1 << tok as u8) != 0
    }
    pub fn has_epsilon(self) -> bool {
        self.0 & EPSILON.0 != 0
    }
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// As messages list it.
    pub fn text(self) -> String {
        let names: Vec<&str> =
            NAMES.iter().filter(|(tok, _)| self.has(*tok)).map(|(_, name)| *name).collect();
        match names.as_slice() {
            [one] => (*one).to_owned(),
            _ => format!("{{{}}}", names.join(", ")),
        }
    }
}

/// The names of tokens in messages, in their order.
const NAMES: [(Tok, &str); 36] = [
    (Tok::Eof, "<EOF>"),
    (Tok::Equals, "'=='"),
    (Tok::NotEquals, "'!='"),
    (Tok::In, "'in'"),
    (Tok::Less, "'<'"),
    (Tok::LessEquals, "'<='"),
    (Tok::GreaterEquals, "'>='"),
    (Tok::Greater, "'>'"),
    (Tok::And, "'&&'"),
    (Tok::Or, "'||'"),
    (Tok::LBracket, "'['"),
    (Tok::RBracket, "']'"),
    (Tok::LBrace, "'{'"),
    (Tok::RBrace, "'}'"),
    (Tok::LParen, "'('"),
    (Tok::RParen, "')'"),
    (Tok::Dot, "'.'"),
    (Tok::Comma, "','"),
    (Tok::Minus, "'-'"),
    (Tok::Exclam, "'!'"),
    (Tok::Question, "'?'"),
    (Tok::Colon, "':'"),
    (Tok::Plus, "'+'"),
    (Tok::Star, "'*'"),
    (Tok::Slash, "'/'"),
    (Tok::Percent, "'%'"),
    (Tok::True, "'true'"),
    (Tok::False, "'false'"),
    (Tok::Null, "'null'"),
    (Tok::Float, "NUM_FLOAT"),
    (Tok::Int, "NUM_INT"),
    (Tok::Uint, "NUM_UINT"),
    (Tok::String, "STRING"),
    (Tok::Bytes, "BYTES"),
    (Tok::Ident, "IDENTIFIER"),
    (Tok::EscIdent, "ESC_IDENTIFIER"),
];

/// What a state is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Has one way.
    Plain,
    /// Chooses among ways, or whether to go one.
    Block,
    /// Begins what is there once at least.
    PlusBlock,
    /// Chooses whether to go round again.
    LoopEntry,
    /// Comes back to this entry.
    LoopBack(StateId),
    /// Chooses whether to go round once more.
    PlusLoop,
    /// The end of a rule.
    Stop,
}

/// A way from a state.
#[derive(Clone, Debug)]
pub enum Step {
    Epsilon(StateId),
    /// Round a loop that nests to the left.
    Again(StateId),
    Tokens(Set, StateId),
    Rule {
        rule: Rule,
        precedence: u8,
        follow: StateId,
    },
    /// Only where operators of this precedence may follow.
    Precedence(u8, StateId),
}

/// A state.
#[derive(Clone, Debug)]
pub struct State {
    pub kind: Kind,
    pub steps: Vec<Step>,
    /// With these tokens the first way, with all others the second one; nothing means to look further.
    pub simple: Option<Set>,
}

/// All states, with what may come next.
pub struct Grammar {
    states: Vec<State>,
    starts: Vec<StateId>,
    stops: Vec<StateId>,
    next: Vec<Set>,
}

impl Grammar {
    pub fn state(&self, id: StateId) -> &State {
        &self.states[id]
    }
    pub fn start(&self, rule: Rule) -> StateId {
        self.starts[rule as usize]
    }
    /// The tokens that may come next within the rule; with the end if it may be over.
    pub fn next(&self, id: StateId) -> Set {
        self.next[id]
    }
}

/// The grammar.
pub fn get() -> &'static Grammar {
    static GRAMMAR: LazyLock<Grammar> = LazyLock::new(build);
    &GRAMMAR
}

/// A part of a rule.
enum Part {
    T(Tok),
    OneOf(Vec<Tok>),
    R(Rule),
    /// A rule with a precedence.
    P(Rule, u8),
    Seq(Vec<Part>),
    /// One of several, found by looking ahead.
    Alt(Vec<Part>),
    /// Perhaps.
    Opt(Box<Part>),
    /// Any number; with true whether to go on is found by looking ahead.
    Star(Box<Part>, bool),
    Plus(Box<Part>, bool),
    /// Operators after an operand: any number of these with their precedences.
    Left(Box<Part>, Vec<(u8, Part)>),
}

use Part::{Alt, Left, OneOf, Opt, P, R, Seq, T};

fn star(part: Part, ahead: bool) -> Part {
    Part::Star(Box::new(part), ahead)
}

fn plus(part: Part, ahead: bool) -> Part {
    Part::Plus(Box::new(part), ahead)
}

fn opt(part: Part) -> Part {
    Opt(Box::new(part))
}

/// Elements with commas between them.
fn separated(first: fn() -> Vec<Part>, ahead: bool) -> Part {
    let mut parts = first();
    let mut more = vec![T(Tok::Comma)];
    more.extend(first());
    parts.push(star(Seq(more), ahead));
    Seq(parts)
}

/// A collection between brackets.
fn collection(open: Tok, list: Rule, close: Tok) -> Vec<Part> {
    vec![T(open), opt(R(list)), opt(T(Tok::Comma)), T(close)]
}

fn rules() -> Vec<(Rule, Part)> {
    use Tok::*;
    let arguments = || vec![T(LParen), opt(R(Rule::ExprList)), T(RParen)];
    let with = |mut first: Vec<Part>, rest: Vec<Part>| {
        first.extend(rest);
        Seq(first)
    };
    let named = || vec![opt(T(Dot)), T(Ident)];
    let dotted = star(Seq(vec![T(Dot), T(Ident)]), false);
    let literal = vec![
        Seq(vec![opt(T(Minus)), T(Int)]),
        T(Uint),
        Seq(vec![opt(T(Minus)), T(Float)]),
        T(String),
        T(Bytes),
        T(True),
        T(False),
        T(Null),
    ];
    vec![
        (Rule::Start, Seq(vec![R(Rule::Expr), T(Eof)])),
        (
            Rule::Expr,
            Seq(vec![
                R(Rule::Or),
                opt(Seq(vec![T(Question), R(Rule::Or), T(Colon), R(Rule::Expr)])),
            ]),
        ),
        (Rule::Or, Seq(vec![R(Rule::And), star(Seq(vec![T(Or), R(Rule::And)]), false)])),
        (
            Rule::And,
            Seq(vec![P(Rule::Relation, 0), star(Seq(vec![T(And), P(Rule::Relation, 0)]), false)]),
        ),
        (
            Rule::Relation,
            Left(
                Box::new(P(Rule::Calc, 0)),
                vec![(
                    1,
                    Seq(vec![
                        OneOf(vec![
                            Less,
                            LessEquals,
                            GreaterEquals,
                            Greater,
                            Equals,
                            NotEquals,
                            In,
                        ]),
                        P(Rule::Relation, 2),
                    ]),
                )],
            ),
        ),
        (
            Rule::Calc,
            Left(
                Box::new(R(Rule::Unary)),
                vec![
                    (2, Seq(vec![OneOf(vec![Tok::Star, Slash, Percent]), P(Rule::Calc, 3)])),
                    (1, Seq(vec![OneOf(vec![Tok::Plus, Minus]), P(Rule::Calc, 2)])),
                ],
            ),
        ),
        (
            Rule::Unary,
            Alt(vec![
                P(Rule::Member, 0),
                Seq(vec![plus(T(Exclam), false), P(Rule::Member, 0)]),
                Seq(vec![plus(T(Minus), true), P(Rule::Member, 0)]),
            ]),
        ),
        (
            Rule::Member,
            Left(
                Box::new(R(Rule::Primary)),
                vec![
                    (3, Seq(vec![T(Dot), opt(T(Question)), R(Rule::EscapeIdent)])),
                    (2, with(vec![T(Dot), T(Ident)], arguments())),
                    (1, Seq(vec![T(LBracket), opt(T(Question)), R(Rule::Expr), T(RBracket)])),
                ],
            ),
        ),
        (
            Rule::Primary,
            Alt(vec![
                Seq(named()),
                with(named(), arguments()),
                Seq(vec![T(LParen), R(Rule::Expr), T(RParen)]),
                Seq(collection(LBracket, Rule::ListInit, RBracket)),
                Seq(collection(LBrace, Rule::MapList, RBrace)),
                with(
                    vec![opt(T(Dot)), T(Ident), dotted],
                    collection(LBrace, Rule::FieldList, RBrace),
                ),
                R(Rule::Literal),
            ]),
        ),
        (Rule::ExprList, separated(|| vec![R(Rule::Expr)], false)),
        (Rule::ListInit, separated(|| vec![R(Rule::OptExpr)], true)),
        (
            Rule::FieldList,
            separated(|| vec![R(Rule::OptField), T(Tok::Colon), R(Rule::Expr)], true),
        ),
        (Rule::OptField, Seq(vec![opt(T(Question)), R(Rule::EscapeIdent)])),
        (Rule::MapList, separated(|| vec![R(Rule::OptExpr), T(Tok::Colon), R(Rule::Expr)], true)),
        (Rule::EscapeIdent, Alt(vec![T(Ident), T(EscIdent)])),
        (Rule::OptExpr, Seq(vec![opt(T(Question)), R(Rule::Expr)])),
        (Rule::Literal, Alt(literal)),
    ]
}

struct Builder {
    states: Vec<State>,
}

impl Builder {
    fn state(&mut self, kind: Kind) -> StateId {
        self.states.push(State { kind, steps: Vec::new(), simple: None });
        self.states.len() - 1
    }

    fn step(&mut self, from: StateId, step: Step) {
        self.states[from].steps.push(step);
    }

    /// Adds a part between two states.
    fn part(&mut self, part: &Part, from: StateId, to: StateId) {
        match part {
            T(tok) => self.step(from, Step::Tokens(Set::of(*tok), to)),
            OneOf(toks) => {
                let set = toks.iter().fold(Set::default(), |set, tok| set.with(Set::of(*tok)));
                self.step(from, Step::Tokens(set, to));
            }
            R(rule) => self.step(from, Step::Rule { rule: *rule, precedence: 0, follow: to }),
            P(rule, precedence) => {
                self.step(from, Step::Rule { rule: *rule, precedence: *precedence, follow: to });
            }
            Seq(parts) => {
                let mut at = from;
                for (index, part) in parts.iter().enumerate() {
                    let next = if index + 1 == parts.len() { to } else { self.state(Kind::Plain) };
                    self.part(part, at, next);
                    at = next;
                }
            }
            Alt(parts) => {
                let block = self.state(Kind::Block);
                self.step(from, Step::Epsilon(block));
                self.alternatives(block, parts.iter(), to);
            }
            Opt(part) => {
                let block = self.state(Kind::Block);
                self.step(from, Step::Epsilon(block));
                self.alternatives(block, [&**part].into_iter(), to);
                self.step(block, Step::Epsilon(to));
                // Whether it is there is told by the next token; filled in when all rules are known.
                self.states[block].simple = Some(EPSILON);
            }
            Part::Star(part, ahead) => {
                let (entry, back) = (self.state(Kind::LoopEntry), self.state(Kind::Plain));
                self.states[back].kind = Kind::LoopBack(entry);
                self.step(from, Step::Epsilon(entry));
                self.alternatives(entry, [&**part].into_iter(), back);
                self.step(entry, Step::Epsilon(to));
                self.step(back, Step::Epsilon(entry));
                self.states[entry].simple = (!ahead).then_some(EPSILON);
            }
            Part::Plus(part, ahead) => {
                let (block, again) = (self.state(Kind::PlusBlock), self.state(Kind::PlusLoop));
                self.step(from, Step::Epsilon(block));
                self.alternatives(block, [&**part].into_iter(), again);
                self.step(again, Step::Epsilon(block));
                self.step(again, Step::Epsilon(to));
                self.states[again].simple = (!ahead).then_some(EPSILON);
            }
            Left(first, operators) => {
                let (entry, back) = (self.state(Kind::LoopEntry), self.state(Kind::Plain));
                self.states[back].kind = Kind::LoopBack(entry);
                self.part(first, from, entry);
                let block = self.state(if operators.len() > 1 { Kind::Block } else { Kind::Plain });
                self.step(entry, Step::Again(block));
                self.step(entry, Step::Epsilon(to));
                for (precedence, part) in operators {
                    let (check, after) = (self.state(Kind::Plain), self.state(Kind::Plain));
                    self.step(block, Step::Epsilon(check));
                    self.step(check, Step::Precedence(*precedence, after));
                    self.part(part, after, back);
                }
                self.step(back, Step::Epsilon(entry));
            }
        }
    }

    fn alternatives<'p>(
        &mut self,
        block: StateId,
        parts: impl Iterator<Item = &'p Part>,
        to: StateId,
    ) {
        for part in parts {
            let start = self.state(Kind::Plain);
            self.step(block, Step::Epsilon(start));
            self.part(part, start, to);
        }
    }
}

fn build() -> Grammar {
    let mut builder = Builder { states: Vec::new() };
    let rules = rules();
    let (mut starts, mut stops) = (Vec::new(), Vec::new());
    for (_, part) in &rules {
        let (start, stop) = (builder.state(Kind::Plain), builder.state(Kind::Stop));
        builder.part(part, start, stop);
        starts.push(start);
        stops.push(stop);
    }
    let mut grammar = Grammar { states: builder.states, starts, stops, next: Vec::new() };
    grammar.next =
        (0..grammar.states.len()).map(|state| look(&grammar, state, &mut Vec::new())).collect();
    for id in 0..grammar.states.len() {
        if grammar.states[id].simple.is_some()
            && let Step::Epsilon(first) = grammar.states[id].steps[0]
        {
            grammar.states[id].simple = Some(grammar.next[first].without(EPSILON));
        }
    }
    grammar
}

/// The tokens that may come after a state. No rule is empty.
fn look(grammar: &Grammar, state: StateId, seen: &mut Vec<StateId>) -> Set {
    if grammar.stops.contains(&state) {
        return EPSILON;
    }
    if seen.contains(&state) {
        return Set::default();
    }
    seen.push(state);
    grammar.states[state].steps.iter().fold(Set::default(), |set, step| {
        set.with(match step {
            Step::Epsilon(next) | Step::Again(next) | Step::Precedence(_, next) => {
                look(grammar, *next, seen)
            }
            Step::Tokens(tokens, _) => *tokens,
            Step::Rule { rule, .. } => look(grammar, grammar.start(*rule), seen).without(EPSILON),
        })
    })
}
