//! Capture files damaged at random, the same in every run.

use crate::counting::peak;
use crate::samples::samples;
use crate::survive::survive;

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % most.max(1)
    }
}

/// Values that lengths and numbers are mistaken for.
const SPECIAL: [u32; 12] = [
    0,
    1,
    3,
    4,
    12,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffc,
    0xffff_ffff,
    262_144,
    262_145,
    16 << 20,
];

#[test]
fn damaged_files_neither_panic_nor_take_memory() {
    let samples: Vec<_> = samples().into_iter().map(|(_, bytes)| bytes).collect();
    let mut random = Random(0x5eed_0f5a_7eff_1e00);
    for round in 0..1_000 {
        let mut bytes = samples[random.below(samples.len())].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(6) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.below(256) as u8,
                2 => bytes.truncate(at),
                3 => {
                    let value = SPECIAL[random.below(SPECIAL.len())];
                    let field = match random.below(2) {
                        0 => value.to_le_bytes(),
                        _ => value.to_be_bytes(),
                    };
                    let at = at & !3;
                    if let Some(place) = bytes.get_mut(at..at + 4) {
                        place.copy_from_slice(&field);
                    }
                }
                4 => {
                    let piece = bytes[at..(at + random.below(64)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    let end = (at + random.below(16)).min(bytes.len());
                    bytes.drain(at..end);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        let most = peak(|| survive(&bytes));
        assert!(most < 4 << 20, "round {round}: {most} bytes");
    }
}
