//! What an operation of the plan cannot avoid: multiply-adds, and bytes of weights, keys and values to be read. Beside
//! the machine's ceilings this says how fast a step could be at best.

use hearth_kernels::{KvType, PAGE_POSITIONS, quant::ActFormat};

use crate::{
    executor::Row,
    model::Model,
    plan::{MatrixId, Op, Product, StateId, StateKind},
    state::PageLayout,
};

/// Arithmetic and reading that no order of the work can save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Multiply-adds of 8-bit integers: products with quantised weights.
    pub int8: u64,
    /// Multiply-adds of `f32`: products with float weights, and attention.
    pub float: u64,
    /// Bytes of weights, and of keys and values.
    pub bytes: u64,
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Work) {
        self.int8 += other.int8;
        self.float += other.float;
        self.bytes += other.bytes;
    }
}

impl Model {
    /// The work of one operation in a step over `rows`. Element-by-element operations count as none: they are a small
    /// part of every step.
    pub fn work(&self, op: &Op, rows: &[Row], kv_type: KvType) -> Work {
        match op {
            Op::Embed { table, .. } => Work {
                bytes: (rows.len() * self.matrix(*table).row_bytes()) as u64,
                ..Work::default()
            },
            Op::MatMul { input, products } => {
                let is_wanted = self.plan().is_wanted(*input);
                let n = rows.iter().filter(|row| !is_wanted || row.wants_logits);
                self.products(products, n.count() as u64)
            }
            Op::Moe {
                logits,
                gate,
                up,
                down,
                n_expert_used,
                ..
            } => {
                let n_expert = self.plan().buffers[logits.index()].cols;
                self.experts([*gate, *up, *down], n_expert, *n_expert_used, rows.len())
            }
            Op::Attend { state, n_head, .. } => self.attention(*state, *n_head, rows, kv_type),
            Op::Norm { .. }
            | Op::HeadNorm { .. }
            | Op::Rope { .. }
            | Op::StoreKv { .. }
            | Op::Glu { .. }
            | Op::Add { .. }
            | Op::SelectRows { .. } => Work::default(),
        }
    }

    /// The bytes of every matrix that products read, once each: what a step reads at least when it computes logits. Of the
    /// experts of a layer as many as one row uses, the first ones.
    pub fn product_bytes(&self) -> Vec<&[u8]> {
        let mut all = Vec::new();
        for step in &self.plan().steps {
            match &step.op {
                Op::MatMul { products, .. } => {
                    all.extend(products.iter().map(|one| self.matrix_bytes(one.weight)));
                }
                Op::Moe {
                    gate,
                    up,
                    down,
                    n_expert_used,
                    ..
                } => all.extend([*gate, *up, *down].map(|id| {
                    let n_expert = self.plan().matrices[id.index()].n_stacked;
                    let bytes = self.matrix_bytes(id);
                    &bytes[..bytes.len() / n_expert * n_expert_used]
                })),
                _ => {}
            }
        }
        all
    }

    /// Names of the matrices that an operation multiplies with, without the layer's number: `attn_q`, `ffn_gate`.
    pub fn weight_names(&self, op: &Op) -> Vec<&str> {
        let short = |id: MatrixId| {
            let name = self.plan().matrices[id.index()].name.as_str();
            let name = name.strip_suffix(".weight").unwrap_or(name);
            name.rsplit('.').next().unwrap_or(name)
        };
        match op {
            Op::MatMul { products, .. } => products.iter().map(|one| short(one.weight)).collect(),
            Op::Moe { gate, up, down, .. } => [*gate, *up, *down].map(short).to_vec(),
            _ => Vec::new(),
        }
    }

