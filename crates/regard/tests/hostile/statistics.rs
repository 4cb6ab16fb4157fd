//! Requests for statistics.

use regard::{
    AttentionConfig, AttentionError, AttentionOutput, AttentionStatistics, KeySets, StatisticsRequest,
    TensorView, TensorViewMut, Workspace, attention_statistics, attention_statistics_scratch_bytes,
    attention_with_statistics,
};

use super::{LAYOUT, Report, TOUCHED, numbers};

/// Asks three ways, which have to agree: beside an output, alone, and how much scratch it would take.
fn ask(request: StatisticsRequest<'_>) -> Result<AttentionStatistics, AttentionError> {
    let (query, key) = (numbers([2, 4, 3, 8]), numbers([2, 2, 5, 8]));
    let query = TensorView::new(&query, [2, 4, 3, 8], LAYOUT).unwrap();
    let key = TensorView::new(&key, [2, 2, 5, 8], LAYOUT).unwrap();
    let (mut output, mut lse) = (vec![TOUCHED; 192], vec![TOUCHED; 24]);
    let target = AttentionOutput {
        output: TensorViewMut::new(&mut output, [2, 4, 3, 8], LAYOUT)?,
        log_sum_exp: Some(&mut lse),
    };
    let (config, mut workspace) = (AttentionConfig::new(), Workspace::new());
    let result = attention_with_statistics(query, key, key, target, &request, &config, &mut workspace);
    let alone = attention_statistics(query, key, &request, &config, &mut workspace);
    assert_eq!(result, alone);
    let bytes = attention_statistics_scratch_bytes(query, key, key, &request, &config);
    assert_eq!(bytes.err(), result.clone().err());
    match &result {
        Ok(found) => assert_eq!(lse, found.log_sum_exp),
        Err(_) => {
            let mut all = output.iter().chain(&lse);
            assert!(all.all(|&x| x == TOUCHED), "wrote before {result:?}");
        }
    }
    result
}

pub(super) fn statistics(report: &mut Report) {
    let plain = StatisticsRequest::new();
    let (ten, offsets) = ([1u32; 10], [0i64; 257]);
    let sets = |num_sets, members| plain.with_key_sets(KeySets { num_sets, members });
    report.accepted("plain", ask(plain));
    report.accepted("most", ask(plain.with_top_k(32).with_offsets(&offsets[..256]).with_distance_bins(63)));
    report.accepted("far offsets", ask(plain.with_offsets(&[i64::MIN, i64::MAX])));
    report.accepted("sets", ask(sets(32, &ten)));
    report.accepted("tokens", ask(plain.with_token_ids(&[u32::MAX; 10])));
    report.accepted("thumbnail", ask(plain.with_thumbnail([64, 64]).with_received()));
    for top_k in [33, usize::MAX] {
        report.refused("top_k", ask(plain.with_top_k(top_k)), "statistics.top_k: expected at most 32");
    }
    report.refused(
        "offsets",
        ask(plain.with_offsets(&offsets)),
        "statistics.offsets.len: expected at most 256",
    );
    for bins in [64, usize::MAX] {
        report.refused("bins", ask(plain.with_distance_bins(bins)), "num_distance_bins: expected at most 63");
    }
    for num_sets in [33, usize::MAX] {
        report.refused("sets", ask(sets(num_sets, &ten)), "num_sets: expected at most 32");
    }
    report.refused("members", ask(sets(1, &ten[..9])), "members.len: expected size 10, found 9");
    report.refused("members", ask(sets(1, &[])), "members.len: expected size 10, found 0");
    report.refused("members", ask(sets(0, &ten)), "sets named");
    report.refused("members", ask(sets(31, &[1 << 31; 10])), "found 32");
    report.refused(
        "tokens",
        ask(plain.with_token_ids(&[1; 11])),
        "token_ids.len: expected size 10, found 11",
    );
    report.refused("tokens", ask(plain.with_token_ids(&[])), "token_ids.len");
    for size in [[0, 8], [8, 0], [65, 8], [8, usize::MAX]] {
        report.refused("thumbnail", ask(plain.with_thumbnail(size)), "thumbnail: expected from 1 to 64");
    }
    // More keys than can be named, of one number repeated; more rows than memory has.
    let data = [0.5f32; 8];
    let few = TensorView::with_strides(&data, [1, 1, 2, 8], [0, 0, 0, 1]).unwrap();
    let (config, mut workspace) = (AttentionConfig::new(), Workspace::new());
    let many = TensorView::with_strides(&data, [1, 1, 1 << 33, 8], [0, 0, 0, 1]).unwrap();
    let mut ask = |query, key| attention_statistics(query, key, &plain, &config, &mut workspace);
    report.refused("keys", ask(few, many), "seq_len_kv");
    report.refused("rows", ask(many, few), "seq_len_q");
    let heads = TensorView::with_strides(&data, [1 << 20, 1 << 10, 1 << 20, 8], [0, 0, 0, 1]).unwrap();
    let keys = TensorView::with_strides(&data, [1 << 20, 1, 2, 8], [0, 0, 0, 1]).unwrap();
    report.refused("heads", ask(heads, keys), "could not allocate");
}
