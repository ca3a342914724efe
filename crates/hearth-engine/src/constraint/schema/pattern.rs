//! Regular expressions of schemas, read as ECMA-262 writes them.
//!
//! A pattern is looked for anywhere in a string unless it is anchored, so the result says what may stand around it.
//! Where dialects differ over a class (`\d` is ten digits to one and six hundred to another), the smaller one is taken,
//! so that a match is a match to every validator. Look-around, back references and word boundaries are no regular
//! language in a form we can use; they are refused by name.

use llguidance::derivre::RegexAst;

/// The most text of a pattern.
const MAX_BYTES: usize = 16 * 1024;
/// How deep its groups may be nested.
const MAX_DEPTH: usize = 40;
/// The most repetitions a count may ask for.
const MAX_REPEAT: u32 = 100_000;

/// ECMA-262 counts this as blank, and the parser's table does not.
const EXTRA_BLANK: &str = r"\x{FEFF}";

/// Why a pattern cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PatternError {
    /// It is no pattern.
    Bad(String),
    /// It is one that we cannot enforce.
    Unsupported(String),
}

use PatternError::{Bad, Unsupported};

type Result<T> = std::result::Result<T, PatternError>;

/// Strings in which the pattern matches somewhere.
pub(crate) fn search(pattern: &str) -> Result<RegexAst> {
    expand(&parse(pattern)?, Edge::Open, Edge::Open)
}

/// Strings that match the pattern from beginning to end.
pub(crate) fn whole(pattern: &str) -> Result<RegexAst> {
    expand(&parse(pattern)?, Edge::Whole, Edge::Whole)
}

#[derive(Debug)]
enum Node {
    /// One character, as the parser's own expression.
    Class(String),
    Start,
    End,
    Concat(Vec<Node>),
    Alternation(Vec<Node>),
    Repeat(Box<Node>, u32, u32),
}

/// What is beside a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    /// Another node.
    Inside,
    /// The end of the string: an anchor is true here.
    Whole,
    /// Any text, unless there is an anchor.
    Open,
}

fn expand(node: &Node, left: Edge, right: Edge) -> Result<RegexAst> {
    match node {
        Node::Alternation(options) => {
            let options = options.iter().map(|option| expand(option, left, right));
            Ok(RegexAst::Or(options.collect::<Result<_>>()?))
        }
        Node::Concat(parts) => expand_concat(parts, left, right),
        Node::Start | Node::End => expand_concat(std::slice::from_ref(node), left, right),
        Node::Class(class) => Ok(surround(RegexAst::Regex(class.clone()), left, right)),
        Node::Repeat(inner, min, max) => {
            let inner = expand(inner, Edge::Inside, Edge::Inside)?;
            let repeat = RegexAst::Repeat(Box::new(inner), *min, *max);
            Ok(surround(repeat, left, right))
        }
    }
}

fn expand_concat(parts: &[Node], left: Edge, right: Edge) -> Result<RegexAst> {
    match parts {
        [Node::Start, rest @ ..] if left != Edge::Inside => {
            let left = if rest.is_empty() && right == Edge::Open {
                return Ok(anything());
            } else if matches!(rest, [Node::Start, ..]) {
                left
            } else {
                Edge::Inside
            };
            expand_concat(rest, left, right)
        }
        [rest @ .., Node::End] if right != Edge::Inside => {
            let right = match rest {
                [] if left == Edge::Open => return Ok(anything()),
                [.., Node::End] => right,
                _ => Edge::Inside,
            };
            expand_concat(rest, left, right)
        }
        [Node::Start | Node::End, ..] | [.., Node::Start | Node::End] => Err(Unsupported(
            "an anchor in the middle of the pattern".to_owned(),
        )),
        [] => Ok(surround(RegexAst::EmptyString, left, right)),
        [only] => expand(only, left, right),
        [first, middle @ .., last] => {
            let mut all = vec![expand(first, left, Edge::Inside)?];
            for part in middle {
                all.push(expand(part, Edge::Inside, Edge::Inside)?);
            }
            all.push(expand(last, Edge::Inside, right)?);
            Ok(RegexAst::Concat(all))
        }
    }
}

