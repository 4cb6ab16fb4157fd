//! Room, sizes and indices that are refused, and sizes of zero that are not.

use super::*;

#[test]
fn pages__grown_cut_and_reset__are_taken_and_given_back_once() {
    let mut rng = Rng::with_seed(13);
    let rows = Tensor::<f32>::new([1, 1, 40, 1], &Memory::PLAIN, || 1.0);
    for page_len in PAGE_LENS {
        let mut cache = PagedKvCache::<f32>::new(3, 1, [50, page_len], [1, 1]).unwrap();
        let mut lengths = [0usize; 3];
        for _ in 0..400 {
            let (sequence, count) = (rng.usize(..3), rng.usize(..=40));
            if rng.bool() {
                let new = part(&rows, 0..1, 0..count);
                let free = cache.free_pages();
                let length = lengths[sequence];
                let needed = (length + count).div_ceil(page_len) - length.div_ceil(page_len);
                let result = cache.append_to(sequence, new, new);
                if needed <= free {
                    assert_eq!(result, Ok(()));
                    lengths[sequence] += count;
                } else {
                    let full = AttentionError::CacheFull { what: "pages", needed, available: free };
                    assert_eq!(result, Err(full));
                }
            } else {
                cache.truncate(sequence, count).unwrap();
                lengths[sequence] = lengths[sequence].min(count);
            }
            assert_eq!(cache.lengths(), lengths);
            let mut held: Vec<usize> = (0..3).flat_map(|s| cache.block_table(s).unwrap().to_vec()).collect();
            assert_eq!(held.len(), lengths.map(|length| length.div_ceil(page_len)).iter().sum::<usize>());
            assert_eq!(held.len() + cache.free_pages(), 50);
            held.sort_unstable();
            held.dedup();
            assert_eq!(held.len() + cache.free_pages(), 50, "a page is held twice");
        }
        cache.reset_all();
        assert_eq!(cache.free_pages(), 50);
    }
}

#[test]
fn append__too_little_room__is_an_error_and_writes_nothing() {
    let key = random::<f32>([2, 2, 12, 8], Memory::PLAIN, 14);
    let query = random::<f32>([2, 2, 1, 8], Memory::PLAIN, 15);
    let nan = Tensor::<f32>::unfilled([2, 2, 12, 8], &Memory::PLAIN);
    let mut contiguous = Cache::Contiguous(KvCache::new(2, 2, 12, [8, 8]).unwrap());
    let mut paged = Cache::Paged(PagedKvCache::new(2, 2, [5, 4], [8, 8]).unwrap());
    for cache in [&mut contiguous, &mut paged] {
        fill_in_turns(cache, (&key, &key), &[5, 10]);
        let before = attend(cache, query.view(), &AttentionConfig::new(), 8).unwrap();
        let (four, eight) = (part(&nan, 0..2, 0..4), part(&nan, 0..1, 0..8));
        let errors = either!(cache, cache =>
            [cache.append(four, four).unwrap_err(), cache.append_to(0, eight, eight).unwrap_err()]);
        let expected = match cache {
            Cache::Contiguous(_) => [("rows", 4, 2), ("rows", 8, 7)],
            Cache::Paged(_) => [("pages", 2, 0), ("pages", 2, 0)],
        };
        for (error, (what, needed, available)) in errors.into_iter().zip(expected) {
            assert_eq!(error, AttentionError::CacheFull { what, needed, available });
        }
        assert_eq!(either!(cache, cache => cache.lengths()), [5, 10]);
        let after = attend(cache, query.view(), &AttentionConfig::new(), 8).unwrap();
        assert_eq!(bits(&after), bits(&before));
        // What fits still fits.
        let two = part(&key, 0..1, 10..12);
        either!(cache, cache => cache.append_to(0, two, two)).unwrap();
    }
}

