//! The plan as text: one line an operation, with shapes, types and tensor names.

use std::fmt::{Display, Formatter, Result};

use super::{BufferId, MatrixId, Op, Plan, Product, Rows, StateKind, VectorId};

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(
            f,
            "plan of family {}: {} operations",
            self.family,
            self.steps.len()
        )?;
        for (index, step) in self.steps.iter().enumerate() {
            let layer = step
                .layer
                .map_or_else(|| "-".to_owned(), |layer| layer.to_string());
            writeln!(
                f,
                "{index:5}  {layer:>4}  {:<12}{}",
                step.op.name(),
                self.describe(&step.op)
            )?;
        }
        writeln!(f, "working memory, in values a row:")?;
        for (index, slot) in self.memory.slots.iter().enumerate() {
            let rows = match slot.rows {
                Rows::All => "all rows",
                Rows::Wanted => "rows whose logits are wanted",
            };
            writeln!(f, "  slot {index}: {} ({rows})", slot.cols)?;
        }
        Ok(())
    }
}

impl Plan {
    fn describe(&self, op: &Op) -> String {
        let buffer = |id: &BufferId| self.buffer(*id);
        match op {
            Op::Embed { table, out } => format!("{} = {}", buffer(out), self.matrix(*table)),
            Op::Norm {
                input,
                weight,
                eps,
                out,
            } => {
                let weight = self.vector(*weight);
                format!(
                    "{} = {} by {weight}, eps {eps:e}",
                    buffer(out),
                    buffer(input)
                )
            }
            Op::HeadNorm {
                x,
                weight,
                eps,
                head_dim,
            } => {
                let weight = self.vector(*weight);
                format!("{} by {weight} every {head_dim}, eps {eps:e}", buffer(x))
            }
            Op::MatMul { input, products } => {
                format!("of {}: {}", buffer(input), self.products(products))
            }
            Op::Rope {
                x,
                kind,
                n_head,
                head_dim,
                ..
            } => format!(
                "{} as {n_head} heads of {head_dim}, {kind:?} pairs",
                buffer(x)
            ),
            Op::StoreKv { state, k, v } => {
                format!(
                    "state {} from {} and {}",
                    state.index(),
                    buffer(k),
                    buffer(v)
                )
            }
            Op::Attend { .. } => self.attention(op),
            Op::Glu {
                activation,
                gate,
                up,
                out,
            } => {
                let (gate, up) = (buffer(gate), buffer(up));
                format!("{} = {activation:?}({gate}) · {up}", buffer(out))
            }
            Op::Moe { .. } => self.experts(op),
            Op::Add { x, y } => format!("{} += {}", buffer(x), buffer(y)),
            Op::SelectRows { input, out } => {
                format!("{} = wanted rows of {}", buffer(out), buffer(input))
            }
        }
    }

    fn attention(&self, op: &Op) -> String {
        let Op::Attend {
            state,
            q,
            out,
            n_head,
            scale,
        } = *op
        else {
            unreachable!("called for attention only");
        };
        let StateKind::Attention {
            n_head_kv, window, ..
        } = self.states[state.index()];
        let window = window.map_or_else(String::new, |window| format!(", window {window}"));
        format!(
            "{} = {} over state {}, {n_head} heads on {n_head_kv}, scale {scale}{window}",
            self.buffer(out),
            self.buffer(q),
            state.index(),
        )
    }

    fn experts(&self, op: &Op) -> String {
        let Op::Moe {
            input,
            logits,
            gate,
            up,
            down,
            activation,
            n_expert_used,
            inner,
            out,
        } = *op
        else {
            unreachable!("called for experts only");
        };
        format!(
            "{} = {n_expert_used} experts of {} by {}, through {}: {activation:?}({}) · {}, then {}",
            self.buffer(out),
            self.buffer(input),
            self.buffer(logits),
            self.buffer(inner),
            self.matrix(gate),
            self.matrix(up),
            self.matrix(down),
        )
    }

    fn products(&self, products: &[Product]) -> String {
        let parts: Vec<String> = products.iter().map(|one| self.product(one)).collect();
        parts.join("; ")
    }

    fn product(&self, product: &Product) -> String {
        let bias = product
            .bias
            .map_or_else(String::new, |bias| format!(" + {}", self.vector(bias)));
        format!(
            "{} = {}{bias}",
            self.buffer(product.out),
            self.matrix(product.weight)
        )
    }

    fn buffer(&self, id: BufferId) -> String {
        let buffer = &self.buffers[id.index()];
        let rows = match buffer.rows {
            Rows::All => "n",
            Rows::Wanted => "w",
        };
        format!("%{}[{rows}, {}]", id.index(), buffer.cols)
    }

    fn matrix(&self, id: MatrixId) -> String {
        let matrix = &self.matrices[id.index()];
        let stack = match matrix.n_stacked {
            1 => String::new(),
            n => format!("{n}, "),
        };
        format!(
            "{} [{stack}{}, {}] {}",
            matrix.name,
            matrix.rows / matrix.n_stacked,
            matrix.cols,
            matrix.ty.name()
        )
    }

    fn vector(&self, id: VectorId) -> String {
        let vector = &self.vectors[id.index()];
        format!("{} [{}]", vector.name, vector.values.len())
    }
}