fn anything() -> RegexAst {
    RegexAst::Regex("(?s:.*)".to_owned())
}

fn surround(regex: RegexAst, left: Edge, right: Edge) -> RegexAst {
    match (left == Edge::Open, right == Edge::Open) {
        (false, false) => regex,
        (true, false) => RegexAst::Concat(vec![anything(), regex]),
        (false, true) => RegexAst::Concat(vec![regex, anything()]),
        (true, true) => RegexAst::Concat(vec![anything(), regex, anything()]),
    }
}

fn parse(pattern: &str) -> Result<Node> {
    if pattern.len() > MAX_BYTES {
        let n = pattern.len();
        return Err(Unsupported(format!(
            "it has {n} bytes, the limit is {MAX_BYTES}"
        )));
    }
    let mut parser = Parser {
        rest: pattern.chars().collect(),
        at: 0,
        depth: 0,
    };
    let node = parser.alternation()?;
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(Bad("a \")\" that closes nothing".to_owned())),
    }
}

struct Parser {
    rest: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    fn eat(&mut self, text: &str) -> bool {
        let is_here = text
            .chars()
            .enumerate()
            .all(|(offset, c)| self.rest.get(self.at + offset) == Some(&c));
        if is_here {
            self.at += text.chars().count();
        }
        is_here
    }