#[test]
fn append_and_attend__what_does_not_fit__is_a_typed_error() {
    let query = random::<f32>([2, 4, 1, 8], Memory::PLAIN, 16);
    let rows = |shape| random::<f32>(shape, Memory::PLAIN, 17);
    for mut cache in caches::<f32>([2, 2, 20], [8, 6]) {
        let (good_key, good_value) = (rows([2, 2, 3, 8]), rows([2, 2, 3, 6]));
        for (key, value, axis) in [
            ([1, 2, 3, 8], [2, 2, 3, 6], "key.batch_size"),
            ([2, 1, 3, 8], [2, 2, 3, 6], "key.num_kv_heads"),
            ([2, 2, 3, 6], [2, 2, 3, 6], "key.head_dim"),
            ([2, 2, 3, 8], [3, 2, 3, 6], "value.batch_size"),
            ([2, 2, 3, 8], [2, 4, 3, 6], "value.num_kv_heads"),
            ([2, 2, 3, 8], [2, 2, 4, 6], "value.seq_len_kv"),
            ([2, 2, 3, 8], [2, 2, 3, 8], "value.value_head_dim"),
        ] {
            let (key, value) = (rows(key), rows(value));
            let error = either!(&mut cache, cache => cache.append(key.view(), value.view())).unwrap_err();
            let found = matches!(error, AttentionError::ShapeMismatch { axis: found, .. } if found == axis);
            assert!(found, "{error} for {axis}");
        }
        either!(&mut cache, cache => cache.append(good_key.view(), good_value.view())).unwrap();
        let no_sequence = Err(AttentionError::OutOfBounds { what: "sequence", needed: 3, found: 2 });
        let one = (part(&good_key, 0..1, 0..1), part(&good_value, 0..1, 0..1));
        either!(&mut cache, cache => {
            assert_eq!(cache.append_to(2, one.0, one.1), no_sequence);
            assert_eq!(cache.truncate(2, 0), no_sequence);
            assert_eq!(cache.reset(2), no_sequence);
            assert!(cache.reset(usize::MAX).is_err());
            assert_eq!(cache.lengths(), [3, 3]);
        });
        if let Cache::Paged(cache) = &cache {
            assert!(cache.block_table(2).is_err());
        }

        let lengths = [1, 1];
        let config = AttentionConfig::new().with_mask(Mask::default().with_key_lengths(&lengths));
        let error = attend(&cache, query.view(), &config, 6).unwrap_err();
        let with = "the lengths of a cache";
        assert_eq!(error, AttentionError::ConflictingOption { what: "mask.key_lengths", with });
        for (shape, value_dim) in [([1, 4, 1, 8], 6), ([2, 3, 1, 8], 6), ([2, 4, 1, 7], 6), ([2, 4, 1, 8], 5)]
        {
            let query = rows(shape);
            assert!(attend(&cache, query.view(), &AttentionConfig::new(), value_dim).is_err(), "{shape:?}");
        }
        let alone = written([1, 4, 1, 6], |target| {
            let query = part(&query, 0..1, 0..1);
            let (config, mut workspace) = (AttentionConfig::new(), Workspace::new());
            either!(&cache, cache => cache.attend_in(2, query, target, &config, &mut workspace))
        });
        assert_eq!(alone.map(|_| ()), no_sequence);
    }
}

#[test]
fn new__impossible_sizes__are_typed_errors() {
    const MAX: usize = usize::MAX;
    let contiguous = |b, h, c, dims| KvCache::<f32>::new(b, h, c, dims).map(|_| ()).unwrap_err();
    let paged = |b, h, pages, dims| PagedKvCache::<f32>::new(b, h, pages, dims).map(|_| ()).unwrap_err();
    assert_eq!(contiguous(1, 1, 1, [0, 1]), AttentionError::ZeroHeadDim);
    assert_eq!(paged(1, 1, [1, 1], [0, 1]), AttentionError::ZeroHeadDim);
    assert!(matches!(paged(1, 1, [1, 0], [1, 1]), AttentionError::ShapeMismatch { found: 0, .. }));
    for (b, h, c, dims) in
        [(MAX, 2, 2, [1, 1]), (1, 1, MAX, [1, 1]), (0, MAX, MAX, [1, 1]), (1, 1, 1, [1, MAX])]
    {
        assert!(matches!(contiguous(b, h, c, dims), AttentionError::SizeOverflow { .. }));
        assert!(matches!(paged(1, h, [b, c], dims), AttentionError::SizeOverflow { .. }));
    }
    assert!(matches!(paged(MAX, 1, [2, 1], [1, 1]), AttentionError::SizeOverflow { .. }));
    assert!(matches!(contiguous(1, 1, 1 << 50, [1, 1]), AttentionError::AllocationFailed { .. }));
    assert!(matches!(paged(1 << 50, 0, [1, 1], [1, 1]), AttentionError::AllocationFailed { .. }));
}

