//! Division of a number of messages among connections.

/// Divides `total` as evenly as `limits` allow. Among equals, the remainder goes to the connection at index `first` and
/// those after it.
pub(super) fn even_shares(total: u32, limits: &[u32], first: usize) -> Vec<u32> {
    let count = limits.len();
    let mut by_limit: Vec<usize> = (0..count).collect();
    by_limit.sort_by_key(|&i| (limits[i], (i + count - first % count) % count));
    let mut shares = vec![0; count];
    let mut left = total;
    for (done, &i) in by_limit.iter().enumerate() {
        let rest = u32::try_from(count - done).unwrap_or(u32::MAX);
        shares[i] = left.div_ceil(rest).min(limits[i]);
        left -= shares[i];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_use_the_whole_total_and_never_more() {
        // R02
        for (total, limits, expected) in [
            (10, &[2500; 3][..], &[4, 3, 3][..]),
            (9, &[2500; 6], &[2, 2, 2, 1, 1, 1]),
            (0, &[2500; 2], &[0, 0]),
            (5000, &[100, 2500], &[100, 2500]),
            (100, &[2500, 10, 2500], &[45, 10, 45]),
            (7, &[], &[]),
        ] {
            assert_eq!(even_shares(total, limits, 0), expected, "{total} over {limits:?}");
        }
    }

    #[test]
    fn the_remainder_can_go_to_each_connection() {
        // R02
        for (first, expected) in [(1, [3, 4, 3]), (2, [3, 3, 4]), (3, [4, 3, 3])] {
            assert_eq!(even_shares(10, &[2500; 3], first), expected);
        }
        assert_eq!(even_shares(5, &[2500; 3], 2), [2, 1, 2]);
    }
}
