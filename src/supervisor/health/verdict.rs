//! What checks say of one server: so many in a row that agree change the verdict on it. No clock
//! in here: a check is what its result is.

/// The verdict on one server. It begins alive: a lab comes up with the weights of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    rise: u32,
    fall: u32,
    alive: bool,
    /// Results in a row against the verdict.
    against: u32,
}

/// How a verdict changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The server counts as dead from now on.
    Died,
    /// It counts as alive again.
    Revived,
}

impl Verdict {
    /// `rise` successes in a row bring a dead server back, `fall` failures in a row call a live one
    /// dead; both at least 1.
    pub fn new(rise: u32, fall: u32) -> Self {
        Self {
            rise: rise.max(1),
            fall: fall.max(1),
            alive: true,
            against: 0,
        }
    }

    /// Whether the server counts as alive.
    pub fn alive(&self) -> bool {
        self.alive
    }

    /// Takes a check's result.
    pub fn take(&mut self, passed: bool) -> Option<Turn> {
        if passed == self.alive {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let enough = if self.alive { self.fall } else { self.rise };
        if self.against < enough {
            return None;
        }
        self.against = 0;
        self.alive = passed;
        Some(if passed { Turn::Revived } else { Turn::Died })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The turns of a row of results: `+` passed, `-` failed; each turn stands where it came.
    fn turns(rise: u32, fall: u32, results: &str) -> String {
        let mut verdict = Verdict::new(rise, fall);
        results
            .chars()
            .map(|c| match verdict.take(c == '+') {
                None => '.',
                Some(Turn::Died) => 'D',
                Some(Turn::Revived) => 'R',
            })
            .collect()
    }

    #[test]
    fn results_in_a_row_change_it() {
        for (rise, fall, results, expected) in [
            (2, 3, "++++", "...."),
            (2, 3, "---", "..D"),
            (2, 3, "---------", "..D......"),
            (2, 3, "---++", "..D.R"),
            // One that disagrees begins the row anew.
            (2, 3, "--+--+---", "........D"),
            (2, 3, "---+-+-++", "..D.....R"),
            (1, 1, "-+-+", "DRDR"),
            (3, 1, "-++-+++", "D.....R"),
            // 0 would mean that nothing has to happen for something to change.
            (0, 0, "-+", "DR"),
        ] {
            assert_eq!(
                turns(rise, fall, results),
                expected,
                "{rise} {fall} {results}"
            );
        }
    }

    #[test]
    fn no_turn_comes_sooner_than_its_row_and_none_later() {
        // Every row of ten results.
        for bits in 0..1_u32 << 10 {
            for (rise, fall) in [(1, 3), (2, 3), (3, 2)] {
                let mut verdict = Verdict::new(rise, fall);
                let (mut passed, mut failed) = (0, 0);
                for n in 0..10 {
                    let good = bits >> n & 1 == 1;
                    (passed, failed) = if good {
                        (passed + 1, 0)
                    } else {
                        (0, failed + 1)
                    };
                    let before = verdict.alive();
                    let turn = verdict.take(good);
                    assert_eq!(turn == Some(Turn::Died), before && failed >= fall);
                    assert_eq!(turn == Some(Turn::Revived), !before && passed >= rise);
                    assert_eq!(verdict.alive(), before ^ turn.is_some());
                }
            }
        }
    }
}
