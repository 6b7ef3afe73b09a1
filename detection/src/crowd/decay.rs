//! Exponential forgetting, in windows.

/// A window weighs this much less than the one after it: e^(−1/200). A key's rate is that of the last few hundred windows.
pub(super) const FADE: f64 = 0.995_012_479_192_682_3;

/// `base` to the power `n` by squaring: the same bits on every platform, unlike `powi`.
pub(super) fn power(mut base: f64, mut n: u32) -> f64 {
    let mut result = 1.0;
    while n > 0 {
        if n & 1 == 1 {
            result *= base;
        }
        base *= base;
        n >>= 1;
    }
    result
}

/// Weight of something `n` windows old.
pub(super) fn fade(n: u32) -> f64 {
    power(FADE, n)
}

/// Weight of the last `n` windows together.
pub(super) fn weight(n: u32) -> f64 {
    (1.0 - fade(n)) / (1.0 - FADE)
}