#[test]
fn paged_view__foreign_block_tables__are_checked_and_may_share_pages() {
    let pages = random::<f32>([3, 1, 2, 4], Memory::PLAIN, 18);
    let query = random::<f32>([2, 1, 1, 4], Memory::PLAIN, 19);
    let data = pages.numbers();
    let good = PagedView {
        key_pages: &data,
        value_pages: &data,
        page_shape: [3, 1, 2],
        head_dims: [4, 4],
        block_table: &[1, 2, 1, usize::MAX],
        lengths: &[4, 2],
    };
    let run = |view: PagedView<'_, f32>| {
        written([2, 1, 1, 4], |target| {
            view.attend(query.view(), target, &AttentionConfig::new(), &mut Workspace::new())
        })
    };
    // Both sequences start with page 1; their rows in one tensor each.
    let key = [&data[8..24], &data[8..16], &[f32::NAN; 8]].concat();
    let key = TensorView::new(&key, [2, 1, 4, 4], Layout::BatchHeadSeqDim).unwrap();
    let config = AttentionConfig::new().with_mask(Mask::default().with_key_lengths(&[4, 2]));
    let plain = written([2, 1, 1, 4], |target| {
        attention_with(query.view(), key, key, target, &config, &mut Workspace::new())
    });
    assert_eq!(bits(&run(good).unwrap()), bits(&plain.unwrap()));

    for (what, bad) in [
        ("page_len (at least)", PagedView { page_shape: [3, 1, 0], ..good }),
        ("key_pages.len", PagedView { key_pages: &data[1..], ..good }),
        ("value_pages.len", PagedView { value_pages: &data[1..], ..good }),
        ("key_pages.len", PagedView { page_shape: [usize::MAX, 1, 2], ..good }),
        ("block_table.len by batch_size", PagedView { block_table: &[1, 2, 1], ..good }),
        ("block_table.len by batch_size", PagedView { lengths: &[], ..good }),
        ("block_table", PagedView { lengths: &[5, 2], ..good }),
        ("block_table", PagedView { lengths: &[usize::MAX, 2], ..good }),
        ("block_table entry", PagedView { lengths: &[4, 3], ..good }),
        ("block_table entry", PagedView { block_table: &[1, 3, 1, 0], ..good }),
        ("head_dim", PagedView { head_dims: [0, 4], key_pages: &[], ..good }),
    ] {
        let error = run(bad).unwrap_err().to_string();
        assert!(error.contains(what), "{error} for {what}");
    }
}

#[test]
fn caches__zero_sizes__do_nothing_or_give_zeros() {
    let zeros = |(output, log_sum_exp): (Vec<f32>, Vec<f32>)| {
        output.iter().all(|&x| x == 0.0) && log_sum_exp.iter().all(|&x| x == f32::NEG_INFINITY)
    };
    for [batch, kv_heads, capacity, new, value_dim] in
        [[0, 2, 2, 3, 5], [2, 0, 4, 3, 5], [2, 2, 0, 0, 5], [2, 2, 4, 0, 5], [2, 2, 4, 3, 0], [0, 0, 0, 0, 0]]
    {
        let key = random::<f32>([batch, kv_heads, new, 6], Memory::PLAIN, 20);
        let value = random::<f32>([batch, kv_heads, new, value_dim], Memory::PLAIN, 21);
        let query = random::<f32>([batch, 2 * kv_heads, 2, 6], Memory::PLAIN, 22);
        for mut cache in caches::<f32>([batch, kv_heads, capacity], [6, value_dim]) {
            assert!(zeros(attend(&cache, query.view(), &AttentionConfig::new(), value_dim).unwrap()));
            either!(&mut cache, cache => cache.append(key.view(), value.view())).unwrap();
            assert_eq!(either!(&cache, cache => cache.lengths()), vec![new; batch]);
            let found = attend(&cache, query.view(), &AttentionConfig::new(), value_dim).unwrap();
            assert_eq!(found.0.len(), batch * 2 * kv_heads * 2 * value_dim);
            assert!(found.1.iter().all(|x| (new > 0) == x.is_finite()));
            either!(&mut cache, cache => cache.reset_all());
            assert!(zeros(attend(&cache, query.view(), &AttentionConfig::new(), value_dim).unwrap()));
        }
    }
    // A position that a cache without room does not take.
    let row = random::<f32>([1, 1, 1, 6], Memory::PLAIN, 23);
    for mut cache in caches::<f32>([1, 1, 0], [6, 6]) {
        let error = either!(&mut cache, cache => cache.append(row.view(), row.view())).unwrap_err();
        assert!(matches!(error, AttentionError::CacheFull { needed: 1, available: 0, .. }));
    }
}
