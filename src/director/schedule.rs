//! Weighted round robin as a table: slot n of it names the server of connection n.

/// Longest table.
pub(super) const MAX_SLOTS: u64 = 65_536;

/// One round of weighted round robin: indices of servers, each as often as its weight says, as far
/// from itself as can be. Weights are reduced by their greatest common divisor; a server of weight
/// 0 is not in it. `Err` is the sum of the reduced weights when it is over [`MAX_SLOTS`].
///
/// The order is nginx's smooth one (`ngx_http_upstream_get_peer`): each turn every server gains
/// its weight, the richest is taken and pays the sum of all. `ip_vs_wrr` serves the heaviest
/// several times in a row instead; over a round both give the same shares.
pub(super) fn slots(weights: &[u32]) -> Result<Vec<usize>, u64> {
    let divisor = weights.iter().fold(0, |a, b| gcd(a, *b));
    if divisor == 0 {
        return Ok(vec![]);
    }
    let weights: Vec<i64> = weights.iter().map(|w| i64::from(w / divisor)).collect();
    let total: i64 = weights.iter().sum();
    if total.cast_unsigned() > MAX_SLOTS {
        return Err(total.cast_unsigned());
    }
    let mut credit = vec![0_i64; weights.len()];
    let mut round = Vec::new();
    for _ in 0..total {
        let mut best = None;
        for (n, weight) in weights.iter().enumerate().filter(|w| *w.1 > 0) {
            credit[n] += weight;
            // The first of equals, so that equal weights go in the file's order.
            if best.is_none_or(|b: usize| credit[n] > credit[b]) {
                best = Some(n);
            }
        }
        if let Some(best) = best {
            credit[best] -= total;
            round.push(best);
        }
    }
    Ok(round)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_go_in_turn() {
        assert_eq!(slots(&[1, 1, 1]), Ok(vec![0, 1, 2]));
        assert_eq!(slots(&[100, 100]), Ok(vec![0, 1]));
    }

    #[test]
    fn a_heavy_server_is_interleaved_with_the_others() {
        assert_eq!(slots(&[3, 1]), Ok(vec![0, 0, 1, 0]));
        assert_eq!(slots(&[5, 1, 1]), Ok(vec![0, 0, 1, 0, 2, 0, 0]));
        assert_eq!(slots(&[2, 4]), Ok(vec![1, 0, 1]));
    }

    #[test]
    fn weight_zero_has_no_slot() {
        assert_eq!(slots(&[0, 7, 0]), Ok(vec![1]));
        assert_eq!(slots(&[0, 0]), Ok(vec![]));
        assert_eq!(slots(&[]), Ok(vec![]));
    }

    #[test]
    fn a_round_gives_each_server_its_weight() {
        let weights = [13, 0, 7, 255, 64];
        let round = slots(&weights).unwrap();
        for (n, weight) in weights.iter().enumerate() {
            assert_eq!(round.iter().filter(|s| **s == n).count(), *weight as usize);
        }
    }

    #[test]
    fn the_table_is_bounded() {
        assert_eq!(slots(&[65_535, 1]).unwrap().len(), 65_536);
        assert_eq!(slots(&[65_536, 1]), Err(65_537));
        assert_eq!(slots(&[u32::MAX, 1]), Err(1 << 32));
        assert_eq!(slots(&[u32::MAX, u32::MAX]), Ok(vec![0, 1]));
    }
}
