//! One arm per operation: fetch the buffers, call the kernel.

use hearth_kernels::{AttendArgs, Kernels, MatmulJob, MoeArgs, matmul::Producer, quant};

use super::{Batch, Executor};
use crate::{
    model::Model,
    plan::{BufferId, MAX_PRODUCTS, MatrixId, Op, Product, StateKind, Step, VectorId},
    state::PagePool,
};

impl Executor {
    pub(super) fn run(
        &mut self,
        op: &Op,
        model: &Model,
        kernels: &Kernels,
        pool: &mut PagePool,
        batch: &Batch<'_>,
    ) {
        let vector = |id: VectorId| &*model.plan().vectors[id.index()].values;
        let buffers = &mut self.buffers;
        match *op {
            Op::Embed { table, out } => self.embed(model, table, out, batch),
            Op::Norm {
                input,
                weight,
                eps,
                out,
            } => {
                let weight = vector(weight);
                let [input, out] = buffers.get_many_mut([input, out]);
                kernels.rms_norm(input, Some(weight), eps, weight.len(), out);
            }
            Op::HeadNorm {
                x,
                weight,
                eps,
                head_dim,
            } => {
                let x = buffers.get_mut(x);
                kernels.rms_norm_in_place(x, Some(vector(weight)), eps, head_dim);
            }
            Op::MatMul {
                input,
                ref products,
            } => self.matmul(model, kernels, input, products, false),
            Op::Rope {
                x,
                table,
                kind,
                n_head,
                head_dim,
            } => {
                let table = &self.ropes[table.index()];
                kernels.rope(kind, table, buffers.get_mut(x), n_head, head_dim);
            }
            Op::StoreKv { state, k, v } => {
                let place = *pool.layout().place(state.index());
                let (k, v) = (buffers.get(k), buffers.get(v));
                kernels.store_kv(pool.bytes_mut(), &place, &self.kv_rows, batch.tables, k, v);
            }
            Op::Attend { .. } => self.attend(op, model, kernels, pool, batch),
            Op::Glu {
                activation,
                gate,
                up,
                out,
            } => {
                let [gate, up, out] = buffers.get_many_mut([gate, up, out]);
                kernels.glu(activation, gate, up, out);
            }
            Op::Moe { .. } => self.moe(op, model, kernels),
            Op::Add { x, y } => {
                let [x, y] = buffers.get_many_mut([x, y]);
                kernels.add(x, y);
            }
            Op::SelectRows { input, out } => self.select_rows(input, out),
        }
    }

    /// Rows are converted as they are needed: an embedding of 150,000 tokens stays in its blocks.
    fn embed(&mut self, model: &Model, table: MatrixId, out: BufferId, batch: &Batch<'_>) {
        let bound = &model.plan().matrices[table.index()];
        let data = model.matrix_bytes(table);
        let row_bytes = data.len() / bound.rows;
        let out = self.buffers.get_mut(out).chunks_exact_mut(bound.cols);
        for (row, out) in batch.rows.iter().zip(out) {
            let start = row.token as usize * row_bytes;
            quant::dequantize(bound.ty, &data[start..start + row_bytes], out);
        }
    }

    fn attend(
        &mut self,
        op: &Op,
        model: &Model,
        kernels: &Kernels,
        pool: &PagePool,
        batch: &Batch<'_>,
    ) {
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
        let StateKind::Attention { window, .. } = model.plan().states[state.index()];
        let [q, out] = self.buffers.get_many_mut([q, out]);
        let args = AttendArgs {
            n_head,
            scale,
            window,
            soft_cap: None,
            sinks: None,
        };
        kernels.attend(
            &mut self.attention,
            pool.bytes(),
            pool.layout().place(state.index()),
            &self.kv_rows,
            batch.tables,
            &args,
            q,
            out,
        );
    }

    fn moe(&mut self, op: &Op, model: &Model, kernels: &Kernels) {
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
        let args = MoeArgs {
            n_expert: self.buffers.cols[logits.index()],
            n_expert_used,
            activation,
            gate: model.matrix(gate),
            up: model.matrix(up),
            down: model.matrix(down),
        };
        let [input, logits, inner, out] = self.buffers.get_many_mut([input, logits, inner, out]);
        kernels.moe(&mut self.moe, &args, input, logits, inner, out);
    }