    fn alternation(&mut self) -> Result<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Unsupported(format!(
                "groups nested deeper than {MAX_DEPTH}"
            )));
        }
        let mut options = vec![self.concat()?];
        while self.eat("|") {
            options.push(self.concat()?);
        }
        self.depth -= 1;
        Ok(match options.len() {
            1 => options.remove(0),
            _ => Node::Alternation(options),
        })
    }

    fn concat(&mut self) -> Result<Node> {
        let mut parts = Vec::new();
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            let atom = self.atom()?;
            parts.push(self.quantified(atom)?);
        }
        Ok(Node::Concat(parts))
    }

    fn atom(&mut self) -> Result<Node> {
        let c = self
            .next()
            .ok_or_else(|| Bad("it ends too early".to_owned()))?;
        Ok(match c {
            '^' => Node::Start,
            '$' => Node::End,
            '.' => Node::Class(r"[^\n\r\x{2028}\x{2029}]".to_owned()),
            '(' => self.group()?,
            '[' => Node::Class(self.class()?),
            '\\' => Node::Class(self.escape()?),
            '*' | '+' | '?' => return Err(Bad(format!("{c:?} repeats nothing"))),
            '{' => {
                self.at -= 1;
                if self.counts()?.is_some() {
                    return Err(Bad("a count that repeats nothing".to_owned()));
                }
                self.at += 1;
                Node::Class(literal(c))
            }
            c => Node::Class(literal(c)),
        })
    }

    fn group(&mut self) -> Result<Node> {
        if self.eat("?") && !self.eat(":") {
            self.eat("P");
            if self.eat("<=") || self.eat("<!") || self.eat("=") || self.eat("!") {
                return Err(Unsupported("look-around".to_owned()));
            }
            if !self.eat("<") {
                return Err(Unsupported("flags within the pattern".to_owned()));
            }
            while self
                .next()
                .ok_or_else(|| Bad("a group's name does not end".to_owned()))?
                != '>'
            {}
        }
        let node = self.alternation()?;
        match self.eat(")") {
            true => Ok(node),
            false => Err(Bad("a \"(\" that is not closed".to_owned())),
        }
    }

    fn quantified(&mut self, atom: Node) -> Result<Node> {
        let (min, max) = match self.peek() {
            Some('*') => (0, u32::MAX),
            Some('+') => (1, u32::MAX),
            Some('?') => (0, 1),
            Some('{') => match self.counts()? {
                Some(counts) => counts,
                None => return Ok(atom),
            },
            _ => return Ok(atom),
        };
        if self.peek() != Some('}') {
            self.at += 1;
        } else {
            self.eat("}");
        }
        // Whether it is greedy makes no difference to what matches.
        self.eat("?");
        if matches!(self.peek(), Some('*' | '+' | '?')) {
            return Err(Bad("a repetition of a repetition".to_owned()));
        }
        if matches!(atom, Node::Start | Node::End) {
            return Err(Unsupported("a repeated anchor".to_owned()));
        }
        Ok(Node::Repeat(Box::new(atom), min, max))
    }

    /// `{2}`, `{2,}`, `{2,5}` up to the closing brace; anything else is a brace that stands for itself.
    fn counts(&mut self) -> Result<Option<(u32, u32)>> {
        let from = self.at;
        self.eat("{");
        let min = self.number()?;
        let max = match (min, self.eat(",")) {
            (Some(min), false) => Some(min),
            (Some(_), true) => Some(self.number()?.unwrap_or(u32::MAX)),
            (None, _) => None,
        };
        let (Some(min), Some(max), Some('}')) = (min, max, self.peek()) else {
            self.at = from;
            return Ok(None);
        };
        if min > max {
            return Err(Bad(format!("a count from {min} to {max}")));
        }
        if min > MAX_REPEAT || (max > MAX_REPEAT && max != u32::MAX) {
            return Err(Unsupported(format!("more than {MAX_REPEAT} repetitions")));
        }
        Ok(Some((min, max)))
    }

    fn number(&mut self) -> Result<Option<u32>> {
        let from = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let digits: String = self.rest[from..self.at].iter().collect();
        match digits.is_empty() {
            true => Ok(None),
            false => digits
                .parse()
                .map(Some)
                .map_err(|_| Unsupported(format!("more than {MAX_REPEAT} repetitions"))),
        }
    }

    /// An escape outside of a class.
    fn escape(&mut self) -> Result<String> {
        let c = self
            .peek()
            .ok_or_else(|| Bad("it ends in a backslash".to_owned()))?;
        match c {
            'b' | 'B' | 'A' | 'z' | 'Z' => Err(Unsupported(format!("\\{c}"))),
            '1'..='9' | 'k' => Err(Unsupported("a back reference".to_owned())),
            _ => Ok(match self.class_escape(false)? {
                Item::Char(c) => literal(c),
                Item::Set(set) => format!("[{set}]"),
            }),
        }
    }

    fn class(&mut self) -> Result<String> {
        let is_negated = self.eat("^");
        let mut items = String::new();
        loop {
            let c = self
                .peek()
                .ok_or_else(|| Bad("a \"[\" that is not closed".to_owned()))?;
            if c == ']' {
                self.at += 1;
                break;
            }
            let first = self.class_item(is_negated)?;
            let is_range = self.peek() == Some('-') && self.rest.get(self.at + 1) != Some(&']');
            if !is_range {
                items.push_str(&first.text());
                continue;
            }
            self.at += 1;
            match (first, self.class_item(is_negated)?) {
                (Item::Char(from), Item::Char(to)) if from <= to => {
                    items.push_str(&format!("{}-{}", code(from), code(to)));
                }
                (Item::Char(from), Item::Char(to)) => {
                    return Err(Bad(format!("a range from {from:?} to {to:?}")));
                }
                (first, last) => {
                    items.push_str(&first.text());
                    items.push_str(&code('-'));
                    items.push_str(&last.text());
                }
            }
        }
        Ok(match (items.is_empty(), is_negated) {
            (true, true) => "(?s:.)".to_owned(),
            // Nothing is in an empty class.
            (true, false) => r"[^\x{0}-\x{10FFFF}]".to_owned(),
            (false, true) => format!("[^{items}]"),
            (false, false) => format!("[{items}]"),
        })
    }

    fn class_item(&mut self, is_negated: bool) -> Result<Item> {
        match self.next() {
            Some('\\') => self.class_escape(is_negated),
            Some(c) => Ok(Item::Char(c)),
            None => Err(Bad("a \"[\" that is not closed".to_owned())),
        }
    }

    /// An escape whose meaning is the same in a class and outside. In a negated class the larger reading of a set
    /// leaves the smaller class.
    fn class_escape(&mut self, is_negated: bool) -> Result<Item> {
        let c = self
            .next()
            .ok_or_else(|| Bad("it ends in a backslash".to_owned()))?;
        let set = |small: &str, large: &str| {
            Ok(Item::Set(if is_negated { large } else { small }.to_owned()))
        };
        match c {
            'd' => set("0-9", r"\d"),
            'D' => set(r"[^\d]", "[^0-9]"),
            'w' => set("0-9A-Za-z_", r"\w"),
            'W' => set(r"[^\w]", "[^0-9A-Za-z_]"),
            's' => set(r" \t\n\r\x{B}\x{C}", &format!(r"\s{EXTRA_BLANK}")),
            'S' => set(&format!(r"[^\s{EXTRA_BLANK}]"), r"[^ \t\n\r\x{B}\x{C}]"),
            'p' | 'P' => self.property(c),
            'n' => Ok(Item::Char('\n')),
            'r' => Ok(Item::Char('\r')),
            't' => Ok(Item::Char('\t')),
            'v' => Ok(Item::Char('\x0b')),
            'f' => Ok(Item::Char('\x0c')),
            'b' => Ok(Item::Char('\x08')),
            '0' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => Ok(Item::Char('\0')),
            'x' => self.hex(2).map(Item::Char),
            'u' => self.unicode().map(Item::Char),
            c if c.is_ascii_alphanumeric() => Err(Bad(format!("unknown escape \\{c}"))),
            c => Ok(Item::Char(c)),
        }
    }

    fn property(&mut self, c: char) -> Result<Item> {
        let mut name = String::new();
        if !self.eat("{") {
            return Err(Bad(format!("\\{c} without a property in braces")));
        }
        loop {
            match self.next() {
                Some('}') => return Ok(Item::Set(format!("\\{c}{{{name}}}"))),
                Some(c) if c.is_ascii_alphanumeric() || "_=".contains(c) => name.push(c),
                _ => return Err(Bad(format!("\\{c} without a property in braces"))),
            }
        }
    }

    fn hex(&mut self, n_digits: usize) -> Result<char> {
        let value = self.hex_value(n_digits)?;
        char::from_u32(value).ok_or_else(|| Bad("an escape that is no character".to_owned()))
    }

    fn hex_value(&mut self, n_digits: usize) -> Result<u32> {
        let digits: String = self.rest.iter().skip(self.at).take(n_digits).collect();
        self.at += n_digits;
        match digits.len() == n_digits && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => u32::from_str_radix(&digits, 16)
                .map_err(|_| Bad("an escape that is no number".to_owned())),
            false => Err(Bad(format!("an escape without its {n_digits} digits"))),
        }
    }

    fn unicode(&mut self) -> Result<char> {
        if self.eat("{") {
            let n_digits = self.rest[self.at..]
                .iter()
                .take_while(|&&c| c != '}')
                .count();
            if !(1..=6).contains(&n_digits) {
                return Err(Bad("an escape without its digits".to_owned()));
            }
            let c = self.hex(n_digits)?;
            self.eat("}");
            return Ok(c);
        }
        let first = self.hex_value(4)?;
        if !(0xD800..0xDC00).contains(&first) || !self.eat("\\u") {
            return char::from_u32(first)
                .ok_or_else(|| Unsupported("half of a surrogate pair".to_owned()));
        }
        let second = self.hex_value(4)?;
        char::decode_utf16([first as u16, second as u16])
            .next()
            .and_then(std::result::Result::ok)
            .ok_or_else(|| Unsupported("half of a surrogate pair".to_owned()))
    }
}

