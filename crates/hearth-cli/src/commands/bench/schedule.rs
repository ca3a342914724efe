//! Work as data: which rows each step has. What is measured is decided here, and only counted and run elsewhere.

use hearth_model::Row;

/// The rows of one step.
pub type StepRows = Vec<Row>;

/// Steps whose time is measured, and those that must have run before.
pub struct Schedule {
    /// Brings the sequences to where measuring begins.
    pub before: Vec<StepRows>,
    /// What is measured.
    pub steps: Vec<StepRows>,
    /// Tokens whose speed is reported.
    pub n_tokens: usize,
}

impl Schedule {
    /// Every step.
    pub fn all(&self) -> impl Iterator<Item = &StepRows> {
        self.before.iter().chain(&self.steps)
    }
}

/// Makes schedules over random tokens.
pub struct Scheduler {
    tokens: Tokens,
    /// Prompt rows in a step.
    chunk: usize,
}

impl Scheduler {
    /// For a vocabulary of that size, prompts read in chunks.
    pub fn new(n_vocab: usize, chunk: usize) -> Scheduler {
        Scheduler {
            tokens: Tokens::new(n_vocab),
            chunk,
        }
    }

    /// One sequence reads `n` tokens at `depth`.
    pub fn read(&mut self, n: usize, depth: usize) -> Schedule {
        Schedule {
            before: self.prompts(&[depth], &[0]),
            steps: self.prompts(&[n], &[depth]),
            n_tokens: n,
        }
    }

    /// One sequence writes `n` tokens from `depth` on.
    pub fn write(&mut self, n: usize, depth: usize) -> Schedule {
        Schedule {
            before: self.prompts(&[depth], &[0]),
            steps: self.writing(n, &[depth]),
            n_tokens: n,
        }
    }

    /// Sequences at `depth` read prompts of these lengths, as many together as fit in a step.
    pub fn read_batch(&mut self, lengths: &[usize], depth: usize) -> Schedule {
        let depths = vec![depth; lengths.len()];
        Schedule {
            before: self.prompts(&depths, &vec![0; lengths.len()]),
            steps: self.prompts(lengths, &depths),
            n_tokens: lengths.iter().sum(),
        }
    }

    /// Sequences write `n` tokens each after `starts`; with `beside`, every step also reads that many tokens of one more
    /// prompt, which begins again when it is `longest` tokens long.
    pub fn write_batch(
        &mut self,
        n: usize,
        starts: &[usize],
        beside: usize,
        longest: usize,
    ) -> Schedule {
        let mut steps = self.writing(n, starts);
        let turns = (longest / beside.max(1)).max(1);
        for (turn, step) in steps.iter_mut().enumerate().filter(|_| beside > 0) {
            let first = turn % turns * beside;
            let reader =
                (first..first + beside).map(|pos| self.tokens.row(starts.len(), pos, false));
            step.extend(reader);
        }
        Schedule {
            before: self.prompts(starts, &vec![0; starts.len()]),
            steps,
            n_tokens: n * starts.len(),
        }
    }

    /// Prompt rows of all sequences one after the other, cut into chunks; the last row of each prompt wants logits.
    fn prompts(&mut self, lengths: &[usize], starts: &[usize]) -> Vec<StepRows> {
        let mut rows = Vec::with_capacity(lengths.iter().sum());
        for (seq, (&n, &start)) in lengths.iter().zip(starts).enumerate() {
            rows.extend(
                (start..start + n).map(|pos| self.tokens.row(seq, pos, pos + 1 == start + n)),
            );
        }
        rows.chunks(self.chunk).map(<[Row]>::to_vec).collect()
    }

    fn writing(&mut self, n: usize, starts: &[usize]) -> Vec<StepRows> {
        let mut step = |turn| {
            let rows = starts.iter().enumerate();
            rows.map(|(seq, start)| self.tokens.row(seq, start + turn, true))
                .collect()
        };
        (0..n).map(&mut step).collect()
    }
}

/// Prompt lengths of a batch: all `n`, or spread evenly from half of it to one and a half times as much.
pub fn prompt_lengths(n_seqs: usize, n: usize, is_ragged: bool) -> Vec<usize> {
    let spread = |seq| n - n / 2 + (n / 2 * 2) * seq / (n_seqs - 1);
    if is_ragged && n_seqs > 1 {
        (0..n_seqs).map(spread).collect()
    } else {
        vec![n; n_seqs]
    }
}

