//! Puts a grammar together: terminals are regular expressions, rules join them.
//!
//! A thin layer over the parser's own grammar type. Nothing stands between two terminals but what they say themselves.
//! Repetitions with a bound take a number of rules that grows with the logarithm of the bound.

use std::collections::HashMap;

use llguidance::{
    api::{GrammarInit, SkipSpec},
    derivre::RegexAst,
    earley::{
        Grammar, SymIdx, SymbolProps,
        lexerspec::{LexemeClass, LexerSpec},
    },
};

use super::error::ConstraintError;

/// The most rules and terminals of one grammar; the parser counts them in 16 bits.
const MAX_SYMBOLS: usize = 50_000;

/// Something a grammar can expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node(SymIdx);

/// A grammar under construction.
pub(super) struct Builder {
    grammar: Grammar,
    lexer: LexerSpec,
    class: LexemeClass,
    start: SymIdx,
    literals: HashMap<String, Node>,
    patterns: HashMap<String, Node>,
    powers: HashMap<Node, Node>,
    language: &'static str,
}

impl Builder {
    /// A grammar without rules. `language` names it in errors.
    pub(super) fn new(language: &'static str) -> Result<Self, ConstraintError> {
        let mut lexer =
            LexerSpec::new().map_err(|error| ConstraintError::grammar(language, error))?;
        lexer.regex_builder.unicode(true).utf8(true);
        let class = lexer
            .setup_lexeme_class_with_skip(SkipSpec::once(RegexAst::NoMatch))
            .map_err(|error| ConstraintError::grammar(language, error))?;
        let mut grammar = Grammar::new(None);
        let start = grammar.fresh_symbol_ext("start", start_props(class));
        Ok(Builder {
            grammar,
            lexer,
            class,
            start,
            literals: HashMap::new(),
            patterns: HashMap::new(),
            powers: HashMap::new(),
            language,
        })
    }

    /// The finished grammar: it expects `root` and then the end.
    pub(super) fn finish(mut self, root: Node) -> Result<GrammarInit, ConstraintError> {
        let n = self.grammar.num_symbols();
        if n > MAX_SYMBOLS {
            return Err(ConstraintError::Limit {
                what: "size of the grammar in rules",
                n,
                limit: MAX_SYMBOLS,
            });
        }
        self.rule(self.start, &[root]);
        Ok(GrammarInit::Internal(self.grammar, self.lexer))
    }

    /// A text, exactly.
    pub(super) fn literal(&mut self, text: &str) -> Result<Node, ConstraintError> {
        if text.is_empty() {
            return Ok(self.empty());
        }
        if let Some(&node) = self.literals.get(text) {
            return Ok(node);
        }
        let node = self.terminal(RegexAst::Literal(text.to_owned()))?;
        self.literals.insert(text.to_owned(), node);
        Ok(node)
    }

    /// A text that matches an expression, one node for each expression.
    pub(super) fn pattern(&mut self, regex: &str) -> Result<Node, ConstraintError> {
        if let Some(&node) = self.patterns.get(regex) {
            return Ok(node);
        }
        let node = self.terminal(RegexAst::Regex(regex.to_owned()))?;
        self.patterns.insert(regex.to_owned(), node);
        Ok(node)
    }

    /// A stretch of text that matches as a whole, as long as can be.
    pub(super) fn terminal(&mut self, regex: RegexAst) -> Result<Node, ConstraintError> {
        let lexeme = self
            .lexer
            .add_greedy_lexeme(String::new(), regex, false, None, usize::MAX)
            .map_err(|error| ConstraintError::grammar(self.language, error))?;
        let symbol = self.symbol("terminal");
        self.grammar
            .make_terminal(symbol, lexeme, &self.lexer)
            .expect("the symbol is new");
        Ok(Node(symbol))
    }

    /// One token of the vocabulary that stands for no text.
    pub(super) fn control_token(&mut self, token: u32) -> Result<Node, ConstraintError> {
        let lexeme = self
            .lexer
            .add_special_token(format!("token {token}"), vec![token..=token])
            .map_err(|error| ConstraintError::grammar(self.language, error))?;
        let symbol = self.symbol("token");
        self.grammar
            .make_terminal(symbol, lexeme, &self.lexer)
            .expect("the symbol is new");
        Ok(Node(symbol))
    }