/// What stands in a class.
enum Item {
    Char(char),
    /// Items of the parser's own classes.
    Set(String),
}

impl Item {
    fn text(&self) -> String {
        match self {
            Item::Char(c) => code(*c),
            Item::Set(set) => set.clone(),
        }
    }
}

fn code(c: char) -> String {
    format!("\\x{{{:X}}}", u32::from(c))
}

fn literal(c: char) -> String {
    code(c)
}

#[cfg(test)]
mod tests {
    use llguidance::derivre::RegexBuilder;

    use super::*;

    fn is_match(regex: &RegexAst, text: &str) -> bool {
        let mut builder = RegexBuilder::new();
        let expression = builder.mk(regex).expect("it was translated");
        builder.to_regex(expression).is_match(text)
    }

    #[test]
    fn finds_what_a_validator_finds() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("^a+$", &["a", "aaa"], &["", "ab", "ba", "a\n"]),
            ("b", &["abc", "b"], &["ac", ""]),
            ("^a|b$", &["ax", "xb", "ab"], &["xa", "bx", ""]),
            ("^(a|b)$", &["a", "b"], &["ab", ""]),
            ("(^a$)|(^b$)", &["a", "b"], &["ab", "xa"]),
            ("^$", &[""], &["a"]),
            ("", &["", "anything\n"], &[]),
            ("^", &["", "x"], &[]),
            (
                r"^\d{3}-\d{4}$",
                &["555-1234"],
                &["5551234", "555-123", "\u{663}55-1234"],
            ),
            (r"^[\w.-]+@x\.y$", &["a.b-c@x.y"], &["@x.y", "a@xzy"]),
            ("^[^ab]$", &["c", "\u{e9}"], &["a", "b", ""]),
            (r"^[a&&b]+$", &["a&b"], &["c"]),
            ("^[[a]$", &["[", "a"], &["b"]),
            (r"^\u00e9\x41$", &["\u{e9}A"], &["eA"]),
            (r"^\uD83D\uDE00$", &["\u{1f600}"], &["x"]),
            ("^a{2}b{1,}c{0,1}$", &["aab", "aabbc"], &["ab", "aac"]),
            ("^{x}$", &["{x}"], &["x"]),
            (r"^(?:ab)+?$", &["ab", "abab"], &["aba"]),
            ("^(?<y>[0-9]{4})$", &["2024"], &["24"]),
            ("^.$", &["x"], &["\n", "\r", ""]),
            ("^[]$", &[], &["", "x"]),
            (r"^\S+$", &["ab"], &["a b", "a\u{a0}b", ""]),
        ];
        for (pattern, yes, no) in cases {
            let regex = search(pattern).unwrap_or_else(|error| panic!("{pattern}: {error:?}"));
            for text in *yes {
                assert!(is_match(&regex, text), "{pattern} is in {text:?}");
            }
            for text in *no {
                assert!(!is_match(&regex, text), "{pattern} is not in {text:?}");
            }
        }
    }

    #[test]
    fn names_what_it_cannot_do() {
        let cases = [
            ("(?=a)", true),
            ("(?!a)b", true),
            ("(?<=a)b", true),
            (r"(a)\1", true),
            (r"\bword\b", true),
            ("a^b", true),
            ("(?i)a", true),
            ("(a", false),
            ("a)", false),
            ("[a", false),
            ("*a", false),
            ("a**", false),
            ("a{3,1}", false),
            ("a{2}{3}", false),
            ("{2}a", false),
            (r"\x4", false),
            ("[b-a]", false),
            ("\\", false),
        ];
        for (pattern, is_unsupported) in cases {
            let error = search(pattern).expect_err(pattern);
            assert_eq!(
                matches!(error, Unsupported(_)),
                is_unsupported,
                "{pattern}: {error:?}"
            );
        }
    }
}
