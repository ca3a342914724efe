//! Reads GBNF: rules, literals, classes of characters, groups, repetitions, comments.

use std::collections::HashMap;

use super::LANGUAGE;
use crate::constraint::error::ConstraintError;

/// The most text of a grammar.
const MAX_BYTES: usize = 64 * 1024;
/// How deep groups may be nested.
const MAX_DEPTH: usize = 64;
/// The most rules.
const MAX_RULES: usize = 2000;
/// The most repetitions a count may ask for.
const MAX_REPEAT: u32 = 10_000;

type Result<T> = std::result::Result<T, ConstraintError>;

/// What a rule stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    Literal(String),
    /// One character, as the parser's own expression.
    Class(String),
    Rule(usize),
    Sequence(Vec<Expr>),
    Choice(Vec<Expr>),
    Repeat(Box<Expr>, u32, Option<u32>),
}

/// The rules of a grammar, and which of them is `root`.
pub(super) fn parse(text: &str) -> Result<(Vec<Expr>, usize)> {
    if text.len() > MAX_BYTES {
        return Err(ConstraintError::Limit {
            what: "size of the grammar in bytes",
            n: text.len(),
            limit: MAX_BYTES,
        });
    }
    let mut parser = Parser {
        text: text.chars().collect(),
        at: 0,
        depth: 0,
        names: Vec::new(),
        by_name: HashMap::new(),
        exprs: Vec::new(),
    };
    parser.skip_blanks(true);
    while parser.peek().is_some() {
        parser.rule()?;
    }
    let root = parser.by_name.get("root").copied();
    let root = root.ok_or_else(|| problem("there is no rule named \"root\""))?;
    let mut rules = Vec::new();
    for (name, expr) in parser.names.into_iter().zip(parser.exprs) {
        let expr =
            expr.ok_or_else(|| problem(format!("the rule {name:?} is used and not defined")))?;
        rules.push(expr);
    }
    Ok((rules, root))
}

fn problem(problem: impl std::fmt::Display) -> ConstraintError {
    ConstraintError::grammar(LANGUAGE, problem)
}

struct Parser {
    text: Vec<char>,
    at: usize,
    depth: usize,
    names: Vec<String>,
    by_name: HashMap<String, usize>,
    exprs: Vec<Option<Expr>>,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Result<char> {
        let next = self
            .peek()
            .ok_or_else(|| self.error("the text ends too early"))?;
        self.at += 1;
        Ok(next)
    }

    fn eat(&mut self, c: char) -> bool {
        let is_here = self.peek() == Some(c);
        self.at += usize::from(is_here);
        is_here
    }

    fn error(&self, what: impl std::fmt::Display) -> ConstraintError {
        let line = 1 + self.text[..self.at].iter().filter(|&&c| c == '\n').count();
        problem(format!("line {line}: {what}"))
    }

    /// Skips blanks and comments, and line ends where a rule goes on behind them.
    fn skip_blanks(&mut self, over_lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\n' | '\r' if over_lines => self.at += 1,
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n' && c != '\r') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn rule(&mut self) -> Result<()> {
        let name = self.name()?;
        self.skip_blanks(false);
        for expected in "::=".chars() {
            if !self.eat(expected) {
                return Err(self.error(format!("\"::=\" is expected behind the name {name:?}")));
            }
        }
        self.skip_blanks(true);
        let index = self.index(&name)?;
        let expr = self.choice(false)?;
        if self.exprs[index].replace(expr).is_some() {
            return Err(self.error(format!("the rule {name:?} is defined twice")));
        }
        match self.peek() {
            None | Some('\n' | '\r') => {}
            Some(c) => return Err(self.error(format!("{c:?} is not expected here"))),
        }
        self.skip_blanks(true);
        Ok(())
    }

    fn index(&mut self, name: &str) -> Result<usize> {
        if let Some(&index) = self.by_name.get(name) {
            return Ok(index);
        }
        let index = self.names.len();
        if index >= MAX_RULES {
            return Err(self.error(format!("more than {MAX_RULES} rules")));
        }
        self.by_name.insert(name.to_owned(), index);
        self.names.push(name.to_owned());
        self.exprs.push(None);
        Ok(index)
    }

    fn name(&mut self) -> Result<String> {
        let from = self.at;
        while self.peek().is_some_and(is_name) {
            self.at += 1;
        }
        match self.at == from {
            true => Err(self.error("the name of a rule is expected")),
            false => Ok(self.text[from..self.at].iter().collect()),
        }
    }

    fn choice(&mut self, in_group: bool) -> Result<Expr> {
        let mut options = vec![self.sequence(in_group)?];
        while self.eat('|') {
            self.skip_blanks(true);
            options.push(self.sequence(in_group)?);
        }
        Ok(match options.len() {
            1 => options.remove(0),
            _ => Expr::Choice(options),
        })
    }