    /// Runs the operations of `steps` but the last, which is the product that reads what they make, while preparing it.
    pub(super) fn prepare(&mut self, steps: &[Step], model: &Model, kernels: &Kernels) {
        let [
            first,
            ..,
            Step {
                op: Op::MatMul { input, products },
                ..
            },
        ] = steps
        else {
            unreachable!("called with what makes the input of a product, and the product");
        };
        let plan = model.plan();
        let n_rows = self.buffers.n_rows(*input);
        let vector = |id: VectorId| &*plan.vectors[id.index()].values;
        let buffers = &mut self.buffers;
        let (producer, out) = match (&first.op, &steps[steps.len() - 2].op) {
            (
                &Op::Glu {
                    activation,
                    gate,
                    up,
                    out,
                },
                _,
            ) => {
                let [gate, up, out] = buffers.get_many_mut([gate, up, out]);
                (Producer::glu(activation, gate, up), out)
            }
            (
                &Op::Add { x, y },
                &Op::Norm {
                    weight, eps, out, ..
                },
            ) => {
                let [x, y, out] = buffers.get_many_mut([x, y, out]);
                (Producer::rms_norm(x, Some(y), vector(weight), eps), out)
            }
            (
                _,
                &Op::Norm {
                    input,
                    weight,
                    eps,
                    out,
                },
            ) => {
                let [x, out] = buffers.get_many_mut([input, out]);
                (Producer::rms_norm(x, None, vector(weight), eps), out)
            }
            _ => unreachable!("nothing else runs together with a product"),
        };
        let types = products
            .iter()
            .map(|product| plan.matrices[product.weight.index()].ty);
        kernels.prepare(&mut self.matmul, producer, out, n_rows, types);
    }

    /// `is_prepared`: [`Executor::prepare`] has been called for it.
    pub(super) fn matmul(
        &mut self,
        model: &Model,
        kernels: &Kernels,
        input: BufferId,
        products: &[Product],
        is_prepared: bool,
    ) {
        const { assert!(MAX_PRODUCTS == 3, "one arm for each number of products") };
        match *products {
            [a] => self.matmul_many(model, kernels, input, [a], is_prepared),
            [a, b] => self.matmul_many(model, kernels, input, [a, b], is_prepared),
            [a, b, c] => self.matmul_many(model, kernels, input, [a, b, c], is_prepared),
            _ => unreachable!("the builder makes one to three products of an input"),
        }
        for product in products {
            if let Some(bias) = product.bias {
                let bias = &model.plan().vectors[bias.index()].values;
                kernels.add_bias(self.buffers.get_mut(product.out), bias);
            }
        }
    }

    fn matmul_many<const N: usize>(
        &mut self,
        model: &Model,
        kernels: &Kernels,
        input: BufferId,
        products: [Product; N],
        is_prepared: bool,
    ) {
        let n_rows = self.buffers.n_rows(input);
        // No row of the batch may want logits: then the head has nothing to do.
        if n_rows == 0 {
            return;
        }
        // The slot is set aside so that the outputs can be borrowed together; nothing is copied.
        let slot = self.buffers.slot(input);
        let len = self.buffers.len(input);
        let held = std::mem::take(&mut self.buffers.slots[slot]);
        let mut weights = products
            .map(|product| model.matrix(product.weight))
            .into_iter();
        let mut jobs = self
            .buffers
            .get_many_mut(products.map(|product| product.out))
            .map(|out| {
                let weight = weights.next().expect("as many weights as outputs");
                MatmulJob { weight, out }
            });
        let input = &held[..len];
        if is_prepared {
            kernels.matmul_prepared(&mut self.matmul, input, n_rows, &mut jobs);
        } else {
            kernels.matmul(&mut self.matmul, input, n_rows, &mut jobs);
        }
        self.buffers.slots[slot] = held;
    }

    fn select_rows(&mut self, input: BufferId, out: BufferId) {
        let cols = self.buffers.cols[input.index()];
        let Executor {
            buffers, wanted, ..
        } = self;
        let [input, out] = buffers.get_many_mut([input, out]);
        for (&row, out) in wanted.iter().zip(out.chunks_exact_mut(cols)) {
            out.copy_from_slice(&input[row as usize * cols..(row as usize + 1) * cols]);
        }
    }
}
