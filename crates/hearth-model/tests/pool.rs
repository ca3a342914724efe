//! The pool of pages: as large as a context may get, and each page in one hand.

mod common;

use std::sync::Arc;

use hearth_gguf::{Gguf, TensorType};
use hearth_kernels::{KvType, PAGE_POSITIONS};
use hearth_model::{Model, ModelOptions, PagePool};
use hearth_testing::TinyModel;

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
    use common::Runner;
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
