//! Explains why a text does not read, in the words of the reference.
//!
//! The parser itself only notices that a text does not read. What clients are told comes from a machine that is driven
//! by the grammar and recovers from mistakes as generated parsers of the reference do: it drops a token that is too much,
//! makes up one that is missing, or goes on where something fitting follows.
//!
//! upstream: vendor/github.com/antlr4-go/antlr/v4/error_strategy.go, vendor/github.com/google/cel-go/parser/parser.go

mod grammar;
mod predict;

use grammar::{EPSILON, Grammar, Kind, Rule, Set, StateId, Step};

use crate::issue::Location;
use crate::lexer::{Bad, Tok, Token};

/// Most tokens that are looked at to explain a mistake.
const TOKENS_MAX: usize = 10_000;
/// Most mistakes that are recovered from.
const RECOVERIES_MAX: usize = 30;
/// Most tokens that one recovery passes over.
const SKIPPED_MAX: usize = 256;
/// Deepest nesting that is explained: the machine uses more of the stack than the parser.
const NESTING_MAX: usize = 60;
/// Deepest nesting of one rule, as in the parser.
const DEPTH_MAX: usize = 250;

/// The mistakes of a text that does not read.
pub fn explain(source: &str, tokens: &[Token<'_>], bad: Vec<Bad>) -> Vec<(Location, String)> {
    let mut machine = Machine {
        grammar: grammar::get(),
        source,
        tokens,
        bad: &bad,
        at: 0,
        frames: Vec::new(),
        state: 0,
        recovering: false,
        last: None,
        recoveries: 0,
        found: Vec::new(),
        depths: [0; grammar::RULES],
    };
    if tokens.len() <= TOKENS_MAX && nesting(tokens) <= NESTING_MAX {
        // Whatever ends it early has been noted.
        if let Err(End::Internal(message)) = machine.rule(Rule::Start, None, 0) {
            machine.found.push((Location::NONE, message));
        }
    }
    let mut found = machine.found;
    let lexical =
        bad.into_iter().map(|bad| (bad.location, format!("Syntax error: {}", bad.message)));
    found.extend(lexical);
    if found.is_empty()
        && let Some(last) = tokens.last()
    {
        found.push((last.location, format!("Syntax error: mismatched input '{}'", last.text)));
    }
    found
}

/// How deep tokens nest: by brackets, or by choices within choices.
fn nesting(tokens: &[Token<'_>]) -> usize {
    let (mut depth, mut most) = (0usize, 0);
    for token in tokens {
        match token.tok {
            Tok::LParen | Tok::LBracket | Tok::LBrace | Tok::Question => depth += 1,
            Tok::RParen | Tok::RBracket | Tok::RBrace => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

/// What ends the reading of a rule.
enum Fault {
    /// No way of the grammar goes on from this token with the next one.
    NoWay {
        start: usize,
        offending: usize,
    },
    /// The token is none of those that may follow.
    Mismatch,
    End(End),
}

/// What ends everything.
enum End {
    Told,
    Internal(String),
}

/// A rule that is being read.
struct Frame {
    /// Where reading goes on in the rule that called this one.
    follow: Option<StateId>,
    precedence: u8,
}

struct Machine<'m, 's> {
    grammar: &'static Grammar,
    source: &'s str,
    tokens: &'m [Token<'s>],
    bad: &'m [Bad],
    at: usize,
    frames: Vec<Frame>,
    state: StateId,
    recovering: bool,
    /// Where the last recovery was, and from which states.
    last: Option<(usize, Vec<StateId>)>,
    recoveries: usize,
    found: Vec<(Location, String)>,
    depths: [usize; grammar::RULES],
}

impl<'s> Machine<'_, 's> {
    fn token(&self, ahead: usize) -> &Token<'s> {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)]
    }

    fn consume(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn rule(&mut self, rule: Rule, follow: Option<StateId>, precedence: u8) -> Result<(), End> {
        self.frames.push(Frame { follow, precedence });
        let outer = self.state;
        let before = self.depths[rule as usize];
        self.deeper(rule)?;
        match self.walk(rule, self.grammar.start(rule)) {
            Ok(()) => {}
            Err(Fault::End(end)) => return Err(end),
            Err(fault) => {
                self.report(&fault);
                self.recover()?;
            }
        }
        self.depths[rule as usize] = before;
        self.frames.pop();
        self.state = outer;
        Ok(())
    }

    fn deeper(&mut self, rule: Rule) -> Result<(), End> {
        let depth = &mut self.depths[rule as usize];
        *depth += 1;
        if *depth > DEPTH_MAX {
            return Err(End::Internal(format!("expression recursion limit exceeded: {DEPTH_MAX}")));
        }
        Ok(())
    }

    /// Follows the states of a rule to its end.
    fn walk(&mut self, rule: Rule, start: StateId) -> Result<(), Fault> {
        let mut state = start;
        loop {
            self.state = state;
            let grammar = self.grammar;
            let node = grammar.state(state);
            let choice = match node.kind {
                Kind::Stop => return Ok(()),
                Kind::Plain => 0,
                Kind::Block | Kind::PlusBlock => {
                    self.sync(state)?;
                    self.choose(state)?
                }
                Kind::LoopEntry => {
                    self.sync(state)?;
                    self.choose(state)?
                }
                Kind::LoopBack(entry) => {
                    self.sync(state)?;
                    self.state = entry;
                    state = entry;
                    self.choose(entry)?
                }
                Kind::PlusLoop => {
                    self.sync(state)?;
                    self.choose(state)?
                }
            };
            let steps = &grammar.state(state).steps;
            state = match &steps[choice.min(steps.len() - 1)] {
                Step::Epsilon(next) => *next,
                Step::Again(next) => {
                    self.deeper(rule).map_err(Fault::End)?;
                    *next
                }
                Step::Precedence(_, next) => *next,
                Step::Tokens(set, next) => {
                    self.matched(*set, *next)?;
                    *next
                }
                Step::Rule { rule, precedence, follow } => {
                    self.rule(*rule, Some(*follow), *precedence).map_err(Fault::End)?;
                    *follow
                }
            };
            // After the first part of a repetition its block is not entered anew.
            while let Kind::PlusBlock = self.grammar.state(state).kind
                && matches!(self.grammar.state(self.state).kind, Kind::PlusLoop)
            {
                let Step::Epsilon(next) = self.grammar.state(state).steps[0] else { break };
                state = next;
            }
        }
    }

    fn matched(&mut self, set: Set, next: StateId) -> Result<(), Fault> {
        if set.has(self.token(0).tok) {
            self.recovering = false;
            self.consume();
            return Ok(());
        }
        self.attempt().map_err(Fault::End)?;
        if self.delete() {
            self.consume();
            return Ok(());
        }
        let after = self.expected(next);
        if after.has(self.token(0).tok) {
            self.missing();
            return Ok(());
        }
        Err(Fault::Mismatch)
    }

    fn attempt(&mut self) -> Result<(), End> {
        self.recoveries += 1;
        if self.recoveries > RECOVERIES_MAX {
            let message = format!("error recovery attempt limit exceeded: {RECOVERIES_MAX}");
            self.note(self.token(0).location, message);
            return Err(End::Told);
        }
        Ok(())
    }

    fn note(&mut self, location: Location, message: String) {
        self.found.push((location, format!("Syntax error: {message}")));
    }

    /// What may follow a state, seen with everything that is being read.
    fn expected(&self, state: StateId) -> Set {
        let mut all = Set::default();
        let mut here = self.grammar.next(state);
        let mut frames = self.frames.iter().rev();
        loop {
            all = all.with(here);
            if !here.has_epsilon() {
                break;
            }
            match frames.next().and_then(|frame| frame.follow) {
                Some(follow) => here = self.grammar.next(follow),
                None => {
                    all = all.with(Set::of(Tok::Eof));
                    break;
                }
            }
        }
        all.without(EPSILON)
    }

    /// Notices a token that cannot stand where it does, before a way is chosen.
    fn sync(&mut self, state: StateId) -> Result<(), Fault> {
        if self.recovering {
            return Ok(());
        }
        let next = self.grammar.next(state);
        if next.has_epsilon() || next.has(self.token(0).tok) {
            return Ok(());
        }
        match self.grammar.state(state).kind {
            Kind::Block | Kind::PlusBlock | Kind::LoopEntry => {
                if self.delete() {
                    return Ok(());
                }
                Err(Fault::Mismatch)
            }
            Kind::LoopBack(_) | Kind::PlusLoop => {
                self.unwanted();
                let stop = self.expected(state).with(self.recovery_set());
                while self.token(0).tok != Tok::Eof && !stop.has(self.token(0).tok) {
                    self.consume();
                }
                Ok(())
            }
            Kind::Plain | Kind::Stop => Ok(()),
        }
    }

    /// Drops a token if what follows it fits.
    fn delete(&mut self) -> bool {
        if !self.expected(self.state).has(self.token(1).tok) {
            return false;
        }
        self.unwanted();
        self.consume();
        self.recovering = false;
        true
    }

    fn unwanted(&mut self) {
        if std::mem::replace(&mut self.recovering, true) {
            return;
        }
        let (shown, location) = self.shown(0);
        let expected = self.expected(self.state).text();
        self.note(location, format!("extraneous input {shown} expecting {expected}"));
    }

    fn missing(&mut self) {
        if std::mem::replace(&mut self.recovering, true) {
            return;
        }
        let (shown, location) = self.shown(0);
        let expected = self.expected(self.state).text();
        self.note(location, format!("missing {expected} at {shown}"));
    }

    fn shown(&self, ahead: usize) -> (String, Location) {
        let token = self.token(ahead);
        (quoted(token.text), token.location)
    }

    fn report(&mut self, fault: &Fault) {
        if std::mem::replace(&mut self.recovering, true) {
            return;
        }
        match fault {
            Fault::NoWay { start, offending } => {
                let location = self.tokens[*offending].location;
                let input = self.text(*start, *offending);
                let reserved = input.char_indices().nth(1).map(|(at, _)| &input[at..]);
                let message = match reserved {
                    Some(word @ ("true" | "false" | "null")) => {
                        format!("mismatched input '{word}' expecting IDENTIFIER")
                    }
                    _ => format!("no viable alternative at input {}", quoted(&input)),
                };
                self.note(location, message);
            }
            Fault::Mismatch => {
                let (shown, location) = self.shown(0);
                let expected = self.expected(self.state).text();
                self.note(location, format!("mismatched input {shown} expecting {expected}"));
            }
            Fault::End(_) => {}
        }
    }

    /// The text from one token to another, without what is no token at all.
    fn text(&self, start: usize, end: usize) -> String {
        if self.tokens[start].tok == Tok::Eof {
            return "<EOF>".to_owned();
        }
        let from = self.tokens[start].start;
        let last = &self.tokens[end];
        let to =
            if last.tok == Tok::Eof { self.source.len() } else { last.start + last.text.len() };
        let mut out = String::new();
        let mut at = from;
        for bad in self.bad.iter().filter(|bad| bad.start >= from && bad.start < to) {
            out.push_str(self.source.get(at..bad.start).unwrap_or_default());
            at = bad.start + bad.length;
        }
        out.push_str(self.source.get(at..to.max(at)).unwrap_or_default());
        out
    }

    /// What the rules that are being read can go on with.
    fn recovery_set(&self) -> Set {
        let follows = self.frames.iter().filter_map(|frame| frame.follow);
        follows
            .fold(Set::default(), |all, follow| all.with(self.grammar.next(follow)))
            .without(EPSILON)
    }

    /// Passes over tokens up to one that something can go on with.
    fn recover(&mut self) -> Result<(), End> {
        self.attempt()?;
        let mut skipped = 0;
        if self
            .last
            .as_ref()
            .is_some_and(|(at, states)| *at == self.at && states.contains(&self.state))
        {
            self.consume();
            skipped += 1;
        }
        match &mut self.last {
            Some((at, states)) => {
                *at = self.at;
                states.push(self.state);
            }
            None => self.last = Some((self.at, vec![self.state])),
        }
        let stop = self.recovery_set();
        while self.token(0).tok != Tok::Eof && !stop.has(self.token(0).tok) {
            if skipped >= SKIPPED_MAX {
                let message =
                    format!("error recovery token lookahead limit exceeded: {SKIPPED_MAX}");
                return Err(End::Internal(message));
            }
            skipped += 1;
            self.consume();
        }
        Ok(())
    }

    /// Which way goes on from a state.
    fn choose(&mut self, state: StateId) -> Result<usize, Fault> {
        let node = self.grammar.state(state);
        if node.steps.len() == 1 {
            return Ok(0);
        }
        if let Some(first) = node.simple {
            return Ok(usize::from(!first.has(self.token(0).tok)));
        }
        let precedence = self.frames.last().map_or(0, |frame| frame.precedence);
        let follows: Vec<StateId> = self.frames.iter().filter_map(|frame| frame.follow).collect();
        let tokens = &self.tokens[self.at..];
        predict::predict(self.grammar, state, precedence, &follows, tokens).map_err(|offending| {
            Fault::NoWay {
                start: self.at,
                offending: (self.at + offending).min(self.tokens.len() - 1),
            }
        })
    }
}

/// A text in quotes, on one line.
fn quoted(text: &str) -> String {
    format!("'{}'", crate::lexer::escaped(text))
}