    fn sequence(&mut self, in_group: bool) -> Result<Expr> {
        let mut parts = Vec::new();
        while let Some(c) = self.peek() {
            let part = match c {
                '"' => self.literal()?,
                '[' => self.class()?,
                '(' => self.group()?,
                '.' => {
                    self.at += 1;
                    Expr::Class("(?s:.)".to_owned())
                }
                c if is_name(c) => {
                    let name = self.name()?;
                    Expr::Rule(self.index(&name)?)
                }
                '*' | '+' | '?' | '{' => return Err(self.error(format!("{c:?} repeats nothing"))),
                '<' | '!' => return Err(self.error("tokens of the vocabulary are not supported")),
                _ => break,
            };
            let part = self.repeated(part, in_group)?;
            parts.push(part);
        }
        Ok(Expr::Sequence(parts))
    }

    fn group(&mut self) -> Result<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("groups nested deeper than {MAX_DEPTH}")));
        }
        self.at += 1;
        self.skip_blanks(true);
        let expr = self.choice(true)?;
        if !self.eat(')') {
            return Err(self.error("\")\" is expected"));
        }
        self.depth -= 1;
        Ok(expr)
    }

    fn repeated(&mut self, mut part: Expr, in_group: bool) -> Result<Expr> {
        loop {
            self.skip_blanks(in_group);
            let (min, max) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => self.counts()?,
                _ => return Ok(part),
            };
            self.at += 1;
            part = Expr::Repeat(Box::new(part), min, max);
        }
    }

    /// Up to the closing brace.
    fn counts(&mut self) -> Result<(u32, Option<u32>)> {
        self.at += 1;
        let min = self.count()?;
        let max = match self.eat(',') {
            false => min,
            true => self.count()?,
        };
        let (min, max) = match (min, max) {
            (None, None) => return Err(self.error("a count is expected")),
            (min, max) => (min.unwrap_or(0), max),
        };
        if self.peek() != Some('}') {
            return Err(self.error("\"}\" is expected"));
        }
        match max {
            Some(max) if max < min => Err(self.error(format!("a count from {min} to {max}"))),
            _ => Ok((min, max)),
        }
    }

    fn count(&mut self) -> Result<Option<u32>> {
        self.skip_blanks(false);
        let from = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let digits: String = self.text[from..self.at].iter().collect();
        self.skip_blanks(false);
        if digits.is_empty() {
            return Ok(None);
        }
        match digits.parse() {
            Ok(n) if n <= MAX_REPEAT => Ok(Some(n)),
            _ => Err(self.error(format!("more than {MAX_REPEAT} repetitions"))),
        }
    }

    fn literal(&mut self) -> Result<Expr> {
        self.at += 1;
        let mut text = String::new();
        while !self.eat('"') {
            text.push(self.character()?);
        }
        Ok(Expr::Literal(text))
    }

    fn class(&mut self) -> Result<Expr> {
        self.at += 1;
        let is_negated = self.eat('^');
        let mut items = String::new();
        while !self.eat(']') {
            let from = self.character()?;
            let is_range = self.peek() == Some('-') && self.text.get(self.at + 1) != Some(&']');
            if is_range {
                self.at += 1;
                let to = self.character()?;
                if to < from {
                    return Err(self.error(format!("a range from {from:?} to {to:?}")));
                }
                items.push_str(&format!("{}-{}", code(from), code(to)));
            } else {
                items.push_str(&code(from));
            }
        }
        match (items.is_empty(), is_negated) {
            (true, true) => Ok(Expr::Class("(?s:.)".to_owned())),
            (true, false) => Err(self.error("a class without characters")),
            (false, true) => Ok(Expr::Class(format!("[^{items}]"))),
            (false, false) => Ok(Expr::Class(format!("[{items}]"))),
        }
    }

    fn character(&mut self) -> Result<char> {
        let c = self.next()?;
        if c != '\\' {
            return Ok(c);
        }
        match self.next()? {
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'x' => self.hex(2),
            'u' => self.hex(4),
            'U' => self.hex(8),
            c if "\\\"[]-^/".contains(c) => Ok(c),
            c => Err(self.error(format!("unknown escape \\{c}"))),
        }
    }

    fn hex(&mut self, n_digits: usize) -> Result<char> {
        let mut value = 0;
        for _ in 0..n_digits {
            let c = self.next()?;
            let digit = c
                .to_digit(16)
                .ok_or_else(|| self.error(format!("an escape has {n_digits} digits")))?;
            value = value * 16 + digit;
        }
        char::from_u32(value).ok_or_else(|| self.error("an escape that is no character"))
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

fn code(c: char) -> String {
    format!("\\x{{{:X}}}", u32::from(c))
}
