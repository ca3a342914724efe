//! The pool of pages: as large as a context may get, and each page in one hand.

mod common;

use std::sync::Arc;

use common::Runner;
use hearth_gguf::{Gguf, TensorType};
use hearth_kernels::{KvType, PAGE_POSITIONS};
use hearth_model::{Batch, Model, ModelOptions, PagePool, Row, Sequence, StepError};
use hearth_testing::{TinyModel, tiny_model::N_VOCAB};

fn model() -> Model {
    let file = TinyModel::new("llama", TensorType::F32).build();
    let gguf = Arc::new(Gguf::from_vec(file).unwrap());
    Model::load(gguf, ModelOptions::default()).unwrap()
}

/// A context that is never filled must not need its memory: the map is larger than the machine's memory, and a
/// sequence in it works.
#[cfg(target_os = "linux")]
#[test]
fn a_pool_larger_than_memory_opens() {
    use hearth_model::PageLayout;

    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else {
        eprintln!("skipped: no /proc here, as in the root that ci/aarch64.sh enters");
        return;
    };
    let kilobytes = |name: &str| -> usize {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let more_than_all = (kilobytes("MemTotal:") + kilobytes("SwapTotal:")) * 1024 * 3 / 2;
    if std::fs::read_to_string("/proc/sys/vm/overcommit_memory")
        .unwrap()
        .trim()
        == "2"
    {
        eprintln!("skipped: this system promises no memory that it does not have");
        return;
    }
    let model = model();
    let page_bytes = PageLayout::new(model.plan(), KvType::F32).page_bytes();
    let n_positions = more_than_all.div_ceil(page_bytes) * PAGE_POSITIONS;
    let large = PagePool::new(&model, KvType::F32, n_positions).unwrap();
    assert!(large.n_pages() * page_bytes > more_than_all);

    let gguf = model.gguf().clone();
    let mut runner = Runner::new(gguf, 128, KvType::F32, common::kernels());
    let expected = runner.logits(&[1, 2, 3]);
    runner.sequence.clear(&mut runner.pool);
    runner.pool = large;
    assert_eq!(runner.logits(&[1, 2, 3]), expected);
}

#[test]
fn pages_come_back_and_go_out_again() {
    let mut pool = PagePool::new(&model(), KvType::F16, 70 * PAGE_POSITIONS).unwrap();
    let pages: Vec<_> = (0..70).map(|_| pool.take().unwrap()).collect();
    assert!(pool.take().is_err());
    for &page in &pages {
        pool.give_back(page);
    }
    let mut again: Vec<_> = (0..70).map(|_| pool.take().unwrap()).collect();
    again.sort_unstable();
    assert_eq!(again, pages, "every page once");
    pool.give_back(65);
    assert_eq!(pool.take().unwrap(), 65);
}

#[test]
#[should_panic(expected = "page 1 was given back twice")]
fn a_page_given_back_twice_is_our_fault() {
    let mut pool = PagePool::new(&model(), KvType::F16, 4 * PAGE_POSITIONS).unwrap();
    let [_, page, _] = [(); 3].map(|()| pool.take().unwrap());
    pool.give_back(page);
    pool.give_back(page);
}

#[test]
fn a_shared_page_is_free_when_the_last_holder_gives_it_back() {
    let mut pool = PagePool::new(&model(), KvType::F16, PAGE_POSITIONS).unwrap();
    let page = pool.take().unwrap();
    pool.share(page);
    assert_eq!((pool.n_holders(page), pool.n_free()), (2, 0));
    pool.give_back(page);
    assert_eq!((pool.n_holders(page), pool.n_free()), (1, 0));
    assert!(pool.take().is_err());
    pool.give_back(page);
    assert_eq!((pool.n_holders(page), pool.n_free()), (0, 1));
    assert_eq!(pool.take().unwrap(), page);
    assert_eq!(
        pool.n_holders(page),
        1,
        "holders of before are not counted again"
    );
}

#[test]
#[should_panic(expected = "nobody holds it")]
fn a_free_page_is_not_shared() {
    let mut pool = PagePool::new(&model(), KvType::F16, PAGE_POSITIONS).unwrap();
    let page = pool.take().unwrap();
    pool.give_back(page);
    pool.share(page);
}

#[test]
fn bytes_of_pages_come_in_the_order_asked_for() {
    let mut pool = PagePool::new(&model(), KvType::F16, 6 * PAGE_POSITIONS).unwrap();
    for _ in 0..6 {
        pool.take().unwrap();
    }
    let order = [4, 0, 5, 2];
    for (bytes, page) in pool.pages_mut(&order).into_iter().zip(order) {
        bytes.fill(page as u8 + 1);
    }
    let page_bytes = pool.layout().page_bytes();
    for page in 0..6 {
        let expected = if order.contains(&page) {
            page as u8 + 1
        } else {
            0
        };
        assert_eq!(
            pool.page(page),
            vec![expected; page_bytes],
            "page {page} of new memory"
        );
    }
}

#[test]
#[should_panic(expected = "written by others or twice")]
fn one_page_is_not_written_twice_at_once() {
    let mut pool = PagePool::new(&model(), KvType::F16, 3 * PAGE_POSITIONS).unwrap();
    let page = pool.take().unwrap();
    pool.pages_mut(&[page, page]);
}

#[test]
#[should_panic(expected = "written by others or twice")]
fn a_shared_page_is_not_written() {
    let mut pool = PagePool::new(&model(), KvType::F16, PAGE_POSITIONS).unwrap();
    let page = pool.take().unwrap();
    pool.share(page);
    pool.pages_mut(&[page]);
}

/// Two sequences with the same first pages; each goes on in pages of its own.
#[test]
fn adopted_pages_give_the_same_bits() {
    for kv_type in KvType::ALL {
        let file = TinyModel::new("llama", TensorType::Q4_0).build();
        let gguf = Arc::new(Gguf::from_vec(file).unwrap());
        let mut runner = Runner::new(gguf, 256, kv_type, common::kernels());
        let tokens: Vec<u32> = (0..150).map(|i| 3 + i * 37 % (N_VOCAB - 3)).collect();
        let cold = runner.logits(&tokens);
        let n_vocab = runner.model.n_vocab();

        let first = std::mem::take(&mut runner.sequence);
        let shared = first.table()[..2].to_vec();
        shared.iter().for_each(|&page| runner.pool.share(page));
        runner.sequence.adopt(shared, 2 * PAGE_POSITIONS);
        let warm = runner.feed(&tokens[128..]);
        assert!(
            warm.iter()
                .map(|x| x.to_bits())
                .eq(cold[128 * n_vocab..].iter().map(|x| x.to_bits())),
            "{kv_type:?}"
        );
        assert_ne!(
            first.table()[2],
            runner.sequence.table()[2],
            "a page of its own"
        );
    }
}

#[test]
fn a_cut_through_a_shared_page_drops_it() {
    let mut pool = PagePool::new(&model(), KvType::F16, 8 * PAGE_POSITIONS).unwrap();
    let mut sequence = Sequence::new();
    sequence.grow_to(180, &mut pool).unwrap();
    sequence.advance(180);
    let table = sequence.table().to_vec();
    pool.share(table[1]);

    assert_eq!(
        sequence.truncate(130, &mut pool),
        130,
        "the cut page is ours alone"
    );
    assert_eq!(
        sequence.truncate(128, &mut pool),
        128,
        "no page is cut, so a shared one stays"
    );
    assert_eq!(pool.n_holders(table[1]), 2);
    assert_eq!(
        sequence.truncate(100, &mut pool),
        64,
        "position 100 would be written into a shared page"
    );
    assert_eq!((sequence.len(), sequence.table()), (64, &table[..1]));
    assert_eq!(pool.n_holders(table[1]), 1, "the other holder's");
    assert_eq!(
        sequence.truncate(500, &mut pool),
        64,
        "there is no more than there is"
    );
    sequence.clear(&mut pool);
    pool.give_back(table[1]);
    assert_eq!(pool.n_free(), 8);
}

/// Releasing takes this sequence's hold only.
#[test]
fn a_window_releases_shared_pages() {
    let mut pool = PagePool::new(&model(), KvType::F16, 4 * PAGE_POSITIONS).unwrap();
    let mut sequence = Sequence::new();
    sequence.grow_to(200, &mut pool).unwrap();
    sequence.advance(200);
    let table = sequence.table().to_vec();
    pool.share(table[0]);
    sequence.release_outside(20, &mut pool);
    assert_eq!(sequence.table()[..2], [u32::MAX; 2]);
    assert_eq!((pool.n_holders(table[0]), pool.n_holders(table[1])), (1, 0));
    sequence.clear(&mut pool);
    assert_eq!(pool.n_free(), 3);
}

#[test]
fn a_step_refuses_to_write_a_shared_page() {
    let gguf = Arc::new(Gguf::from_vec(TinyModel::new("llama", TensorType::F32).build()).unwrap());
    let mut runner = Runner::new(gguf, 128, KvType::F16, common::kernels());
    runner.feed(&[1, 2, 3]);
    let page = runner.sequence.table()[0];
    runner.pool.share(page);
    let batch = Batch {
        rows: &[Row {
            seq: 0,
            pos: 3,
            token: 4,
            wants_logits: true,
        }],
        tables: &[runner.sequence.table()],
    };
    let step = runner
        .executor
        .step(&runner.model, &runner.kernels, &mut runner.pool, &batch);
    assert!(matches!(
        step,
        Err(StepError::SharedPage {
            row: 0,
            pos: 3,
            page: 0,
            n_holders: 2
        })
    ));
}
