//! Finds the way that fits the next tokens.
//!
//! upstream: vendor/github.com/antlr4-go/antlr/v4/parser_atn_simulator.go

use std::collections::{BTreeMap, BTreeSet};

use super::grammar::{Grammar, Kind, StateId, Step};
use crate::lexer::Token;

/// Where to go on when rules end: the number of an entry in the list of all of them; zero is the end.
type Stack = usize;

/// One way of reading: its choice, its state, and where it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Config {
    choice: usize,
    state: StateId,
    stack: Stack,
    /// The rule in which was chosen has been left.
    outside: bool,
}

struct Predictor<'g> {
    grammar: &'g Grammar,
    /// A state to go on with, and what is below.
    stacks: Vec<(StateId, Stack)>,
    known: BTreeMap<(StateId, Stack), Stack>,
    precedence: u8,
    /// Where the rule in which is chosen goes on: below it is outside.
    base: Stack,
}

/// The number of the way from `state` that fits; or which token fits none.
pub fn predict(
    grammar: &Grammar,
    state: StateId,
    precedence: u8,
    follows: &[StateId],
    tokens: &[Token<'_>],
) -> Result<usize, usize> {
    let mut predictor =
        Predictor { grammar, stacks: vec![(0, 0)], known: BTreeMap::new(), precedence, base: 0 };
    for follow in follows {
        predictor.base = predictor.push(*follow, predictor.base);
    }
    let mut configs = BTreeSet::new();
    for (choice, step) in grammar.state(state).steps.iter().enumerate() {
        let stack = predictor.base;
        predictor.follow(Config { choice, state, stack, outside: false }, step, true, &mut configs);
    }
    for (ahead, token) in tokens.iter().enumerate() {
        if let Some(only) = decided(&configs) {
            return Ok(only);
        }
        let mut reached = BTreeSet::new();
        for config in &configs {
            for step in &grammar.state(config.state).steps {
                if let Step::Tokens(set, next) = step
                    && set.has(token.tok)
                {
                    predictor.close(Config { state: *next, ..*config }, false, &mut reached);
                }
            }
        }
        if reached.is_empty() {
            // A way that was complete before this token is good enough.
            return configs
                .iter()
                .filter(|config| config.outside)
                .map(|config| config.choice)
                .min()
                .ok_or(ahead);
        }
        configs = reached;
    }
    configs.iter().map(|config| config.choice).min().ok_or(tokens.len().saturating_sub(1))
}

/// The choice that is left, or the first of several that read the same.
fn decided(configs: &BTreeSet<Config>) -> Option<usize> {
    let mut first: BTreeMap<(StateId, Stack), usize> = BTreeMap::new();
    for config in configs {
        let known = first.entry((config.state, config.stack)).or_insert(config.choice);
        *known = (*known).min(config.choice);
    }
    let mut choices = first.into_values();
    let one = choices.next()?;
    choices.all(|other| other == one).then_some(one)
}

impl Predictor<'_> {
    fn push(&mut self, state: StateId, below: Stack) -> Stack {
        if let Some(known) = self.known.get(&(state, below)) {
            return *known;
        }
        self.stacks.push((state, below));
        let id = self.stacks.len() - 1;
        self.known.insert((state, below), id);
        id
    }

    /// Adds a way with everything that it reaches without a token. `own` is the rule in which is chosen.
    fn close(&mut self, config: Config, own: bool, into: &mut BTreeSet<Config>) {
        let grammar = self.grammar;
        if grammar.state(config.state).kind == Kind::Stop {
            let outside = config.outside || config.stack == self.base;
            if config.stack == 0 {
                into.insert(Config { outside, ..config });
                return;
            }
            let (state, stack) = self.stacks[config.stack];
            self.close(Config { state, stack, outside, ..config }, false, into);
            return;
        }
        let steps = &grammar.state(config.state).steps;
        if steps.iter().any(|step| matches!(step, Step::Tokens(..))) && !into.insert(config) {
            return;
        }
        for step in steps {
            self.follow(config, step, own, into);
        }
    }

    fn follow(&mut self, config: Config, step: &Step, own: bool, into: &mut BTreeSet<Config>) {
        match step {
            Step::Epsilon(next) | Step::Again(next) => {
                self.close(Config { state: *next, ..config }, own, into)
            }
            Step::Precedence(precedence, next) => {
                if !own || *precedence >= self.precedence {
                    self.close(Config { state: *next, ..config }, own, into);
                }
            }
            Step::Tokens(..) => {
                into.insert(config);
            }
            Step::Rule { rule, follow, .. } => {
                let stack = self.push(*follow, config.stack);
                let state = self.grammar.start(*rule);
                self.close(Config { state, stack, ..config }, false, into);
            }
        }
    }
}
