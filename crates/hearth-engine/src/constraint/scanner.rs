//! Finds a marker in text that comes in pieces.

/// Looks for one of several byte strings in a stream.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    markers: Vec<Vec<u8>>,
    /// The end of what was read, as far as a marker may begin in it.
    tail: Vec<u8>,
}

/// A marker that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Which one.
    pub marker: usize,
    /// Bytes of the last piece that stand behind it.
    pub n_behind: usize,
}

impl Scanner {
    /// A scanner at the beginning of a text. Empty markers are never found.
    pub(super) fn new<'a>(markers: impl IntoIterator<Item = &'a str>) -> Self {
        let markers = markers.into_iter().map(|text| text.as_bytes().to_vec());
        Scanner {
            markers: markers.filter(|marker| !marker.is_empty()).collect(),
            tail: Vec::new(),
        }
    }

    /// The first marker that is complete within `piece`, without taking it.
    pub(super) fn look(&self, piece: &[u8]) -> Option<Found> {
        // Only a marker's last byte can complete it: most pieces are passed over without a copy.
        let can_end = |marker: &Vec<u8>| marker.last().is_some_and(|last| piece.contains(last));
        if !self.markers.iter().any(can_end) {
            return None;
        }
        let text = [&self.tail, piece].concat();
        (self.tail.len() + 1..=text.len()).find_map(|end| {
            let read = &text[..end];
            let marker = (0..self.markers.len())
                .filter(|&index| read.ends_with(&self.markers[index]))
                .max_by_key(|&index| self.markers[index].len())?;
            Some(Found {
                marker,
                n_behind: text.len() - end,
            })
        })
    }

    /// Takes a piece; whatever is found in it, the next search begins behind it.
    pub(super) fn push(&mut self, piece: &[u8]) -> Option<Found> {
        let found = self.look(piece);
        if found.is_some() {
            self.tail.clear();
            return found;
        }
        self.tail.extend_from_slice(piece);
        let longest = self.markers.iter().map(Vec::len).max().unwrap_or(0);
        let keep = self.tail.len().min(longest.saturating_sub(1));
        self.tail.drain(..self.tail.len() - keep);
        None
    }

    /// Whether some marker may have begun in what was read.
    pub(super) fn is_begun(&self) -> bool {
        let begins =
            |marker: &Vec<u8>| (1..marker.len()).any(|n| self.tail.ends_with(&marker[..n]));
        self.markers.iter().any(begins)
    }

    /// Whether the last byte of some marker is in `piece` before its end: only such a piece can go past one.
    pub(super) fn can_pass(&self, piece: &[u8]) -> bool {
        let Some((_, before)) = piece.split_last() else {
            return false;
        };
        self.markers
            .iter()
            .any(|marker| marker.last().is_some_and(|last| before.contains(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_marker_however_it_is_cut() {
        let text = "a < b </thin </think>\n\nrest";
        for cut in 1..text.len() {
            let mut scanner = Scanner::new(["</think>"]);
            let mut at = 0;
            let mut found = None;
            for piece in text.as_bytes().chunks(cut) {
                at += piece.len();
                found = scanner.push(piece).map(|found| at - found.n_behind);
                if found.is_some() {
                    break;
                }
            }
            assert_eq!(found, Some("a < b </thin </think>".len()), "cut {cut}");
        }
    }

    #[test]
    fn takes_the_longest_of_markers_that_end_together() {
        let mut scanner = Scanner::new(["call>", "<tool_call>"]);
        let found = scanner.push(b"x<tool_call>{").expect("it is there");
        assert_eq!((found.marker, found.n_behind), (1, 1));
    }
}