/// Token ids without a pattern, the same on every machine: a linear congruential generator's upper bits.
pub struct Tokens {
    state: u64,
    n_vocab: usize,
}

impl Tokens {
    /// For a vocabulary of that size.
    pub fn new(n_vocab: usize) -> Tokens {
        Tokens {
            state: 0x6865_6172_7468,
            n_vocab,
        }
    }

    /// The next token.
    pub fn draw(&mut self) -> u32 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 33) as usize % self.n_vocab) as u32
    }

    fn row(&mut self, seq: usize, pos: usize, wants_logits: bool) -> Row {
        Row {
            seq: seq as u32,
            pos: pos as u32,
            token: self.draw(),
            wants_logits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `seq@pos`, with `!` where logits are wanted.
    fn shown(steps: &[StepRows]) -> Vec<String> {
        let row = |row: &Row| {
            format!(
                "{}@{}{}",
                row.seq,
                row.pos,
                if row.wants_logits { "!" } else { "" }
            )
        };
        let step = |step: &StepRows| step.iter().map(row).collect::<Vec<_>>().join(" ");
        steps.iter().map(step).collect()
    }

    #[test]
    fn one_sequence_reads_in_chunks_and_writes_one_by_one_at_its_depth() {
        let mut scheduler = Scheduler::new(50, 2);
        let read = scheduler.read(3, 3);
        assert_eq!(shown(&read.before), ["0@0 0@1", "0@2!"]);
        assert_eq!(shown(&read.steps), ["0@3 0@4", "0@5!"]);
        let write = scheduler.write(2, 1);
        assert_eq!(shown(&write.before), ["0@0!"]);
        assert_eq!(shown(&write.steps), ["0@1!", "0@2!"]);
        assert_eq!((read.n_tokens, write.n_tokens), (3, 2));
        assert!(scheduler.read(3, 0).before.is_empty());
    }

    #[test]
    fn a_batch_packs_prompts_into_steps_and_writes_together() {
        let mut scheduler = Scheduler::new(50, 4);
        let read = scheduler.read_batch(&[1, 3, 2], 0);
        assert_eq!(shown(&read.steps), ["0@0! 1@0 1@1 1@2!", "2@0 2@1!"]);
        let write = scheduler.write_batch(2, &[1, 3], 0, 0);
        assert_eq!(shown(&write.before), ["0@0! 1@0 1@1 1@2!"]);
        assert_eq!(shown(&write.steps), ["0@1! 1@3!", "0@2! 1@4!"]);
        assert_eq!((read.n_tokens, write.n_tokens), (6, 4));
    }

    #[test]
    fn a_prompt_read_beside_begins_again_at_its_end() {
        let steps = Scheduler::new(50, 4).write_batch(3, &[7], 2, 4).steps;
        assert_eq!(
            shown(&steps),
            ["0@7! 1@0 1@1", "0@8! 1@2 1@3", "0@9! 1@0 1@1"]
        );
        let steps = Scheduler::new(50, 4).write_batch(2, &[7], 3, 2).steps;
        assert_eq!(shown(&steps), ["0@7! 1@0 1@1 1@2", "0@8! 1@0 1@1 1@2"]);
    }

    #[test]
    fn ragged_prompts_are_as_long_together() {
        assert_eq!(prompt_lengths(3, 128, false), [128; 3]);
        assert_eq!(prompt_lengths(5, 128, true), [64, 96, 128, 160, 192]);
        assert_eq!(prompt_lengths(2, 5, true), [3, 7]);
        assert_eq!(prompt_lengths(1, 128, true), [128]);
        assert_eq!(prompt_lengths(4, 0, true), [0; 4]);
    }

    #[test]
    fn random_tokens_stay_in_the_vocabulary_and_repeat_on_every_machine() {
        let draw = |n| {
            let mut tokens = Tokens::new(50);
            (0..n).map(|_| tokens.draw()).collect::<Vec<_>>()
        };
        let tokens = draw(1000);
        assert!(tokens.iter().all(|&token| token < 50));
        assert_eq!(tokens, draw(1000));
        assert!((0..50).all(|token| tokens.contains(&token)));
    }
}
