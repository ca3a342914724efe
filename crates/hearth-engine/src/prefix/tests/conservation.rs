//! Whatever happens to sequences, every page is held by exactly those that hold it.

use hearth_model::Sequence;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Begin { who: usize, seed: u32, n: usize },
    End(usize),
    Find { who: usize, seed: u32 },
    Evict(usize),
    Work,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize, 0..3_u32, 1..500_usize).prop_map(|(who, seed, n)| Step::Begin { who, seed, n }),
        3 => (0..8_usize).prop_map(Step::End),
        2 => (0..2_usize, 0..3_u32).prop_map(|(who, seed)| Step::Find { who, seed }),
        2 => (0..25_usize).prop_map(Step::Evict),
        1 => Just(Step::Work),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens, a page is held by as many as hold it, and none is lost or written while shared.
    #[test]
    fn pages_are_conserved(steps in prop::collection::vec(step(), 1..40), ram in 0..30_u64) {
        let model = model();
        let page_bytes = PageLayout::new(model.plan(), KvType::F16).page_bytes() as u64;
        let options = PrefixOptions { ram_bytes: Some(ram * page_bytes), ..PrefixOptions::default() };
        let mut rig = Rig::of(&model, &options, 24);
        let owners = [owner("ann"), owner("bob")];
        let mut running: Vec<Sequence> = Vec::new();
        for step in steps {
            match step {
                Step::Begin { who, seed, n } => {
                    let tokens = tokens(n, seed);
                    let found = rig.store.find_up_to(usize::MAX, &owners[who], &tokens, &mut rig.pool).pages;
                    let mut sequence = Sequence::new();
                    let n_found = found.len() * PAGE_POSITIONS;
                    sequence.adopt(found, n_found);
                    let n_new = n.div_ceil(PAGE_POSITIONS) - sequence.table().len();
                    rig.store.evict(n_new, &mut rig.pool);
                    if sequence.grow_to(n, &mut rig.pool).is_ok() {
                        for page in n_found / PAGE_POSITIONS..sequence.table().len() {
                            prop_assert_eq!(rig.pool.n_holders(sequence.table()[page]), 1);
                        }
                        sequence.advance(n - n_found);
                        rig.store.keep(&owners[who], &tokens, sequence.table(), &mut rig.pool);
                        running.push(sequence);
                    } else {
                        sequence.clear(&mut rig.pool);
                    }
                }
                Step::End(index) if index < running.len() => {
                    running.swap_remove(index).clear(&mut rig.pool);
                }
                Step::End(_) => {}
                Step::Find { who, seed } => {
                    for page in rig.store.find_up_to(usize::MAX, &owners[who], &tokens(500, seed), &mut rig.pool).pages {
                        rig.pool.give_back(page);
                    }
                }
                Step::Evict(n) => {
                    let n_most = rig.pool.n_free() + rig.store.n_evictable(&rig.pool);
                    prop_assert_eq!(rig.store.evict(n, &mut rig.pool), n <= n_most);
                }
                Step::Work => {
                    rig.store.work(&mut rig.pool);
                    prop_assert!(rig.store.n_evictable(&rig.pool) as u64 <= ram);
                }
            }
            let mut n_holders = [0; 24];
            let tables = running.iter().flat_map(|sequence| sequence.table());
            let kept = rig.store.cached.pages();
            tables.copied().chain(kept).for_each(|page| n_holders[page as usize] += 1);
            for (page, &expected) in n_holders.iter().enumerate() {
                prop_assert_eq!(rig.pool.n_holders(page as PageId), expected);
            }
            prop_assert_eq!(rig.pool.n_free(), n_holders.iter().filter(|n| **n == 0).count());
        }
        running.iter_mut().for_each(|sequence| sequence.clear(&mut rig.pool));
        prop_assert!(rig.store.evict(24, &mut rig.pool));
    }
}