    /// A regular expression, built once, to be part of others.
    pub(super) fn regex(&mut self, regex: &RegexAst) -> Result<RegexAst, ConstraintError> {
        self.lexer
            .regex_builder
            .mk(regex)
            .map(RegexAst::ExprRef)
            .map_err(|error| ConstraintError::grammar(self.language, error))
    }

    /// Nothing at all.
    pub(super) fn empty(&mut self) -> Node {
        if let Some(&node) = self.literals.get("") {
            return node;
        }
        let symbol = self.symbol("empty");
        self.rule(symbol, &[]);
        self.literals.insert(String::new(), Node(symbol));
        Node(symbol)
    }

    /// One after the other.
    pub(super) fn join(&mut self, parts: &[Node]) -> Node {
        match parts {
            [] => self.empty(),
            [only] => *only,
            _ => {
                let symbol = self.symbol("join");
                self.rule(symbol, parts);
                Node(symbol)
            }
        }
    }

    /// One of several, of which there must be one at least.
    pub(super) fn choose(&mut self, options: &[Node]) -> Node {
        match options {
            [only] => *only,
            _ => {
                let node = self.forward();
                for &option in options {
                    self.define(node, &[option]);
                }
                node
            }
        }
    }

    /// It or nothing.
    pub(super) fn optional(&mut self, node: Node) -> Node {
        let result = self.forward();
        self.define(result, &[]);
        self.define(result, &[node]);
        result
    }

    /// A node that is said later, with [`define`](Self::define).
    pub(super) fn forward(&mut self) -> Node {
        Node(self.symbol("rule"))
    }

    /// Adds a way to write `node`.
    pub(super) fn define(&mut self, node: Node, parts: &[Node]) {
        self.rule(node.0, parts);
    }

    /// `node` at least `min` and at most `max` times.
    pub(super) fn repeat(&mut self, node: Node, min: usize, max: Option<usize>) -> Node {
        let first = self.exactly(node, min);
        let rest = match max {
            Some(max) => self.up_to(node, max.saturating_sub(min)),
            None => self.any_number(node),
        };
        self.join(&[first, rest])
    }

    /// `node`s with `separator` between them, `min` of them at least and 1 at least.
    pub(super) fn list(
        &mut self,
        node: Node,
        separator: Node,
        min: usize,
        max: Option<usize>,
    ) -> Node {
        let next = self.join(&[separator, node]);
        let rest = self.repeat(next, min.saturating_sub(1), max.map(|max| max.max(1) - 1));
        self.join(&[node, rest])
    }

    // Left recursion: the parser's work per item stays the same however long the run.
    fn any_number(&mut self, node: Node) -> Node {
        let result = self.forward();
        self.define(result, &[]);
        self.define(result, &[result, node]);
        result
    }

    fn twice(&mut self, node: Node) -> Node {
        if let Some(&pair) = self.powers.get(&node) {
            return pair;
        }
        let pair = self.join(&[node, node]);
        self.powers.insert(node, pair);
        pair
    }

    fn exactly(&mut self, node: Node, n: usize) -> Node {
        match n {
            0 => self.empty(),
            1 => node,
            _ => {
                let pair = self.twice(node);
                let pairs = self.exactly(pair, n / 2);
                if n.is_multiple_of(2) {
                    return pairs;
                }
                self.join(&[node, pairs])
            }
        }
    }

    // Every count has one way to be written, so the parser never holds two for the same text.
    fn up_to(&mut self, node: Node, n: usize) -> Node {
        match n {
            0 => self.empty(),
            1 => self.optional(node),
            _ => {
                let pair = self.twice(node);
                let single = self.optional(node);
                let pairs = self.up_to(pair, (n - 1) / 2);
                let fewer = self.join(&[pairs, single]);
                if n % 2 == 1 {
                    return fewer;
                }
                let all = self.exactly(pair, n / 2);
                self.choose(&[all, fewer])
            }
        }
    }

    fn symbol(&mut self, name: &str) -> SymIdx {
        let props = SymbolProps {
            grammar_id: self.class,
            ..SymbolProps::default()
        };
        self.grammar.fresh_symbol_ext(name, props)
    }

    fn rule(&mut self, symbol: SymIdx, parts: &[Node]) {
        self.grammar
            .add_rule(symbol, parts.iter().map(|node| node.0).collect())
            .expect("rules are added to rules, never to terminals");
    }
}

fn start_props(class: LexemeClass) -> SymbolProps {
    SymbolProps {
        grammar_id: class,
        is_start: true,
        ..SymbolProps::default()
    }
}
