//! The small grid, up to five positions, on the main thread alone and without the test harness, which starts
//! threads of its own: for emulators that have none.

mod common;

use common::{Inputs, Memory, Sizes, cancelled_heads, grid_masks, isas};
use fastrand::Rng;
use regard::{AttentionConfig, Parallelism};

fn main() {
    let (mut cases, mut worst) = (0, 0.0f64);
    let config = AttentionConfig::new().with_parallelism(Parallelism::Sequential);
    // The longer ones take the tiles, and more than one block of keys.
    let lengths = (0..=5).flat_map(|s_q| (0..=5).map(move |s_kv| (s_q, s_kv)));
    for (s_q, s_kv) in lengths.chain([(13, 17), (20, 131), (3, 260)]) {
        for d in 1..=9 {
            let sizes = Sizes { batch: 1, heads: 2, kv_heads: 1, s_q, s_kv, d, d_v: d * 3 % 10 };
            let inputs = Inputs::<f32, f32>::plain(sizes, (s_q * 1000 + s_kv * 10 + d) as u64);
            let cotangent = inputs.cotangent(d % 2 == 0, &Memory::PLAIN, &mut Rng::with_seed(d as u64));
            for (name, mask) in grid_masks() {
                let config = config.with_mask(mask);
                for share in [inputs.check(&config), inputs.check_gradients(&cotangent, &config)] {
                    worst = worst.max(share.unwrap_or_else(|e| panic!("{name}, {sizes:?}: {e}")));
                    cases += 1;
                }
            }
        }
    }
    let share = worst * 100.0;
    println!(
        "COUNT: {cases} small cases, forward and backward, on {:?}, worst {share:.0} % of the rule, {}",
        isas(),
        cancelled_heads()
    );
    println!("test result: ok. 1 passed; 0 failed; 0 ignored");
}
