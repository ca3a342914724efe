//! What a page is found by: a SHA-256 over everything its numbers depend on, chained page by page.
//!
//! The key of a page hashes the key of the page before it and its own 64 tokens; the first one hashes a root
//! made of the settings and the owner. So equal keys mean equal settings, equal owner and equal tokens from
//! the first position on, as surely as nobody finds a collision of SHA-256. Tokens are compared besides.

use std::fmt;

use hearth_kernels::PAGE_POSITIONS;
use sha2::{Digest, Sha256};

use crate::job::Owner;

/// The tokens of a full page.
pub(crate) type PageTokens = [u32; PAGE_POSITIONS];

/// A SHA-256, in hexadecimal when it is displayed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// The hash of `parts`; `purpose` keeps hashes made for different ends apart.
    pub(crate) fn of(purpose: &str, parts: &[&[u8]]) -> Key {
        let mut sha = Sha256::new();
        // With its length before it no part can pass for the end of another.
        for part in [purpose.as_bytes()].iter().chain(parts) {
            sha.update((part.len() as u64).to_le_bytes());
            sha.update(part);
        }
        Key(sha.finalize().into())
    }

    /// Where the chains of an owner begin, or of everybody where pages are shared.
    pub(crate) fn root(settings: Key, owner: Option<&Owner>) -> Key {
        match owner {
            Some(owner) => Key::of("hearth owner", &[&settings.0, owner.name.as_bytes()]),
            None => Key::of("hearth everybody", &[&settings.0]),
        }
    }

    /// The key of the page of `tokens` that follows the page of this key.
    fn next(self, tokens: &PageTokens) -> Key {
        let mut bytes = [0; 4 * PAGE_POSITIONS];
        for (to, token) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(tokens) {
            *to = token.to_le_bytes();
        }
        Key::of("hearth page", &[&self.0, &bytes])
    }

    /// Reads what `Display` wrote.
    pub(crate) fn parse(text: &str) -> Option<Key> {
        let digits = text.as_bytes();
        let is_ours = digits.len() == 64
            && digits
                .iter()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let mut key = [0; 32];
        for (byte, digits) in key.iter_mut().zip(digits.as_chunks::<2>().0) {
            let digits = std::str::from_utf8(digits).ok()?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        is_ours.then_some(Key(key))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A page of a chain: what it is found by, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its key.
    pub key: Key,
    /// The key of the page before it, or the root.
    pub parent: Key,
    /// Its tokens.
    pub tokens: PageTokens,
}

/// The full pages of `tokens`, first page first.
pub(crate) fn links(root: Key, tokens: &[u32]) -> impl Iterator<Item = Link> {
    let mut parent = root;
    tokens.as_chunks().0.iter().map(move |tokens: &PageTokens| {
        let key = parent.next(tokens);
        let link = Link {
            key,
            parent,
            tokens: *tokens,
        };
        parent = key;
        link
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner {
            name: name.into(),
            weight: 1,
        }
    }

    #[test]
    fn keys_depend_on_everything_before() {
        let settings = Key([1; 32]);
        let root = Key::root(settings, Some(&owner("ann")));
        let tokens: Vec<u32> = (0..200).collect();
        let chain: Vec<Link> = links(root, &tokens).collect();
        assert_eq!(chain.len(), 3, "the last 8 tokens fill no page");
        assert_eq!(chain[1].parent, chain[0].key);

        let mut other = tokens.clone();
        other[70] = 0;
        let changed: Vec<Link> = links(root, &other).collect();
        assert_eq!(changed[0], chain[0]);
        assert!((1..3).all(|index| changed[index].key != chain[index].key));

        let roots = [
            Key::root(settings, Some(&owner("bob"))),
            Key::root(settings, Some(&owner(""))),
            Key::root(settings, None),
            Key::root(Key([2; 32]), Some(&owner("ann"))),
        ];
        for root in roots {
            let other: Vec<Link> = links(root, &tokens).collect();
            assert!((0..3).all(|index| other[index].key != chain[index].key));
        }
        // An owner cannot choose a name that makes her everybody, or gives her another's root.
        assert_ne!(
            Key::of("hearth owner", &[b"ab", b"c"]),
            Key::of("hearth owner", &[b"a", b"bc"])
        );
    }

    #[test]
    fn keys_are_read_back() {
        let key = Key::of("test", &[]);
        assert_eq!(Key::parse(&key.to_string()), Some(key));
        let text = key.to_string();
        for wrong in [
            &text[1..],
            &text.to_uppercase(),
            &format!("+{}", &text[1..]),
            "",
        ] {
            assert_eq!(Key::parse(wrong), None, "{wrong}");
        }
    }
}
