//! Which buffers may share memory, decided once when the plan is built.
//!
//! A buffer lives from the operation that writes it first to the one that reads it last. Walking the
//! operations in order, a buffer takes a slot nobody lives in, and gives it back after its last use.
//! An operation's inputs are still alive when its outputs take their slots, so no operation ever
//! reads and writes one slot through two buffers. Operations that run together count as one in this.

use super::{Buffer, BufferId, Rows, Step, n_producers};

/// A piece of working memory: `[rows, cols]`, where the kind says how many rows there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Which rows it holds.
    pub rows: Rows,
    /// The widest buffer that ever lives in it.
    pub cols: usize,
}

/// Slots, and the slot of every buffer.
#[derive(Clone, Debug, Default)]
pub struct MemoryPlan {
    /// The slots.
    pub slots: Vec<Slot>,
    /// Slot of every buffer, by the buffer's number.
    pub slot_of: Vec<usize>,
}

impl MemoryPlan {
    /// Plans `buffers` for `steps`; what `result` holds stays alive to the end.
    pub(crate) fn new(steps: &[Step], buffers: &[Buffer], result: BufferId) -> Self {
        let mut last_use = vec![0; buffers.len()];
        for (index, step) in steps.iter().enumerate() {
            let (reads, writes) = step.op.uses();
            for buffer in reads.iter().chain(&writes) {
                last_use[buffer.index()] = index;
            }
        }
        last_use[result.index()] = steps.len();
        // What runs together reads its buffers to the end.
        for index in 0..steps.len() {
            let end = index + n_producers(&steps[index..]);
            for step in &steps[index..end] {
                for buffer in step.op.uses().0 {
                    last_use[buffer.index()] = last_use[buffer.index()].max(end - 1);
                }
            }
        }

        let mut plan = MemoryPlan {
            slots: Vec::new(),
            slot_of: vec![usize::MAX; buffers.len()],
        };
        let mut free: Vec<usize> = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            for buffer in &step.op.uses().1 {
                if plan.slot_of[buffer.index()] == usize::MAX {
                    plan.slot_of[buffer.index()] = plan.take(&mut free, &buffers[buffer.index()]);
                }
            }
            let ended = (0..buffers.len()).filter(|&b| last_use[b] == index);
            free.extend(
                ended
                    .map(|b| plan.slot_of[b])
                    .filter(|&slot| slot != usize::MAX),
            );
        }
        plan
    }

    /// The free slot that fits best: the narrowest wide enough, else the widest, which then grows.
    fn take(&mut self, free: &mut Vec<usize>, buffer: &Buffer) -> usize {
        let fitness = |slot: &Slot| match slot.cols.checked_sub(buffer.cols) {
            Some(spare) => (0, spare),
            None => (1, buffer.cols - slot.cols),
        };
        let best = free
            .iter()
            .enumerate()
            .filter(|(_, slot)| self.slots[**slot].rows == buffer.rows)
            .min_by_key(|(_, slot)| fitness(&self.slots[**slot]))
            .map(|(place, _)| place);
        match best {
            Some(place) => {
                let slot = free.swap_remove(place);
                self.slots[slot].cols = self.slots[slot].cols.max(buffer.cols);
                slot
            }
            None => {
                self.slots.push(Slot {
                    rows: buffer.rows,
                    cols: buffer.cols,
                });
                self.slots.len() - 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Op, VectorId};

    fn buffer(cols: usize) -> Buffer {
        Buffer {
            rows: Rows::All,
            cols,
        }
    }

    fn add(x: u32, y: u32) -> Step {
        Step {
            layer: None,
            op: Op::Add {
                x: BufferId(x),
                y: BufferId(y),
            },
        }
    }

    fn copy(from: u32, to: u32) -> Step {
        Step {
            layer: None,
            op: Op::SelectRows {
                input: BufferId(from),
                out: BufferId(to),
            },
        }
    }

    #[test]
    fn a_dead_buffers_slot_is_used_again() {
        // 0 → 1 → 2 → 3: never more than two alive.
        let buffers = vec![buffer(8), buffer(16), buffer(4), buffer(8)];
        let plan = MemoryPlan::new(
            &[copy(0, 0), copy(0, 1), copy(1, 2), copy(2, 3)],
            &buffers,
            BufferId(3),
        );
        assert_eq!(plan.slots.len(), 2);
        assert_eq!(plan.slot_of[0], plan.slot_of[2]);
        assert_eq!(plan.slot_of[1], plan.slot_of[3]);
        assert_eq!(plan.slots[plan.slot_of[1]].cols, 16);
    }

    #[test]
    fn buffers_alive_together_never_share() {
        let buffers = vec![buffer(8); 4];
        let steps = [
            copy(0, 0),
            copy(0, 1),
            copy(0, 2),
            copy(2, 3),
            add(0, 1),
            add(0, 3),
        ];
        let plan = MemoryPlan::new(&steps, &buffers, BufferId(0));
        for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
            // 2 dies when 3 is written, and an operation's input and output are apart.
            assert_ne!(plan.slot_of[a], plan.slot_of[b], "buffers {a} and {b}");
        }
    }

    #[test]
    fn operations_that_run_together_count_as_one() {
        let norm = Op::Norm {
            input: BufferId(0),
            weight: VectorId(0),
            eps: 0.0,
            out: BufferId(2),
        };
        let product = Op::MatMul {
            input: BufferId(2),
            products: Vec::new(),
        };
        let together = |op| Step { layer: None, op };
        let steps = [
            copy(0, 0),
            copy(0, 1),
            add(0, 1),
            together(norm),
            together(product),
            copy(0, 3),
        ];
        let plan = MemoryPlan::new(&steps, &[buffer(8); 4], BufferId(0));
        // 1 is read last by the addition, which runs with the norm that writes 2. After that its slot is free.
        assert_ne!(plan.slot_of[1], plan.slot_of[2]);
        assert_eq!(plan.slots.len(), 3);
    }

    #[test]
    fn rows_of_another_kind_have_slots_of_their_own() {
        let buffers = vec![
            buffer(8),
            buffer(8),
            Buffer {
                rows: Rows::Wanted,
                cols: 8,
            },
        ];
        let plan = MemoryPlan::new(&[copy(0, 0), copy(0, 1), copy(1, 2)], &buffers, BufferId(2));
        assert_eq!(plan.slots[plan.slot_of[2]].rows, Rows::Wanted);
        assert!(plan.slots[..2].iter().all(|slot| slot.rows == Rows::All));
    }
}