    /// Every row multiplies with the experts it uses. How many of them rows share nobody knows beforehand: the bytes are those
    /// of the experts that an even router reaches on average, exact for one row.
    fn experts(
        &self,
        weights: [MatrixId; 3],
        n_expert: usize,
        n_expert_used: usize,
        n_rows: usize,
    ) -> Work {
        let unused = 1.0 - n_expert_used as f64 / n_expert as f64;
        let reached = 1.0 - unused.powi(i32::try_from(n_rows).unwrap_or(i32::MAX));
        let mut work = Work::default();
        for id in weights {
            let matrix = &self.plan().matrices[id.index()];
            let n = (n_rows * n_expert_used * (matrix.rows / n_expert) * matrix.cols) as u64;
            match matrix.ty.activations() {
                ActFormat::Float => work.float += n,
                ActFormat::A32 | ActFormat::A256 => work.int8 += n,
            }
            work.bytes += (reached * self.matrix_bytes(id).len() as f64).round() as u64;
        }
        work
    }

    fn products(&self, products: &[Product], n_rows: u64) -> Work {
        let mut work = Work::default();
        // Without a row, such as one that wants logits, the weights are not read either.
        for product in products.iter().filter(|_| n_rows > 0) {
            let matrix = &self.plan().matrices[product.weight.index()];
            let n = n_rows * matrix.rows as u64 * matrix.cols as u64;
            match matrix.ty.activations() {
                ActFormat::Float => work.float += n,
                ActFormat::A32 | ActFormat::A256 => work.int8 += n,
            }
            work.bytes += self.matrix_bytes(product.weight).len() as u64;
        }
        work
    }

    /// Two multiply-adds an element of every visible position: one for the score, one for the sum of values.
    fn attention(&self, state: StateId, n_head: usize, rows: &[Row], kv_type: KvType) -> Work {
        let StateKind::Attention {
            head_dim,
            head_dim_v,
            window,
            ..
        } = self.plan().states[state.index()];
        let visible = |row: &Row| u64::from(window.unwrap_or(u32::MAX).min(row.pos + 1));
        let n_pairs: u64 = rows.iter().map(visible).sum();
        let layout = PageLayout::new(self.plan(), kv_type);
        let place = layout.place(state.index());
        let position_bytes = (place.key_bytes() + place.value_bytes()) / PAGE_POSITIONS;
        // Rows of one sequence in a step can share what they read.
        let n_seqs = rows.iter().map(|row| row.seq + 1).max().unwrap_or(0);
        let mut longest = vec![0; n_seqs as usize];
        for row in rows {
            let longest = &mut longest[row.seq as usize];
            *longest = visible(row).max(*longest);
        }
        Work {
            int8: 0,
            float: n_pairs * (n_head * (head_dim + head_dim_v)) as u64,
            bytes: longest.iter().sum::<u64>() * position_bytes as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hearth_gguf::{Gguf, TensorType};
    use hearth_testing::TinyModel;

    use super::*;
    use crate::ModelOptions;

    #[test]
    fn a_row_reads_the_experts_it_uses_and_many_rows_read_all() {
        let file = TinyModel::new("qwen3moe", TensorType::F32).build();
        let gguf = Arc::new(Gguf::from_vec(file).unwrap());
        let model = Model::load(gguf, ModelOptions::default()).unwrap();
        let steps = &model.plan().steps;
        let op = steps
            .iter()
            .map(|step| &step.op)
            .find(|op| matches!(op, Op::Moe { .. }))
            .unwrap();
        let work = |n: u32| {
            let row = |pos| Row {
                seq: 0,
                pos,
                token: 1,
                wants_logits: false,
            };
            let rows: Vec<Row> = (0..n).map(row).collect();
            model.work(op, &rows, KvType::F16)
        };
        // Three matrices of 44 · 72 for each expert, of which there are 8, 3 used.
        let weights = 3 * 44 * 72;
        assert_eq!(work(1).float, 3 * weights);
        assert_eq!(work(1).bytes, 3 * weights * 4);
        assert_eq!(work(500).float, 500 * 3 * weights);
        assert_eq!(work(500).bytes, 8 * weights * 4);
        assert_eq!(
            model.weight_names(op),
            ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"]
        );
        let experts = model.product_bytes().into_iter();
        let n_bytes = experts.filter(|bytes| bytes.len() == 3 * 44 * 72 * 4);
        assert_eq!(n_bytes.count(), 6);
    }
}
